"""Pictures through an encoder as large as CLIP ViT-B/32, beside the same with torch's own products. Its weights are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.measure import Line, Size, take_turns
from prvr.cpu import Linear, as_torch_does
from prvr.errors import require

PIXELS, PATCH = 224, 32


def encoding_lines(size: Size) -> list[Line]:
    """Seconds of a batch of pictures, and how far the two ways differ."""
    transformers = require("transformers", extra="encoders")
    settings = transformers.CLIPVisionConfig(
        hidden_size=2 * size.hidden,
        intermediate_size=8 * size.hidden,
        num_attention_heads=max(1, size.hidden // 32),
        image_size=PIXELS,
        patch_size=PATCH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = transformers.CLIPVisionModel(settings).eval().requires_grad_(False).to(size.device)
        pictures = torch.rand(size.videos // 4, 3, PIXELS, PIXELS).to(size.device)
    Linear.throughout(encoder)

    @torch.inference_mode()
    def encode() -> Tensor:
        rows: Tensor = encoder(pixel_values=pictures).pooler_output
        return rows

    def by_torch() -> Tensor:
        with as_torch_does():
            return encode()

    times = take_turns({"ours": encode, "torch": by_torch}, runs=size.runs, device=size.device)
    ours, theirs = encode(), by_torch()
    note = (
        f"{len(pictures)} pictures; differ by {float((ours - theirs).abs().max() / theirs.abs().max()):.0e} of the largest number"
    )
    return [Line("encoding pictures, beside torch's own products", times["ours"], times["torch"], note=note)]
