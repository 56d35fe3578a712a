"""Long videos averaged down or read in windows: what a student finds, as videos grow longer than what it reads at once.

    python experiments/windows.py ROOT/COLLECTION FRAMES WORDS RUN [RUN ...]

COLLECTION is a feature package, FRAMES its features of whole videos and WORDS those of its captions (open_features), RUN a
student trained on them. Videos of dev are strung together, so many in a row, and each caption looks for the video that
holds its own. Prints R@1 + R@5 + R@10 by the length from which on windows are read, in what the student reads at once.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from prvr.datasets.splits import open_splits
from prvr.evaluate.evaluation import encode_captions
from prvr.features import open_features, rows_of
from prvr.index.encode import VIDEOS_AT_ONCE, Sampled, encode_long
from prvr.index.exact import ExactIndex
from prvr.methods import checkpoint as checkpoints

STRUNG = (1, 2, 4)
LONG = (1, 2, 3, 4, 6, 8, math.inf)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("package", "frames", "words"):
        parser.add_argument(name, type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    dev = open_splits(given.package, protocol="honest", seed=0).dev
    frames, words = open_features(given.frames), open_features(given.words)
    rows = {video: np.array(rows_of("video", video, frames)) for video in dev.video_ids}
    for run in given.runs:
        model = checkpoints.load(run).model
        queries = encode_captions(model, [caption.id for caption in dev.captions], words)
        print(f"{run}: reads {model.reading.max_frames} frames; from which length on windows are read: {LONG}")
        for strung in STRUNG:
            ids = list(rows)
            groups = [ids[start : start + strung] for start in range(0, len(ids), strung)]
            place = {video: number for number, group in enumerate(groups) for video in group}
            target = np.array([place[caption.video] for caption in dev.captions])
            videos = [Sampled(str(n), np.concatenate([rows[video] for video in group])) for n, group in enumerate(groups)]
            length = np.mean([len(video.rows) for video in videos]) / (model.reading.max_frames or math.inf)
            figures = []
            for longer_than in LONG:
                index = ExactIndex(model)
                for start in range(0, len(videos), VIDEOS_AT_ONCE):
                    index.add(encode_long(model, videos[start : start + VIDEOS_AT_ONCE], longer_than=longer_than))
                scores = index.scores(queries).numpy()
                rank = 1 + (scores > scores[np.arange(len(scores)), target][:, None]).sum(1)
                figures.append(sum(100 * float(np.mean(rank <= k)) for k in (1, 5, 10)))
            print(f"{strung} strung, {length:.1f} times as long:", " ".join(f"{figure:.1f}" for figure in figures))


if __name__ == "__main__":
    main()
