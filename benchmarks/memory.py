"""The most memory that a training step holds, beside what DL-DKD's supplementary says (Table 4: 4,455 MiB)."""

from __future__ import annotations

from benchmarks.measure import MIB, Line, Size
from prvr.features.sources import FeatureSources, Source
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.papers.complexity import StepSizes, training_memory
from prvr.train.loop import Recipe, Training

PUBLISHED_MIB = 4455.0


def memory_lines(size: Size) -> list[Line]:
    """MiB of a step of DL-DKD and of DL-DKD++ on so many frames and words, nothing padded."""
    sources = FeatureSources(Source("frames", size.frame_columns), Source("words", size.word_columns))
    sizes = StepSizes(size.videos, size.queries, size.frames, size.words, size.teacher_columns)
    lines = []
    for name, soft in (("DL-DKD", False), ("DL-DKD++", True)):
        settings = DlDkdConfig(hidden=size.hidden, max_frames=size.frames, max_words=size.words, soft_targets=soft)
        held = training_memory(Recipe("dl_dkd", settings, Training()), sources, sizes=sizes, device=size.device) / MIB
        beside = (PUBLISHED_MIB,) if (size.videos, size.frames) == (128, 128) and not soft else ()
        lines.append(Line(f"memory of a training step, {name}", (held,), beside, unit="MiB", note="beside: as published"))
    return lines
