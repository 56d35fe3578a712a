"""What encoders with an image side and a text side in one space have in common: checked rows, and errors in one line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from prvr.cpu import fast_products
from prvr.encoders import check_rows, one_line_errors
from prvr.encoders.pretrained import token_rows

FAILED = "cannot run the encoder"


class TwoSidedEncoder(ABC):
    """A pair of towers by torch. The rows of images and sentences are not normalised."""

    source: str
    image_columns: int
    sentence_columns: int
    word_columns: int

    @abstractmethod
    def _image_rows(self, frames: Sequence[np.ndarray]) -> Tensor:
        """The rows (N, image_columns) of frames (height, width, 3), uint8 RGB."""

    @abstractmethod
    def _text_rows(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """The rows (N, sentence_columns) of texts, the states (N, W, word_columns) of their tokens, and their mask (N, W)."""

    @fast_products()
    @torch.inference_mode()
    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Encodes frames (height, width, 3), uint8 RGB, as rows (N, image_columns)."""
        if not frames:
            return np.empty((0, self.image_columns), np.float32)
        with one_line_errors(self.source, FAILED):
            rows = self._image_rows(frames).float().cpu().numpy()
        return check_rows(self.source, rows, count=len(frames), columns=self.image_columns)

    @fast_products()
    @torch.inference_mode()
    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes sentences as rows (N, sentence_columns); sentences that are longer than the model reads are cut."""
        if not texts:
            return np.empty((0, self.sentence_columns), np.float32)
        with one_line_errors(self.source, FAILED):
            rows = self._text_rows(texts)[0].float().cpu().numpy()
        return check_rows(self.source, rows, count=len(texts), columns=self.sentence_columns, finite=True)

    @fast_products()
    @torch.inference_mode()
    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the last states of the text side, a row per token, (W, word_columns) for each text."""
        if not texts:
            return []
        with one_line_errors(self.source, FAILED):
            return token_rows(*self._text_rows(texts)[1:])
