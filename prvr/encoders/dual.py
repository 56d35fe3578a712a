"""Images and sentences in one space: the CLIP and SigLIP families, through `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from prvr.cpu import fast_products
from prvr.encoders import name_of
from prvr.encoders.pretrained import clear_errors, local_folder, open_model, open_tokenizer, token_rows
from prvr.errors import ModelError, nearest, require


@dataclass(frozen=True)
class _Family:
    """How a family reads: its image processor (the one on Pillow), and how its text side was trained."""

    processor: str
    padding: str
    masks_padding: bool
    lower_case: bool


# SigLIP's text sides were trained on lower-case text, padded to their full length, and see the padding.
FAMILIES = {
    "clip": _Family("clip.image_processing_pil_clip.CLIPImageProcessorPil", "longest", True, False),
    "siglip": _Family("siglip.image_processing_pil_siglip.SiglipImageProcessorPil", "max_length", False, True),
    "siglip2": _Family("siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil", "max_length", False, True),
}


@final
class DualEncoder:
    """A CLIP, SigLIP or SigLIP 2 model; images and sentences are as the model gives them, not normalised.

    Args:
        source: a local folder, or a name on the Hugging Face hub.

    Raises:
        ModelError: there is none of that name, it is broken, or of another family.
    """

    def __init__(self, source: str, *, device: str = "cpu") -> None:
        transformers = require("transformers", extra="encoders")
        self.name, self.source = name_of(source), source
        self._device = device
        with clear_errors(source):
            folder = local_folder(source)
            self._model, self.fingerprint = open_model(transformers.AutoModel.from_pretrained, folder, device=device)
            config = self._model.config
            if config.model_type not in FAMILIES:
                raise ModelError(f"{source} is of the family {config.model_type!r}; {nearest(config.model_type, FAMILIES)}")
            self._family = FAMILIES[config.model_type]
            self._processor = _image_processor(self._family, folder)
            self._tokenizer = open_tokenizer(folder)
        self._longest = min(self._tokenizer.model_max_length, config.text_config.max_position_embeddings)
        self.word_columns: int = config.text_config.hidden_size
        if config.model_type == "clip":
            self.image_columns: int = config.projection_dim
            self.sentence_columns: int = config.projection_dim
        else:
            self.image_columns = config.vision_config.hidden_size
            self.sentence_columns = config.text_config.projection_size

    @fast_products()
    @torch.inference_mode()
    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Frames (height, width, 3) uint8 RGB as rows (N, image_columns)."""
        if not frames:
            return np.empty((0, self.image_columns), np.float32)
        inputs = self._processor(list(frames), return_tensors="pt", input_data_format="channels_last").to(self._device)
        pooled = self._model.get_image_features(**inputs).pooler_output
        rows: np.ndarray = pooled.float().cpu().numpy()
        return rows

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Sentences as rows (N, sentence_columns); what is longer than the model reads is cut off."""
        if not texts:
            return np.empty((0, self.sentence_columns), np.float32)
        rows: np.ndarray = self._read(texts)[0].pooler_output.float().cpu().numpy()
        return rows

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The text side's last states, a row per token, (W, word_columns) for each text."""
        if not texts:
            return []
        output, mask = self._read(texts)
        return token_rows(output.last_hidden_state, mask)

    @fast_products()
    @torch.inference_mode()
    def _read(self, texts: Sequence[str]) -> tuple[Any, torch.Tensor]:
        family = self._family
        tokens = self._tokenizer(
            [text.lower() for text in texts] if family.lower_case else list(texts),
            padding=family.padding,
            padding_side="right",
            truncation=True,
            max_length=self._longest,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._device)
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        seen = {"attention_mask": mask} if family.masks_padding else {}
        return self._model.get_text_features(input_ids=ids, **seen), mask


def _image_processor(family: _Family, folder: Path) -> Any:
    # Named by its class: `AutoImageProcessor` would ask for torchvision.
    module, _, name = family.processor.rpartition(".")
    processor = vars(require(f"transformers.models.{module}", extra="encoders"))[name]
    return processor.from_pretrained(folder)
