"""The most memory that a training step holds, beside what DL-DKD's supplementary says (Table 4: 4,455 MiB)."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.measure import MIB, Line, Size
from prvr.features.sources import Reads, Source
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.papers.complexity import StepSizes, training_memory
from prvr.train.presets import preset

PUBLISHED_MIB = 4455.0


def memory_lines(size: Size) -> list[Line]:
    """MiB of a step of DL-DKD and of DL-DKD++ on so many frames and words, nothing padded."""
    reads = Reads(Source("frames", size.frame_columns), Source("words", size.word_columns))
    sizes = StepSizes(size.videos, size.queries, size.frames, size.words, size.teacher_columns)
    lines = []
    settings = DlDkdConfig(hidden=size.hidden, max_frames=size.frames, max_words=size.words)
    for name in ("DL-DKD", "DL-DKD++"):
        recipe = replace(preset(f"{name.lower()}/tvr"), settings=settings)
        held = training_memory(recipe, reads, sizes=sizes, device=size.device) / MIB
        beside = (PUBLISHED_MIB,) if (size.videos, size.frames) == (128, 128) and name == "DL-DKD" else ()
        lines.append(Line(f"memory of a training step, {name}", (held,), beside, unit="MiB", note="beside: as published"))
    return lines
