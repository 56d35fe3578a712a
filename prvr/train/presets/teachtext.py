"""Collaborative experts, TeachText on them, and the mixture of embedding experts without their gating.

NAME/msrvtt, /msvd, /didemo, /lsmdc and /activitynet are the published settings of each data set: experts, clusters, lengths,
margin, rate, weight decay, epochs and batch. They need the published experts side by side (--frames NAME+NAME+..., in the order
of their names), and on DiDeMo and ActivityNet one caption for each video, a paragraph of all its captions. Not the published
training: the optimiser is ours (prvr.train.optimiser) where theirs is RAdam, and a step has all captions of a video where theirs
draws one (docs/decisions/0041). Figures are theirs: R@1/5/10 and the median rank, the mean of three seeds; those of collaborative
experts are of their rows "CE+". None is published for the mixture with these experts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prvr.methods.collaborative_experts import CollaborativeExpertsConfig
from prvr.methods.embedding_experts import EmbeddingExpertsConfig
from prvr.nn.distillation import Distillation
from prvr.train.loop import Recipe, Training

# The mean of the teachers' matrices, Huber, weight 1 at all epochs.
TEACHTEXT = Distillation(
    distillation_target="batch_matrix",
    distillation_loss="huber",
    distillation_aggregate="mean",
    distillation_weight=1.0,
    distillation_decay="fixed",
)

# ResNeXt-101 and SENet-154 of ImageNet, R(2+1)D of IG65M with Kinetics and without, DenseNet-161 of scenes.
VISUAL = (2048, 2048, 512, 512, 2208)
AUDIO, SPEECH = 128, 300


def _experts(audio: tuple[int, int] | None = None, speech: tuple[int, int] | None = None, **more: Any) -> dict[str, Any]:
    """Settings of the visual experts between sound and speech, of which the clusters and how much is read of them."""
    if audio is None or speech is None:
        return {"experts": VISUAL, **more}
    still = (0,) * len(VISUAL)
    return {
        "experts": (AUDIO, *VISUAL, SPEECH),
        "expert_clusters": (audio[0], *still, speech[0]),
        "expert_tokens": (audio[1], *still, speech[1]),
        **more,
    }


def _training(epochs: int, batch: int) -> Training:
    return Training(lr=1e-3, epochs=epochs, batch_videos=batch, weight_decay=1e-5)


MSRVTT = _experts((8, 29), (19, 32), clusters=28, ghost_clusters=1, max_words=37, margin=0.09381161988446174)
MSVD = _experts(clusters=12, ghost_clusters=0, max_words=30, margin=0.30764700456522676)
DIDEMO = _experts((16, 23), (55, 48), clusters=8, ghost_clusters=0, max_words=48, margin=0.16642835966287484)
LSMDC = _experts((3, 11), (5, 35), clusters=43, ghost_clusters=0, max_words=36, margin=0.12132983763957966)
ACTIVITYNET = _experts((6, 4), (100, 29), clusters=39, ghost_clusters=0, max_words=49, margin=0.060496613740311816)
SMALL: dict[str, Any] = {"clusters": 8, "max_words": 12}
TOY_TRAINING = Training(lr=1e-3, epochs=60, batch_videos=32, patience=60)


def _collaborative(settings: dict[str, Any], training: Training, **more: Any) -> Recipe:
    return Recipe("collaborative_experts", CollaborativeExpertsConfig(**settings, **more), training)


ALONE: dict[str, Recipe] = {
    # 13.8/36.5/49.4, median rank 11
    "msrvtt": _collaborative(MSRVTT, _training(100, 64)),
    # 25.1/56.5/70.9, median rank 4
    "msvd": _collaborative(MSVD, _training(300, 16)),
    # 18.2/43.9/57.1, median rank 7.9
    "didemo": _collaborative(DIDEMO, _training(30, 64)),
    # 14.9/33.7/44.1, median rank 15.3
    "lsmdc": _collaborative(LSMDC, _training(15, 256)),
    # 19.4/49.3/65.4, median rank 6
    "activitynet": _collaborative(ACTIVITYNET, _training(150, 32)),
    "toy": _collaborative(SMALL, TOY_TRAINING, hidden=64),
}
OWN = _collaborative({"clusters": 8, "max_words": 30}, replace(TOY_TRAINING, patience=20), hidden=128)

PRESETS: dict[str, Recipe] = {
    **{f"collaborative-experts/{name}": recipe for name, recipe in ALONE.items()},
    "collaborative-experts": OWN,
    # 14.6/37.9/50.9, 10 · 25.1/56.8/71.2, 4 · 21.6/48.6/62.9, 6 · 17.2/36.5/46.3, 13.7 · 23.5/57.2/73.6, 4
    **{f"teachtext/{name}": replace(recipe, distillation=TEACHTEXT) for name, recipe in ALONE.items()},
    "teachtext": replace(OWN, distillation=TEACHTEXT),
    "embedding-experts/msrvtt": Recipe("embedding_experts", EmbeddingExpertsConfig(**MSRVTT), _training(100, 64)),
    "embedding-experts/toy": Recipe("embedding_experts", EmbeddingExpertsConfig(**SMALL), TOY_TRAINING),
}
