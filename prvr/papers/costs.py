"""The complexity table (DL-DKD, supplementary Table 4): parameters, FLOPs to encode a pair, memory of a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prvr.encoders.roles import LABEL_COLUMNS
from prvr.features.sources import FeatureSources, Source
from prvr.files import write_json, write_whole
from prvr.papers.complexity import StepSizes, complexity, training_memory
from prvr.papers.run import recipe_of
from prvr.papers.tables import Row
from prvr.papers.write import Counted, machine
from prvr.train.recipe import Recipe

Progress = Callable[[str, int, int], None]

# GloVe, and the word2vec of Dual Encoding (spec/methods 2.6 and 2.7).
WORD_VECTORS, DUAL_ENCODING_VECTORS = 300, 500


@dataclass(frozen=True)
class Student:
    """A row: its settings with the widths of frames and words that it reads, and what was published for it (G, MiB)."""

    row: Row
    frames: int = 3072
    words: int = 768
    collection: str = "tvr"
    published: tuple[str, str] = ("", "")


STUDENTS = (
    Student(Row("DL-DKD, RoBERTa, TVR"), published=("1.04", "4455")),
    Student(Row("DL-DKD, RoBERTa, ActivityNet"), 1024, 1024, "activitynet"),
    Student(Row("DL-DKD++, TVR", "dl-dkd++")),
    Student(Row("DL-DKD, one branch, TVR", changes={"branches": ("inheritance",)})),
    Student(Row("DL-DKD, Bi-GRU, TVR", changes={"text_backbone": "bi_gru"}), words=WORD_VECTORS, published=("0.98", "4057")),
    Student(
        Row("DL-DKD, graph, TVR", changes={"text_backbone": "graph"}),
        words=WORD_VECTORS + LABEL_COLUMNS,
        published=("1.01", "4229"),
    ),
    # Each with the text backbone under which the paper lists it.
    Student(Row("HGR, graph, TVR", "hgr"), words=WORD_VECTORS + LABEL_COLUMNS, published=("2.96", "8555")),
    Student(Row("Dual Encoding, Bi-GRU, TVR", "dual-encoding"), words=DUAL_ENCODING_VECTORS, published=("5.24", "5837")),
    Student(Row("DE++, Bi-GRU, TVR", "dual-encoding++"), words=DUAL_ENCODING_VECTORS, published=("5.30", "3515")),
    Student(Row("RIVRL, RoBERTa, TVR", "rivrl"), published=("8.64", "4809")),
    Student(Row("XML, RoBERTa, TVR", "xml"), published=("0.80", "2451")),
    Student(Row("ReLoCLNet, RoBERTa, TVR", "reloclnet"), published=("0.96", "2673")),
    Student(Row("MS-SL, RoBERTa, TVR", "ms-sl"), published=("1.22", "5349")),
)
TITLE = "Complexity of DL-DKD and of the baselines"
SOURCE = "DL-DKD, supplementary Table 4 (it says neither for which data set nor at which lengths; backbones left out)"


def write_costs(out: Path, *, command: str, device: str, sizes: StepSizes, on_progress: Progress) -> Counted:
    """Counts and measures every row, and writes OUT/complexity.md and .json."""
    rows = []
    for place, student in enumerate(STUDENTS):
        on_progress(student.row.name, place, len(STUDENTS))
        recipe, sources = costed(student)
        cost = complexity(recipe, sources, frames=sizes.frames, words=sizes.words)
        peak = training_memory(recipe, sources, sizes=sizes, device=device)
        published = dict(zip(("GFLOPs", "MiB"), student.published, strict=True))
        rows.append({"name": student.row.name, **asdict(cost), "training_bytes": peak, "published": published})
    about = {"title": TITLE, "source": SOURCE, "sizes": asdict(sizes), "device": device, "command": command, "machine": machine()}
    lines = _lines(about, rows)
    write_json(out / "complexity.json", {**about, "rows": rows})
    write_whole(out / "complexity.md", ("\n".join(lines) + "\n").encode())
    return Counted(tuple(lines), {**about, "rows": rows})


def costed(student: Student) -> tuple[Recipe, FeatureSources]:
    """The settings of a row, and what it reads."""
    return recipe_of(student.row, student.collection, ()), FeatureSources(
        Source("frames", student.frames), Source("words", student.words)
    )


def _lines(about: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    sizes = about["sizes"]
    lines = [
        f"# {about['title']}",
        "",
        f"{about['source']}. One video of {sizes['frames']} frames and one query of {sizes['words']} words; G are 10⁹ FLOPs of "
        "matrix products and attention, a multiply-add as two. Memory: one training step of "
        f"{sizes['videos']} videos and {sizes['queries']} queries on {about['device']}, the most that is held at once: "
        "the same for every method, whatever batch its paper takes.",
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
    shorter = [f"{row['name']} reads {row['frames']} frames" for row in rows if row["frames"] < sizes["frames"]]
    return [*lines, *(["", f"{'; '.join(shorter)}."] if shorter else [])]
