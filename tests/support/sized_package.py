"""A package with made-up numbers in the layout, the widths and, if asked for, the sizes of a published one.

python tests/support/sized_package.py activitynet ROOT        writes ROOT/activitynet at its published size
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

WHO, DOES, WHAT = ("a man", "a dog", "the girl"), ("opens", "carries", "sees", "paints"), ("a door", "a box", "the car")


class Layout(NamedTuple):
    """Names and widths of a collection's features, and the seconds of its videos, a frame for every 1.5 of them."""

    frames: str
    frame_columns: int
    word_columns: int
    seconds: tuple[float, float]
    sizes: tuple[tuple[int, int], tuple[int, int]]


# Sizes: videos and captions of train and of test (prvr.datasets.sizes). Seconds: so that their mean is that of the annotations.
LAYOUTS = {
    "tvr": Layout("i3d_resnet", 3072, 768, (30, 122), ((17435, 87175), (2179, 10895))),
    "activitynet": Layout("i3d", 1024, 1024, (10, 226), ((9043, 33721), (4430, 15753))),
    "charades": Layout("i3d_rgb_lgi", 1024, 1024, (10, 50), ((5338, 12408), (1334, 3720))),
    "msrvtt": Layout("resnext101-resnet152", 4096, 768, (10, 30), ((6513, 130260), (2990, 59800))),
}


def write_sized(root: Path, collection: str, *, sizes: tuple[tuple[int, int], tuple[int, int]] | None = None) -> Path:
    """Writes ROOT/COLLECTION with random features and captions, with spans in `annotations`; returns its folder."""
    layout, draw = LAYOUTS[collection], np.random.default_rng(0)
    folder = root / collection
    frames, texts, spans = folder / "FeatureData" / layout.frames, folder / "TextData", folder / "annotations"
    for path in (frames, texts, spans):
        path.mkdir(parents=True)
    ids: dict[str, list[str]] = {}
    with (
        open(frames / "feature.bin", "wb") as rows,
        h5py.File(folder / "FeatureData" / f"new_clip_vit_32_{collection}_vid_features.hdf5", "w") as teacher,
        h5py.File(texts / f"clip_ViT_B_32_{collection}_query_feat.hdf5", "w") as sentences,
        h5py.File(texts / f"roberta_{collection}_query_feat.hdf5", "w") as words,
    ):
        for split, (videos, captions) in zip(("train", "test"), sizes or layout.sizes, strict=True):
            lines, moments = [], []
            for number in range(videos):
                video, seconds = f"{split}{number}", float(draw.uniform(*layout.seconds))
                count = max(4, int(seconds / 1.5))
                rows.write(draw.standard_normal((count, layout.frame_columns), np.float32).tobytes())
                teacher[video] = draw.standard_normal((count, 512), np.float32)
                ids[video] = [f"{video}_{k}" for k in range(count)]
                for k in range(_share(captions, videos, number)):
                    text = " ".join(str(draw.choice(part)) for part in (WHO, DOES, WHAT, DOES, WHAT))
                    start = float(draw.uniform(0, seconds / 2))
                    about = {"vid_name": video, "duration": seconds, "ts": [start, start + seconds / 4], "desc": text}
                    lines.append(f"{video}#enc#{k} {text}\n")
                    moments.append(json.dumps(about | {"desc_id": f"{video}#enc#{k}"}) + "\n")
                    sentences[f"{video}#enc#{k}"] = draw.standard_normal((1, 512), np.float32)
                    words[f"{video}#enc#{k}"] = draw.standard_normal((len(text.split()) + 2, layout.word_columns), np.float32)
            for name in (split,) if split == "train" else ("val", "test"):
                (texts / f"{collection}{name}.caption.txt").write_text("".join(lines))
                (spans / f"{name}.jsonl").write_text("".join(moments))
    total = sum(map(len, ids.values()))
    (frames / "shape.txt").write_text(f"{total} {layout.frame_columns}")
    (frames / "id.txt").write_text(" ".join(_flat(ids)))
    (frames / "video2frames.txt").write_text(repr(ids))
    return folder


def _share(captions: int, videos: int, number: int) -> int:
    return captions * (number + 1) // videos - captions * number // videos


def _flat(ids: dict[str, list[str]]) -> Iterator[str]:
    return (name for its in ids.values() for name in its)


if __name__ == "__main__":
    print(write_sized(Path(sys.argv[2]), sys.argv[1]))
