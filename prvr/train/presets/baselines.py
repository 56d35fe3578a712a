"""The papers' baselines, older than the task's name: XML, ReLoCLNet, Dual Encoding, DE++, HGR and RIVRL.

NAME/tvr, NAME/activitynet and NAME/charades have each paper's settings, and the figures that papers of this field print for the
method. What was run under these names is not released: features and lengths are those of the field's packages (rows of unit
length, 128 frames), except for XML, which reads the first 100 frames, and HGR, which reads 20 of them as they are.

dual-encoding+vocabulary/msrvtt, dual-encoding++/msrvtt and rivrl/msrvtt are the methods as their authors released and reported
them: frames as they are, sentences of word ids (prvr extract --words ids:VOCABULARY, 7,807 words). dual-encoding/msrvtt, with a
teacher and without, is DL-DKD's supplementary Table 1.

Published figures: `prvr.train.presets.published`. Rates, epochs, batches and seeds are the papers', the optimiser and its
schedule are ours for all (prvr.train.optimiser; theirs: docs/decisions/0041).
"""

from __future__ import annotations

from prvr.train.recipe import Plain, Preset

SLOW: Plain = {"lr": 1e-4, "epochs": 100, "seed": 2018}
SHORT: Plain = {"lr": 1e-4, "epochs": 50, "weight_decay": 0.0}
OWN_TRAINING: Plain = {"epochs": 60, "batch_videos": 32, "patience": 20}
TOY_TRAINING: Plain = {"epochs": 60, "batch_videos": 32, "patience": 60}
# With the hardest negative of a batch, small students give all videos equal scores for many epochs; a higher rate ends that.
TOY_HARDEST: Plain = {**TOY_TRAINING, "lr": 1e-3}

# What the field's packages hold, and what its students read.
FIELD: Plain = {"max_frames": 128, "max_words": 30, "sequence_frames": 128, "unit": True}
# The words that are said at least 5 times in the training captions of MSR-VTT, and the 4 special ones.
VOCABULARY: Plain = {"vocabulary": 7807 + 4}

XML = Preset("xml", {"sampling": "first"}, SLOW)
RELOCLNET = Preset("reloclnet", {}, SLOW)
DUAL_ENCODING = Preset("dual_encoding", FIELD, SHORT)
HYBRID = Preset("dual_encoding_hybrid", FIELD, SHORT)
# HGR's released code trains for all epochs.
HGR = Preset("hgr", {}, {**SHORT, "batch_videos": 64, "patience": 50})
RIVRL = Preset("rivrl", FIELD, SHORT)

# Levels and spaces for small features. With few captions a video, a word that one of them says is a concept.
TOY_LEVELS: Plain = {**FIELD, "frame_gru": 32, "word_gru": 32, "filters": 32, "max_frames": 64, "max_words": 12}
TOY_ATTENTION: Plain = {"hidden": 64, "heads": 4, "max_frames": 64, "max_words": 12, "hard_from_epoch": 5}
TOY_SPACES: Plain = {"latent": 64, "concepts": 64, "least_said": 1, **TOY_LEVELS}
OWN_LEVELS: Plain = {**FIELD, "frame_gru": 128, "word_gru": 128, "filters": 64}
TOY_DUAL_ENCODING = Preset("dual_encoding", {"hidden": 64, **TOY_LEVELS}, TOY_HARDEST)

# The batch's similarities, by rows and by columns. Its weight is not published (docs/decisions/0041).
FIXED: Plain = {"distillation_target": "batch_matrix", "distillation_weight": 1.0, "distillation_decay": "fixed"}
DYNAMIC: Plain = {**FIXED, "distillation_decay": "exponential"}

PRESETS: dict[str, Preset] = {
    "xml/tvr": XML,
    "xml/activitynet": XML,
    "xml/charades": XML,
    "xml/toy": Preset("xml", TOY_ATTENTION, TOY_TRAINING),
    "reloclnet/tvr": RELOCLNET,
    "reloclnet/activitynet": RELOCLNET,
    "reloclnet/charades": RELOCLNET,
    "reloclnet/toy": Preset("reloclnet", TOY_ATTENTION, TOY_TRAINING),
    "dual-encoding": Preset("dual_encoding", {"hidden": 256, **OWN_LEVELS}, OWN_TRAINING),
    "dual-encoding/msrvtt": DUAL_ENCODING,
    "dual-encoding+fixed/msrvtt": DUAL_ENCODING._replace(distillation=FIXED),
    "dual-encoding+dynamic/msrvtt": DUAL_ENCODING._replace(distillation=DYNAMIC),
    "dual-encoding/tvr": DUAL_ENCODING,
    "dual-encoding/activitynet": DUAL_ENCODING,
    "dual-encoding/charades": DUAL_ENCODING,
    "dual-encoding/toy": TOY_DUAL_ENCODING,
    "dual-encoding+fixed/toy": TOY_DUAL_ENCODING._replace(distillation=FIXED),
    "dual-encoding+dynamic/toy": TOY_DUAL_ENCODING._replace(distillation=DYNAMIC),
    "dual-encoding+vocabulary/msrvtt": Preset("dual_encoding", VOCABULARY, SHORT),
    "dual-encoding++": Preset("dual_encoding_hybrid", {"latent": 256, "least_said": 1, **OWN_LEVELS}, OWN_TRAINING),
    "dual-encoding++/msrvtt": Preset("dual_encoding_hybrid", VOCABULARY, SHORT),
    "dual-encoding++/tvr": HYBRID,
    "dual-encoding++/activitynet": HYBRID,
    "dual-encoding++/charades": HYBRID,
    "dual-encoding++/toy": Preset("dual_encoding_hybrid", TOY_SPACES, TOY_HARDEST),
    "hgr/tvr": HGR,
    "hgr/activitynet": HGR,
    "hgr/charades": HGR,
    "hgr/toy": Preset("hgr", {"hidden": 64, "max_words": 12, "dropout": 0.2}, TOY_HARDEST),
    "rivrl/tvr": RIVRL,
    "rivrl/activitynet": RIVRL,
    "rivrl/charades": RIVRL,
    "rivrl/msrvtt": Preset("rivrl", VOCABULARY, SHORT),
    # A BERT vector of each sentence beside its word ids: --words NAME+NAME
    "rivrl+bert/msrvtt": Preset("rivrl", {**VOCABULARY, "sentence_columns": 1024}, SHORT),
    "rivrl/toy": Preset("rivrl", {"segment_filters": 64, "attention": 32, **TOY_SPACES}, TOY_HARDEST),
}
