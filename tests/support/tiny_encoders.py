"""Tiny encoders of every family, with random weights and a few words, made where a test needs them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

# With it no two videos of the small worlds are near-identical to the encoder.
SALT = 1
WORDS = "a the dog cat man woman runs sits cooks in on kitchen beach red blue".split()  # noqa: SIM905
# SigLIP 2 has a tokenizer of its own: here a token a letter, the space as ▁, an end and no start.
LETTERS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"▁abcdefghijklmnopqrstuvwxyz"]
TEXTS = ["a dog runs", "the man in the red kitchen cooks on the beach", "Cat", "a woman sits in the blue kitchen"]


def by_name(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Weights drawn by the name of the folder alone: not by what ran before, and folders of two names have two encoders."""

    @wraps(make)
    def made(folder: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(folder.name.encode()) + SALT)
            make(folder)

    return made


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


@by_name
def make_clip(folder: Path) -> None:
    text, vision = {**TEXT_SIZES, "max_position_embeddings": 12, "projection_dim": 20}, {**VISION_SIZES, "projection_dim": 20}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    transformers.CLIPModel(config).save_pretrained(folder)
    processor = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    tokenizer(longest=12).save_pretrained(folder)


@by_name
def make_siglip(folder: Path) -> None:
    text, vision = {**TEXT_SIZES, "max_position_embeddings": 12, "projection_size": 24}, VISION_SIZES
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    tokenizer(longest=12).save_pretrained(folder)


@by_name
def make_siglip2(folder: Path) -> None:
    text = {**TEXT_SIZES, "max_position_embeddings": 12, "projection_size": 24}
    vision = {key: value for key, value in VISION_SIZES.items() if key != "image_size"} | {"num_patches": 16}
    transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"patch_size": 8, "max_num_patches": 16}))
    letters = transformers.Siglip2Tokenizer(vocab={letter: n for n, letter in enumerate(LETTERS)}, merges=[])
    end = tokenizers.processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    letters.backend_tokenizer.post_processor = end
    letters.save_pretrained(folder)


PE_TEXT, PE_WIDTH, PE_COLUMNS = 16, 24, 20


def pe_core_weights() -> dict[str, np.ndarray]:
    """Tensors under the names of OpenCLIP's PE-Core, two blocks a tower, drawn by NumPy: the same for ever."""
    shapes: dict[str, tuple[int, ...]] = {"logit_scale": ()}

    def add(prefix: str, width: int, names: dict[str, int], inner: int) -> None:
        for name, columns in names.items():
            own = inner if name.endswith(("fc2", "c_proj")) else width
            shapes[f"{prefix}{name}.weight"], shapes[f"{prefix}{name}.bias"] = (columns, own), (columns,)

    def norms(prefix: str, width: int, *names: str) -> None:
        shapes.update({f"{prefix}{name}.{what}": (width,) for name in names for what in ("weight", "bias")})

    w, t, trunk = PE_WIDTH, PE_TEXT, "visual.trunk."
    shapes |= {f"{trunk}cls_token": (1, 1, w), f"{trunk}pos_embed": (1, 10, w), f"{trunk}patch_embed.proj.weight": (w, 3, 16, 16)}
    norms(trunk, w, "norm_pre", "norm", "attn_pool.norm")
    add(trunk, w, {"head": PE_COLUMNS}, w)
    shapes[f"{trunk}attn_pool.latent"] = (1, 1, w)
    add(f"{trunk}attn_pool.", w, {"q": w, "kv": 2 * w, "proj": w, "mlp.fc1": 4 * w, "mlp.fc2": w}, 4 * w)
    shapes |= {
        "text.token_embedding.weight": (32, t),
        "text.positional_embedding": (12, t),
        "text.text_projection": (t, PE_COLUMNS),
    }
    norms("text.", t, "ln_final")
    for block in range(2):
        norms(f"{trunk}blocks.{block}.", w, "norm1", "norm2")
        add(f"{trunk}blocks.{block}.", w, {"attn.qkv": 3 * w, "attn.proj": w, "mlp.fc1": 4 * w, "mlp.fc2": w}, 4 * w)
        before = f"text.transformer.resblocks.{block}."
        norms(before, t, "ln_1", "ln_2")
        add(before, t, {"attn.out_proj": t, "mlp.c_fc": 4 * t, "mlp.c_proj": t}, 4 * t)
        shapes[f"{before}attn.in_proj_weight"], shapes[f"{before}attn.in_proj_bias"] = (3 * t, t), (3 * t,)
    rng = np.random.default_rng(7)
    return {name: np.asarray(rng.normal(scale=0.3, size=shapes[name]), np.float32) for name in sorted(shapes)}


def make_pe_core(folder: Path, *, draw: int = 0) -> None:
    """As OpenCLIP publishes it on the hub."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    noise = np.random.default_rng(draw)
    weights = {name: np.asarray(w + draw * noise.normal(size=w.shape), np.float32) for name, w in pe_core_weights().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    vision = {"image_size": 48, "timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_pool": "map", "timm_proj": None}
    text = {"context_length": 12, "vocab_size": 32, "width": PE_TEXT, "heads": 2, "layers": 2}
    model = {"embed_dim": PE_COLUMNS, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": pixels}))
    # CLIP's end of text has the largest number.
    words = {word: n + 1 for n, word in enumerate(WORDS)} | {"<unk>": 29, "<start>": 30, "<end>": 31}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = tokenizers.normalizers.Lowercase(), tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 30), ("<end>", 31)]
    )
    made.save(str(folder / "tokenizer.json"))


@by_name
def make_roberta(folder: Path) -> None:
    config = transformers.RobertaConfig(**TEXT_SIZES, max_position_embeddings=14)
    transformers.RobertaModel(config).save_pretrained(folder)
    tokenizer(longest=int(1e30)).save_pretrained(folder)


@by_name
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
