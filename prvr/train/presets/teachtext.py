"""Collaborative experts, TeachText on them, and the mixture of embedding experts, which is the former without their gating.

NAME/msrvtt, /msvd, /didemo, /lsmdc and /activitynet-paragraphs have the published settings of each data set: experts, clusters,
lengths, margin, rate, weight decay, epochs and batch. They need the published experts side by side (--frames NAME+NAME+..., in
the order of their names), and on DiDeMo and ActivityNet one caption for each video, a paragraph of all its captions. Their
training differs: the optimiser is ours where theirs is RAdam, and a step has all captions of a video where theirs draws one
(docs/decisions/0041).

Figures are theirs, R@1/5/10 and the median rank, the mean of three seeds; those of collaborative experts are of their rows "CE+".
None is published for the mixture with these experts.
"""

from __future__ import annotations

from prvr.train.recipe import Plain, Preset

# The mean of the teachers' matrices, Huber, weight 1 at all epochs.
TEACHTEXT: Plain = {
    "distillation_target": "batch_matrix",
    "distillation_weight": 1.0,
    "distillation_decay": "fixed",
    "distillation_loss": "huber",
    "distillation_aggregate": "mean",
}

# ResNeXt-101 and SENet-154 of ImageNet, R(2+1)D of IG65M with Kinetics and without, DenseNet-161 of scenes.
VISUAL = (2048, 2048, 512, 512, 2208)
# Between sound and speech.
ALL_EXPERTS = (128, *VISUAL, 300)


def _settings(clusters: int, max_words: int, margin: float, ghosts: int = 0) -> Plain:
    """Settings of sentences."""
    return {"clusters": clusters, "ghost_clusters": ghosts, "max_words": max_words, "margin": margin}


def _experts(audio: tuple[int, int], speech: tuple[int, int]) -> Plain:
    """Settings of the seven experts; of sound and of speech the clusters, and how many rows are read."""
    clusters, tokens = ((first, *(0 for _ in VISUAL), last) for first, last in zip(audio, speech, strict=True))
    return {"experts": ALL_EXPERTS, "expert_clusters": clusters, "expert_tokens": tokens}


def _training(epochs: int, batch: int) -> Plain:
    return {"lr": 1e-3, "epochs": epochs, "batch_videos": batch, "weight_decay": 1e-5}


MSRVTT: Plain = {**_experts((8, 29), (19, 32)), **_settings(28, 37, 0.09381161988446174, ghosts=1)}
MSVD: Plain = {"experts": VISUAL, **_settings(12, 30, 0.30764700456522676)}
DIDEMO: Plain = {**_experts((16, 23), (55, 48)), **_settings(8, 48, 0.16642835966287484)}
LSMDC: Plain = {**_experts((3, 11), (5, 35)), **_settings(43, 36, 0.12132983763957966)}
ACTIVITYNET: Plain = {**_experts((6, 4), (100, 29)), **_settings(39, 49, 0.060496613740311816)}
SMALL: Plain = {"clusters": 8, "max_words": 12}
TOY_TRAINING: Plain = {"lr": 1e-3, "epochs": 60, "batch_videos": 32, "patience": 60}
OWN = Preset("collaborative_experts", {"hidden": 128, "clusters": 8, "max_words": 30}, {**TOY_TRAINING, "patience": 20})

COLLABORATIVE: dict[str, Preset] = {
    # 13.8/36.5/49.4, median rank 11
    "msrvtt": Preset("collaborative_experts", MSRVTT, _training(100, 64)),
    # 25.1/56.5/70.9, median rank 4
    "msvd": Preset("collaborative_experts", MSVD, _training(300, 16)),
    # 18.2/43.9/57.1, median rank 7.9
    "didemo": Preset("collaborative_experts", DIDEMO, _training(30, 64)),
    # 14.9/33.7/44.1, median rank 15.3
    "lsmdc": Preset("collaborative_experts", LSMDC, _training(15, 256)),
    # 19.4/49.3/65.4, median rank 6
    "activitynet-paragraphs": Preset("collaborative_experts", ACTIVITYNET, _training(150, 32)),
    "toy": Preset("collaborative_experts", {"hidden": 64, **SMALL}, TOY_TRAINING),
}

PRESETS: dict[str, Preset] = {
    **{f"collaborative-experts/{name}": each for name, each in COLLABORATIVE.items()},
    "collaborative-experts": OWN,
    # 14.6/37.9/50.9, 10; 25.1/56.8/71.2, 4; 21.6/48.6/62.9, 6; 17.2/36.5/46.3, 13.7; 23.5/57.2/73.6, 4
    **{f"teachtext/{name}": each._replace(distillation=TEACHTEXT) for name, each in COLLABORATIVE.items()},
    "teachtext": OWN._replace(distillation=TEACHTEXT),
    "embedding-experts/msrvtt": Preset("embedding_experts", MSRVTT, _training(100, 64)),
    "embedding-experts/toy": Preset("embedding_experts", SMALL, TOY_TRAINING),
}
