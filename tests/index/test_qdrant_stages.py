"""Two stages on a Qdrant server: by the client's imitation over HTTP, and by the server's own core (`qdrant-edge-py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

from commands import Prvr, says
from qdrant_client import models
from qdrant_server import url_for
from tiny_encoders import make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video

from benchmarks.qdrant_edge import EdgeClient
from prvr.errors import DataError, ModelError
from prvr.index import measure
from prvr.index.conditions import parse, select
from prvr.index.contract import Entry, Header, require_approximate
from prvr.index.disk import DiskIndex
from prvr.index.encode import add_videos
from prvr.index.measure import choose_setting, measure_recall
from prvr.index.qdrant import QdrantIndex
from prvr.index.qdrant.points import point_id
from prvr.index.qdrant.server import FORMAT, NOTE, OLDER_FORMAT, SETTING, STAGE, connect
from prvr.index.setting import Setting
from prvr.index.stores import make_store, open_store
from prvr.methods.contract import Embeddings
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search import MODEL, copy_index, index_folder, verify_index, zero_shot
from tests.index.test_contract import MODELS, assert_serves, gallery
from tests.index.test_qdrant import ABOUT, EQUAL, FOLDERS, ORDER

HEADER = Header("0123456789abcdef", "float16", "videos")
STUDENT = MODELS["two branches"]()
ALL, FEW = Setting(1.0), Setting(0.1)
VIDEOS = 60


def queries(count: int = 6) -> Embeddings:
    random = np.random.default_rng(1)
    return tuple(torch.from_numpy(random.normal(size=(count, 16)).astype(np.float32)) for _ in range(2))


def entries(count: int = VIDEOS) -> list[Entry]:
    """Videos of four scenes each, the two fields alike."""
    random, made = np.random.default_rng(0), []
    for number in range(count):
        scenes = np.repeat(random.normal(size=(4, 16)), 6, axis=0)
        one, two = (scenes + 0.3 * random.normal(size=scenes.shape) for _ in range(2))
        made.append(Entry(f"{number:03}.mp4", (one.astype(np.float16), two.astype(np.float16)), (24,), None, {"n": number}))
    return made


def in_core(path: Path) -> tuple[QdrantIndex, EdgeClient]:
    client = EdgeClient(path / "core")
    return QdrantIndex.make(client, "gallery", STUDENT, HEADER, place="qdrant-edge"), client


def filled(kind: str, path: Path) -> QdrantIndex:
    if kind == "imitation":
        index = make_store(url_for(path), STUDENT, HEADER)
        assert isinstance(index, QdrantIndex)
        index.add(entries())
        return index
    index, client = in_core(path)
    index.add(entries())
    client.optimise("gallery")
    return index


everywhere = pytest.mark.parametrize("kind", ["imitation", "core"])


@everywhere
def test_the_candidates_of_few_rows_are_scored_exactly(kind: str, tmp_path: Path) -> None:
    index, one = filled(kind, tmp_path), DiskIndex.make(tmp_path / "one", STUDENT, HEADER)
    one.add(entries())
    exact = index.search(queries(), 10)
    # float16 and the same sums everywhere: the scores are equal, not only near.
    assert exact == one.search(queries(), 10) == index.search_with_setting(queries(), 10, setting=ALL)
    found = index.search_with_setting(queries(), 10, setting=FEW)
    scores = [{hit.video: hit.score for hit in row} for row in one.search(queries(), VIDEOS)]
    shares = []
    for best, row, known in zip(exact, found, scores, strict=True):
        assert len(row) == 10
        assert [hit.score for hit in row] == sorted((known[hit.video] for hit in row), reverse=True)
        shares.append(len({hit.video for hit in best} & {hit.video for hit in row}) / 10)
    # 18 of 60 videos are scored: 0.3 by chance.
    assert 0.6 < np.mean(shares) < 1
    where = [parse("n<30"), parse("n!=7")]
    assert index._search(queries(3), 5, where, lambda count: count) == index.search(queries(3), 5, where=where)
    assert index.verify() == {}


def test_the_core_does_what_every_index_does(tmp_path: Path) -> None:
    """All but the conditions, which the next test compares."""
    index, _ = in_core(tmp_path)
    videos = gallery()
    add_videos(index, videos, videos)
    assert_serves(index, videos, tolerance=2e-3)
    index.delete(["03.mp4", "never there"])
    del videos["03.mp4"]
    videos["05.mp4"] = videos["06.mp4"]
    add_videos(index, ["05.mp4"], videos)
    assert_serves(index, videos, tolerance=2e-3)


def test_the_core_filters_as_conditions_do(tmp_path: Path) -> None:
    index, _ = in_core(tmp_path)
    rows = entries(1)[0].fields
    index.add([Entry(id, rows, (24,), None, about) for id, about in ABOUT.items()])
    for text in (*FOLDERS, *EQUAL, *ORDER):
        assert index.count(where=[parse(text)]) == len(select(ABOUT, [parse(text)])), text


@everywhere
def test_a_setting_is_measured_kept_and_forgotten(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(kind, tmp_path)
    monkeypatch.setattr(measure, "SETTINGS", (FEW, ALL))
    # The fastest is not the same in every run: what is kept is.
    monkeypatch.setattr(measure, "fastest", lambda measured, least_recall: measured[-1])
    remedy = "prvr index verify .* --queries FILE --approximate"
    with pytest.raises(ModelError, match=f"has no measured setting for an approximate search; .*{remedy}"):
        index.search_approximately(queries(1), 5)
    trial = choose_setting(require_approximate(index), queries(), least_recall=0.99)
    assert (trial.measured[0].recall < 1, trial.measured[1].recall) == (True, 1)
    assert index.search_approximately(queries(), 5) == index.search(queries(), 5)
    assert index.search_approximately(queries(1), 5, where=[parse("n>=50")])[0][0].entry.about["n"] >= 50
    assert measure_recall(index, queries(3)).codes is None
    index.add([Entry(f"new{n}.mp4", entries(1)[0].fields, (24,)) for n in range(VIDEOS // 4 + 1)])
    with pytest.raises(ModelError, match=f"16 videos in .* are newer than the setting .* measured with 60; .*{remedy}"):
        index.search_approximately(queries(1), 5)
    index.forget_setting()
    with pytest.raises(ModelError, match="no measured setting"):
        index.search_approximately(queries(1), 5)


# What is refused


def test_a_collection_of_an_earlier_version_is_searched_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = url_for(tmp_path)
    make_store(url, STUDENT, HEADER).close()
    client, name = connect(url)
    fields = client.get_collection(name).config.params.vectors
    client.delete_collection(name)
    note = {"format": OLDER_FORMAT, "model": HEADER.model, "dtype": "float16", "videos": "videos"}
    of_fields = {field: params for field, params in fields.items() if field != STAGE}
    client.create_collection(name, vectors_config=of_fields, metadata={NOTE: json.dumps(note)})
    index = make_store(url, STUDENT, HEADER)
    index.add(entries(12))
    assert [hit.video for hit in index.search(queries(1), 12)[0]] != []
    assert index.verify() == {}
    with pytest.raises(
        ModelError, match=r"was written by an earlier prvr, without the rows of a first stage; copy the index to a"
    ):
        index.search_approximately(queries(1), 3)
    # Refused before anything is read or measured, which takes hours on a large server.
    (tmp_path / "queries.txt").write_text("\n".join(map(str, range(20))))
    monkeypatch.setattr("prvr.search.verifying.store_of", lambda *_, **__: (None, index))
    monkeypatch.setattr(QdrantIndex, "verify", lambda _: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="was written by an earlier prvr"):
        verify_index(url, queries=tmp_path / "queries.txt", least_recall=0.9)


def test_other_columns_than_the_models(tmp_path: Path) -> None:
    url = url_for(tmp_path)
    make_store(url, STUDENT, HEADER).close()
    wider = ZeroShot(ZeroShotConfig(), frame_columns=8, word_columns=8).eval()
    with pytest.raises(ModelError, match=rf"{url} has no vectors teacher, and the model's embeddings have 8; copy to"):
        open_store(url, wider)
    client, name = connect(url)
    params = client.get_collection(name).config.params.vectors
    (field, _), *_ = params.items()
    client.delete_collection(name)
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    other = {field: models.VectorParams(size=9, distance=models.Distance.DOT, multivector_config=multi)}
    note = {"format": FORMAT, "model": HEADER.model, "dtype": "float16", "videos": "videos"}
    client.create_collection(name, vectors_config=other, metadata={NOTE: json.dumps(note)})
    with pytest.raises(ModelError, match=f"has 9 columns in {field}, and the model's embeddings have 16; copy to a collection"):
        open_store(url, STUDENT)


def test_damage_of_the_first_stage_is_found_and_a_damaged_setting_refused(tmp_path: Path) -> None:
    url = url_for(tmp_path)
    index = make_store(url, STUDENT, HEADER)
    index.add(entries(4))
    client, name = connect(url)
    client.update_vectors(name, [models.PointVectors(id=point_id("001.mp4"), vector={STAGE: [[0.1] * 32]})])
    assert list(index.verify()) == ["001.mp4"]
    index.delete(["001.mp4"])
    index.add(entries(2))
    assert index.verify() == {}
    client.update_collection(name, metadata={SETTING: "nonsense"})
    with pytest.raises(
        ModelError, match=rf"the setting for an approximate search in {url} is damaged: .*--approximate --model RUN"
    ):
        open_store(url, STUDENT).search_approximately(queries(1), 3)


def test_a_server_that_has_no_codes_of_four_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import qdrant_client
    from httpx import Headers
    from qdrant_client.http.exceptions import UnexpectedResponse

    def refuse(*_: Any, **__: Any) -> None:
        raise UnexpectedResponse(400, "Bad Request", b'{"status": {"error": "unknown variant turbo"}}', Headers())

    monkeypatch.setattr(qdrant_client.QdrantClient, "create_collection", refuse)
    with pytest.raises(DataError, match=r"Qdrant refuses at .*: unknown variant turbo; a server of 1\.18 or later is needed"):
        make_store(url_for(tmp_path), STUDENT, HEADER)


def test_the_commands(tmp_path: Path, prvr: Prvr, monkeypatch: pytest.MonkeyPatch) -> None:
    videos, index, url = tmp_path / "videos", tmp_path / "index", url_for(tmp_path)
    videos.mkdir()
    for colour in SECONDS:
        write_video(videos / f"{colour}.mp4", [(100 * n, plain(colour)) for n in range(20)])
    index_folder(videos, index, zero_shot(make_textual(make_visual(tmp_path / "tiny", size=[8, 12])), rate=2.0))
    copy_index(index, url)
    (tmp_path / "queries.txt").write_text("".join(f"a {colour} picture {n}\n" for colour in SECONDS for n in range(4)))
    monkeypatch.setattr(measure, "SETTINGS", (ALL,))
    monkeypatch.setattr(measure, "fastest", lambda measured, least_recall: measured[-1])
    asked = ("search", url, "a red picture", "--model", index / MODEL, "--approximate")
    says(prvr(*asked), f"{url} has no measured setting", f"prvr index verify {url} --queries FILE --approximate --model RUN")
    queries = ("--queries", tmp_path / "queries.txt", "--model", index / MODEL)
    # Neither is FAISS needed.
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    verified = prvr("index", "verify", url, *queries, "--approximate")
    assert verified.out.splitlines()[-1] == "kept for prvr search --approximate: 100% of the videos"
    assert prvr(*asked).out == prvr(*asked[:-1]).out != ""
