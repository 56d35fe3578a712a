"""Encoders through `transformers`: images and sentences in one space (CLIP, SigLIP), and text models (RoBERTa, BERT, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from prvr.cpu import fast_products
from prvr.device import open_device
from prvr.encoders import name_of, one_line_errors
from prvr.encoders.hub import POOLING, local_folder
from prvr.encoders.pretrained import open_model, open_tokenizer, token_rows
from prvr.encoders.prompts import PROMPTS
from prvr.encoders.two_sided import FAILED, TwoSidedEncoder
from prvr.errors import ModelError, nearest, require
from prvr.files import parse_json, read_bytes

# Before the names of the ways in which sentence-transformers pools.
MODE = "pooling_mode_"


@dataclass(frozen=True)
class _Family:
    """The image processor of a family (the one that uses Pillow), and how its text side was trained."""

    processor: str
    padding: str
    masks_padding: bool
    lower_case: bool


# The text sides of SigLIP were trained on lower-case text padded to their full length, without a mask of the padding.
FAMILIES = {
    "clip": _Family("clip.image_processing_pil_clip.CLIPImageProcessorPil", "longest", True, False),
    "siglip": _Family("siglip.image_processing_pil_siglip.SiglipImageProcessorPil", "max_length", False, True),
    "siglip2": _Family("siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil", "max_length", False, True),
}


@final
class DualEncoder(TwoSidedEncoder):
    """A CLIP, SigLIP or SigLIP 2 model. The rows of images and sentences are not normalised.

    Args:
        source: a local folder, or a name on the Hugging Face hub.

    Raises:
        ModelError: there is no such model, it is broken, or it is of another family.
    """

    def __init__(self, source: str, *, device: str = "cpu") -> None:
        self.name, self.source = name_of(source), source
        self._device = open_device(device)
        with one_line_errors(source):
            folder = local_folder(source)
            self._model, self.fingerprint = open_model(folder, device=device)
            config = self._model.config
            if config.model_type not in FAMILIES:
                raise ModelError(f"{source} is of the family {config.model_type!r}; {nearest(config.model_type, FAMILIES)}")
            self._family, self.prompt = FAMILIES[config.model_type], PROMPTS[config.model_type]
            self._processor = _open_image_processor(self._family, folder)
            self._tokenizer = open_tokenizer(folder)
            self.longest: int | None = min(self._tokenizer.model_max_length, config.text_config.max_position_embeddings)
            self.ends = _ending_tokens(self._tokenizer)
            self.word_columns: int = config.text_config.hidden_size
            if config.model_type == "clip":
                self.image_columns: int = config.projection_dim
                self.sentence_columns: int = config.projection_dim
            else:
                self.image_columns = config.vision_config.hidden_size
                self.sentence_columns = config.text_config.projection_size

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a whole text, special ones included."""
        text = text.lower() if self._family.lower_case else text
        return len(self._tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def _image_rows(self, frames: Sequence[np.ndarray]) -> Tensor:
        inputs = self._processor(list(frames), return_tensors="pt", input_data_format="channels_last").to(self._device)
        rows: Tensor = self._model.get_image_features(**inputs).pooler_output
        return rows

    def _text_rows(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        family = self._family
        tokens = self._tokenizer(
            [text.lower() for text in texts] if family.lower_case else list(texts),
            padding=family.padding,
            padding_side="right",
            truncation=True,
            max_length=self.longest,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._device)
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        masked = {"attention_mask": mask} if family.masks_padding else {}
        output = self._model.get_text_features(input_ids=ids, **masked)
        return output.pooler_output, output.last_hidden_state, mask


@final
class TextEncoder:
    """The last states of any text model, special tokens included; texts that are longer than the model reads are cut.

    Args:
        source: a local folder, or a name on the Hugging Face hub.

    Raises:
        ModelError: there is no such model, it is broken, or it does not read text alone.
    """

    def __init__(self, source: str, *, device: str = "cpu") -> None:
        self.name, self.source = name_of(source), source
        self._device = open_device(device)
        with one_line_errors(source):
            folder = local_folder(source)
            self._model, self.fingerprint = open_model(folder, device=device)
            self._tokenizer = open_tokenizer(folder)
            config = self._model.config
            if config.is_encoder_decoder:
                raise ModelError(f"{source} is a {config.model_type!r} model; take one that reads text alone, such as RoBERTa")
            if self._tokenizer.pad_token is None:
                self._tokenizer.pad_token = self._tokenizer.eos_token
            self.longest: int | None = _longest_text(config, self._tokenizer)
            self.ends = _ending_tokens(self._tokenizer)
            self.word_columns: int = config.hidden_size
            self.pools_by_mean = _pools_by_mean(folder)

    @fast_products()
    @torch.inference_mode()
    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the last states of each text, a row per token, (W, word_columns)."""
        if not texts:
            return []
        with one_line_errors(self.source, FAILED):
            tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
            if tokens["input_ids"].shape[1] == 0:
                return [np.empty((0, self.word_columns), np.float32) for _ in texts]
            tokens = tokens.to(self._device)
            return token_rows(self._model(**tokens).last_hidden_state, tokens["attention_mask"])

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a whole text, special ones included."""
        return len(self._tokenizer(text, truncation=False, verbose=False)["input_ids"])


def _ending_tokens(tokenizer: Any) -> int:
    """Returns how many special tokens follow the words of a text."""
    special, ends = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}, 0
    for token in reversed(tokenizer("a", verbose=False)["input_ids"]):
        if token not in special:
            break
        ends += 1
    return ends


def _longest_text(config: Any, tokenizer: Any) -> int:
    positions = int(config.to_dict().get("max_position_embeddings", 512))
    # A tokenizer without its model's limit has 1e30; RoBERTa reserves its first two positions.
    return int(tokenizer.model_max_length) if tokenizer.model_max_length <= positions else positions - 2


def _pools_by_mean(folder: Path) -> bool:
    """Whether the folder says, as sentence-transformers does, that the mean of the rows is the sentence's embedding."""
    try:
        pooling = parse_json(read_bytes(folder / POOLING))
        modes = {
            key.removeprefix(MODE).removesuffix("_tokens") for key, value in pooling.items() if value is True and MODE in key
        }
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError):
        raise ModelError(f"{folder / POOLING} is broken; get its files again") from None
    return modes == {"mean"} or pooling.get("pooling_mode") == "mean"


def _open_image_processor(family: _Family, folder: Path) -> Any:
    # By its class, which runs no code of the folder: `AutoImageProcessor` requires torchvision.
    module, _, name = family.processor.rpartition(".")
    processor = vars(require(f"transformers.models.{module}", extra="encoders"))[name]
    return processor.from_pretrained(folder)
