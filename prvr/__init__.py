"""prvr: partially relevant video retrieval.

A sentence in, the untrimmed video that contains the moment out, and where in it. The names below are the public ones. Each
is imported when it is first used, so that `import prvr` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prvr.config import override as override
    from prvr.datasets import Caption as Caption
    from prvr.datasets import Dataset as Dataset
    from prvr.datasets.annotations import annotate as annotate
    from prvr.datasets.annotations import load_annotations as load_annotations
    from prvr.datasets.folder import load as load_folder
    from prvr.datasets.positives import with_positives as with_positives
    from prvr.datasets.published import load as load_published
    from prvr.datasets.splits import open_splits as open_splits
    from prvr.demo.run import run_demo as run_demo
    from prvr.encoders import open_encoder as open_encoder
    from prvr.errors import PrvrError as PrvrError
    from prvr.evaluate.compare import PairwiseComparison as PairwiseComparison
    from prvr.evaluate.compare import QueryRanks as QueryRanks
    from prvr.evaluate.compare import compare as compare
    from prvr.evaluate.compare import rank_queries as rank_queries
    from prvr.evaluate.evaluation import evaluate_model as evaluate_model
    from prvr.evaluate.evaluation import score_checkpoint as score_checkpoint
    from prvr.evaluate.evaluation import scores_of as run_of
    from prvr.evaluate.evaluation import scores_of as scores_of
    from prvr.evaluate.figures import ScoreFigures as ScoreFigures
    from prvr.evaluate.figures import count_figures as count_figures
    from prvr.evaluate.saved_scores import SavedScores as Run
    from prvr.evaluate.saved_scores import SavedScores as SavedScores
    from prvr.evaluate.saved_scores import load_scores as load_run
    from prvr.evaluate.saved_scores import load_scores as load_scores
    from prvr.evaluate.saved_scores import save_scores as save_run
    from prvr.evaluate.saved_scores import save_scores as save_scores
    from prvr.evaluate.saved_scores.forms import open_scores as open_scores
    from prvr.extract.convert import convert_package as convert_package
    from prvr.extract.folder import extract_folder as extract_folder
    from prvr.features import FeatureSet as FeatureSet
    from prvr.features import open_features as open_features
    from prvr.features.package import published_features as published_features
    from prvr.features.shelf import student_features as student_features
    from prvr.features.shelf import teacher_features as teacher_features
    from prvr.features.sources import FeatureSources as FeatureSources
    from prvr.features.sources import Source as Source
    from prvr.methods import register_method as register_method
    from prvr.methods.checkpoint import Checkpoint as Checkpoint
    from prvr.methods.checkpoint import features_for as features_for
    from prvr.methods.checkpoint import load as load_checkpoint
    from prvr.report.write import write_report as write_report
    from prvr.search import copy_index as copy_index
    from prvr.search import index_folder as index_folder
    from prvr.search import open_index as open_index
    from prvr.search import verify_index as verify_index
    from prvr.search import watch_folder as watch_folder
    from prvr.search import zero_shot as zero_shot
    from prvr.search.hits import Hit as Hit
    from prvr.search.question import Moment as Moment
    from prvr.search.question import Question as Question
    from prvr.train.loop import Data as Data
    from prvr.train.loop import Recipe as Recipe
    from prvr.train.loop import Training as Training
    from prvr.train.loop import train_student as train_student
    from prvr.train.presets import preset as preset

__version__ = "0.2.0"

# `Run`, `load_run`, `save_run` and `run_of` are the former names of the functions for saved scores.
_PLACES = {
    "Caption": "prvr.datasets",
    "Checkpoint": "prvr.methods.checkpoint",
    "Data": "prvr.train.loop",
    "Dataset": "prvr.datasets",
    "FeatureSet": "prvr.features",
    "FeatureSources": "prvr.features.sources",
    "Hit": "prvr.search.hits",
    "Moment": "prvr.search.question",
    "PairwiseComparison": "prvr.evaluate.compare",
    "PrvrError": "prvr.errors",
    "Question": "prvr.search.question",
    "QueryRanks": "prvr.evaluate.compare",
    "Recipe": "prvr.train.loop",
    "Run": "prvr.evaluate.saved_scores:SavedScores",
    "SavedScores": "prvr.evaluate.saved_scores",
    "ScoreFigures": "prvr.evaluate.figures",
    "Source": "prvr.features.sources",
    "Training": "prvr.train.loop",
    "annotate": "prvr.datasets.annotations",
    "compare": "prvr.evaluate.compare",
    "convert_package": "prvr.extract.convert",
    "copy_index": "prvr.search",
    "count_figures": "prvr.evaluate.figures",
    "evaluate_model": "prvr.evaluate.evaluation",
    "extract_folder": "prvr.extract.folder",
    "features_for": "prvr.methods.checkpoint",
    "index_folder": "prvr.search",
    "load_annotations": "prvr.datasets.annotations",
    "load_checkpoint": "prvr.methods.checkpoint:load",
    "load_folder": "prvr.datasets.folder:load",
    "load_published": "prvr.datasets.published:load",
    "load_run": "prvr.evaluate.saved_scores:load_scores",
    "load_scores": "prvr.evaluate.saved_scores",
    "open_encoder": "prvr.encoders",
    "open_features": "prvr.features",
    "open_index": "prvr.search",
    "open_scores": "prvr.evaluate.saved_scores.forms",
    "open_splits": "prvr.datasets.splits",
    "override": "prvr.config",
    "preset": "prvr.train.presets",
    "published_features": "prvr.features.package",
    "rank_queries": "prvr.evaluate.compare",
    "register_method": "prvr.methods",
    "run_demo": "prvr.demo.run",
    "run_of": "prvr.evaluate.evaluation:scores_of",
    "save_run": "prvr.evaluate.saved_scores:save_scores",
    "save_scores": "prvr.evaluate.saved_scores",
    "score_checkpoint": "prvr.evaluate.evaluation",
    "scores_of": "prvr.evaluate.evaluation",
    "student_features": "prvr.features.shelf",
    "teacher_features": "prvr.features.shelf",
    "train_student": "prvr.train.loop",
    "verify_index": "prvr.search",
    "watch_folder": "prvr.search",
    "with_positives": "prvr.datasets.positives",
    "write_report": "prvr.report.write",
    "zero_shot": "prvr.search",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'prvr' has no attribute {name!r}")
    module, _, original = _PLACES[name].partition(":")
    return getattr(import_module(module), original or name)


def __dir__() -> list[str]:
    return __all__
