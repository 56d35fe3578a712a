"""The demo's page: what it shows, and that names and captions stay text."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from tiny_videos import colourful, write_video

from prvr.datasets import Caption
from prvr.demo.page import Answer, write_page
from prvr.evaluate.evaluation import Evaluation
from prvr.evaluate.metrics import retrieval
from prvr.index.moments import Span
from prvr.search.hits import Hit
from tests.report.test_build import EVIL, Page

UNKNOWN = np.full(2, math.nan)
EVALUATION = Evaluation(
    retrieval(np.eye(2), np.eye(2, dtype=bool)), None, np.eye(2), ("a", "b"), ("v", "w"), UNKNOWN, UNKNOWN, UNKNOWN
)
WORSE = replace(EVALUATION, retrieval=retrieval(np.array([[0.0, 1], [0, 1]]), np.eye(2, dtype=bool)))


def page_of(folder: Path, *captions: Caption, name: str = "student") -> str:
    write_video(folder / "v.mp4", colourful(seconds=4))
    record = {"epoch": 0, "losses": {name: 0.5}, "dev": {"sumr": 100.0}}
    (folder / "history.jsonl").write_text(json.dumps(record) + "\n")
    hits = [Hit("v.mp4", 0.9, (Span(1.0, 3.0, 0.9),)), Hit("w.mp4", 0.5), Hit(EVIL, 0.1)]
    answers = [Answer(caption, hits, np.array([0.1, 0.9]), [0.0, 2.0, 4.0]) for caption in captions]
    (folder / "w.mp4").write_bytes((folder / "v.mp4").read_bytes())
    figures = {"teacher": [EVALUATION], name: [EVALUATION, WORSE]}
    return write_page(figures, {name: ("a branch",)}, {name: [folder]}, answers, videos=folder)


def test_names_and_captions_are_shown_and_not_run(tmp_path: Path) -> None:
    text = page_of(tmp_path, Caption("1", EVIL, EVIL), name=EVIL)
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "use", "image"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    pictures = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in pictures)
    shown = "".join(page.texts)
    # As a model, as a loss, as a caption, as the video it was written for, and among the further hits.
    assert shown.count(EVIL) >= 5
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "http:" not in text
    assert "https:" not in text


def test_each_query_says_whether_its_best_hit_is_right(tmp_path: Path) -> None:
    captions = (
        Caption("1", "v.mp4", "right", 1.0, 3.0),
        Caption("2", "w.mp4", "wrong", 0.0, 1.0),
        Caption("3", "v.mp4", "no times"),
    )
    text = " ".join("".join(Page(page_of(tmp_path, *captions)).texts).split())
    right, wrong, unknown = text.split("Best of 3: ")[1:]
    assert right.startswith("v.mp4 from 1.0 s to 3.0 s, score 0.900. The right video; the moment is 1.0 s to 3.0 s, IoU 1.00.")
    assert "The caption was written for w.mp4, which is at rank 2." in wrong
    assert "The right video. " in unknown
    assert f"Further hits: w.mp4 (0.500), {' '.join(EVIL.split())} (0.100)" in right


def test_frames_in_the_found_span_are_marked(tmp_path: Path) -> None:
    page = Page(page_of(tmp_path, Caption("1", "v.mp4", "a")))
    figures = [attributes.get("class") for tag, attributes in page.tags if tag == "figure"]
    # Two charts of training; six frames from 0 to 5 s, of which those from 1 to 3 s are inside; the chart of the query.
    assert figures == [None, None, None, "inside", "inside", "inside", None, None, None]


def test_a_wrong_hit_is_shown_beside_the_right_moment(tmp_path: Path) -> None:
    page = Page(page_of(tmp_path, Caption("1", "w.mp4", "a", 0.0, 1.0)))
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 12
    assert "The moment in w.mp4, 0.0 s to 1.0 s:" in "".join(page.texts)


def test_seeds_are_counted_and_their_mean_and_deviation_shown(tmp_path: Path) -> None:
    page = Page(page_of(tmp_path, Caption("1", "v.mp4", "a")))
    _, teacher, student = page.tables[""][0]
    assert teacher[:3] == ["teacher", "1", "100.0"]
    # R@1 of 100 and 50, and the deviation of a sample of two; no moments, so no figure of them.
    assert student[1:3] + student[-1:] == ["2", "75.0 ± 35.4", ""]
    assert student[0].startswith("student")
    assert "a branch" in student[0]
