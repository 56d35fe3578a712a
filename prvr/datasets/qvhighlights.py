"""QVHighlights: queries about segments of 150 seconds, cut from longer videos.

    highlight_train_release.jsonl, highlight_val_release.jsonl   lines with windows and saliency, see `windows`
    highlight_test_with_gt.jsonl, highlight_test_release.jsonl   the second with neither

A segment is called VIDEO_START_END. Partially relevant retrieval is about untrimmed videos, so there are two protocols: the
videos of `load` are segments, those of `load_sources` are the videos that they were cut from.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from prvr.datasets import Caption, Dataset
from prvr.datasets.reading import file_of, make_dataset
from prvr.datasets.windows import read_windows, with_saliency, with_windows
from prvr.errors import DataError

FILES = {
    "train": ("highlight_train_release.jsonl",),
    "val": ("highlight_val_release.jsonl",),
    "test": ("highlight_test_with_gt.jsonl", "highlight_test_release.jsonl"),
}
SEGMENT = re.compile(r"(.+)_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)")


def load(path: str | Path, split: str) -> Dataset:
    """One split, train, val or test, with segments as its videos.

    Raises:
        DataError: the file is missing, or a line of it is broken.
    """
    file = file_of(path, split, FILES)
    captions, durations = read_windows(file)
    return make_dataset(file, "qvhighlights", split, with_saliency(captions, file), durations)


def load_sources(path: str | Path, split: str) -> Dataset:
    """One split with the source videos as its videos, and windows in their time.

    The files do not have the durations of sources; the end of the last segment is used instead. Saliency is left out: the clips
    of the source beyond a query's segment are not annotated.

    Raises:
        DataError: as `load`, or the name of a segment lacks its times.
    """
    segments = load(path, split)
    captions: list[Caption] = []
    durations: dict[str, float] = {}
    for caption in segments.captions:
        named = SEGMENT.fullmatch(caption.video)
        if named is None:
            raise DataError(f"caption {caption.id!r} is about {caption.video!r}, expected VIDEO_START_END; read it with `load`")
        source, begin = named[1], float(named[2])
        durations[source] = max(durations.get(source, 0.0), begin + segments.durations[caption.video])
        windows = [(begin + start, begin + end) for start, end in caption.moments]
        captions.append(with_windows(replace(caption, video=source, saliency=()), windows))
    return make_dataset(file_of(path, split, FILES), "qvhighlights_sources", split, captions, durations)
