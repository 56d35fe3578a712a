"""Maps the parameter names of the published code of DL-DKD and DL-DKD++ to ours.

published                                  ours
-----------------------------------------  ---------------------------------------------
DL-DKD++: `query_encoder.self.key.bias`    `branches.0.words.attention.key.bias` (inheritance)
DL-DKD++: `exp_query_encoder.self...`      `branches.1.words.attention...` (exploration)
DL-DKD: `B_frame_pos_embed.LayerNorm...`   `branches.0.frames.positions.norm...` (inheritance)
DL-DKD: `A_frame_pos_embed.LayerNorm...`   `branches.1.frames.positions.norm...` (exploration)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from prvr.methods.dl_dkd import Branch

BRANCHES: tuple[Branch, Branch] = ("inheritance", "exploration")
PREFIXES = {"exp_": 1, "A_": 1, "B_": 0}
WRAPPER = "module."
# DL-DKD's exploration branch reads words through inheritance's projection; its own is in the file and was never trained.
NEVER_TRAINED = "A_query_input_proj."

PARTS = {
    "query_input_proj.LayerNorm": "word_projection.norm",
    "query_input_proj.net.1": "word_projection.linear",
    "query_pos_embed.position_embeddings": "words.positions.table",
    "query_pos_embed.LayerNorm": "words.positions.norm",
    "query_encoder.self": "words.attention",
    "query_encoder.output.dense": "words.attention.output",
    "query_encoder.output.LayerNorm": "words.attention.norm",
    "modular_vector_mapping": "pooling.weight",
    "visual_input_proj.LayerNorm": "frame_projection.norm",
    "visual_input_proj.net.1": "frame_projection.linear",
    "visual_pos_embed.position_embeddings": "frames.positions.table",
    "visual_pos_embed.LayerNorm": "frames.positions.norm",
    "visual_encoder.self": "frames.attention",
    "visual_encoder.output.dense": "frames.attention.output",
    "visual_encoder.output.LayerNorm": "frames.attention.norm",
    "out_mapping_linear": "mapping",
    "mapping_linear": "mapping",
}


Shape = Callable[[str], tuple[int, int]]
"""The rows and columns of a matrix of a file, by our name."""


class Sizes(NamedTuple):
    """What a file's tensors say of its model: settings, and the widths of its features."""

    settings: Mapping[str, Any]
    frame_columns: int
    word_columns: int


class PublishedNames(Protocol):
    """The parameter names of a file, mapped to those of one of our methods.

    ours: our name of each published name.
    left_out: known names that are not used.
    unknown: all other names.
    """

    @property
    def ours(self) -> Mapping[str, str]: ...

    @property
    def left_out(self) -> tuple[str, ...]: ...

    @property
    def unknown(self) -> tuple[str, ...]: ...

    @property
    def preset(self) -> str:
        """The preset of the settings that the file does not store."""
        ...

    def sizes(self, shape: Shape) -> Sizes:
        """Reads the sizes of the model."""
        ...


@dataclass(frozen=True)
class Names:
    """The parameter names of a file of DL-DKD or DL-DKD++.

    ours: our name of each published name.
    left_out: known names that are not used.
    unknown: all other names, and names that would give a parameter a second value.
    """

    ours: dict[str, str]
    branches: tuple[Branch, ...]
    shared_query_projection: bool
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def preset(self) -> str:
        """DL-DKD or DL-DKD++ on TVR."""
        return "dl-dkd/tvr" if self.shared_query_projection else "dl-dkd++/tvr"

    def sizes(self, shape: Shape) -> Sizes:
        """Reads the sizes of the branches."""
        (max_frames, hidden), (max_words, _), (_, frame_columns), (_, word_columns) = (
            shape(f"branches.0.{part}.weight")
            for part in ("frames.positions.table", "words.positions.table", "frame_projection.linear", "word_projection.linear")
        )
        _, exploration = shape(f"branches.{len(self.branches) - 1}.frames.positions.table.weight")
        settings = {
            "exploration_hidden": exploration if exploration != hidden else 0,
            **{"hidden": hidden, "max_frames": max_frames, "max_words": max_words},
            **{"branches": self.branches, "shared_query_projection": self.shared_query_projection},
        }
        return Sizes(settings, frame_columns, word_columns)


def read_names(published: Collection[str]) -> Names:
    """Maps the names of a file; returns also which branches its model has."""
    wrapper = WRAPPER if all(name.startswith(WRAPPER) for name in published) else ""
    bare = {name: name.removeprefix(wrapper) for name in published}
    shared = all(any(name.startswith(prefix) for name in bare.values()) for prefix in ("A_", "B_"))
    ours: dict[str, str] = {}
    left_out, unknown = [], []
    for name in published:
        if shared and bare[name].startswith(NEVER_TRAINED):
            left_out.append(name)
            continue
        try:
            mapped = our_name(bare[name])
        except KeyError:
            mapped = ""
        if mapped and mapped not in ours.values():
            ours[name] = mapped
        else:
            unknown.append(name)
    numbers = [number for number in (0, 1) if any(name.startswith(f"branches.{number}.") for name in ours.values())]
    if numbers == [1]:
        ours = {published: name.replace("branches.1.", "branches.0.", 1) for published, name in ours.items()}
    return Names(ours, tuple(BRANCHES[number] for number in numbers), shared, tuple(left_out), tuple(unknown))


def our_name(published: str) -> str:
    """Returns our name: `exp_query_encoder.self.key.bias` is `branches.1.words.attention.key.bias`.

    Raises:
        KeyError: the published models have no parameter of that name.
    """
    branch, rest = 0, published
    for prefix, number in PREFIXES.items():
        if published.startswith(prefix):
            branch, rest = number, published.removeprefix(prefix)
    if rest.startswith("frame_"):
        rest = "visual_" + rest.removeprefix("frame_")
    for theirs, ours in PARTS.items():
        if rest.startswith(theirs + "."):
            return f"branches.{branch}.{ours}{rest.removeprefix(theirs)}"
    raise KeyError(published)
