"""A trained student and its teacher, asked together: S = (1 - w) S_student + w max_f cos(teacher).

Nobody's paper: what a student knows that its teacher does not is added to what the teacher says without any training. It reads
the features of both side by side, as `JoinedFeatures` gives them: the student's frames and the teacher's, the words and, beside
each, the teacher's sentence. `w` is found on held-out captions (`prvr.train.fusion`), and nothing else is learned here. A video
with more frames than the student reads at once is resampled for both.

our name          what it is
----------------  ------------------------------------------------------------
`teacher_weight`  w
field "teacher"   the teacher's frames as they are
other fields      the student's
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr.batch import Reading
from prvr.config import check_above_zero, check_shares
from prvr.errors import SettingError
from prvr.methods.contract import Embeddings, Model, encode_videos
from prvr.nn import scores
from prvr.nn.clips import NORM_OFFSET, over_frames

FIELD = "teacher"
Build = Callable[[str, Mapping[str, Any], int, int], nn.Module]


@dataclass(frozen=True)
class BesideTeacherConfig:
    """Which student, as its method and its settings in JSON; how wide its teacher's features are, and how much it weighs."""

    student: str
    student_settings: str
    teacher_columns: int
    teacher_weight: float

    def __post_init__(self) -> None:
        check_above_zero(self, "teacher_columns")
        check_shares(self, "teacher_weight")


class BesideTeacher(nn.Module):
    """A student with its teacher's frames as one more field. `build` makes a method's model from its settings."""

    def __init__(self, config: BesideTeacherConfig, *, frame_columns: int, word_columns: int, build: Build) -> None:
        super().__init__()
        self.config = config
        own = [columns - config.teacher_columns for columns in (frame_columns, word_columns)]
        if min(own) <= 0:
            raise SettingError(
                f"frames have {frame_columns} columns and words {word_columns}, the teacher's {config.teacher_columns} among "
                "them; join the student's features with the teacher's: NAME+TEACHER"
            )
        self.student = build(config.student, json.loads(config.student_settings), own[0], own[1])
        reading = self._student.reading
        # Each side is brought to unit length alone, where its reader wants that.
        self.reading = Reading(
            frame_columns,
            word_columns,
            reading.max_frames,
            reading.max_words,
            unit=False,
            text="words",
            clips=reading.clips,
            padded_together=reading.padded_together,
        )
        self.embedding_fields: tuple[str, ...] = (*self._student.embedding_fields, FIELD)
        self.frame_fields: tuple[str, ...] = (*self._student.frame_fields, FIELD)
        weights, share = self._student.score_weights, config.teacher_weight
        self.score_weights: tuple[float, ...] | None = (
            None if weights is None else (*((1 - share) * weight for weight in weights), share)
        )

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The student's vectors, and the teacher's sentence."""
        own, sentences = self._apart(words)
        return *self._student.encode_queries(own, mask, places), sentences[:, 0]

    def encode_videos(
        self,
        frames: Float[Tensor, "V F E"],
        mask: Bool[Tensor, "V F"],
        places: Int[Tensor, "R"] | None = None,
        clips: Float[Tensor, "V N E"] | None = None,
    ) -> Embeddings:
        """The student's fields, and the teacher's frames."""
        own, seen = self._apart(frames)
        own_clips = None if clips is None else self._apart(clips)[0]
        return *encode_videos(self._student, own, mask, places, own_clips), seen

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The weighted sum, per video."""
        share = self.config.teacher_weight
        zero_shot = scores.best_cosines(queries[-1], videos[-1], mask)
        return (1 - share) * self._student.score(queries[:-1], videos[:-1], mask) + share * zero_shot

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The weighted sum of both curves, the student's parts being those of the frames that they cover."""
        share = self.config.teacher_weight
        whole = scores.every_row(video[-1])
        student = over_frames(self._student.relevance(query[:-1], video[:-1])[None], whole)[0]
        return (1 - share) * student + share * scores.frame_cosines(query[-1], video[-1], whole)[0, 0]

    @property
    def _student(self) -> Model:
        assert isinstance(self.student, Model)
        return self.student

    def _apart(self, joined: Float[Tensor, "N L C"]) -> tuple[Float[Tensor, "N L S"], Float[Tensor, "N L T"]]:
        columns = self.config.teacher_columns
        own, teachers = joined[..., :-columns], joined[..., -columns:]
        if self._student.reading.unit:
            # As `batch.unit_rows` does it.
            own = own / (own.norm(dim=-1, keepdim=True) + NORM_OFFSET)
        return own, teachers
