"""The sections about single queries: the best and the worst of a system, and two systems beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from prvr.evaluate.charts import Curve, Lane, line_chart, profile_chart
from prvr.evaluate.metrics import overlap
from prvr.report.page import ANNOTATE, Section, quote_names, render, shorten
from prvr.report.queries import PairwiseResult, Profile, compare_queries, count_wins, find_extremes
from prvr.report.systems import ReportedSystem, SeedResults

SHOWN = 5
# Of each system's wins: how many rows are open, and how many in all.
OPEN_ROWS, MOST_ROWS = 10, 60
POINTS = 400


def shown_queries(system: ReportedSystem) -> list[str]:
    """The ids of the queries that `extremes_section` shows."""
    best, worst = find_extremes(system.results, SHOWN)
    return [system.results[0].ranked.queries[row] for row in (*best, *worst)]


def extremes_section(system: ReportedSystem, profiles: Mapping[str, Profile] | None, *, reason: str = "") -> Section:
    """The best and the worst queries with the profiles of their own videos; `reason` says why there are no profiles."""
    best, worst = find_extremes(system.results, SHOWN)
    missing = [f"No frame profiles of {quote_names([system.name])}: {reason}."] if profiles is None else []
    groups = {
        title: [_query(system.results, row, profiles or {}) for row in rows]
        for title, rows in (("Worst", worst), ("Best", best))
        if rows
    }
    body = render("queries.html", groups=groups)
    return Section("queries", f"Best and worst queries of {system.name}", body, tuple(missing))


def pair_section(first: ReportedSystem, second: ReportedSystem) -> Section:
    """Two systems query by query: how often each wins, on which groups of queries, and the queries sorted by difference."""
    result = compare_queries([one.ranked for one in first.results], [one.ranked for one in second.results])
    ratios = first.results[0].ratios
    groups = [
        [one.group, str(one.queries), str(one.second), str(one.first), f"{one.difference:+.4f}"]
        for one in ([] if np.isnan(ratios).all() else count_wins(result, ratios))
        if one.queries
    ]
    wins = [
        (one.name, len(rows), [_difference(result, row, first, second) for row in rows[:MOST_ROWS]])
        for one, rows in ((second, result.gains), (first, result.losses))
    ]
    body = render(
        "pair.html",
        first=first.name,
        second=second.name,
        result=result,
        chart=_sorted_differences(result),
        groups=groups,
        annotate=ANNOTATE,
        wins=wins,
        open_rows=OPEN_ROWS,
    )
    return Section("pair", f"{second.name} beside {first.name}, query by query", body)


def _query(results: Sequence[SeedResults], row: int, profiles: Mapping[str, Profile]) -> dict[str, Any]:
    some = results[0]
    id, video = some.ranked.queries[row], some.videos[row]
    others = dict.fromkeys(one.first[row] for one in results if one.first[row] not in ("", video))
    overlaps = [one.overlaps[row] for one in results if not math.isnan(one.overlaps[row])]
    text = shorten(some.texts[row])
    return {
        "id": id,
        "text": text,
        "video": video,
        "ranks": ", ".join(f"{one.rank[row]:g}" for one in results),
        "others": ", ".join(others),
        "overlap": f"{np.mean(overlaps):.2f}" if overlaps else "",
        "chart": _profile(profiles[id], text) if id in profiles else "",
        "spans": _spans(profiles[id]) if id in profiles else "",
    }


def _profile(profile: Profile, text: str) -> Markup:
    found = (profile.found,) if profile.found else ()
    lanes = [Lane(name, style, spans) for name, style, spans in (("annotated", 2, profile.moments), ("found", 1, found)) if spans]
    return profile_chart(
        profile.relevance,
        profile.edges,
        title=f"relevance over the video: {text}",
        x="seconds" if profile.timed else "frames, whose times are not known",
        y="relevance",
        lanes=lanes if profile.timed else [],
    )


def _spans(profile: Profile) -> str:
    parts = [f"annotated {_times(profile.moments)}" if profile.moments else "no moment is annotated"]
    if profile.found:
        parts.append(f"found {_times([profile.found])}")
    if profile.found and profile.moments:
        parts.append(f"IoU {max(overlap(profile.found, moment) for moment in profile.moments):.2f}")
    return "; ".join(parts)


def _times(spans: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{start:.1f} s to {end:.1f} s" for start, end in spans)


def _sorted_differences(result: PairwiseResult) -> Markup:
    rows = np.unique(np.linspace(0, len(result.order) - 1, min(POINTS, len(result.order))).astype(int)).tolist()
    values = [float(result.difference[result.order[row]]) for row in rows]
    places = [float(row + 1) for row in rows]
    curves = [Curve("difference", places, values, 0), Curve("none", [places[0], places[-1]], [0.0, 0.0], 7)]
    x, y = "queries, sorted by difference", "1 / rank, difference"
    return line_chart(curves, title="sorted differences in 1 / rank", x=x, y=y)


def _difference(result: PairwiseResult, row: int, first: ReportedSystem, second: ReportedSystem) -> list[str]:
    some = first.results[0]
    ranks = [", ".join(f"{seed.rank[row]:g}" for seed in one.results) for one in (first, second)]
    return [shorten(some.texts[row]), some.videos[row], *ranks, f"{result.difference[row]:+.3f}"]
