"""A world of features in which every method must learn in seconds: videos of a few things, sentences that name one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prvr.datasets import Caption, Dataset
from prvr.features import FeatureSet, TeacherFeatures
from prvr.features.sources import FeatureSources, Source
from prvr.features.subtitles import SubtitledFrames
from prvr.train.loop import Data

FRAMES, WORDS, TEACHER, SAID = 20, 16, 12, 14
READS = FeatureSources(Source("toy_frames", FRAMES), Source("toy_words", WORDS))
READS_SUBTITLES = replace(READS, subtitles=Source("toy_subtitles", SAID))


def toy_world(*, videos: int = 60, things: int = 24, seed: int = 0, teacher_noise: float = 0.5, spoken: bool = False) -> Data:
    """Each video shows three things, five frames each; a sentence names one of them, in a word among others.

    The student's frames are a fixed mixture of what is seen; the teacher sees the things themselves, with noise.

    Args:
        spoken: the first thing of a video is not shown, and said instead: in subtitles beside the frames. Every tenth video has
            none.
    """
    draw = np.random.default_rng(seed)
    seen, named, known = (draw.normal(size=(things, d)).astype(np.float32) for d in (FRAMES, WORDS, TEACHER))
    frames, words, teacher_frames, sentences = {}, {}, {}, {}
    of_sounds, subtitles = np.random.default_rng(seed + 1), {}
    heard = of_sounds.normal(size=(things, SAID)).astype(np.float32)
    captions: dict[str, list[Caption]] = {"train": [], "dev": []}
    names = [f"video{v:03d}" for v in range(videos)]
    for place, video in enumerate(names):
        shown = draw.permutation(things)[:3].repeat(5)
        frames[video] = seen[shown] + draw.normal(scale=0.3, size=(15, FRAMES)).astype(np.float32)
        teacher_frames[video] = known[shown] + draw.normal(scale=teacher_noise, size=(15, TEACHER)).astype(np.float32)
        said = spoken and place % 10 > 0
        if said:
            subtitles[video] = np.zeros((15, SAID), np.float32)
            subtitles[video][:5] = heard[shown[0]] + of_sounds.normal(scale=0.3, size=(5, SAID))
            frames[video][:5] = of_sounds.normal(scale=0.3, size=(5, FRAMES))
        for k in range(1 + place % 3):
            id = f"{video}#{k}"
            thing = shown[5 * k]
            others = draw.normal(scale=0.3, size=(2 + place % 4, WORDS)).astype(np.float32)
            words[id] = np.concatenate([others, named[[thing]]])
            sentences[id] = (known[[thing]] + draw.normal(scale=teacher_noise, size=(1, TEACHER))).astype(np.float32)
            split = "dev" if place % 3 == 0 else "train"
            kind = ("t" if said and k == 0 else "v") if spoken else None
            captions[split].append(Caption(id, video, f"thing {thing}", 5.0 * k, 5.0 * (k + 1), kind))
    train, dev = (
        Dataset("toy", split, tuple(captions[split]), tuple(dict.fromkeys(c.video for c in captions[split])))
        for split in ("train", "dev")
    )
    seen, reads = (SubtitledFrames(frames, subtitles), READS_SUBTITLES) if spoken else (frames, READS)
    return Data(train, dev, FeatureSet(seen, words, reads, (TeacherFeatures(teacher_frames, sentences),)))
