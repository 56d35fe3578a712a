"""The index in Qdrant, over HTTP: what comes back, what the server filters, and what is said where something is wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.index.test_conditions import VIDEOS, WITHIN

pytest.importorskip("qdrant_client")

import qdrant_client
from httpx import Headers
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_client.local.payload_filters import check_filter
from qdrant_server import url_for
from tiny_encoders import make_textual, make_visual
from tiny_videos import plain, write_video

from prvr.cli import main
from prvr.errors import DataError, MissingExtra, ModelError, SettingError
from prvr.index.conditions import parse, select
from prvr.index.contract import Entry, Header
from prvr.index.qdrant import QdrantIndex
from prvr.index.qdrant.filters import filter_for, terms, unsupported_kinds
from prvr.index.qdrant.points import point_id
from prvr.index.qdrant.server import connect, qdrant_errors
from prvr.index.stores import make_store, open_store
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search import copy_index, index_folder, open_index, zero_shot

COLUMNS = 6
HEADER = Header("0123456789abcdef", "float16", "videos")
MODEL = ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS).eval()
(FIELD,) = MODEL.embedding_fields
QUERY = (torch.linspace(-1, 1, COLUMNS)[None],)


def entry(id: str, seed: int, **about: Any) -> Entry:
    rows = np.random.default_rng(seed).normal(size=(4, COLUMNS)).astype(np.float16)
    return Entry(id, (rows,), (4,), (0.0, 0.1, 0.2, 0.3, 1 / 3), about)


def made(path: Path) -> QdrantIndex:
    index = make_store(url_for(path), MODEL, HEADER)
    assert isinstance(index, QdrantIndex)
    return index


def test_every_float16_comes_back_to_the_bit(tmp_path: Path) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    rows = np.random.default_rng(0).permutation(np.append(every, np.zeros(COLUMNS - len(every) % COLUMNS, np.float16)))
    rows = np.concatenate([rows.reshape(-1, COLUMNS), np.zeros((1, COLUMNS), np.float16)])
    strange = Entry("strange/ä \udcff.mp4", (rows,), (len(rows),), None, {"tags": ["é", None, 1.5], "file": {"ns": 2**62}})
    made(tmp_path).add([strange])
    index = open_store(url_for(tmp_path), MODEL)
    assert (index.header, index.ids, strange.video in index) == (HEADER, [strange.video], True)
    (back,) = index.fetch([strange.video]).values()
    assert (back.windows, back.edges, back.about) == (strange.windows, None, strange.about)
    np.testing.assert_array_equal(back.fields[0], rows)
    assert index.verify() == {}
    assert index.about() == {strange.video: strange.about}


def test_a_row_of_zeros_scores_zero(tmp_path: Path) -> None:
    index = made(tmp_path)
    index.add([Entry("zero", (np.zeros((2, COLUMNS), np.float32),), (2,)), Entry("below", (-QUERY[0].numpy(),), (1,))])
    found = index.search(QUERY, 2)[0]
    assert [hit.video for hit in found] == ["zero", "below"]
    assert [hit.score for hit in found] == pytest.approx([0, -1], abs=1e-3)


def test_of_many_equal_scores_the_first_by_name_are_found(tmp_path: Path) -> None:
    index, names = made(tmp_path), [f"{n:03d}.mp4" for n in np.random.default_rng(0).permutation(60)]
    index.add([Entry(name, entry("", 1).fields, (4,)) for name in names])
    assert [hit.video for hit in index.search(QUERY, 3)[0]] == sorted(names)[:3]


def test_long_additions_go_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.index.qdrant.collection.NUMBERS_AT_ONCE", 10 * COLUMNS)
    monkeypatch.setattr("prvr.index.qdrant.collection.POINTS_AT_ONCE", 3)
    monkeypatch.setattr("prvr.index.qdrant.collection.WHOLE_POINTS_AT_ONCE", 2)
    index, names = made(tmp_path), [f"{n}.mp4" for n in range(7)]
    index.add([entry(name, n) for n, name in enumerate(names)])
    assert (sorted(index.ids), list(index.fetch(names[::-1])), index.verify()) == (names, names[::-1], {})
    index.delete(names[1:])
    assert index.ids == names[:1]


# Conditions

ABOUT: dict[str, dict[str, Any]] = {
    **VIDEOS,
    "odd/e.mp4": {"duration": float("inf"), "a.b[0]": 7, "tags": [3, "2026-02-01T08:00:00", None], "note": {"x": 1}},
    "odd/f.mp4": {"take": -1.5, "shot": "2026-01-31T23:59:59"},
    "odd/g.mp4": {"take": 2, "shot": "2026-02-01T00:00:00"},
}
FOLDERS = ["folder=odd", "folder!=odd", "folder=trips/alps/", "folder=trip", "folder=.", "folder!=."]
EQUAL = [
    *("camera=north", "camera!=north", "camera=null", "camera!=null", "camera=a = b", "take=2", "take!=2", "take!=many"),
    *("live=TRUE", "live!=true", "tags=dog", "tags!=dog", "tags=3", "tags=2026-02", "date=2026-01", "date!=2026-02-01"),
    *("date=2026-01-31T23:59:59+00:00", "a.b[0]=7.0", "shot=2026-02-01"),
]
ORDER = [
    "a.b[0]>6",
    "a.b[0]<=6",
    "a.b[0]>many",
    *(f"shot{sign}{day}" for sign in ("<", "<=", ">", ">=") for day in ("2026", "2026-02")),
]
HERE = ["duration>60", "duration!=5", "take<10", "take>=2", "camera>a", "tags<x", "live>=true", "shot>2026-02-01T00", "shot>x"]


@pytest.mark.parametrize("text", [*FOLDERS, *EQUAL, *ORDER, *HERE])
def test_the_server_and_the_condition_accept_the_same(text: str) -> None:
    """By the client's own reading of filters; which are served is part of what is tested."""
    condition = parse(text)
    kinds = {kind for about in (terms(id, known)["kinds"] for id, known in ABOUT.items()) for kind in about}
    can = not any(json.dumps([condition.field, kind]) in kinds for kind in unsupported_kinds(condition))
    assert can == (text not in HERE)
    if can:
        among = models.Filter.model_validate(filter_for(condition))
        found = [id for id, known in ABOUT.items() if check_filter(among, terms(id, known), id, {})]
        assert found == select(ABOUT, [condition])


def test_fields_within_fields_are_compared_here(tmp_path: Path) -> None:
    index = made(tmp_path)
    index.add([entry(id, n, **about) for n, (id, about) in enumerate(WITHIN.items())])
    for text in ("gps.lat>1", "gps.place.name=Bern", "a.b>=1", "a.b=2", "gps!=1", "people=y", "crew!=z"):
        found = [hit.video for hit in index.search(QUERY, 9, where=[parse(text)])[0]]
        assert sorted(found) == select(WITHIN, [parse(text)])
    index.delete(["c.mp4"])
    for text in ("gps=1", "crew=z"):
        with pytest.raises(SettingError, match="holds JSON objects, which are not compared"):
            index.search(QUERY, 9, where=[parse(text)])


def test_a_search_among_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, read = made(tmp_path), []
    index.add([entry(id, n, **about) for n, (id, about) in enumerate(VIDEOS.items())])
    real = QdrantIndex.about
    monkeypatch.setattr(QdrantIndex, "about", lambda self: read.append(1) or real(self))
    for texts, by_server in (
        (["folder=trips", "duration>=60"], True),
        (["date<2026-02"], True),
        (["camera>a", "duration<60"], False),
    ):
        among, expected = [parse(text) for text in texts], select(VIDEOS, [parse(text) for text in texts])
        assert sorted(hit.video for hit in index.search(QUERY, 9, where=among)[0]) == sorted(expected) != []
        assert index.count(where=among) == len(expected)
        assert (not read) == by_server
    with pytest.raises(SettingError, match="no video has a field 'camra'; did you mean 'camera'"):
        index.search(QUERY, 3, where=[parse("camra=north")])
    assert index.search(QUERY, 3, where=[parse("camera=nobody")]) == [[]]


# What is refused


def test_damage_is_named_and_can_be_taken_out(tmp_path: Path) -> None:
    index = made(tmp_path)
    index.add([entry(f"{n}.mp4", n) for n in range(3)])
    client, collection = connect(index.place)
    client.update_vectors(collection, [models.PointVectors(id=point_id("1.mp4"), vector={FIELD: [[0.5] * COLUMNS] * 4})])
    remedy = rf"the point of '1\.mp4' in {index.place} is damaged; remove it with: prvr index verify {index.place} --drop"
    with pytest.raises(ModelError, match=remedy):
        index.fetch(["0.mp4", "1.mp4"])
    assert list(index.verify()) == ["1.mp4"]
    index.delete(["1.mp4"])
    assert index.verify() == {}


def test_a_collection_of_something_else_or_of_another_format(tmp_path: Path) -> None:
    client, collection = connect(url_for(tmp_path))
    client.create_collection(collection, vectors_config={})
    with pytest.raises(ModelError, match="is a collection of something else, or its server is older than"):
        open_store(url_for(tmp_path), MODEL)
    client.update_collection(collection, metadata={"prvr": json.dumps({"format": 3})})
    with pytest.raises(ModelError, match="has format 3, this prvr reads 1 and 2"):
        open_store(url_for(tmp_path), MODEL)


def test_models_that_qdrant_cannot_hold(tmp_path: Path) -> None:
    model = ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS)
    model.score_weights = None
    with pytest.raises(
        ModelError, match="ZeroShot does not score by a weighted sum of best cosines, the only score that qdrant://"
    ):
        make_store(url_for(tmp_path), model, HEADER)
    with pytest.raises(ModelError, match=r"no index in qdrant://.*; copy one there: prvr index copy INDEX"):
        open_store(url_for(tmp_path), MODEL)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("qdrant://localhost", "write qdrant://HOST:PORT/COLLECTION"),
        ("qdrant:///gallery", "write qdrant://HOST:PORT/COLLECTION"),
        ("qdrant://localhost/a/b", "write qdrant://HOST:PORT/COLLECTION"),
        ("qdrant://localhost:many/a", "its port is not a number"),
        ("qdrant://me:secret@localhost/a", r"put the server's key into \$QDRANT_API_KEY"),
        ("qdrant://localhost/a?api_key=secret", r"put the server's key into \$QDRANT_API_KEY"),
        ("qdrnt://localhost/a", "no index is known by qdrnt://; did you mean qdrant://[?] known are "),
    ],
)
def test_what_is_no_url(url: str, line: str) -> None:
    with pytest.raises(SettingError, match=line) as told:
        open_store(url, MODEL)
    assert "secret" not in str(told.value)


def test_no_server_there() -> None:
    with pytest.raises(DataError, match=r"no answer from Qdrant at qdrant://127\.0\.0\.1:9/a: .*check that the server runs"):
        open_store("qdrant://127.0.0.1:9/a", MODEL)


def test_what_a_server_refuses(tmp_path: Path) -> None:
    index = made(tmp_path)
    client, collection = connect(index.place)
    client.delete_collection(collection)
    with pytest.raises(DataError, match=rf"^Qdrant refuses at {index.place}: .*[nN]ot found.*$"):
        index.count()
    with pytest.raises(DataError, match=r"it wants another key; put it into \$QDRANT_API_KEY"), qdrant_errors(qdrant_client, "x"):
        raise UnexpectedResponse(401, "Unauthorized", b"", Headers())
    with pytest.raises(DataError, match="Qdrant refuses at x: 413 Too Large"), qdrant_errors(qdrant_client, "x"):
        raise UnexpectedResponse(413, "Too Large", b"<html>", Headers())


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtra, match=r"pip install 'prvr\[qdrant\]'"):
        open_store("qdrant://localhost/a", MODEL)


def test_a_key_goes_into_the_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    client, _ = connect("qdrant+https://localhost/a")
    remote = client._client
    assert (remote.rest_uri, remote._rest_headers["api-key"]) == ("https://localhost:6333", "secret")


# From a folder to the server, and asked there


def test_a_folder_is_copied_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, videos, url = tmp_path / "gallery", tmp_path / "videos", url_for(tmp_path)
    videos.mkdir()
    for colour in ("red", "green", "blue"):
        write_video(videos / f"{colour}.mp4", [(100 * n, plain(colour)) for n in range(20)])
    index_folder(videos, gallery, zero_shot(make_textual(make_visual(tmp_path / "tiny", size=[8, 12])), rate=2.0))

    def said(*command: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["prvr", *map(str, command)])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    assert said("index", "copy", gallery, url) == f"{url}: 3 written, 0 kept, 0 dropped; all 3 are the same\n"
    assert sorted(copy_index(gallery, url).kept) == ["blue.mp4", "green.mp4", "red.mp4"]
    ours, theirs = open_index(gallery), open_index(url, model=gallery / "model")
    assert theirs.videos == ours.videos
    for hits in zip(ours.search("a red picture"), theirs.search("a red picture"), strict=True):
        here, there = (json.loads(json.dumps(hit.as_dict())) for hit in hits)
        assert there.pop("score") == pytest.approx(here.pop("score"), abs=1e-6)
        # An index at a URL has no reference to be strong or weak by.
        assert (there["strength"], there["weak"]) == (None, None)
        assert there == {**here, "strength": None, "weak": None}
    assert said("search", url, "a red picture", "--model", gallery / "model", "-k", "2").count("\n") == 2
    assert said("index", "verify", url, "--model", gallery / "model") == f"{url}: 3 videos, 0 damaged\n"
    back = tmp_path / "back"
    assert copy_index(url, back, model=gallery / "model").written == ("blue.mp4", "green.mp4", "red.mp4")
    # Nor has a copy from there, until `prvr index` measures it.
    unmeasured = [replace(hit, strength=None) for hit in ours.search("a red picture")]
    assert open_index(back).search("a red picture") == unmeasured
    with pytest.raises(ModelError, match="does not hold its model"):
        open_index(url)
