"""The answer to a question as JSON values: what `prvr search --json` prints, from this process or from a running service."""

from __future__ import annotations

from typing import Any

import numpy as np

from prvr.search.asking import VideoSearch
from prvr.search.hits import first_of_weak
from prvr.search.question import Question, parse_moment
from prvr.search.senses import ANY
from prvr.search.text_matches import KINDS_OF


def answer(
    gallery: VideoSearch, question: dict[str, Any], settings: dict[str, Any], *, image: np.ndarray | None = None
) -> dict[str, Any]:
    """Returns the question, what was not read of it, what the hits are measured in, how many of the last
    ones are weak (None where that is not known), and the hits.

    Args:
        question: the fields of `Question` as JSON values, moments as VIDEO@SECONDS; all are optional, and `image` is apart.
        settings: of `VideoSearch.search`; with "moments", of `VideoSearch.search_moments`; with "curve", of
            `Hit.as_dict`.

    Raises:
        SettingError, ModelError: as these.
    """
    text, prompt = question.get("text", ""), question.get("prompt")
    sentences = {name: tuple(question.get(name, ())) for name in ("also", "then", "without")}
    like = parse_moment(question["like"]) if question.get("like") else None
    more, less = (tuple(parse_moment(one) for one in question.get(name, ())) for name in ("more", "less"))
    asked = Question(text, **sentences, image=image, like=like, more=more, less=less, prompt=prompt)
    settings = dict(settings)
    moments, rescore, curve = (settings.pop(name, False) for name in ("moments", "rescore", "curve"))
    sense = settings.setdefault("sense", ANY)
    hits = gallery.search_moments(asked, **settings) if moments else gallery.search(asked, **settings, rescore=rescore)
    note = gallery.note_on(asked)
    is_calibrated = (
        asked.is_sentence and not moments and sense not in KINDS_OF and gallery.calibration(rescore=rescore) is not None
    )
    given = {name: list(value) for name, value in sentences.items() if value}
    noted = {"note": note} if note else {}
    measure = "probability" if is_calibrated else "score"
    known = any(hit.weak is not None for hit in hits)
    counted = {"measure": measure, "weak_at_end": len(hits) - first_of_weak(hits) if known else None}
    shown = [{**hit.as_dict(curve=curve), "file": str(gallery.videos / hit.video)} for hit in hits]
    return {"query": text, **given, **noted, **counted, "hits": shown}
