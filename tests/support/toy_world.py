"""A world of features in which every method must learn in seconds: videos of a few things, sentences that name one."""

from __future__ import annotations

import numpy as np

from prvr.datasets import Caption, Dataset
from prvr.features import FeatureSet, TeacherFeatures
from prvr.features.sources import FeatureSources, Source
from prvr.train.loop import Data

FRAMES, WORDS, TEACHER = 20, 16, 12
READS = FeatureSources(Source("toy_frames", FRAMES), Source("toy_words", WORDS))


def toy_world(*, videos: int = 60, things: int = 24, seed: int = 0, teacher_noise: float = 0.5) -> Data:
    """Each video shows three things, five frames each; a sentence names one of them, in a word among others.

    The student's frames are a fixed mixture of what is seen; the teacher sees the things themselves, with noise.
    """
    draw = np.random.default_rng(seed)
    seen, named, known = (draw.normal(size=(things, d)).astype(np.float32) for d in (FRAMES, WORDS, TEACHER))
    frames, words, teacher_frames, sentences = {}, {}, {}, {}
    captions: dict[str, list[Caption]] = {"train": [], "dev": []}
    names = [f"video{v:03d}" for v in range(videos)]
    for place, video in enumerate(names):
        shown = draw.permutation(things)[:3].repeat(5)
        frames[video] = seen[shown] + draw.normal(scale=0.3, size=(15, FRAMES)).astype(np.float32)
        teacher_frames[video] = known[shown] + draw.normal(scale=teacher_noise, size=(15, TEACHER)).astype(np.float32)
        for k in range(1 + place % 3):
            id = f"{video}#{k}"
            thing = shown[5 * k]
            others = draw.normal(scale=0.3, size=(2 + place % 4, WORDS)).astype(np.float32)
            words[id] = np.concatenate([others, named[[thing]]])
            sentences[id] = (known[[thing]] + draw.normal(scale=teacher_noise, size=(1, TEACHER))).astype(np.float32)
            split = "dev" if place % 3 == 0 else "train"
            captions[split].append(Caption(id, video, f"thing {thing}", 5.0 * k, 5.0 * (k + 1)))
    train, dev = (
        Dataset("toy", split, tuple(captions[split]), tuple(dict.fromkeys(c.video for c in captions[split])))
        for split in ("train", "dev")
    )
    return Data(train, dev, FeatureSet(frames, words, READS, (TeacherFeatures(teacher_frames, sentences),)))
