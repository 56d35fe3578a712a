"""A method in one file: one linear layer for frames, one for words, and the cosine of a sentence with the best frame."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from prvr.batch import Reading
from prvr.nn import losses, scores


@dataclass(frozen=True)
class MineConfig:
    """The settings; each has a default, and can be changed by key=value."""

    width: int = 128
    max_frames: int = 128
    max_words: int = 30
    temperature: float = 0.07


class Mine(nn.Module):
    """S(q, v) = max_f cos(mean of the words of q, frame f of v)."""

    Config = MineConfig
    # What `encode_videos` returns, and which of it has a row for each frame.
    embedding_fields = ("frames",)
    frame_fields = ("frames",)
    # The score is the weighted sum, over fields, of the best row's cosine; None where it is anything else.
    score_weights = (1.0,)
    # The objective takes `contrast`: a teacher's scores may soften its targets.
    contrasts = True

    def __init__(self, config, *, frame_columns, word_columns):
        super().__init__()
        self.config = config
        # How features are read: so many frames and words at most, rows of unit length, a row for each word.
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.frames = nn.Linear(frame_columns, config.width)
        self.words = nn.Linear(word_columns, config.width)

    def encode_queries(self, words, mask, places=None):
        """Words (Q, W, C) and their mask (Q, W) to one vector for each query, (Q, D)."""
        hidden = self.words(words) * mask[..., None]
        return (hidden.sum(1) / mask.sum(1, keepdim=True),)

    def encode_videos(self, frames, mask, places=None):
        """Frames (V, F, E) and their mask (V, F) to one vector for each frame, (V, F, D); zeros where padded."""
        return (self.frames(frames) * mask[..., None],)

    def score(self, queries, videos, mask):
        """The scores (Q, V) that videos are ranked by."""
        return scores.best_cosines(queries[0], videos[0], mask)

    def relevance(self, query, video):
        """The scores (F,) along one video, for one query."""
        return scores.frame_cosines(query[0], video[0], scores.every_row(video[0]))[0, 0]

    def objective(self, queries, videos, batch, epoch, contrast=losses.info_nce):
        """The loss terms by name; they are added up. `batch.target` (Q,) is the place of each query's video."""
        cosines = self.score(queries, videos, batch.frame_mask)
        return {"contrast": contrast(cosines / self.config.temperature, batch.target)}
