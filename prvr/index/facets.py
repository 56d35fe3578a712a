"""What the conditions of `prvr.index.conditions` can choose from: folders, and the range of durations and dates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

# Of the folders; of more, those nearest to the top.
MOST_FOLDERS = 1000


@dataclass(frozen=True)
class Facets:
    """The number of videos in each folder or below it, by folder; the shortest and longest duration in seconds; the first and
    last date, as days in UTC. Without a known duration or date, that range is None."""

    folders: Mapping[str, int]
    durations: tuple[float, float] | None
    dates: tuple[str, str] | None


def facets_of(abouts: Mapping[str, Mapping[str, Any]]) -> Facets:
    """Returns the facets of videos.

    Args:
        abouts: the fields of every video, by id.
    """
    counts: Counter[str] = Counter()
    for id, about in abouts.items():
        # A video with copies counts once in each folder, as a condition finds it.
        counts.update({str(above) for path in (id, *about.get("copies", ())) for above in PurePosixPath(path).parents} - {"."})
    nearest = sorted(counts, key=lambda folder: (folder.count("/"), folder))[:MOST_FOLDERS]
    durations = [float(about["duration"]) for about in abouts.values() if about.get("duration") is not None]
    dates = [str(about["date"])[:10] for about in abouts.values() if about.get("date")]
    return Facets(
        {folder: counts[folder] for folder in sorted(nearest)},
        (min(durations), max(durations)) if durations else None,
        (min(dates), max(dates)) if dates else None,
    )
