"""A trained student and its teacher, searched together: S = (1 - w) S_student + w max_f cos(teacher).

No paper has this: the teacher's zero-shot score is added to the student's. The model reads the features of both side by side
(prvr/features/joined.py): the student's frames and the teacher's, the words and, beside each, the teacher's sentence. w is
chosen on held-out captions (prvr/train/fusion.py), and no weight is learned here. A video with more frames than the student
reads at once is resampled for both.

our name          what it is
----------------  ------------------------------------------------------------
`teacher_weight`  w
field "teacher"   the teacher's frames as they are
other fields      the student's
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Reading
from prvr.config import check_above_zero, check_shares, from_dict
from prvr.errors import SettingError
from prvr.methods import open_method
from prvr.methods.contract import Embeddings, Method, Model, encode_videos
from prvr.nn import scores
from prvr.nn.clips import NORM_OFFSET, over_frames
from prvr.nn.shapes import Clips, FrameMask, Frames, Places, WordMask, Words

FIELD = "teacher"


@dataclass(frozen=True)
class BesideTeacherConfig:
    """The student's method and its settings, the width of the teacher's features, and the teacher's weight."""

    student: str
    student_settings: Mapping[str, Any]
    teacher_columns: int
    teacher_weight: float

    def __post_init__(self) -> None:
        check_above_zero(self, "teacher_columns")
        check_shares(self, "teacher_weight")


class BesideTeacher(nn.Module):
    """A student with its teacher's frames as one more field."""

    def __init__(self, config: BesideTeacherConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        frames, words = (columns - config.teacher_columns for columns in (frame_columns, word_columns))
        if min(frames, words) <= 0:
            raise SettingError(
                f"frames have {frame_columns} columns and words {word_columns}, the teacher's {config.teacher_columns} among "
                "them; join the student's features with the teacher's: NAME+TEACHER"
            )
        method = open_method(config.student)
        settings: Any = from_dict(method.config, dict(config.student_settings))
        self.student = method.model(settings, frame_columns=frames, word_columns=words)
        reading = self._student.reading
        # Each side is scaled to unit length by itself, where its reader wants that.
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

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """The student's vectors, and the teacher's sentence."""
        own, sentences = self._split(words)
        return *self._student.encode_queries(own, mask, places), sentences[:, 0]

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None, clips: Clips = None) -> Embeddings:
        """The student's fields, and the teacher's frames."""
        own, teachers = self._split(frames)
        own_clips = None if clips is None else self._split(clips)[0]
        return *encode_videos(self._student, own, mask, places, own_clips), teachers

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The weighted sum, per video."""
        share = self.config.teacher_weight
        zero_shot = scores.best_cosines(queries[-1], videos[-1], mask)
        return (1 - share) * self._student.score(queries[:-1], videos[:-1], mask) + share * zero_shot

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The weighted sum of both curves, each of the student's parts spread over the frames that it covers."""
        share = self.config.teacher_weight
        whole = scores.every_row(video[-1])
        student = over_frames(self._student.relevance(query[:-1], video[:-1])[None], whole)[0]
        return (1 - share) * student + share * scores.frame_cosines(query[-1], video[-1], whole)[0, 0]

    @property
    def _student(self) -> Model:
        assert isinstance(self.student, Model)
        return self.student

    def _split(self, joined: Float[Tensor, "N L C"]) -> tuple[Float[Tensor, "N L S"], Float[Tensor, "N L T"]]:
        columns = self.config.teacher_columns
        own, teachers = joined[..., :-columns], joined[..., -columns:]
        if self._student.reading.unit:
            # As `batch.unit_rows` does it.
            own = own / (own.norm(dim=-1, keepdim=True) + NORM_OFFSET)
        return own, teachers


METHOD = Method(BesideTeacherConfig, BesideTeacher, None)
