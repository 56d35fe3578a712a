"""Numbers of videos and captions of the splits of data sets, from papers, packages and files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The size of a published split, and its origin."""

    videos: int
    captions: int
    source: str

    def __str__(self) -> str:
        return f"{self.videos:,} videos and {self.captions:,} captions ({self.source})"


_TVR = (Size(2_179, 10_895, "TVR val"), Size(2_179, 8_097, "TVR val, visual queries alone"))
_ACTIVITYNET = (Size(4_430, 15_753, "MS-SL's list"), Size(4_917, 17_505, "val_1 whole"))
_CHARADES = (Size(1_334, 3_720, "Charades-STA test"),)
# Both protocols. Papers report on val, so that a package's test may be val.
_QVHIGHLIGHTS_VAL = (Size(1_519, 1_550, "segments of val"), Size(474, 1_550, "source videos of val"))
_QVHIGHLIGHTS: dict[str, tuple[Size, ...]] = {
    "train": (Size(7_100, 7_218, "segments of train"), Size(2_214, 7_218, "source videos of train")),
    "val": _QVHIGHLIGHTS_VAL,
    "test": (
        Size(1_529, 1_542, "segments of test"),
        Size(476, 1_542, "source videos of test"),
        *_QVHIGHLIGHTS_VAL,
    ),
}
_THOUSAND = (Size(1_000, 1_000, "1k, a caption each"), Size(1_000, 20_000, "1k, all captions"))

# By collection and split of a package. In published packages `val` is the same data as `test`.
SIZES: dict[str, dict[str, tuple[Size, ...]]] = {
    "tvr": {"train": (Size(17_435, 87_175, "TVR train"),), "val": _TVR, "test": _TVR},
    "activitynet": {
        "train": (Size(9_043, 33_721, "MS-SL's list"), Size(10_009, 37_421, "train whole")),
        "val": _ACTIVITYNET,
        "test": (*_ACTIVITYNET, Size(4_885, 17_031, "val_2 whole")),
    },
    "charades": {
        "train": (Size(5_338, 12_408, "Charades-STA train"), Size(5_336, 12_404, "Charades-STA train without its broken spans")),
        "val": _CHARADES,
        "test": _CHARADES,
    },
    "msrvtt": {
        "train": (
            Size(6_513, 130_260, "official"),
            Size(6_656, 133_120, "1k of Miech"),
            Size(7_010, 140_200, "1k of Yu"),
            Size(9_000, 180_000, "1k, 9k"),
        ),
        "val": (Size(497, 9_940, "official"), *_THOUSAND),
        "test": (Size(2_990, 59_800, "official"), *_THOUSAND),
    },
    # Packages of both protocols have either name.
    "qvhighlights": _QVHIGHLIGHTS,
    "qvhighlights_sources": _QVHIGHLIGHTS,
    "tacos": {
        "train": (Size(75, 9_790, "TACoS train"),),
        "val": (Size(27, 4_436, "TACoS val"),),
        "test": (Size(25, 4_001, "TACoS test"),),
    },
}
