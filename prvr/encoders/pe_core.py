"""Perception Encoder, PE-Core (Bolya et al., 2025, arXiv 2504.13181): images and sentences in one space.

Reads the files in which OpenCLIP publishes it (the hub's `timm/PE-Core-T-16-384`, `-S-16-384`, `-B-16`, `-L-14-336` and
`-bigG-14-448`): `open_clip_config.json`, `open_clip_model.safetensors`, `tokenizer.json`. Meta's own files are pickled, and are
not opened. `transformers` has no PE-Core; `open_clip` and `timm` need torchvision, whose published wheel fails with the CPU build
of torch. The towers are therefore written here, and tests/encoders/test_pe_core.py compares them with numbers of `open_clip` 3.3
and `timm` 1.0.31 (decision 0061).

The image tower is a vision transformer with learned and rotary positions (two axes) and attention pooling by one learned query;
the text tower is CLIP's: causal, pooled at the end token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from prvr.device import open_device
from prvr.encoders import OPEN_CLIP, name_of, one_line_errors
from prvr.encoders.hub import local_folder
from prvr.encoders.pixels import Pixels
from prvr.encoders.pretrained import weights_fingerprint
from prvr.encoders.prompts import PROMPTS
from prvr.encoders.two_sided import TwoSidedEncoder
from prvr.errors import ModelError, nearest, require
from prvr.files import parse_json, read_bytes

WEIGHTS = "open_clip_model.safetensors"
POOLING_HEADS = 8
ROTARY_BASE = 10_000.0
# The text tower's names for what the image tower has, too.
SHARED_NAMES = {
    "transformer.resblocks.": "blocks.",
    ".ln_1.": ".norm1.",
    ".ln_2.": ".norm2.",
    ".attn.in_proj_": ".attn.qkv.",
    ".attn.out_proj.": ".attn.proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}


class _Size(NamedTuple):
    """What the tensors of an image tower do not say: its heads, the grid of its training, the first position of the grid."""

    heads: int
    grid: int
    first: int


SIZES = {
    "vit_pe_core_tiny_patch16_384": _Size(3, 24, 1),
    "vit_pe_core_small_patch16_384": _Size(6, 24, 1),
    "vit_pe_core_base_patch16_224": _Size(12, 14, 1),
    "vit_pe_core_large_patch14_336": _Size(16, 24, 1),
    "vit_pe_core_gigantic_patch14_448": _Size(16, 32, 0),
}


@final
class PeCore(TwoSidedEncoder):
    """A PE-Core model. The rows of images and sentences are not normalised.

    Args:
        source: a local folder, or a name on the Hugging Face hub.

    Raises:
        ModelError: there is no such model, it is broken, or it is of another family.
    """

    prompt = PROMPTS["pe_core"]

    def __init__(self, source: str, *, device: str = "cpu") -> None:
        self.name, self.source = name_of(source), source
        with one_line_errors(source):
            folder = local_folder(source)
            path = folder / OPEN_CLIP
            config = parse_json(read_bytes(path))
            model, name = config["model_cfg"], str(config["model_cfg"]["vision_cfg"].get("timm_model_name"))
            if name not in SIZES:
                raise ModelError(f"{path} is of the model {name!r:.60}; of OpenCLIP's, PE-Core is read: {nearest(name, SIZES)}")
            self._pixels = Pixels({**config["preprocess_cfg"], "size": model["vision_cfg"]["image_size"]}, path, extra="encoders")
            weights = {key: one.float() for key, one in safetensors.torch.load_file(folder / WEIGHTS).items()}
            self.fingerprint = weights_fingerprint(weights)
            self._device = open_device(device)
            self._images = _fill(_ImageTower, weights, "visual.trunk.", self._device, size=SIZES[name], pixels=self._pixels)
            self._texts = _fill(_TextTower, weights, "text.", self._device, heads=int(model["text_cfg"]["heads"]))
            tokenizers = require("tokenizers", extra="encoders")
            self._tokenizer = tokenizers.Tokenizer.from_str(read_bytes(folder / "tokenizer.json").decode())
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self.image_columns = self._images.head.out_features
            self.word_columns, self.sentence_columns = self._texts.text_projection.shape
            self.longest: int | None = len(self._texts.positional_embedding)
            self.ends = 1

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a whole text, special ones included."""
        with one_line_errors(self.source):
            return len(self._tokenizer.encode(text).ids)

    def fit(self, frame: np.ndarray) -> np.ndarray:
        """Returns a frame at the size that the network reads, for which `encode_images` gives the same row to the bit."""
        return self._pixels.fit(frame)

    def _image_rows(self, frames: Sequence[np.ndarray]) -> Tensor:
        return self._images(torch.from_numpy(self._pixels.planes(frames)).to(self._device))

    def _text_rows(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        assert self.longest is not None
        ids = [self._tokenizer.encode(text).ids for text in texts]
        # A text that is cut still ends with the end token, at which it is pooled.
        ids = [each if len(each) <= self.longest else [*each[: self.longest - 1], each[-1]] for each in ids]
        padded = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
        lengths = torch.tensor([len(each) for each in ids])
        for row, each in zip(padded, ids, strict=True):
            row[: len(each)] = torch.tensor(each)
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        pooled, states = self._texts(padded.to(self._device), (lengths - 1).to(self._device))
        return pooled, states, mask


class _Attention(nn.Module):
    """Multi-head attention of tokens with themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "N T E"], rotary: Tensor | None, causal: bool) -> Float[Tensor, "N T E"]:
        count, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(count, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            q, k = _rotate(q, rotary), _rotate(k, rotary)
        return self.proj(scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(x.shape))


class _Perceptron(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), _Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), _Perceptron(width, hidden)

    def forward(self, x: Tensor, rotary: Tensor | None = None, *, causal: bool = False) -> Tensor:
        x = x + self.attn(self.norm1(x), rotary, causal)
        return x + self.mlp(self.norm2(x))


class _Pooling(nn.Module):
    """Attention of one learned query with all tokens."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm, self.mlp = nn.LayerNorm(width), _Perceptron(width, hidden)

    def forward(self, x: Float[Tensor, "N T E"]) -> Float[Tensor, "N E"]:
        count, tokens, width = x.shape
        columns = width // POOLING_HEADS
        q = self.q(self.latent).reshape(1, 1, POOLING_HEADS, columns).transpose(1, 2).expand(count, -1, -1, -1)
        k, v = self.kv(x).reshape(count, tokens, 2, POOLING_HEADS, columns).permute(2, 0, 3, 1, 4)
        pooled = self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, width))
        return pooled + self.mlp(self.norm(pooled))


class _ImageTower(nn.Module):
    """Its sizes are those of the tensors."""

    def __init__(self, tensors: Mapping[str, Tensor], *, size: _Size, pixels: Pixels) -> None:
        super().__init__()
        width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
        columns, hidden = tensors["head.weight"].shape[0], tensors["blocks.0.mlp.fc1.weight"].shape[0]
        self.has_class = "cls_token" in tensors
        if self.has_class:
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(tensors["pos_embed"].shape))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch, bias=False)})
        self.norm_pre, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, size.heads, hidden) for _ in range(_blocks(tensors)))
        self.attn_pool = _Pooling(width, tensors["attn_pool.mlp.fc1.weight"].shape[0])
        self.head = nn.Linear(width, columns)
        self._grid = (pixels.height // patch, pixels.width // patch)
        if self.pos_embed.shape[1] != self._grid[0] * self._grid[1] + self.has_class:
            raise ModelError(f"the weights have {self.pos_embed.shape[1]} positions, and pictures {self._grid} patches")
        self._columns, self._size = width // size.heads, size

    def forward(self, planes: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N E"]:
        x = self.patch_embed["proj"](planes).flatten(2).transpose(1, 2)
        if self.has_class:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.norm_pre(x + self.pos_embed)
        rotary = _rotary(self._grid, self._columns, self._size).to(x.device)
        for block in self.blocks:
            x = block(x, rotary)
        return self.head(self.attn_pool(self.norm(x)))


class _TextTower(nn.Module):
    """Its sizes are those of the tensors."""

    def __init__(self, tensors: Mapping[str, Tensor], *, heads: int) -> None:
        super().__init__()
        vocabulary, width = tensors["token_embedding.weight"].shape
        hidden = tensors["blocks.0.mlp.fc1.weight"].shape[0]
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(tensors["positional_embedding"].shape))
        self.blocks = nn.ModuleList(_Block(width, heads, hidden) for _ in range(_blocks(tensors)))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(tensors["text_projection"].shape))

    def forward(self, ids: Int[Tensor, "Q W"], ends: Int[Tensor, "Q"]) -> tuple[Tensor, Tensor]:
        """The sentences (Q, E), and the states of their tokens (Q, W, D)."""
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        states = self.ln_final(x)
        return states[torch.arange(len(ids), device=ids.device), ends] @ self.text_projection, states


def _fill(tower: Any, weights: Mapping[str, Tensor], prefix: str, device: torch.device, **settings: Any) -> Any:
    """Returns a tower with the tensors below a prefix."""
    tensors = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
    for name, shared in SHARED_NAMES.items():
        tensors = {key.replace(name, shared): one for key, one in tensors.items()}
    with torch.device("meta"):
        built = tower(tensors, **settings)
    built.load_state_dict(tensors, assign=True)
    return built.eval().requires_grad_(False).to(device)


def _blocks(tensors: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})


def _rotary(grid: tuple[int, int], columns: int, size: _Size) -> Float[Tensor, "2 P C"]:
    """Sine and cosine of each patch's position, two columns for each frequency: those of x, then those of y."""
    height, width = grid
    bands = ROTARY_BASE ** -(torch.arange(columns // 4, dtype=torch.float32) / (columns // 4))
    # Another picture size than in training is stretched to the same range of positions.
    y = (torch.arange(height, dtype=torch.float32) + size.first) / height * size.grid
    x = (torch.arange(width, dtype=torch.float32) + size.first) / width * size.grid
    places = torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)
    angles = (places[:, :, None] * bands).flatten(1).repeat_interleave(2, -1)
    return torch.stack([angles.sin(), angles.cos()])


def _rotate(x: Float[Tensor, "N H T C"], rotary: Float[Tensor, "2 P C"]) -> Float[Tensor, "N H T C"]:
    """Rotates the pairs of columns of the patches; a class token before them stays as it is."""
    before = x.shape[2] - rotary.shape[1]
    patches = x[:, :, before:]
    turned = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(-2)
    return torch.cat([x[:, :, :before], patches * rotary[1] + turned * rotary[0]], dim=2)
