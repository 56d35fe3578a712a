"""What papers report for the presets that have their settings: the one home of these figures.

A paper counts for all presets whose name begins with its key. Figures are R@1/5/10/100/SumR in per cent, text to video, or SumR
alone; on whole videos R@1/5/10 and the median rank. Settings are those that the figures are said to belong to. A preset that
computes something else (`DIFFERENCES`) is described without figures; the papers' tables print them all the same.

Sources: for TVR, ActivityNet Captions and Charades-STA each method's own paper or repository, and for methods older than the task
the tables of RAL, CurvSpec and FDVS and DL-DKD's supplementary material (SumR); for whole videos the methods' own papers; for
dual-encoding+fixed and +dynamic DL-DKD's supplementary Table 1.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from prvr.datasets.sizes import SIZES

PAPERS: dict[str, str] = {
    "dl-dkd": "DL-DKD: Dong et al., ICCV 2023",
    "dl-dkd-checkpoint": "DL-DKD: Dong et al., ICCV 2023, settings in the name of its checkpoint",
    "dl-dkd++": "DL-DKD++: Dong et al., arXiv 2025",
    "xml": "XML: Lei et al., ECCV 2020",
    "reloclnet": "ReLoCLNet: Zhang et al., SIGIR 2021",
    "dual-encoding": "Dual Encoding: Dong et al., CVPR 2019",
    "dual-encoding+fixed": "DL-DKD: Dong et al., ICCV 2023, supplementary material",
    "dual-encoding+dynamic": "DL-DKD: Dong et al., ICCV 2023, supplementary material",
    "dual-encoding+vocabulary": "Dual Encoding: Dong et al., CVPR 2019",
    "dual-encoding++": "DE++: Dong et al., TPAMI 2021",
    "hgr": "HGR: Chen et al., CVPR 2020",
    "rivrl": "RIVRL: Dong et al., TCSVT 2022",
    "rivrl+bert": "RIVRL: Dong et al., TCSVT 2022",
    "collaborative-experts": "Collaborative experts: Liu et al., BMVC 2019, as refined for TeachText (CE+)",
    "teachtext": "TeachText: Croitoru et al., ICCV 2021",
    "embedding-experts": "Mixture of embedding experts: Miech et al., arXiv 2018",
    "ms-sl": "MS-SL: Dong et al., ACM MM 2022",
    "ms-sl++": "MS-SL++: Dong et al., 2025",
    "ms-sl+matching": "BGM-Net: TOMM 2024, doi 10.1145/3663571",
    "gmmformer": "GMMFormer: Wang et al., AAAI 2024",
    "gmmformer-v2": "GMMFormer v2: Wang et al., arXiv 2024",
    "msc-prvr": "MSC-PRVR: NeurIPS 2025, arXiv 2510.27432, on features of CLIP-L/14",
    "hlformer": "HLFormer: Li et al., ICCV 2025",
    "holmes": "Holmes: ICML 2026 (arXiv 2605.06083)",
    "holmes-dual": "Holmes with two queries: ICML 2026 (arXiv 2605.06083)",
    "dreamprvr": "DreamPRVR: CVPR 2026 (arXiv 2604.03653)",
    "gmmformer-v2+ral": "RAL: Zhang et al., EMNLP Findings 2025",
    "gmmformer-v2+ral-readme": "RAL: Zhang et al., EMNLP Findings 2025, settings of the README beside its code",
}

_FIGURES = """
dl-dkd/tvr                  14.4/34.9/45.8/84.9/179.9
dl-dkd/activitynet          8.0/25.0/37.5/77.1/147.6
dl-dkd++/tvr                15.3/36.0/47.5/86.0/184.8
dl-dkd++/activitynet        8.3/25.5/38.3/77.8/149.9
dl-dkd++/charades           1.9/7.1/12.3/49.8/71.1
xml/tvr                     10.0/26.5/37.3/81.3/155.1
xml/activitynet             5.3/19.4/30.6/73.1/128.4
xml/charades                1.6/6.0/10.1/46.9/64.6
reloclnet/tvr               10.7/28.1/38.1/80.3/157.1
reloclnet/activitynet       5.7/18.9/30.0/72.0/126.6
reloclnet/charades          1.2/5.4/10.0/45.6/62.3
dual-encoding/tvr           123.4
dual-encoding/activitynet   5.6/18.8/29.4/-/121.7
dual-encoding/charades      1.5/5.7/9.5/-/-
dual-encoding/msrvtt        10.5/28.4/38.9/89.5/167.2
dual-encoding+fixed/msrvtt  11.1/30.0/41.0/89.2/171.3
dual-encoding+dynamic/msrvtt 11.7/30.9/42.0/91.8/176.4
dual-encoding+vocabulary/msrvtt 7.6/22.4/31.8 33
dual-encoding++/msrvtt      11.8/30.6/41.8 17
dual-encoding++/tvr         8.8/21.9/30.2/67.4/128.3
dual-encoding++/activitynet 5.3/18.4/29.2/68.0/121.0
dual-encoding++/charades    1.7/5.6/9.6/37.1/54.1
hgr/tvr                     1.7/4.9/8.3/35.2/50.1
hgr/activitynet             4.0/15.0/24.8/63.2/107.0
hgr/charades                1.2/3.8/7.3/33.4/45.7
rivrl/tvr                   9.4/23.4/32.2/70.6/135.6
rivrl/activitynet           5.2/18.0/28.2/66.4/117.8
rivrl/charades              1.6/5.6/9.4/37.7/54.3
rivrl/msrvtt                12.9/33.0/44.6 14
rivrl+bert/msrvtt           13.7/34.6/46.4
collaborative-experts/msrvtt 13.8/36.5/49.4 11
collaborative-experts/msvd  25.1/56.5/70.9 4
collaborative-experts/didemo 18.2/43.9/57.1 7.9
collaborative-experts/lsmdc 14.9/33.7/44.1 15.3
collaborative-experts/activitynet-paragraphs 19.4/49.3/65.4 6
teachtext/msrvtt            14.6/37.9/50.9 10
teachtext/msvd              25.1/56.8/71.2 4
teachtext/didemo            21.6/48.6/62.9 6
teachtext/lsmdc             17.2/36.5/46.3 13.7
teachtext/activitynet-paragraphs 23.5/57.2/73.6 4
ms-sl/tvr                   13.5/32.1/43.4/83.4/172.4
ms-sl/activitynet           7.1/22.5/34.7/75.8/140.1
ms-sl/charades              1.8/7.1/11.8/47.7/68.4
ms-sl++/tvr                 13.6/33.1/44.2/83.5/174.5
ms-sl++/activitynet         7.0/23.1/35.2/75.8/141.1
ms-sl++/charades            1.8/7.6/12.0/48.4/69.7
gmmformer/tvr               13.9/33.3/44.5/84.9/176.6
gmmformer/activitynet       8.3/24.9/36.7/76.1/146.0
gmmformer/charades          2.1/7.8/12.5/50.6/72.9
gmmformer-v2/tvr            16.2/37.6/48.8/86.4/189.1
gmmformer-v2/activitynet    8.9/27.1/40.2/78.7/154.9
gmmformer-v2/charades       2.5/8.6/13.9/53.2/78.2
ms-sl+matching/tvr          14.1/34.7/45.9/85.2/179.9
ms-sl+matching/activitynet  7.2/23.8/36.0/76.9/143.9
ms-sl+matching/charades     1.9/7.4/12.2/50.1/71.6
msc-prvr/tvr                35.1/61.6/71.5/94.9/263.1
msc-prvr/activitynet        17.7/42.0/55.6/86.8/202.1
msc-prvr/charades           3.2/12.6/20.1/63.8/99.7
msc-prvr/qvhighlights       234.6
hlformer/tvr                15.7/37.1/48.5/86.4/187.7
hlformer/activitynet        8.7/27.1/40.1/79.0/154.9
hlformer/charades           2.6/8.5/13.7/54.0/78.7
gmmformer-v2+ral/tvr        18.2/40.4/52.1/88.0/198.8
gmmformer-v2+ral/activitynet 8.9/27.7/40.4/79.1/156.1
holmes/tvr                  17.3/39.0/50.4/87.4/194.2
holmes/activitynet          9.3/27.8/40.5/79.1/156.8
holmes/charades             2.3/9.5/15.2/53.6/80.6
holmes-dual/tvr             18.4/40.7/52.0/87.5/198.6
dreamprvr/tvr               17.4/39.0/50.4/86.2/193.1
dreamprvr/activitynet       8.7/27.5/40.3/79.5/156.1
dreamprvr/charades          2.6/8.7/14.5/54.2/80.0
"""

# Methods without a preset, and methods on other features than their preset's: name, year, group and source, and the figures on
# TVR, ActivityNet Captions, Charades-STA and QVHighlights (SumR alone where recalls are not known).
_OTHERS = """
CLIP4Clip|2022|tuned|TRACE+RAL|9.9/24.3/34.3/72.5/141.0|5.9/19.3/30.4/71.6/127.3|1.8/6.5/10.9/44.2/63.4
Cap4Video|2023|tuned|TRACE+RAL|10.3/26.4/36.8/74.0/147.5|6.3/20.4/30.9/72.6/130.2|1.9/6.7/11.3/45.0/65.0
UMT-L|2023|tuned|RAL|13.7/32.3/43.7/83.7/173.4|6.9/22.6/35.1/76.2/140.8
InternVideo2|2024|tuned|RAL|13.8/32.9/44.4/84.2/175.3|7.5/23.4/36.1/76.5/143.5
CONQUER|2021|classic|TRACE+RAL|11.0/28.9/39.6/81.3/160.8|6.5/20.4/31.8/74.3/133.1|1.8/6.3/10.3/47.5/66.0
JSG|2023|classic|RAL+code|11.3/29.1/39.6/80.9/161.0|6.7/22.5/34.8/76.2/140.3|2.4/7.7/12.8/49.8/72.7
PEAN|2023|classic|later|13.5/32.8/44.1/83.9/174.2|7.4/23.0/35.5/75.9/141.8|2.7/8.1/13.5/50.3/74.7
LH|2024|classic|later|13.2/33.2/44.4/85.5/176.3|7.4/23.5/35.8/75.8/142.4|2.1/7.5/12.9/50.1/72.7
MamFusion|2025|classic|code|14.2/33.9/44.9/84.5/177.5|8.0/25.4/37.2/76.8/147.4|2.0/8.6/14.1/52.4/77.2
ProtoPRVR|2025|classic|later|15.4/35.9/47.5/86.4/185.2|7.9/24.9/37.2/77.3/147.4
ARL|2025|classic|later|15.6/36.3/47.7/86.3/185.9|8.3/24.6/37.4/78.0/148.3
MGAKD|2025|taught|RAL|16.0/37.8/49.2/87.5/190.5|7.9/25.7/38.3/77.8/149.6
RAL on MS-SL|2025|classic|code|179.1|143.0
RAL on GMMFormer|2025|classic|code|186.1|147.7
CAVIGATE|2026|further|code|18.1/40.7/51.7/87.3/197.7|9.7/28.9/41.4/78.7/158.7
CurvSpec|2026|classic|own|15.9/37.5/49.0/86.7/189.1|9.0/27.6/39.9/79.1/155.6|2.6/8.9/14.3/53.3/79.1
TRACE|2026|classic|own|17.8/39.4/50.7/86.7/194.6|9.0/28.0/40.7/79.6/157.3|2.7/9.1/14.3/55.0/81.1
CLIP-L/14 alone|2025|untrained|MSC+TF|16.2/33.5/41.8/75.7/167.2|15.1/33.9/45.1/78.9/172.9|2.0/8.1/13.6/49.4/73.1
SigLIP-L alone|2025|untrained|TF|-|178.7
EVA-CLIP-L alone|2025|untrained|TF|172.2|180.4|77.5|197.6
TF-PRVR on CLIP-L/14|2025|untrained|own|178.3|193.9|80.8
TF-PRVR on EVA-CLIP-L|2025|untrained|own|183.6|200.8|85.4|218.5
MS-SL|2025|clip-l14|MSC|31.9/57.6/67.7/93.8/251.0|14.7/37.1/50.4/84.6/186.7|3.4/11.5/18.7/62.5/96.0|222.5
GMMFormer|2025|clip-l14|MSC|29.8/54.2/64.6/92.5/241.1|15.2/37.7/50.5/83.7/187.1|2.7/10.5/16.7/59.4/89.3|211.1
AMDNet|2025|clip-l14|MSC|27.7/52.3/63.3/92.3/235.6|14.0/36.3/49.9/84.2/184.5|2.1/7.8/13.9/57.2/81.1|206.6
BGM-Net|2025|clip-l14|MSC|31.1/56.3/66.5/93.8/247.7|15.6/37.9/51.3/85.4/190.3|3.0/11.8/18.2/63.7/96.7|219.7
GMMFormer v2|2025|clip-l14|MSC|34.0/59.7/69.8/94.5/258.1|17.1/40.6/53.7/85.5/196.9|3.1/11.6/18.2/61.4/94.2|225.2
ProtoPRVR|2025|clip-l14|MSC|34.7/60.0/70.1/94.4/259.2|16.0/38.8/52.4/85.1/192.3|-|226.6
ARL|2025|clip-l14|MSC|34.6/60.4/70.7/94.4/260.1|15.3/38.4/51.5/85.2/190.4
ProPy|2025|tuned|code|22.4/45.0/55.9/89.5/212.8|14.9/34.9/47.5/82.7/180.0|2.6/8.7/14.8/50.4/76.5|37.4/65.6/76.1/96.5/275.5
CAVIGATE on CLIP-B/32|2026|further|code|26.4/51.0/62.4/91.5/231.2|15.0/36.7/49.8/83.0/184.5
"""
_SOURCES = {
    "TRACE+RAL": "tables of TRACE and RAL",
    "RAL": "table of RAL",
    "later": "tables of later papers",
    "code": "its repository",
    "own": "its paper",
    "MSC+TF": "papers of MSC-PRVR and TF-PRVR",
    "TF": "paper of TF-PRVR",
    "MSC": "paper of MSC-PRVR",
    "RAL+code": "table of RAL; on Charades-STA its repository",
}
_REMARKS_OF_OTHERS = {
    "CONQUER": "RAL labels this row QCLPL",
    "JSG": "CurvSpec prints SumR 140.5 on ActivityNet",
    "MGAKD": "its teacher is not known here",
    "CAVIGATE": "captions and audio beside the frames; built on DL-DKD",
    "TRACE": "three seeds",
    "ProPy": "CLIP-B/32, adapted from frames",
    "CAVIGATE on CLIP-B/32": "captions and audio beside the frames",
}

# What a method reads, in the order of a board: only figures of one group can be compared.
GROUPS: dict[str, str] = {
    "classic": "features of the published packages: ResNet152 with I3D (TVR) or I3D, and RoBERTa",
    "taught": "features of the published packages, with a teacher in training",
    "further": "further inputs beside the frames",
    "tuned": "networks that were trained on frames themselves",
    "clip-l14": "features of CLIP-L/14",
    "clip-b32": "features of CLIP-B/32",
    "slowfast+clip-b32": "features of SlowFast and CLIP-B/32",
    "untrained": "image and text encoders alone: nothing is trained",
    "whole": "whole videos, the features of each paper",
}
SEGMENTS = ("tvr", "activitynet", "charades", "qvhighlights")
_TAUGHT = ("dl-dkd", "dl-dkd++")

# Where sources disagree, and what stands here.
REMARKS: dict[str, str] = {
    "ms-sl/tvr": "the README beside the code prints SumR 172.3",
    "dual-encoding++/activitynet": "DL-DKD's supplementary material prints SumR 121.7; the recalls sum to 120.9",
    "gmmformer-v2+ral-readme/tvr": "published figures are taken to belong to the settings of the code: gmmformer-v2+ral/tvr",
    "gmmformer-v2+ral-readme/activitynet": (
        "published figures are taken to belong to the settings of the code: gmmformer-v2+ral/activitynet"
    ),
    "dl-dkd/activitynet": (
        "the README prints these figures below a checkpoint whose name says other settings: dl-dkd-checkpoint/activitynet"
    ),
    "dl-dkd-checkpoint/activitynet": (
        "the name that the README gives to the checkpoint; the script trains with other settings, and which gave the published "
        "figures is not known: they stand beside dl-dkd/activitynet"
    ),
    "msc-prvr/activitynet": "a gallery of 4,917 videos, not of 4,430",
    "msc-prvr/qvhighlights": "features of SlowFast and CLIP-B, words of CLIP-B",
    "dl-dkd/charades": "not published: the conference version's settings with the margin of DL-DKD++ there",
    "gmmformer-v2+ral/charades": "not published: GMMFormer v2's settings there, and RAL's on TVR",
    "embedding-experts/msrvtt": "no figure is published for the mixture with these experts",
    "collaborative-experts/msrvtt": "mean of three seeds",
    "teachtext/msrvtt": "mean of three seeds",
    **dict.fromkeys(
        ("dual-encoding/msrvtt", "dual-encoding+fixed/msrvtt", "dual-encoding+dynamic/msrvtt"),
        "of DL-DKD's supplementary material, whose split is taken to be the official one",
    ),
}

_WORDS = "reads word features and 128 frames of unit length (theirs: word ids of a vocabulary, frames as they are)"
_CONCEPTS = "its concepts are the first words of the vocabulary (theirs: tagged and lemmatised)"
_HASHED = "its concepts are hashed (theirs: tagged and lemmatised words)"
_CALIBRATED = "scores are calibrated for each query (theirs: scaled over the whole test)"
# Presets that compute something else than their papers' code, and what, by the method's name or by the preset's. Published
# figures are not theirs. docs/decisions/0040 has the reasons.
DIFFERENCES: dict[str, str] = {
    "hgr": "its graphs are of a dependency parse, and word vectors are given (theirs: a semantic role labeller, learned vectors)",
    "dual-encoding": _WORDS,
    "dual-encoding+fixed": f"{_WORDS}; the weight of distillation is not published",
    "dual-encoding+dynamic": f"{_WORDS}; the weight of distillation is not published",
    "dual-encoding++": f"{_WORDS}; {_HASHED}; {_CALIBRATED}",
    "dual-encoding++/msrvtt": f"{_CONCEPTS}; {_CALIBRATED}",
    "rivrl": f"{_WORDS}; {_HASHED}; {_CALIBRATED}",
    "rivrl/msrvtt": f"{_CONCEPTS}; {_CALIBRATED}",
    "rivrl+bert": f"{_CONCEPTS}; {_CALIBRATED}",
}
_BERT_ADAM = "is trained with BertAdam on batches of videos with all captions"
# Presets that compute what their papers' code computes and are trained otherwise (docs/decisions/0041).
TRAINED_OTHERWISE: dict[str, str] = {
    "xml": "is trained on batches of videos with all captions (theirs: pairs); what the papers of this field ran is not released",
    "reloclnet": "is the released modules without subtitles and spans; what the papers of this field ran is not released",
    "dual-encoding+vocabulary": f"{_BERT_ADAM} (theirs: Adam, pairs, rate halved on a plateau)",
    "collaborative-experts": f"{_BERT_ADAM} (theirs: RAdam, one caption drawn for each video)",
    "teachtext": f"{_BERT_ADAM} (theirs: RAdam, one caption drawn for each video)",
    "embedding-experts": f"{_BERT_ADAM} (theirs: RAdam, one caption drawn for each video)",
}

# Collections that no paper has.
OWN_DATA = ("", "toy", "montage")

RECALLS = ("R@1", "R@5", "R@10", "R@100", "SumR")


def _parse(line: str) -> tuple[str, dict[str, float]]:
    name, recalls, *rank = line.split()
    values = recalls.split("/")
    names = ("SumR",) if len(values) == 1 else RECALLS
    figures = {key: float(value) for key, value in zip(names, values, strict=False) if value != "-"}
    return name, figures | ({"MedR": float(rank[0])} if rank else {})


FIGURES: dict[str, dict[str, float]] = dict(map(_parse, _FIGURES.strip().splitlines()))


class PublishedRow(NamedTuple):
    """Published figures of a method on a collection.

    group: of GROUPS. gallery: the size of the test split. preset: the one with these features; "" if there is none.
    """

    name: str
    year: int
    group: str
    source: str
    figures: dict[str, float]
    gallery: str
    preset: str = ""
    remark: str = ""

    @property
    def protocol(self) -> str:
        """How the epoch was chosen, as far as this field reports it."""
        return "nothing trained" if self.group == "untrained" else "community"


def published_rows(collection: str) -> list[PublishedRow]:
    """All published figures on a collection, those of presets and others', in the order of GROUPS."""
    rows = [_row_of_preset(name) for name in FIGURES if name.partition("/")[2] == collection]
    rows += _rows_of_others(collection) if collection in SEGMENTS else []
    groups = list(GROUPS)
    return sorted(rows, key=lambda row: groups.index(row.group))


def _row_of_preset(name: str) -> PublishedRow:
    base, _, collection = name.partition("/")
    paper = PAPERS[base]
    year = re.findall(r"20[0-9]{2}", paper.partition("(")[0])
    group = "classic" if collection in SEGMENTS else "whole"
    if group == "classic" and base in _TAUGHT:
        group = "taught"
    if base == "msc-prvr":
        group = "slowfast+clip-b32" if collection == "qvhighlights" else "clip-l14"
    otherwise = f"the preset computes something else: prvr presets {name}" if computes_otherwise(name) else ""
    remark = "; ".join(filter(None, (REMARKS.get(name), otherwise)))
    return PublishedRow(base, int(year[-1]), group, paper, FIGURES[name], _gallery(collection, group), name, remark)


def _rows_of_others(collection: str) -> list[PublishedRow]:
    rows = []
    for line in _OTHERS.strip().splitlines():
        name, year, group, source, *more = line.split("|")
        figures = dict(zip(SEGMENTS, more, strict=False))
        if figures.get(collection, "-") == "-":
            continue
        if (collection, group) == ("qvhighlights", "clip-l14"):
            group = "slowfast+clip-b32"
        values = _parse(f"{name.replace(' ', '_')} {figures[collection]}")[1]
        gallery, remark = _gallery(collection, group), _REMARKS_OF_OTHERS.get(name, "")
        rows.append(PublishedRow(name, int(year), group, _SOURCES[source], values, gallery, remark=remark))
    return rows


def _gallery(collection: str, group: str) -> str:
    """The test split that a group's figures are of; papers on other features than the packages' do not always have it."""
    if collection == "qvhighlights":
        # ProPy's segments; all others have the source videos.
        part = "segments of val" if group == "tuned" else "source videos of val"
        return str(next(size for size in SIZES[collection]["test"] if size.source == part))
    if group in ("clip-l14", "tuned", "further", "untrained") and collection in ("activitynet", "charades"):
        known = {"activitynet": str(SIZES["activitynet"]["test"][1]), "charades": "1,334 videos and 4,233 captions"}
        return known[collection] if group == "clip-l14" else "a gallery that is not known here"
    return str(SIZES[collection]["test"][0]) if collection in SIZES else ""


def paper_of(name: str) -> str | None:
    """Returns the paper with the method of a preset; None for a method that no paper has."""
    return PAPERS.get(name.partition("/")[0])


def computes_otherwise(name: str) -> str | None:
    """Returns what a preset computes that its paper's code does not; None where it computes the same."""
    return DIFFERENCES.get(name) or DIFFERENCES.get(name.partition("/")[0])


def difference_of(name: str) -> str | None:
    """Returns what differs between a preset and what its paper's code computes, or else how it is trained; None if nothing."""
    base, _, collection = name.partition("/")
    if base in PAPERS and collection in OWN_DATA:
        return "its sizes and its training are chosen for small data"
    return computes_otherwise(name) or TRAINED_OTHERWISE.get(base)


def figures_of(method: str) -> dict[str, tuple[float, ...]]:
    """Returns a method's figures on segments by collection: R@1/5/10/100/SumR, or SumR alone where recalls are not known."""
    found: dict[str, tuple[float, ...]] = {}
    for name, figures in FIGURES.items():
        base, _, collection = name.partition("/")
        if base == method and "SumR" in figures:
            found[collection] = tuple(figures[key] for key in (RECALLS if len(figures) == len(RECALLS) else RECALLS[-1:]))
    return found
