"""What each preset is: its paper and published figures, what it reads, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prvr.errors import SettingError, nearest
from prvr.train.presets import PRESETS, preset
from prvr.train.presets.published import FIGURES, OWN_DATA, REMARKS, computes_otherwise, difference_of, paper_of
from prvr.train.recipe import Recipe

# Of each collection: what it is called, and its features in the published packages.
COLLECTIONS: dict[str, tuple[str, str]] = {
    "tvr": ("TVR", "a package: ResNet152 with I3D, 3072 columns (--frames i3d_resnet); RoBERTa, 768 (--words roberta)"),
    "activitynet": ("ActivityNet Captions", "a package: I3D, 1024 columns (--frames i3d); RoBERTa, 1024 (--words roberta)"),
    "charades": ("Charades-STA", "a package: I3D, 1024 columns (--frames i3d_rgb_lgi); RoBERTa, 1024 (--words roberta)"),
    "qvhighlights": ("QVHighlights", "a package of its source videos: SlowFast with CLIP-B, words of CLIP-B"),
    "msrvtt": ("MSR-VTT", "a package with MSR-VTT's frames and captions"),
    "msvd": ("MSVD", "a package with MSVD's experts and captions"),
    "didemo": ("DiDeMo", "a package with DiDeMo's experts, and a paragraph for each video"),
    "lsmdc": ("LSMDC", "a package with LSMDC's experts and captions"),
    "activitynet-paragraphs": ("ActivityNet Captions, paragraphs", "a package with experts, and a paragraph for each video"),
    "toy": ("toy world", "the toy world of prvr reproduce"),
    "montage": ("montage", "videos strung together of pictures with captions"),
    "": ("own folder", "a folder of videos with captions.jsonl (prvr extract)"),
}


@dataclass(frozen=True)
class PresetDescription:
    """A preset in words and numbers.

    differs: from its paper's code in what it computes, or else in how it is trained; None where it does not.
    figures: published, in per cent (MdR: a rank), by metric; none unless the preset computes what its paper's code computes, and
        has the settings they belong to.
    needs: what it reads. distillation: empty where nothing is distilled.
    """

    name: str
    method: str
    collection: str
    paper: str | None
    differs: str | None
    figures: Mapping[str, float]
    remark: str | None
    needs: tuple[str, ...]
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    distillation: Mapping[str, Any]

    @property
    def printed_figures(self) -> str:
        """The figures in the field's form: R@1/5/10/100/SumR."""
        recalls = "/".join(f"{value:.1f}" for metric, value in self.figures.items() if metric.startswith("R@"))
        others = " ".join(f"{metric} {value:g}" for metric, value in self.figures.items() if not metric.startswith("R@"))
        return " ".join(part for part in (recalls, others) if part)


def find_presets(name: str = "") -> list[str]:
    """Returns the preset of that name, else those of a collection or a paper's method; all for an empty name.

    Raises:
        SettingError: there are none; the text suggests the nearest name.
    """
    if name in PRESETS:
        return [name]
    found = [each for each in sorted(PRESETS) if not name or name in each.split("/")]
    if not found:
        known = {part for each in PRESETS for part in (each, each.partition("/")[2])} - {""}
        raise SettingError(f"unknown preset {name!r}; {nearest(name, known)}")
    return found


def siblings(name: str) -> list[str]:
    """Returns the presets of the same method for other data."""
    base = name.partition("/")[0]
    return [each for each in sorted(PRESETS) if each.partition("/")[0] == base and each != name]


def describe(name: str) -> PresetDescription:
    """Returns what a preset is.

    Raises:
        SettingError: there is no such preset; the text suggests the nearest name.
    """
    recipe = preset(name)
    collection = name.partition("/")[2]
    return PresetDescription(
        name,
        recipe.method,
        COLLECTIONS[collection][0],
        paper_of(name),
        difference_of(name),
        {} if computes_otherwise(name) else FIGURES.get(name, {}),
        REMARKS.get(name),
        tuple(_needs(recipe, collection)),
        vars(recipe.settings),
        vars(recipe.training),
        vars(recipe.distillation) if recipe.distillation.active else {},
    )


def _needs(recipe: Recipe, collection: str) -> Iterator[str]:
    settings, own = recipe.settings, collection in OWN_DATA
    yield COLLECTIONS[collection][1]
    if recipe.distillation.distillation_target == "batch_matrix" and recipe.uses_teacher:
        yield "teachers, encoders or trained models (--teacher NAME, --teacher-run RUN)"
    elif recipe.uses_teacher:
        yield f"a teacher's frames and sentences (--teacher {'NAME' if own else 'clip_vit_b32'})"
    if recipe.beside_teacher:
        yield "the teacher's features beside the student's (--frames NAME+TEACHER --words NAME+TEACHER)"
    if recipe.method == "hgr":
        yield "words with roles (prvr extract --words roles:VECTORS.txt+PIPELINE)"
    if getattr(settings, "vocabulary", 0):
        yield "sentences of word ids (prvr extract --words ids:VOCABULARY)"
    if getattr(settings, "sentence_columns", 0):
        yield f"a sentence vector of {settings.sentence_columns} columns beside the words (--words NAME+NAME)"
    if experts := getattr(settings, "experts", ()):
        yield f"{len(experts)} experts side by side (of {', '.join(map(str, experts))} columns: --frames NAME+NAME+...)"
    if hasattr(settings, "clips") and not own:
        yield f"clips of the rows as extracted (prvr data convert --clips {settings.clips})"
