"""What each preset is: its paper and published figures, what it reads, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prvr.errors import SettingError, nearest
from prvr.methods import register_method
from prvr.train.presets import PRESETS, plugin_presets, preset
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
    figures: published, in per cent (MedR: a rank), by metric; none unless the preset computes what its paper's code computes, and
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


def find_presets(name: str = "", *, method: str | type | None = None) -> list[str]:
    """Returns the preset of that name, else those of a collection or a paper's method; all for an empty name.

    Args:
        method: the presets that this external method brings, in place of all.

    Raises:
        SettingError: there are none; the text suggests the nearest name.
        ModelError: the method cannot be imported, or lacks a part of the contract.
    """
    reference = None if method is None else register_method(method)
    if name in PRESETS:
        return [name]
    every = {**PRESETS, **plugin_presets()[0]}
    if name in every:
        return [name]
    if not name and reference is not None:
        found = [each for each, preset in every.items() if preset.method == reference]
        if not found:
            raise SettingError(
                f"{reference} brings no presets; with the training of another one: prvr presets dl-dkd++ --method {reference}"
            )
        return found
    found = [each for each in sorted(every) if not name or name in each.split("/")]
    if not found:
        known = {part for each in every for part in (each, each.partition("/")[2])} - {""}
        raise SettingError(f"unknown preset {name!r}; {nearest(name, known)}")
    return found


def siblings(name: str) -> list[str]:
    """Returns the presets of the same method for other data."""
    base = name.partition("/")[0]
    every = {*PRESETS, *plugin_presets()[0]} if name not in PRESETS else PRESETS
    return [each for each in sorted(every) if each.partition("/")[0] == base and each != name]


def describe(name: str, *, method: str | type | None = None) -> PresetDescription:
    """Returns what a preset is; with a method, what it is as `prvr train --method` takes it.

    Raises:
        SettingError: there is no such preset; the text suggests the nearest name.
        ModelError: the method cannot be imported, or lacks a part of the contract.
    """
    recipe = preset(name, method=method)
    collection = name.partition("/")[2]
    # An external method has no paper here, whatever preset its training is of.
    known = name in PRESETS and recipe.method == PRESETS[name].method
    return PresetDescription(
        name,
        recipe.method,
        COLLECTIONS.get(collection, (collection,))[0],
        paper_of(name) if known else None,
        difference_of(name) if known else None,
        FIGURES.get(name, {}) if known and not computes_otherwise(name) else {},
        REMARKS.get(name) if known else None,
        tuple(_needs(recipe, collection)),
        vars(recipe.settings),
        vars(recipe.training),
        vars(recipe.distillation) if recipe.distillation.active else {},
    )


def _needs(recipe: Recipe, collection: str) -> Iterator[str]:
    settings, own = recipe.settings, collection in OWN_DATA
    yield COLLECTIONS.get(collection, ("", f"features of {collection}"))[1]
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
