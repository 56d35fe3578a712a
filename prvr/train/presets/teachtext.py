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
TEACHTEXT_EXPERTS: Plain = {"distillation_target": "batch_matrix", "distillation_weight": 1.0, "distillation_decay": "fixed"}
TEACHTEXT: Plain = {**TEACHTEXT_EXPERTS, "distillation_loss": "huber", "distillation_aggregate": "mean"}

# ResNeXt-101 and SENet-154 of ImageNet, R(2+1)D of IG65M with Kinetics and without, DenseNet-161 of scenes.
VISUAL = (2048, 2048, 512, 512, 2208)
# Between sound and speech.
ALL_EXPERTS = (128, *VISUAL, 300)
# Visual experts are read as they are; sound and speech have clusters, and a limit of rows.
NONE = (0, 0, 0, 0, 0)
# Training never stops early there: patience is as long as the longest.
TRAINING: Plain = {"lr": 1e-3, "weight_decay": 1e-5, "seed": 0, "patience": 300}

MSRVTT_EXPERTS: Plain = {"experts": ALL_EXPERTS, "expert_clusters": (8, *NONE, 19), "expert_tokens": (29, *NONE, 32)}
MSRVTT: Plain = {**MSRVTT_EXPERTS, "clusters": 28, "ghost_clusters": 1, "max_words": 37, "margin": 0.09381161988446174}
MSVD: Plain = {"experts": VISUAL, "clusters": 12, "ghost_clusters": 0, "max_words": 30, "margin": 0.30764700456522676}
DIDEMO_EXPERTS: Plain = {"experts": ALL_EXPERTS, "expert_clusters": (16, *NONE, 55), "expert_tokens": (23, *NONE, 48)}
DIDEMO: Plain = {**DIDEMO_EXPERTS, "clusters": 8, "ghost_clusters": 0, "max_words": 48, "margin": 0.16642835966287484}
LSMDC_EXPERTS: Plain = {"experts": ALL_EXPERTS, "expert_clusters": (3, *NONE, 5), "expert_tokens": (11, *NONE, 35)}
LSMDC: Plain = {**LSMDC_EXPERTS, "clusters": 43, "ghost_clusters": 0, "max_words": 36, "margin": 0.12132983763957966}
ACTIVITYNET_EXPERTS: Plain = {"experts": ALL_EXPERTS, "expert_clusters": (6, *NONE, 100), "expert_tokens": (4, *NONE, 29)}
ACTIVITYNET: Plain = {**ACTIVITYNET_EXPERTS, "clusters": 39, "ghost_clusters": 0, "max_words": 49, "margin": 0.060496613740311816}
SMALL: Plain = {"clusters": 8, "max_words": 12}
TOY_TRAINING: Plain = {"lr": 1e-3, "epochs": 60, "batch_videos": 32, "patience": 60}
OWN = Preset("collaborative_experts", {"hidden": 128, "clusters": 8, "max_words": 30}, {**TOY_TRAINING, "patience": 20})

COLLABORATIVE: dict[str, Preset] = {
    "msrvtt": Preset("collaborative_experts", MSRVTT, {**TRAINING, "epochs": 100, "batch_videos": 64}),
    "msvd": Preset("collaborative_experts", MSVD, {**TRAINING, "epochs": 300, "batch_videos": 16}),
    "didemo": Preset("collaborative_experts", DIDEMO, {**TRAINING, "epochs": 30, "batch_videos": 64}),
    "lsmdc": Preset("collaborative_experts", LSMDC, {**TRAINING, "epochs": 15, "batch_videos": 256}),
    "activitynet-paragraphs": Preset("collaborative_experts", ACTIVITYNET, {**TRAINING, "epochs": 150, "batch_videos": 32}),
    "toy": Preset("collaborative_experts", {"hidden": 64, **SMALL}, TOY_TRAINING),
}

PRESETS: dict[str, Preset] = {
    **{f"collaborative-experts/{name}": each for name, each in COLLABORATIVE.items()},
    "collaborative-experts": OWN,
    **{f"teachtext/{name}": each._replace(distillation=TEACHTEXT) for name, each in COLLABORATIVE.items()},
    "teachtext": OWN._replace(distillation=TEACHTEXT),
    "embedding-experts/msrvtt": Preset("embedding_experts", MSRVTT, {**TRAINING, "epochs": 100, "batch_videos": 64}),
    "embedding-experts/toy": Preset("embedding_experts", SMALL, TOY_TRAINING),
}
