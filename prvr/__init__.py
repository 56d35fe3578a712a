"""prvr: partially relevant video retrieval.

A sentence in, the untrimmed video that holds the moment out, and where in it. The names below are the public ones; each
is imported when it is first used, so that `import prvr` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prvr.checkpoint import Checkpoint as Checkpoint
    from prvr.checkpoint import load as load_checkpoint
    from prvr.config import override as override
    from prvr.convert import convert_package as convert_package
    from prvr.datasets import Caption as Caption
    from prvr.datasets import Dataset as Dataset
    from prvr.datasets.annotations import annotate as annotate
    from prvr.datasets.annotations import load_annotations as load_annotations
    from prvr.datasets.folder import load as load_folder
    from prvr.datasets.positives import with_positives as with_positives
    from prvr.datasets.published import load as load_published
    from prvr.demo.run import run_demo as run_demo
    from prvr.encoders import open_encoder as open_encoder
    from prvr.errors import PrvrError as PrvrError
    from prvr.evaluate import evaluate_model as evaluate_model
    from prvr.evaluate import run_of as run_of
    from prvr.features import FeatureSet as FeatureSet
    from prvr.features import open_features as open_features
    from prvr.folder_index import copy_index as copy_index
    from prvr.folder_index import index_folder as index_folder
    from prvr.folder_index import open_index as open_index
    from prvr.folder_index import verify_index as verify_index
    from prvr.folder_index import watch_folder as watch_folder
    from prvr.folder_index import zero_shot as zero_shot
    from prvr.presets import preset as preset
    from prvr.protocols import open_splits as open_splits
    from prvr.published import published_features as published_features
    from prvr.runs import Run as Run
    from prvr.runs import load_run as load_run
    from prvr.runs import save_run as save_run
    from prvr.search import Hit as Hit
    from prvr.train import Data as Data
    from prvr.train import Recipe as Recipe
    from prvr.train import Training as Training
    from prvr.train import train_student as train_student
    from prvr.workspace import extract_folder as extract_folder
    from prvr.workspace import features_for as features_for
    from prvr.workspace import student_features as student_features
    from prvr.workspace import teacher_features as teacher_features

__version__ = "0.1.0"

_PLACES = {
    "Caption": "prvr.datasets",
    "Checkpoint": "prvr.checkpoint",
    "Data": "prvr.train",
    "Dataset": "prvr.datasets",
    "FeatureSet": "prvr.features",
    "Hit": "prvr.search",
    "PrvrError": "prvr.errors",
    "Recipe": "prvr.train",
    "Run": "prvr.runs",
    "Training": "prvr.train",
    "annotate": "prvr.datasets.annotations",
    "convert_package": "prvr.convert",
    "copy_index": "prvr.folder_index",
    "evaluate_model": "prvr.evaluate",
    "extract_folder": "prvr.workspace",
    "features_for": "prvr.workspace",
    "index_folder": "prvr.folder_index",
    "load_checkpoint": "prvr.checkpoint:load",
    "load_folder": "prvr.datasets.folder:load",
    "load_annotations": "prvr.datasets.annotations",
    "load_published": "prvr.datasets.published:load",
    "open_encoder": "prvr.encoders",
    "open_features": "prvr.features",
    "open_index": "prvr.folder_index",
    "load_run": "prvr.runs",
    "open_splits": "prvr.protocols",
    "override": "prvr.config",
    "preset": "prvr.presets",
    "published_features": "prvr.published",
    "run_demo": "prvr.demo.run",
    "run_of": "prvr.evaluate",
    "save_run": "prvr.runs",
    "student_features": "prvr.workspace",
    "teacher_features": "prvr.workspace",
    "train_student": "prvr.train",
    "verify_index": "prvr.folder_index",
    "watch_folder": "prvr.folder_index",
    "with_positives": "prvr.datasets.positives",
    "zero_shot": "prvr.folder_index",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'prvr' has no attribute {name!r}")
    module, _, original = _PLACES[name].partition(":")
    return getattr(import_module(module), original or name)


def __dir__() -> list[str]:
    return __all__
