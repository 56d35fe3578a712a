"""The sections that read: the best and the worst queries of a system, and two systems query by query."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from prvr.evaluate.metrics import overlap
from prvr.report.charts import Curve, line_chart, profile_chart
from prvr.report.page import ANNOTATE, Section, figure, folded, listed, note, shortened, table
from prvr.report.queries import Duel, Profile, duel, extremes, shares
from prvr.report.systems import Answers, Contender

SHOWN = 5
LISTED, FOLDED = 10, 60
POINTS = 400


def chosen(one: Contender) -> list[str]:
    """The ids of the queries that `best_and_worst` shows."""
    best, worst = extremes(one.answers, SHOWN)
    return [one.answers[0].ranked.queries[row] for row in (*best, *worst)]


def best_and_worst(one: Contender, profiles: Mapping[str, Profile] | None, *, lacking: str = "") -> Section:
    """The best and the worst queries with the profiles of their own videos; `lacking` says why there are none."""
    best, worst = extremes(one.answers, SHOWN)
    rule = (
        "By mean rank over seeds, then by the IoU of the found span in the right video, then by id. The profile is how relevant "
        "each stretch of the right video is to the query, in the first seed."
    )
    missing = [f"No frame profiles of {listed([one.name])}: {lacking}."] if profiles is None else []
    body = note(rule)
    for title, rows in (("Worst", worst), ("Best", best)):
        shown = "".join(_query(one.answers, row, profiles or {}) for row in rows)
        body += f"<h3>{title}</h3>{shown}" if rows else ""
    return Section("queries", f"Best and worst queries of {one.name}", body, tuple(missing))


def side_by_side(first: Contender, second: Contender) -> Section:
    """Two systems query by query: who wins how often and where, and the queries by difference."""
    answers = first.answers[0]
    of = duel([one.ranked for one in first.answers], [one.ranked for one in second.answers])
    wins, losses, count = len(of.gains), len(of.losses), len(of.difference)
    told = (
        f"{second.name} ranks {wins} of {count} queries better than {first.name}, {losses} worse, {count - wins - losses} the "
        f"same; 1 / rank, mean over seeds, differs by {of.difference.mean():+.4f} in the mean."
    )
    body = f"<p>{escape(told)}</p>{_sorted_differences(of, first, second)}{_where(of, answers, first, second)}"
    for rows, title in ((of.gains, f"Where {second.name} wins"), (of.losses, f"Where {first.name} wins")):
        body += f"<h3>{escape(title)}</h3>{_differences(of, rows, first, second)}"
    return Section("pair", f"{second.name} beside {first.name}, query by query", body)


def _query(answers: Sequence[Answers], row: int, profiles: Mapping[str, Profile]) -> str:
    some = answers[0]
    id, video = some.ranked.queries[row], some.videos[row]
    ranks = ", ".join(f"{one.rank[row]:g}" for one in answers)
    others = dict.fromkeys(one.first[row] for one in answers if one.first[row] not in ("", video))
    instead = f"; first instead: {', '.join(others)}" if others else ""
    known = [one.overlaps[row] for one in answers if not math.isnan(one.overlaps[row])]
    agreed = f"; IoU of the found span, mean over seeds, {np.mean(known):.2f}" if known else ""
    line = f"{id}, in {video}: rank {ranks}{instead}{agreed}"
    profile = _profile(profiles[id], some.texts[row]) if id in profiles else ""
    return f'<div class="query"><p>“{escape(shortened(some.texts[row]))}”</p>{note(line)}{profile}</div>'


def _profile(of: Profile, text: str) -> str:
    lanes = [(name, style, spans) for name, style, spans in (("annotated", 2, of.moments), ("found", 1, _found(of))) if spans]
    unit = "seconds" if of.timed else "part of the video; its frames have no times, so no span is known"
    chart = profile_chart(
        of.relevance, of.edges, title=f"relevance over the video: {shortened(text)}", x=unit, lanes=lanes if of.timed else []
    )
    told = [f"annotated {_times(of.moments)}" if of.moments else "no moment is annotated"]
    if of.found:
        told.append(f"found {_times(_found(of))}")
    if of.found and of.moments:
        told.append(f"IoU {max(overlap(of.found, true) for true in of.moments):.2f}")
    return figure(chart, "; ".join(told))


def _found(of: Profile) -> tuple[tuple[float, float], ...]:
    return (of.found,) if of.found else ()


def _times(spans: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{start:.1f} s to {end:.1f} s" for start, end in spans)


def _sorted_differences(of: Duel, first: Contender, second: Contender) -> str:
    rows = np.unique(np.linspace(0, len(of.order) - 1, min(POINTS, len(of.order))).astype(int)).tolist()
    values = [float(of.difference[of.order[row]]) for row in rows]
    places = [float(row + 1) for row in rows]
    drawn = [Curve("difference", places, values, 0), Curve("none", [places[0], places[-1]], [0.0, 0.0], 7)]
    x = "queries, sorted by difference"
    chart = line_chart(drawn, title="sorted differences in 1 / rank", x=x, y="1 / rank, difference", width=940.0)
    return figure(
        chart, f"1 / rank of {second.name} minus that of {first.name}, each query, mean over seeds: above 0 the former wins."
    )


def _where(of: Duel, answers: Answers, first: Contender, second: Contender) -> str:
    if np.isnan(answers.ratios).all():
        return note(f"By moment-to-video ratio: not known of these runs; {ANNOTATE}.")
    rows = [
        [part.name, str(part.queries), str(part.second), str(part.first), f"{part.difference:+.4f}"]
        for part in shares(of, answers.ratios)
        if part.queries
    ]
    return table(["moment / video", "queries", f"{second.name} wins", f"{first.name} wins", "1 / rank, difference"], rows)


def _differences(of: Duel, rows: Sequence[int], first: Contender, second: Contender) -> str:
    if not rows:
        return note("On no query.")
    lines = [_difference(of, row, first, second) for row in rows[:FOLDED]]
    head = ["query", "video", f"rank, {first.name}", f"rank, {second.name}", "1 / rank, difference"]
    more = lines[LISTED:]
    rest = folded(f"{len(more)} more, of {len(rows)}", table(head, more, text=(0, 1))) if more else ""
    return table(head, lines[:LISTED], text=(0, 1)) + rest


def _difference(of: Duel, row: int, first: Contender, second: Contender) -> list[str]:
    some = first.answers[0]
    ranks = [", ".join(f"{answers.rank[row]:g}" for answers in one.answers) for one in (first, second)]
    return [shortened(some.texts[row]), some.videos[row], *ranks, f"{of.difference[row]:+.3f}"]
