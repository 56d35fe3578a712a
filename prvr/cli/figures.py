"""The figures of a run as JSON and as lines, the same for a model that was just asked and for a run that was kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prvr.evaluate.groups import Group
    from prvr.evaluate.metrics import MomentRetrieval
    from prvr.evaluate.runs import Run
    from prvr.methods.calibration import Calibration


def report(run: Run, *, ties: str, groups: bool, backwards: bool) -> tuple[dict[str, Any], list[str]]:
    """All figures of a run; those of groups and of the other direction only where asked for."""
    from prvr.evaluate import metrics

    correct = run.correct
    place = metrics.places(run.scores, correct, ties=ties)
    of = metrics.figures(place, videos=len(run.videos))
    about = {"split": run.split, "system": run.system, "seed": run.seed, "protocol": run.protocol, "ties": ties}
    lines = [f"{run.split or run.system}: {of}", f"MeanR {of.meanr:.1f}  MRR {of.mrr:.4f}  mAP {of.map:.4f}  ties {ties}"]
    if len(run.also):
        shares = "/".join(f"{share:.1f}" for share in (of.covered1, of.covered5, of.covered10, of.covered100))
        lines.append(
            f"{len(run.also)} further correct videos: share of a query's correct videos in the first 1/5/10/100 {shares}"
        )
    spans = None
    if run.facts.overlaps is not None:
        own = metrics.ranks(run.scores, run.own, ties=ties) if len(run.also) else place[:, 0]
        spans = metrics.moment_retrieval(own, run.facts.overlaps, run.facts.any_overlaps)
    value: dict[str, Any] = {**about, **of.as_dict(), "moments": {}}
    if spans is not None:
        value |= _moments(spans)
        lines += _moment_lines(spans, len(run.queries))
    if run.facts.texts is not None:
        most = metrics.ceilings(run.facts.texts, correct)
        value["ceilings"] = {f"r{k}": share for k, share in most.items()}
        if most[1] < 100:
            lines.append(
                f"equal captions of different videos keep R@1/5/10 below {'/'.join(f'{most[k]:.1f}' for k in (1, 5, 10))}"
            )
    if run.calibration is not None:
        trust, more = _trust(run, run.calibration)
        value["probabilities"] = trust
        lines += more
    if groups:
        named = _groups(run, place)
        value["groups"] = {name: [_group(group) for group in parts] for name, parts in named.items()}
        lines += [line for name, parts in named.items() for line in _group_lines(name, parts)]
    if backwards:
        back = metrics.video_to_text(run.scores, correct, ties=ties)
        value["video_to_text"] = {**back.as_dict(), "queries": back.queries, "captions": back.videos}
        lines.append(f"video to text: {str(back).rpartition('(')[0]}({back.queries} videos, {back.videos} captions)")
    return value, [*lines, f"protocol: {run.protocol}"]


def _moments(spans: MomentRetrieval) -> dict[str, Any]:
    return {
        "moments": {str(least): shares[1] for least, shares in spans.recall.items()},
        "moment_recall": {str(least): {f"r{k}": share for k, share in shares.items()} for least, shares in spans.recall.items()},
        "localised": {str(least): share for least, share in spans.localised.items()},
        "any_localised": {str(least): share for least, share in spans.any_localised.items()},
        "miou": spans.miou,
        "moment_queries": spans.queries,
    }


def _moment_lines(spans: MomentRetrieval, queries: int) -> list[str]:
    first = "  ".join(f"IoU>={least:g}: {shares[1]:.1f} %" for least, shares in spans.recall.items())
    lines = [f"best hit is the right video and its span overlaps the moment  {first}"]
    for least, shares in spans.recall.items():
        recall = "/".join(f"{share:.1f}" for share in shares.values())
        several = f" ({spans.any_localised[least]:.1f} by any span found there)" if spans.any_localised else ""
        alone = f"in the right video alone {spans.localised[least]:.1f}{several}"
        lines.append(f"moments at IoU>={least:g}: R@1/5/10/100 {recall}, {alone}")
    without = f", {queries - spans.queries} queries have none" if spans.queries < queries else ""
    return [*lines, f"mIoU in the right video {spans.miou:.3f} ({spans.queries} queries with a span{without})"]


def _trust(run: Run, calibration: Calibration) -> tuple[dict[str, Any], list[str]]:
    """How far the probabilities can be trusted."""
    from prvr.evaluate.reliability import judge, reliability

    of = reliability(judge(calibration, run.scores, run.correct))
    figures = (
        f"ECE {100 * of.ece:.1f} %, Brier {of.brier:.3f}, AURC {of.aurc:.3f} (best order {of.aurc_best:.3f}, none {of.wrong:.3f})"
    )
    wrong = "" if of.shown_wrong is None else f", {100 * of.shown_wrong:.1f} % of these wrong"
    means = ", ".join(
        f"{mean:.2f} {where}"
        for mean, where in ((of.present, "with the video there"), (of.absent, "without"))
        if mean is not None
    )
    itself = ", which it is tested on here: too good" if calibration.split == run.split else ""
    lines = [
        f"probability of first hits, each query asked with its video and again without it: {figures}",
        f"at least 0.5 for {100 * of.shown:.1f} % of {of.hits}{wrong}; mean {means}; "
        f"fitted on {calibration.queries} queries of {calibration.split or 'another run'}{itself}",
    ]
    return {**asdict(of), "calibration": calibration.as_dict()}, lines


def _groups(run: Run, place: Any) -> dict[str, Sequence[Group]]:
    from prvr.evaluate import groups

    facts, videos = run.facts, len(run.videos)
    named: dict[str, Sequence[Group]] = {}
    if facts.ratios is not None:
        named["moment / video"] = groups.by_ratio(place, facts.ratios, videos=videos)
        named["moment / video, sextiles"] = groups.by_parts(place, facts.ratios, parts=6, videos=videos)
    if facts.lengths is not None:
        named["video length in s, terciles"] = groups.by_parts(place, facts.lengths, parts=3, videos=videos)
    if facts.kinds is not None:
        named["kind"] = groups.by_kind(place, facts.kinds, videos=videos)
    return named


def _group(group: Group) -> dict[str, Any]:
    figures = group.retrieval.as_dict() if group.retrieval else {}
    return {"group": group.name, "queries": group.queries, **{k: figures.get(k) for k in ("r1", "r5", "r10", "r100", "sumr")}}


def _group_lines(name: str, parts: Sequence[Group]) -> list[str]:
    lines = [f"by {name}:"]
    for group in parts:
        of = group.retrieval
        shares = f"R@1/5/10/100 {of.r1:.1f}/{of.r5:.1f}/{of.r10:.1f}/{of.r100:.1f}  SumR {of.sumr:.1f}" if of else "no query"
        lines.append(f"  {group.name:>16}  {group.queries:6d} queries  {shares}")
    return lines
