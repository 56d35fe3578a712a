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
from prvr.papers.row_run import recipe_of
from prvr.papers.tables import Row
from prvr.papers.write import WrittenTable, machine
from prvr.train.recipe import Recipe

Progress = Callable[[str, int, int], None]

# GloVe, and the word2vec of Dual Encoding.
WORD_VECTORS, DUAL_ENCODING_VECTORS = 300, 500


@dataclass(frozen=True)
class CostRow:
    """A row: its settings, the widths of its frame and word features, and the published figures (GFLOPs, MiB)."""

    row: Row
    frames: int = 3072
    words: int = 768
    collection: str = "tvr"
    published: tuple[str, str] = ("", "")


COST_ROWS = (
    CostRow(Row("DL-DKD, RoBERTa, TVR"), published=("1.04", "4455")),
    CostRow(Row("DL-DKD, RoBERTa, ActivityNet"), 1024, 1024, "activitynet"),
    CostRow(Row("DL-DKD++, TVR", "dl-dkd++")),
    CostRow(Row("DL-DKD, one branch, TVR", changes={"branches": ("inheritance",)})),
    CostRow(Row("DL-DKD, Bi-GRU, TVR", changes={"text_backbone": "bi_gru"}), words=WORD_VECTORS, published=("0.98", "4057")),
    CostRow(
        Row("DL-DKD, graph, TVR", changes={"text_backbone": "graph"}),
        words=WORD_VECTORS + LABEL_COLUMNS,
        published=("1.01", "4229"),
    ),
    # Each baseline with the text backbone that the paper lists it with.
    CostRow(Row("HGR, graph, TVR", "hgr"), words=WORD_VECTORS + LABEL_COLUMNS, published=("2.96", "8555")),
    CostRow(Row("Dual Encoding, Bi-GRU, TVR", "dual-encoding"), words=DUAL_ENCODING_VECTORS, published=("5.24", "5837")),
    CostRow(Row("DE++, Bi-GRU, TVR", "dual-encoding++"), words=DUAL_ENCODING_VECTORS, published=("5.30", "3515")),
    CostRow(Row("RIVRL, RoBERTa, TVR", "rivrl"), published=("8.64", "4809")),
    CostRow(Row("XML, RoBERTa, TVR", "xml"), published=("0.80", "2451")),
    CostRow(Row("ReLoCLNet, RoBERTa, TVR", "reloclnet"), published=("0.96", "2673")),
    CostRow(Row("MS-SL, RoBERTa, TVR", "ms-sl"), published=("1.22", "5349")),
)
TITLE = "Complexity of DL-DKD and of the baselines"
SOURCE = "DL-DKD, supplementary Table 4 (its data set and lengths are not stated; backbones are left out)"


def write_costs(out: Path, *, command: str, device: str, sizes: StepSizes, on_progress: Progress) -> WrittenTable:
    """Counts and measures every row, and writes OUT/complexity.md and .json."""
    rows = []
    for place, cost_row in enumerate(COST_ROWS):
        name = cost_row.row.name
        on_progress(name, place, len(COST_ROWS))
        recipe, sources = recipe_and_sources(cost_row)
        cost = complexity(recipe, sources, frames=sizes.frames, words=sizes.words)
        peak = training_memory(recipe, sources, sizes=sizes, device=device)
        published = dict(zip(("GFLOPs", "MiB"), cost_row.published, strict=True))
        rows.append({"name": name, **asdict(cost), "training_bytes": peak, "published": published})
    about = {"title": TITLE, "source": SOURCE, "sizes": asdict(sizes), "device": device, "command": command, "machine": machine()}
    lines = _lines(about, rows)
    write_json(out / "complexity.json", {**about, "rows": rows})
    write_whole(out / "complexity.md", ("\n".join(lines) + "\n").encode())
    return WrittenTable(tuple(lines), {**about, "rows": rows})


def recipe_and_sources(cost_row: CostRow) -> tuple[Recipe, FeatureSources]:
    """Returns the settings of a row, and the features that it sources."""
    sources = FeatureSources(Source("frames", cost_row.frames), Source("words", cost_row.words))
    return recipe_of(cost_row.row, cost_row.collection, ()), sources


def _lines(about: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    sizes = about["sizes"]
    lines = [
        f"# {about['title']}",
        "",
        f"{about['source']}. One video of {sizes['frames']} frames and one query of {sizes['words']} words; G are 10⁹ FLOPs of "
        "matrix products and attention, with a multiply-add as two. Memory: the peak of one training step of "
        f"{sizes['videos']} videos and {sizes['queries']} queries on {about['device']}: "
        "the same sizes for every method, also if its paper uses other ones.",
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
