"""What words are worth beside a picture: the weight of `prvr.search.senses.Worth`, and R@1 of picture, speech and both.

    python experiments/senses.py ../shared/data/montage

2,000 real photographs are strung into 250 videos of eight, five seconds each. In one video of four, each photograph is spoken of
by the very caption that is asked, in one by its other caption, in two by captions of photographs that are not there. The weights
are fitted on the queries of half of the videos; the table is of the others, over all videos; and the other way round.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.methods.calibration import logistic
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search.senses import find_said

PHOTOS, SECONDS, ONE_OF = 8, 5.0, 5
GROUPS = ("very words", "other words", "noise", "noise")


def main(root: Path) -> None:
    draw = np.random.default_rng(0)
    photos = [{**json.loads(line), "number": number} for number, line in enumerate((root / "photos.jsonl").open())]
    teacher = np.load(root / "teacher.npy", mmap_mode="r")
    captions = np.load(root / "teacher_captions.npy")
    test = [photo for photo in photos if photo["split"] == "test"]
    others = [text for photo in photos if photo["split"] != "test" for text in photo["captions"]]
    order = draw.permutation(len(test))
    videos = [[test[place] for place in order[start : start + PHOTOS]] for start in range(0, len(test) - PHOTOS + 1, PHOTOS)]
    columns = teacher.shape[-1]
    model = ZeroShot(ZeroShotConfig(), frame_columns=columns, word_columns=columns).eval()
    with tempfile.TemporaryDirectory() as folder:
        index = DiskIndex.make(Path(folder), model, Header("model", "float16", "videos"))
        queries, frames, entries, texts = [], [], [], {}
        for number, video in enumerate(videos):
            group = GROUPS[number % 4]
            rows = np.stack([teacher[photo["number"], 0] for photo in video]).astype(np.float32)
            entries.append(Entry(f"{number:04}", (rows,), (PHOTOS,), tuple(SECONDS * n for n in range(PHOTOS + 1))))
            frames.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
            texts[f"{number:04}"] = []
            for place, photo in enumerate(video):
                said = {"very words": photo["captions"][0], "other words": photo["captions"][1]}.get(group) or draw.choice(others)
                texts[f"{number:04}"].append(TimedText(SECONDS * place, SECONDS * (place + 1), said, "speech"))
                queries.append((number, group, photo["captions"][0], captions[photo["rows"][0]]))
        index.add(entries)
        for video, said in texts.items():
            index.texts.extend(video, "speech", TextsPart(40.0, tuple(said)), made_of="", is_complete=True)
        # Videos of all groups, of which queries are few enough for a minute of processor.
        measure(index, queries[::ONE_OF], np.stack(frames))
        index.close()


def measure(index: DiskIndex, queries: list, frames: np.ndarray) -> None:
    count = len(frames)
    asked = np.stack([query[3] for query in queries]).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    scores = np.einsum("qd,vfd->qvf", asked, frames).max(2)
    share, evidence = np.zeros_like(scores), np.zeros_like(scores)
    began = time.process_time()
    for row, (_, _, text, _) in enumerate(queries):
        for one in find_said(index.texts, text, "speech", of=count):
            share[row, int(one.video)], evidence[row, int(one.video)] = one.share, one.evidence
    print(
        f"words: {1000 * (time.process_time() - began) / len(queries):.1f} ms of processor a query, {8 * count} texts", flush=True
    )
    z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    right = np.arange(count)[None] == np.array([query[0] for query in queries])[:, None]
    fitted = np.array([query[0] // 4 % 2 == 0 for query in queries])
    for name, columns in (
        ("share, evidence", (z, share, evidence)),
        ("share^2, evidence", (z, share**2, evidence)),
        ("share^2", (z, share**2)),
        ("share^3", (z, share**3)),
        ("share^4", (z, share**4)),
        ("share^4 * log(1 + evidence)", (z, share**4 * np.log1p(evidence))),
    ):
        for fit_on in (fitted, ~fitted):
            features = np.stack([column[fit_on].ravel() for column in columns], 1)
            _, *slopes = logistic(features, right[fit_on].ravel())
            weights = [round(slope / slopes[0], 3) for slope in slopes]
            fused = sum(weight * column for weight, column in zip(weights, columns, strict=True))
            print(f"z, {name}: {weights}", flush=True)
            for group in dict.fromkeys(GROUPS):
                chosen = ~fit_on & np.array([group == query[1] for query in queries])
                shown = {"picture": z, "speech": evidence + 1e-9 * z, "both": fused}
                print(f"  {group:12} {chosen.sum():4}", {key: recall(of[chosen], right[chosen]) for key, of in shown.items()})


def recall(scores: np.ndarray, right: np.ndarray) -> float:
    return round(100 * float(np.take_along_axis(right, scores.argmax(1)[:, None], 1).mean()), 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
