"""The complexity table (DL-DKD, supplementary Table 4): parameters, FLOPs to encode a pair, memory of a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prvr.checkpoint import Reads, Source
from prvr.complexity import StepSizes, complexity, training_memory
from prvr.encoders.roles import LABEL_COLUMNS
from prvr.files import write_json, write_whole
from prvr.reproduce.run import recipe_of
from prvr.reproduce.tables import Row
from prvr.reproduce.write import Counted, machine

Progress = Callable[[str, int, int], None]

# Name, settings, widths of frames and words, the collection whose settings are taken, published FLOPs (G) and memory (MiB).
WORD_VECTORS = 300
STUDENTS: tuple[tuple[str, Row, int, int, str, str, str], ...] = (
    ("DL-DKD, RoBERTa, TVR", Row("", "dl-dkd"), 3072, 768, "tvr", "1.04", "4455"),
    ("DL-DKD, RoBERTa, ActivityNet", Row("", "dl-dkd"), 1024, 1024, "activitynet", "", ""),
    ("DL-DKD++, TVR", Row("", "dl-dkd++"), 3072, 768, "tvr", "", ""),
    ("DL-DKD, one branch, TVR", Row("", changes={"branches": ("inheritance",)}), 3072, 768, "tvr", "", ""),
    ("DL-DKD, Bi-GRU, TVR", Row("", changes={"text_backbone": "bi_gru"}), 3072, WORD_VECTORS, "tvr", "0.98", "4057"),
    (
        "DL-DKD, graph, TVR",
        Row("", changes={"text_backbone": "graph"}),
        3072,
        WORD_VECTORS + LABEL_COLUMNS,
        "tvr",
        "1.01",
        "4229",
    ),
)
TITLE = "Complexity of the student"
SOURCE = "DL-DKD, supplementary Table 4 (it does not say for which data set; backbones left out)"


def write_costs(out: Path, *, command: str, device: str, sizes: StepSizes, on_progress: Progress) -> Counted:
    """Counts and measures every row, and writes OUT/complexity.md and .json."""
    rows = []
    for place, (name, row, frame_columns, word_columns, collection, flops, memory) in enumerate(STUDENTS):
        on_progress(name, place, len(STUDENTS))
        recipe = recipe_of(replace(row, name=name), collection, ())
        reads = Reads(Source("frames", frame_columns), Source("words", word_columns))
        cost = complexity(recipe, reads, frames=sizes.frames, words=sizes.words)
        peak = training_memory(recipe, reads, sizes=sizes, device=device)
        rows.append({"name": name, **asdict(cost), "training_bytes": peak, "published": {"GFLOPs": flops, "MiB": memory}})
    about = {"title": TITLE, "source": SOURCE, "sizes": asdict(sizes), "device": device, "command": command, "machine": machine()}
    lines = _lines(about, rows)
    write_json(out / "complexity.json", {**about, "rows": rows})
    write_whole(out / "complexity.md", ("\n".join(lines) + "\n").encode())
    return Counted(tuple(lines), {**about, "rows": rows})


def _lines(about: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    sizes = about["sizes"]
    lines = [
        f"# {about['title']}",
        "",
        f"{about['source']}. One video of {sizes['frames']} frames and one query of {sizes['words']} words; G are 10⁹ FLOPs of "
        "matrix products and attention, a multiply-add as two. Memory: one training step of "
        f"{sizes['videos']} videos and {sizes['queries']} queries on {about['device']}, the most that is held at once.",
        "",
        f"    {about['command']}",
        "",
        f"{about['machine']}.",
        "",
        "| | parameters (M) | video (G) | query (G) | pair (G) | published (G) | training memory (MiB) | published (MiB) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        video, query = (row[f"{side}_flops"] / 1e9 for side in ("video", "query"))
        cells = [
            f"{row['parameters'] / 1e6:.2f}",
            f"{video:.3f}",
            f"{query:.3f}",
            f"{video + query:.3f}",
            row["published"]["GFLOPs"],
        ]
        cells += [f"{row['training_bytes'] / 2**20:.0f}", row["published"]["MiB"]]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return lines
