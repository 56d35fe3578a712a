"""The papers' baselines, older than the task's name: XML, ReLoCLNet, Dual Encoding, DE++, HGR and RIVRL.

NAME/tvr, NAME/activitynet and NAME/charades have each paper's settings, and the figures that papers of this field print for the
method. What was run under these names is not released: features and lengths are those of the field's packages (rows of unit
length, 128 frames), except for XML, which reads the first 100 frames, and HGR, which reads 20 of them as they are.

dual-encoding+vocabulary/msrvtt, dual-encoding++/msrvtt and rivrl/msrvtt are the methods as their authors released and reported
them: frames as they are, sentences of word ids (prvr extract --words ids:VOCABULARY, 7,807 words). dual-encoding/msrvtt, with a
teacher and without, is DL-DKD's supplementary Table 1.

Rates, epochs, batches and seeds are the papers', the optimiser and its schedule are ours for all (prvr.train.optimiser; theirs:
docs/decisions/0041).
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
HGR = Preset("hgr", {}, {**SHORT, "batch_videos": 64})
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
    # 10.0/26.5/37.3/81.3/155.1
    "xml/tvr": XML,
    # 5.3/19.4/30.6/73.1/128.4
    "xml/activitynet": XML,
    # 1.6/6.0/10.1/46.9/64.6
    "xml/charades": XML,
    "xml/toy": Preset("xml", TOY_ATTENTION, TOY_TRAINING),
    # 10.7/28.1/38.1/80.3/157.1
    "reloclnet/tvr": RELOCLNET,
    # 5.7/18.9/30.0/72.0/126.6
    "reloclnet/activitynet": RELOCLNET,
    # 1.2/5.4/10.0/45.6/62.3
    "reloclnet/charades": RELOCLNET,
    "reloclnet/toy": Preset("reloclnet", TOY_ATTENTION, TOY_TRAINING),
    "dual-encoding": Preset("dual_encoding", {"hidden": 256, **OWN_LEVELS}, OWN_TRAINING),
    # 10.5/28.4/38.9/89.5/167.2
    "dual-encoding/msrvtt": DUAL_ENCODING,
    # 11.1/30.0/41.0/89.2/171.3
    "dual-encoding+fixed/msrvtt": DUAL_ENCODING._replace(distillation=FIXED),
    # 11.7/30.9/42.0/91.8/176.4
    "dual-encoding+dynamic/msrvtt": DUAL_ENCODING._replace(distillation=DYNAMIC),
    # SumR 123.4
    "dual-encoding/tvr": DUAL_ENCODING,
    # 5.6/18.8/29.4/-/121.7
    "dual-encoding/activitynet": DUAL_ENCODING,
    # 1.5/5.7/9.5/-/-
    "dual-encoding/charades": DUAL_ENCODING,
    "dual-encoding/toy": TOY_DUAL_ENCODING,
    "dual-encoding+fixed/toy": TOY_DUAL_ENCODING._replace(distillation=FIXED),
    "dual-encoding+dynamic/toy": TOY_DUAL_ENCODING._replace(distillation=DYNAMIC),
    # 7.6/22.4/31.8, median rank 33, as its authors report it
    "dual-encoding+vocabulary/msrvtt": Preset("dual_encoding", VOCABULARY, SHORT),
    "dual-encoding++": Preset("dual_encoding_hybrid", {"latent": 256, "least_said": 1, **OWN_LEVELS}, OWN_TRAINING),
    # 11.8/30.6/41.8, median rank 17, as its authors report it
    "dual-encoding++/msrvtt": Preset("dual_encoding_hybrid", VOCABULARY, SHORT),
    # 8.8/21.9/30.2/67.4/128.3
    "dual-encoding++/tvr": HYBRID,
    # 5.3/18.4/29.2/68.0/121.0
    "dual-encoding++/activitynet": HYBRID,
    # 1.7/5.6/9.6/37.1/54.1
    "dual-encoding++/charades": HYBRID,
    "dual-encoding++/toy": Preset("dual_encoding_hybrid", TOY_SPACES, TOY_HARDEST),
    # 1.7/4.9/8.3/35.2/50.1
    "hgr/tvr": HGR,
    # 4.0/15.0/24.8/63.2/107.0
    "hgr/activitynet": HGR,
    # 1.2/3.8/7.3/33.4/45.7
    "hgr/charades": HGR,
    "hgr/toy": Preset("hgr", {"hidden": 64, "max_words": 12, "dropout": 0.2}, TOY_HARDEST),
    # 9.4/23.4/32.2/70.6/135.6
    "rivrl/tvr": RIVRL,
    # 5.2/18.0/28.2/66.4/117.8
    "rivrl/activitynet": RIVRL,
    # 1.6/5.6/9.4/37.7/54.3
    "rivrl/charades": RIVRL,
    # 12.9/33.0/44.6, median rank 14, as its authors report it
    "rivrl/msrvtt": Preset("rivrl", VOCABULARY, SHORT),
    # 13.7/34.6/46.4; a BERT vector of each sentence beside its word ids: --words NAME+NAME
    "rivrl+bert/msrvtt": Preset("rivrl", {**VOCABULARY, "sentence_columns": 1024}, SHORT),
    "rivrl/toy": Preset("rivrl", {"segment_filters": 64, "attention": 32, **TOY_SPACES}, TOY_HARDEST),
}
