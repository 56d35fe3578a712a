"""DL-DKD++ and what it is measured against, on real photographs and captions strung into untrimmed videos.

    python SHARED/tools/make_montage.py ROOT
    python experiments/montage.py ROOT OUT [key=value ...]

Frames: 256-d features of a light backbone. Words: all-MiniLM-L6-v2. Teacher: a stronger image-text model that never saw
the test photographs (SHARED/data/README.md). For each of three seeds the train videos are divided into train and dev,
epochs are chosen on dev, and the chosen student is measured on the 250 test videos, once. Prints a table of test
figures, mean ± standard deviation over seeds; division and training differ between seeds, test videos do not. Writes
OUT/montage.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import prvr
from prvr.datasets.published import load
from prvr.evaluate.evaluation import correct_videos, evaluate_model
from prvr.evaluate.metrics import Retrieval, retrieval
from prvr.features import FeatureSet, TeacherFeatures, columns
from prvr.features.package import published_features
from prvr.features.sources import FeatureSources, Source
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig

SEEDS = (0, 1, 2)
DEV_SHARE = 0.15
STUDENTS = ("no-distillation", "dl-dkd", "dl-dkd++")
COLUMNS = ("R@1", "R@5", "R@10", "R@100", "SumR", "MedR")


def carved(dataset: prvr.Dataset, seed: int) -> tuple[prvr.Dataset, prvr.Dataset]:
    """A split divided by video into train and dev."""
    order = list(dataset.video_ids)
    random.Random(seed).shuffle(order)
    chosen = set(order[: round(DEV_SHARE * len(order))])
    parts = []
    for split, is_dev in (("train", False), ("dev", True)):
        captions = tuple(caption for caption in dataset.captions if (caption.video in chosen) == is_dev)
        videos = tuple(video for video in dataset.video_ids if (video in chosen) == is_dev)
        parts.append(prvr.Dataset(dataset.name, split, captions, videos))
    return parts[0], parts[1]


def in_memory(given: FeatureSet, captions: tuple[prvr.Caption, ...]) -> FeatureSet:
    """The same features, read once: a fifth of an epoch goes into opening HDF5 keys otherwise."""
    ids = [caption.id for caption in captions]
    taught = [({v: t.frames[v] for v in t.frames}, {id: t.sentences[id] for id in ids}) for t in given.teachers]
    return FeatureSet(
        given.frames,
        {id: given.text[id] for id in ids},
        given.sources,
        tuple(TeacherFeatures(*pair) for pair in taught),
    )


def figures(of: Retrieval) -> dict[str, float]:
    return dict(zip(COLUMNS, (of.r1, of.r5, of.r10, of.r100, of.sumr, of.medr), strict=True))


def chance(dataset: prvr.Dataset, seed: int) -> dict[str, float]:
    """Random scores."""
    correct = correct_videos(dataset, dataset.video_ids)
    return figures(retrieval(np.random.default_rng(seed).random(correct.shape), correct))


def teacher_alone(dataset: prvr.Dataset, given: FeatureSet) -> dict[str, float]:
    frames, sentences = given.teachers[0].frames, given.teachers[0].sentences
    sources = FeatureSources(*(Source("clip_vit_b32", columns(side)) for side in (frames, sentences)))
    model = ZeroShot(ZeroShotConfig(), frame_columns=sources.frames.columns, word_columns=sources.text.columns)
    return figures(evaluate_model(model, dataset, FeatureSet(frames, sentences, sources)).retrieval)


def students(
    out: Path, seed: int, changes: list[str], *, whole: prvr.Dataset, test: prvr.Dataset, given: FeatureSet
) -> dict[str, dict[str, float]]:
    (train, dev), rows = carved(whole, seed), {}
    for name in STUDENTS:
        recipe, began = prvr.preset(name), time.monotonic()
        settings, training = prvr.override([recipe.settings, replace(recipe.training, seed=seed)], changes)
        run = out / f"seed{seed}" / "_".join([name, *changes])
        data = prvr.Data(train, dev, given)
        best = prvr.train_student(run, prvr.Recipe(recipe.method, settings, training), data=data)
        rows[name] = figures(evaluate_model(best.model, test, given).retrieval)
        rows[name] |= {"dev SumR": best.about["dev"]["sumr"], "epoch": best.about["epoch"] + 1}
        rows[name]["seconds"] = round(time.monotonic() - began)
        print(f"seed {seed}, {name}: {rows[name]}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("changes", nargs="*", help="key=value changes to the presets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    whole, test = (load(arguments.root, "montage", split) for split in ("train", "test"))
    given = published_features(arguments.root, "montage", visual_feature="i3d")
    given = in_memory(given, whole.captions + test.captions)
    teacher, rows = teacher_alone(test, given), []
    for seed in SEEDS:
        trained = students(arguments.out, seed, arguments.changes, whole=whole, test=test, given=given)
        rows.append({"chance": chance(test, seed), "zero-shot teacher": teacher, **trained})
    print("| | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    for name in rows[0]:
        cells = []
        for column in COLUMNS:
            values = [row[name][column] for row in rows]
            cells.append(f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"{len(test.video_ids)} test videos, {len(test.captions)} captions; changes: {arguments.changes or 'none'}")
    (arguments.out / "montage.json").write_text(json.dumps({"changes": arguments.changes, "seeds": rows}, indent=1))


if __name__ == "__main__":
    main()
