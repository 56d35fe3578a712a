"""A row per token of a sentence: any text model that `transformers` opens (RoBERTa, BERT, MiniLM, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch

from prvr.cpu import fast_products
from prvr.encoders import name_of
from prvr.encoders.pretrained import clear_errors, local_folder, open_model, open_tokenizer, token_rows
from prvr.errors import ModelError, require


@final
class TextEncoder:
    """A text model's last states, special tokens included; what is longer than the model reads is cut off.

    Args:
        source: a local folder, or a name on the Hugging Face hub.

    Raises:
        ModelError: there is none of that name, it is broken, or it does not read text alone.
    """

    def __init__(self, source: str, *, device: str = "cpu") -> None:
        transformers = require("transformers", extra="encoders")
        self.name, self.source = name_of(source), source
        self._device = device
        with clear_errors(source):
            folder = local_folder(source)
            self._model, self.fingerprint = open_model(transformers.AutoModel.from_pretrained, folder, device=device)
            self._tokenizer = open_tokenizer(folder)
        config = self._model.config
        if config.is_encoder_decoder:
            raise ModelError(f"{source} is a {config.model_type!r} model; take one that reads text alone, such as RoBERTa")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._longest = _longest(config, self._tokenizer)
        self.word_columns: int = config.hidden_size

    @fast_products()
    @torch.inference_mode()
    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The last states of each text, a row per token, (W, word_columns)."""
        if not texts:
            return []
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        if tokens["input_ids"].shape[1] == 0:
            return [np.empty((0, self.word_columns), np.float32) for _ in texts]
        tokens = tokens.to(self._device)
        return token_rows(self._model(**tokens).last_hidden_state, tokens["attention_mask"])


def _longest(config: Any, tokenizer: Any) -> int:
    positions = int(config.to_dict().get("max_position_embeddings", 512))
    # A tokenizer that does not know its model's limit says 1e30; RoBERTa keeps its first two positions to itself.
    return int(tokenizer.model_max_length) if tokenizer.model_max_length <= positions else positions - 2
