"""DL-DKD++ with and without a branch of subtitles: real captions, said instead of or while their photograph is shown.

    python SHARED/tools/make_montage.py ROOT
    python experiments/subtitles.py ROOT OUT [--videos 240] [key=value ...]

Of three videos in a row the first has no subtitles. Of the second, every second photograph is cut out of the pictures, and the
first of its two captions is said during the five seconds after: the other caption, by another annotator, is a query of kind t.
In the third they stay, and are described while they are shown: kind vt. A caption that is said is no query; all others are of
kind v. A row of subtitles is the greatest value of each column over the words of the sentence, and zeros where nothing is said.

Trained on the train videos but a tenth, of which the best epoch and the share of subtitles are chosen; measured on the test
videos, once. Prints SumR of all queries and of each kind, mean ± standard deviation over three seeds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import prvr
from prvr.batch import unit_rows
from prvr.datasets import Caption, Dataset
from prvr.datasets.published import load
from prvr.evaluate.evaluation import correct_videos, evaluate_model
from prvr.evaluate.groups import by_kind
from prvr.evaluate.metrics import places
from prvr.features import FeatureSet, TeacherFeatures
from prvr.features.package import published_features
from prvr.features.sources import Source
from prvr.features.subtitles import SubtitledFrames
from prvr.methods.checkpoint import with_settings

SEEDS, DEV_SHARE, SECONDS, SHARES = (0, 1, 2), 0.1, 5, (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
Rows = dict[str, np.ndarray]


def speak(root: Path, datasets: Iterable[Dataset], given: FeatureSet) -> tuple[list[Dataset], FeatureSet]:
    """The same videos with subtitles, and their captions with kinds."""
    spans = json.loads((root / "montage" / "moments.json").read_text())
    frames, taught, said, made, width = Rows(), Rows(), Rows(), list[Dataset](), given.sources.text.columns
    for dataset in datasets:
        of_video: dict[str, list[Caption]] = {}
        for caption in dataset.captions:
            of_video.setdefault(caption.video, []).append(caption)
        captions: list[Caption] = []
        for number, (video, own) in enumerate(of_video.items()):
            rows, teacher = given.frames[video], given.teachers[0].frames[video]
            kinds, kept, subtitles = ["v"] * len(own), np.ones(len(rows), bool), np.zeros((len(rows), width), np.float32)
            for spoken in _every_second(spans[video]["spans"]) if number % 3 else []:
                start, end = spans[video]["spans"][spoken]
                shown = number % 3 == 2
                kinds[spoken], kinds[spoken + 1], kept[start:end] = "", "vt" if shown else "t", shown
                at = slice(start, end) if shown else slice(end, end + SECONDS)
                subtitles[at] = given.text[own[spoken].id].max(0)
            if number % 3:
                said[video] = subtitles[kept]
            frames[video], taught[video] = rows[kept], teacher[kept]
            captions += [replace(caption, kind=kind) for caption, kind in zip(own, kinds, strict=True) if kind]
        made.append(replace(dataset, captions=tuple(captions)))
    sources = replace(given.sources, subtitles=Source("said", width))
    text = {caption.id: given.text[caption.id] for dataset in made for caption in dataset.captions}
    sentences = {id: given.teachers[0].sentences[id] for id in text}
    return made, FeatureSet(SubtitledFrames(frames, said), text, sources, (TeacherFeatures(taught, sentences),))


def _every_second(spans: list[list[int]]) -> list[int]:
    """The first caption of the second, fourth, ... photograph of a video, but of the last one."""
    firsts = [place for place in range(len(spans) - 1) if spans[place] == spans[place + 1] != spans[-1]]
    return firsts[1::2]


def figures(model: prvr.methods.contract.Model, dataset: Dataset, features: FeatureSet) -> dict[str, float]:
    """SumR of all queries, and of each kind, by a model."""
    found = evaluate_model(model, dataset, features)
    return {"all": found.retrieval.sumr, **of_kinds(found.scores, dataset, found.videos)}


def of_kinds(scores: np.ndarray, dataset: Dataset, videos: Sequence[str]) -> dict[str, float]:
    """SumR of each kind of query."""
    place = places(scores, correct_videos(dataset, videos))
    groups = by_kind(place, [caption.kind for caption in dataset.captions], videos=len(videos))
    return {each.name: each.retrieval.sumr for each in groups if each.retrieval is not None}


def untrained(dataset: Dataset, features: FeatureSet) -> dict[str, float]:
    """SumR of each kind by the subtitles alone, nothing learned: the best cosine of a row with the query's greatest values."""
    frames = features.frames
    assert isinstance(frames, SubtitledFrames)
    queries = unit_rows(np.stack([features.text[caption.id].max(0) for caption in dataset.captions]))
    scores = np.full((len(queries), len(dataset.video_ids)), -1.0)
    for place, video in enumerate(dataset.video_ids):
        if video in frames.subtitles:
            scores[:, place] = (queries @ unit_rows(frames.subtitles[video]).T).max(1)
    return of_kinds(scores, dataset, dataset.video_ids)


def first_videos(dataset: Dataset, count: int) -> Dataset:
    """The first videos of a split, and their captions."""
    videos = dataset.video_ids[:count]
    captions = tuple(caption for caption in dataset.captions if caption.video in set(videos))
    return replace(dataset, video_ids=videos, captions=captions)


def divide(whole: Dataset, seed: int) -> list[Dataset]:
    """Train and dev, divided by video."""
    dev = set(random.Random(seed).sample(whole.video_ids, round(DEV_SHARE * len(whole.video_ids))))
    return [
        replace(
            whole,
            split=split,
            captions=tuple(caption for caption in whole.captions if (caption.video in dev) == is_dev),
            video_ids=tuple(video for video in whole.video_ids if (video in dev) == is_dev),
        )
        for split, is_dev in (("train", False), ("dev", True))
    ]


def trained(
    out: Path, seed: int, changes: list[str], whole: Dataset, test: Dataset, spoken: FeatureSet
) -> Mapping[str, dict[str, float]]:
    """The figures on test without subtitles, and with the share of subtitles of the settings and that which was chosen on dev."""
    (train, dev), rows = divide(whole, seed), {}
    frames = spoken.frames
    assert isinstance(frames, SubtitledFrames)
    mute = replace(spoken, frames=frames.frames, sources=replace(spoken.sources, subtitles=None))
    for name, features in (("pictures alone", mute), ("with subtitles", spoken)):
        recipe, begun = prvr.preset("dl-dkd++"), time.process_time()
        settings, training = prvr.override([recipe.settings, replace(recipe.training, seed=seed)], changes)
        recipe = replace(recipe, settings=settings, training=training)
        best = prvr.train_student(out / f"seed{seed}" / name.replace(" ", "-"), recipe, data=prvr.Data(train, dev, features))
        rows[name] = figures(best.model, test, features)
        if features is spoken:
            models = {share: with_settings(best, subtitle_weight=share).model for share in SHARES}
            share = max(SHARES, key=lambda share: figures(models[share], dev, features)["all"])
            rows["with subtitles, share chosen on dev"] = {**figures(models[share], test, features), "share": share}
        print(
            f"seed {seed}, {name}: {rows[name]}, epoch {best.about['epoch'] + 1}, {time.process_time() - begun:.0f} s", flush=True
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--videos", type=int, default=760, help="train and dev videos, the first ones")
    parser.add_argument("changes", nargs="*", help="key=value changes to the preset")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    given = published_features(arguments.root, "montage", visual_feature="i3d")
    datasets = [load(arguments.root, "montage", split) for split in ("train", "test")]
    datasets[0] = first_videos(datasets[0], arguments.videos)
    (whole, test), spoken = speak(arguments.root, datasets, given)
    kinds = [caption.kind for caption in test.captions]
    print({kind: kinds.count(kind) for kind in ("v", "t", "vt")}, len(test.video_ids), "test videos", flush=True)
    print(f"the words alone, nothing learned: {untrained(test, spoken)}", flush=True)
    rows = [trained(arguments.out, seed, arguments.changes, whole, test, spoken) for seed in SEEDS]
    for name in rows[0]:
        cells = []
        for column in rows[0][name]:
            values = [row[name][column] for row in rows]
            cells.append(f"{column} {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}")
        print(f"{name}: {'  '.join(cells)}")


if __name__ == "__main__":
    main()
