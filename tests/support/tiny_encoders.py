"""Tiny encoders of every family, with random weights and a few words, made where a test needs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

WORDS = "a the dog cat man woman runs sits cooks in on kitchen beach red blue".split()  # noqa: SIM905
# SigLIP 2 has a tokenizer of its own: here a token a letter, the space as ▁, an end and no start.
LETTERS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"▁abcdefghijklmnopqrstuvwxyz"]
TEXTS = ["a dog runs", "the man in the red kitchen cooks on the beach", "Cat", "a woman sits in the blue kitchen"]


def tokenizer(*, longest: int) -> Any:
    specials = ["<pad>", "<s>", "</s>", "<unk>"]
    words = tokenizers.models.WordLevel({word: n for n, word in enumerate(specials + WORDS)}, unk_token="<unk>")
    made = tokenizers.Tokenizer(words)
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=longest,
    )


TEXT_SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION_SIZES = {
    "hidden_size": 24,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def make_clip(folder: Path) -> None:
    text, vision = {**TEXT_SIZES, "max_position_embeddings": 12, "projection_dim": 20}, {**VISION_SIZES, "projection_dim": 20}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    transformers.CLIPModel(config).save_pretrained(folder)
    processor = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    tokenizer(longest=12).save_pretrained(folder)


def make_siglip(folder: Path) -> None:
    text, vision = {**TEXT_SIZES, "max_position_embeddings": 12, "projection_size": 24}, VISION_SIZES
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    tokenizer(longest=12).save_pretrained(folder)


def make_siglip2(folder: Path) -> None:
    text = {**TEXT_SIZES, "max_position_embeddings": 12, "projection_size": 24}
    vision = {key: value for key, value in VISION_SIZES.items() if key != "image_size"} | {"num_patches": 16}
    transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"patch_size": 8, "max_num_patches": 16}))
    letters = transformers.Siglip2Tokenizer(vocab={letter: n for n, letter in enumerate(LETTERS)}, merges=[])
    end = tokenizers.processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    letters.backend_tokenizer.post_processor = end
    letters.save_pretrained(folder)


def make_roberta(folder: Path) -> None:
    config = transformers.RobertaConfig(**TEXT_SIZES, max_position_embeddings=14)
    transformers.RobertaModel(config).save_pretrained(folder)
    tokenizer(longest=int(1e30)).save_pretrained(folder)


def make_bert(folder: Path) -> None:
    """As a masked language model is published: without a pooler."""
    config = transformers.BertConfig(**TEXT_SIZES, max_position_embeddings=12)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    tokenizer(longest=12).save_pretrained(folder)


PRETRAINED: dict[str, Callable[[Path], None]] = {
    "clip": make_clip,
    "siglip": make_siglip,
    "siglip2": make_siglip2,
    "roberta": make_roberta,
    "bert": make_bert,
}
DUAL, TEXT = ["clip", "siglip", "siglip2"], ["roberta", "bert"]


def make_all(root: Path) -> Path:
    """A folder with a tiny model of each family, and ONNX encoders with both halves or one."""
    torch.manual_seed(0)
    for name, make in PRETRAINED.items():
        make(root / name)
    make_visual(root / "onnx-both", size=[8, 12])
    make_textual(root / "onnx-both")
    make_visual(root / "onnx-eyes", size=[8, 12])
    make_textual(root / "onnx-tongue")
    return root


def save_graph(path: Path, nodes: list[Any], inputs: list[Any], columns: int, weights: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True)
    output = onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", columns])
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "tiny", inputs, [output], constants)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), str(path))


def make_visual(folder: Path, *, size: list[int], resize_mode: str = "squash", interpolation: str = "bicubic") -> Path:
    """An "encoder" whose embedding is what it was given: its pixels, channel by channel."""
    height, width = size
    pixels = onnx.helper.make_tensor_value_info("pixel_values", onnx.TensorProto.FLOAT, ["batch", 3, height, width])
    flatten = onnx.helper.make_node("Flatten", ["pixel_values"], ["embedding"])
    save_graph(folder / "visual" / "model.onnx", [flatten], [pixels], 3 * height * width, {})
    config = {"size": size, "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 1.0]}
    config |= {"interpolation": interpolation, "resize_mode": resize_mode}
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(config))
    return folder


def make_textual(folder: Path, *, tokens: int | str = "tokens", columns: int = 3 * 8 * 12) -> Path:
    """The mean of the word vectors where the mask is 1, times the number of tokens given: more padding would show."""
    made = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", tokens])
        for name in ("input_ids", "attention_mask")
    ]
    nodes = [
        onnx.helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        onnx.helper.make_node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Unsqueeze", ["mask", "axis"], ["column"]),
        onnx.helper.make_node("Mul", ["vectors", "column"], ["real"]),
        onnx.helper.make_node("ReduceSum", ["real", "one"], ["embedding"], keepdims=0),
    ]
    table = np.random.default_rng(1).normal(size=(32, columns)).astype(np.float32)
    weights = {"table": table, "axis": np.array([2]), "one": np.array([1])}
    save_graph(folder / "textual" / "model.onnx", nodes, made, columns, weights)
    backend = tokenizer(longest=12).backend_tokenizer
    backend.enable_padding(length=30, pad_id=0, pad_token="<pad>")
    backend.save(str(folder / "textual" / "tokenizer.json"))
    return folder


def frames(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]
