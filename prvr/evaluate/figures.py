"""All figures of saved scores, as `prvr evaluate` and `prvr score` print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from prvr.errors import SettingError
from prvr.evaluate import metrics
from prvr.evaluate.groups import Group, by_kind, by_parts, by_ratio
from prvr.evaluate.metrics import MomentRetrieval, Retrieval
from prvr.evaluate.qvhighlights import MomentFigures, MomentValues, moment_figures
from prvr.evaluate.reliability import Judged, Reliability, judge, reliability
from prvr.evaluate.saved_scores import SavedScores
from prvr.methods.calibration import Calibration

# The name of the division by moment-to-video ratio, in `ScoreFigures.groups`.
BY_RATIO = "moment / video"


@dataclass(frozen=True)
class ScoreFigures:
    """The figures of a system on a split.

    origin: as in `SavedScores`. further: number of further correct pairs of query and video, beside each query's own video.
    moments: None where no query has both an annotated and a found span. windows: the same, as QVHighlights counts them.
    ceilings: the highest possible R@k by k, see `metrics.ceilings`; None where texts are unknown.
    judged, reliability: of the probabilities of first hits; None without a calibration.
    groups: by the name of the division; empty if not requested. video_to_text: None if not requested.
    """

    split: str
    system: str
    seed: int | None
    protocol: str
    origin: Mapping[str, str]
    ties: str
    retrieval: Retrieval
    further: int
    moments: MomentRetrieval | None
    windows: MomentFigures | None
    ceilings: Mapping[int, float] | None
    calibration: Calibration | None
    judged: Judged | None
    reliability: Reliability | None
    groups: Mapping[str, Sequence[Group]]
    video_to_text: Retrieval | None

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, as `--json` prints them."""
        values: dict[str, Any] = {name: getattr(self, name) for name in ("split", "system", "seed", "protocol", "ties")}
        values |= {"origin": dict(self.origin)} if self.origin else {}
        values |= {**self.retrieval.as_dict(), **(self.moments.as_dict() if self.moments else {"moments": {}})}
        if self.windows is not None:
            values["moments_as_qvhighlights"] = self.windows.as_dict()
        if self.ceilings is not None:
            values["ceilings"] = {f"r{k}": share for k, share in self.ceilings.items()}
        if self.reliability is not None and self.calibration is not None:
            values["probabilities"] = {**asdict(self.reliability), "calibration": self.calibration.as_dict()}
        if self.groups:
            values["groups"] = {name: [group.as_dict() for group in groups] for name, groups in self.groups.items()}
        if self.video_to_text is not None:
            back = self.video_to_text
            values["video_to_text"] = {**back.as_dict(), "queries": back.queries, "captions": back.videos}
        return values

    def __str__(self) -> str:
        """The figures as `prvr evaluate` and `prvr score` print them; the protocol is the last line."""
        of = self.retrieval
        lines = [f"{self.split or self.system}: {of}"]
        lines.append(f"MeanR {of.meanr:.1f}  MRR {of.mrr:.4f}  mAP {of.map:.4f}  ties {self.ties}")
        if self.further:
            shares = "/".join(f"{share:.1f}" for share in (of.covered1, of.covered5, of.covered10, of.covered100))
            lines.append(
                f"{self.further} further correct videos: share of a query's correct videos in the first 1/5/10/100 {shares}"
            )
        if self.moments is not None:
            lines += _moment_lines(self.moments, of.queries)
        if self.windows is not None:
            lines += str(self.windows).splitlines()
        if self.ceilings is not None and self.ceilings[1] < 100:
            ceilings = "/".join(f"{self.ceilings[k]:.1f}" for k in (1, 5, 10))
            lines.append(f"equal captions of different videos keep R@1/5/10 below {ceilings}")
        if self.reliability is not None and self.calibration is not None:
            lines += _probability_lines(self.reliability, self.calibration, self.split)
        for name, groups in self.groups.items():
            lines += [f"by {name}:", *map(_group_line, groups)]
        back = self.video_to_text
        if back is not None:
            lines.append(f"video to text: {str(back).rpartition('(')[0]}({back.queries} videos, {back.videos} captions)")
        return "\n".join([*lines, f"protocol: {self.protocol}"])


def count_figures(
    saved: SavedScores, *, ties: str = "pessimistic", groups: bool = False, video_to_text: bool = False
) -> ScoreFigures:
    """Counts all figures of saved scores.

    Args:
        ties: the rule for equal scores, see `metrics`.
        groups: also by moment-to-video ratio, length of the video and kind of query.
        video_to_text: also of the captions that each video finds.

    Raises:
        SettingError: unknown rule for ties, or groups are requested and no fact is known to group by.
    """
    correct, facts = saved.correct, saved.facts
    places = metrics.places(saved.scores, correct, ties=ties)
    moments = None
    if facts.overlaps is not None:
        own = metrics.ranks(saved.scores, saved.own, ties=ties) if len(saved.also) else places[:, 0]
        moments = metrics.moment_retrieval(own, facts.overlaps, facts.any_overlaps)
    windows = None
    if facts.window_values is not None and facts.highlight_values is not None:
        windows = moment_figures(MomentValues(facts.window_values, facts.highlight_values))
    judged = None if saved.calibration is None else judge(saved.calibration, saved.scores, correct)
    return ScoreFigures(
        split=saved.split,
        system=saved.system,
        seed=saved.seed,
        protocol=saved.protocol,
        origin=saved.origin,
        ties=ties,
        retrieval=metrics.figures(places, videos=len(saved.videos)),
        further=len(saved.also),
        moments=moments,
        windows=windows,
        ceilings=None if facts.texts is None else metrics.ceilings(facts.texts, correct),
        calibration=saved.calibration,
        judged=judged,
        reliability=None if judged is None else reliability(judged),
        groups=_groups(saved, places) if groups else {},
        video_to_text=metrics.video_to_text(saved.scores, correct, ties=ties) if video_to_text else None,
    )


def _groups(saved: SavedScores, places: Float[np.ndarray, "Q M"]) -> dict[str, Sequence[Group]]:
    facts, videos = saved.facts, len(saved.videos)
    named: dict[str, Sequence[Group]] = {}
    if facts.ratios is not None:
        named[BY_RATIO] = by_ratio(places, facts.ratios, videos=videos)
        named[f"{BY_RATIO}, sextiles"] = by_parts(places, facts.ratios, parts=6, videos=videos)
    if facts.lengths is not None:
        named["video length in s, terciles"] = by_parts(places, facts.lengths, parts=3, videos=videos)
    if facts.kinds is not None:
        named["kind"] = by_kind(places, facts.kinds, videos=videos)
    if not named:
        raise SettingError(
            f"no fact is known to group the queries of {saved.system or saved.split!r} by; add a --truth of JSON lines with "
            "start, end and duration, or with kind"
        )
    return named


def _moment_lines(spans: MomentRetrieval, queries: int) -> Sequence[str]:
    first = "  ".join(f"IoU>={least:g}: {shares[1]:.1f} %" for least, shares in spans.recall.items())
    lines = [f"best hit is the right video and its span overlaps the moment  {first}"]
    for least, shares in spans.recall.items():
        recall = "/".join(f"{share:.1f}" for share in shares.values())
        several = f" ({spans.any_localised[least]:.1f} by any span found there)" if spans.any_localised else ""
        alone = f"in the right video alone {spans.localised[least]:.1f}{several}"
        lines.append(f"video and moment (VCMR) at IoU>={least:g}: R@1/5/10/100 {recall}, {alone}")
    without = f", {queries - spans.queries} queries have none" if spans.queries < queries else ""
    return [*lines, f"mIoU in the right video {spans.miou:.3f} ({spans.queries} queries with a span{without})"]


def _probability_lines(of: Reliability, calibration: Calibration, split: str) -> Sequence[str]:
    wrong = "" if of.shown_wrong is None else f", {100 * of.shown_wrong:.1f} % of these wrong"
    means = {"with the correct video": of.present, "without it": of.absent}
    mean = ", ".join(f"{value:.2f} {where}" for where, value in means.items() if value is not None)
    same = ", the split of these figures: too good" if calibration.split == split else ""
    return [
        "probability of first hits, each query searched with its correct videos and again without them: "
        f"ECE {100 * of.ece:.1f} %, Brier {of.brier:.3f}, "
        f"AURC {of.aurc:.3f} (perfect order {of.aurc_best:.3f}, random order {of.wrong:.3f})",
        f"at least 0.5 for {100 * of.shown:.1f} % of {of.hits}{wrong}; mean {mean}; "
        f"fitted on {calibration.queries} queries of {calibration.split or 'another split'}{same}",
    ]


def _group_line(group: Group) -> str:
    of = group.retrieval
    shares = f"R@1/5/10/100 {of.r1:.1f}/{of.r5:.1f}/{of.r10:.1f}/{of.r100:.1f}  SumR {of.sumr:.1f}" if of else "no query"
    return f"  {group.name:>16}  {group.queries:6d} queries  {shares}"
