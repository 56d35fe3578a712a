"""The folder that the README and the tutorials speak of, small; their encoders are local folders of those names."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_encoders import make_clip, make_roberta, make_siglip
from tiny_videos import SECONDS, plain, write_video

from prvr.encoders.hub import DEFAULT_ENCODER


def make_folder(root: Path) -> Path:
    """Eight videos of two or three colours, each with a caption of one of them, and the encoders."""
    (root / "videos").mkdir()
    make_clip(root / "openai" / "clip-vit-base-patch32")
    make_siglip(root / DEFAULT_ENCODER)
    make_roberta(root / "sentence-transformers" / "all-MiniLM-L6-v2")
    lines = []
    for number in range(8):
        name = f"video_{number}.mp4"
        write_video(root / "videos" / name, [(200 * n, plain(SECONDS[(number + n // 10) % 5])) for n in range(20 + number)])
        lines.append({"video": name, "text": f"a {SECONDS[number % 5]} picture", "start": 0.0, "end": 2.0})
    (root / "videos" / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
