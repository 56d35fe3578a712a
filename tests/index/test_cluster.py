"""An index in shards, in this process and on a Ray cluster of two nodes, one of which is lost."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from prvr.errors import DataError, MissingExtra, ModelError, SettingError
from prvr.files import lock_for_writing
from prvr.index.conditions import parse
from prvr.index.contract import Entry, Header, PersistentStore
from prvr.index.disk import DiskIndex
from prvr.index.encode import Sampled, add_videos, encode
from prvr.index.place import FILE
from prvr.index.shards import shard_of
from prvr.index.stores import make_store, open_store
from prvr.methods.contract import Embeddings
from tests.index.test_contract import MODELS, TOLERANCE, asked, assert_serves, gallery, video
from tests.index.test_disk import HEADER, MODEL, QUERY, entry

NAMES = [f"{n}.mp4" for n in range(12)]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed; pip install 'prvr[ray]'")


def entries() -> list[Entry]:
    return [entry(name, n) for n, name in enumerate(NAMES)]


def as_one_file(path: Path) -> DiskIndex:
    index = DiskIndex.make(path, MODEL, HEADER)
    index.add(entries())
    return index


def assert_same(index: PersistentStore, other: PersistentStore, query: Embeddings = QUERY) -> None:
    assert index.header == other.header
    assert sorted(index.ids) == sorted(other.ids)
    assert index.search(query, 5) == other.search(query, 5)
    assert index.search(query, 99, where=[parse("seed<7")]) == other.search(query, 99, where=[parse("seed<7")])
    assert index.about() == other.about()
    assert index.verify() == {}


def test_the_videos_are_spread_over_the_files(tmp_path: Path) -> None:
    index = make_store(f"shards://{tmp_path}/a?shards=3", MODEL, HEADER)
    index.add(entries())
    counts = [DiskIndex(tmp_path / "a" / f"{n}-of-3", MODEL).count() for n in range(3)]
    assert (sum(counts), min(counts) > 0) == (12, True)
    assert_same(open_store(f"shards://{tmp_path}/a", MODEL), as_one_file(tmp_path / "one"))


def test_a_condition_that_some_shards_know_nothing_of(tmp_path: Path) -> None:
    index = make_store(f"shards://{tmp_path}/a?shards=3", MODEL, HEADER)
    known = [dataclasses.replace(entry(name, n), about={"only": n} if n == 4 else {"seed": n}) for n, name in enumerate(NAMES)]
    index.add(known)
    assert [hit.video for hit in index.search(QUERY, 9, where=[parse("only=4")])[0]] == ["4.mp4"]
    assert index.search(QUERY, 9, where=[parse("only=4"), parse("seed=5")]) == [[]]
    with pytest.raises(SettingError, match="no video has a field 'sed'; did you mean 'seed'"):
        index.search(QUERY, 9, where=[parse("sed=1")])


def test_a_shard_that_is_missing_damaged_or_of_another_model(tmp_path: Path) -> None:
    url, folder = f"shards://{tmp_path}/a", tmp_path / "a"
    with pytest.raises(ModelError, match=r"no shards in .*; copy an index there: prvr index copy INDEX shards://"):
        open_store(url, MODEL)
    make_store(f"{url}?shards=2", MODEL, HEADER).add(entries())
    shutil.rmtree(folder / "1-of-2")
    with pytest.raises(ModelError, match=r"lacks 1-of-2; put it back, or copy the index there again"):
        open_store(url, MODEL)
    DiskIndex.make(folder / "1-of-2", MODEL, dataclasses.replace(HEADER, model="f" * 16)).close()
    with pytest.raises(ModelError, match="the shards are not those of one index"):
        open_store(url, MODEL)
    shutil.rmtree(folder / "1-of-2")
    again = make_store(url, MODEL, HEADER)
    assert 0 < again.count() < 12
    again.add(entries())
    assert_same(again, as_one_file(tmp_path / "one"))
    (folder / "0-of-2" / FILE).write_bytes(b"nothing" * 1000)
    with pytest.raises(ModelError, match=r"0-of-2.* is damaged"):
        open_store(url, MODEL)
    DiskIndex.make(folder / "0-of-3", MODEL, HEADER)
    with pytest.raises(ModelError, match=r"holds shards of several indexes, of \[2, 3\] shards"):
        open_store(url, MODEL)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("shards://data/gallery", "names a machine; shards of this one have three slashes"),
        ("shards:///", "is not the URL of shards"),
        ("shards:///a?shard=3", "is not the URL of shards"),
        ("shards:///a?shards=0", "asks for '0' shards; it takes a number from 1 to 9999"),
        ("shards:///a?shards=", "asks for '' shards"),
        ("ray:///a", "names no cluster; write ray://HOST:PORT/FOLDER"),
    ],
)
def test_what_is_no_url_of_shards(url: str, line: str) -> None:
    for act in (lambda: open_store(url, MODEL), lambda: make_store(url, MODEL, HEADER)):
        with pytest.raises(SettingError, match=line):
            act()


def test_another_number_of_shards_than_there_are(tmp_path: Path) -> None:
    url = f"shards://{tmp_path}/a"
    make_store(f"{url}?shards=2", MODEL, HEADER)
    with pytest.raises(SettingError, match=r"has 2 shards, not 3; leave out \?shards="):
        make_store(f"{url}?shards=3", MODEL, HEADER)


# On a cluster


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'prvr\[ray\]'"):
        make_store(f"ray://local{tmp_path}/a", MODEL, HEADER)


@needs_ray
@pytest.mark.filterwarnings("default")
def test_no_cluster_there(tmp_path: Path) -> None:
    make_store(f"shards://{tmp_path}/a?shards=2", MODEL, HEADER)
    with pytest.raises(SettingError, match=r"no Ray cluster at '127\.0\.0\.1:9'"):
        open_store(f"ray://127.0.0.1:9{tmp_path}/a", MODEL)
    with pytest.raises(SettingError, match="no Ray cluster"):
        make_store(f"ray://127.0.0.1:9{tmp_path}/b", MODEL, HEADER)
    assert not (tmp_path / "b").exists()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on two nodes with one processor each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # For `home`.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path), prepend=os.pathsep)
        from ray.cluster_utils import Cluster as RealCluster

        # A lost node is noticed in five seconds and not in fifteen.
        soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
        made = RealCluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
        made.shutdown()


def home(index: DiskIndex) -> tuple[str, int]:
    """The node that a shard is on, and its process."""
    import ray

    return ray.get_runtime_context().get_node_id(), os.getpid()


def slow(index: DiskIndex) -> int:
    time.sleep(2)
    return index.count()


def check_slow_answer(index: Any, shard: int, patch: pytest.MonkeyPatch) -> None:
    """A call that takes longer than anybody waits without looking whether the actor is alive: it is, and is awaited."""
    pool, looked = index._pool, []
    (count,), get = pool.call({shard: DiskIndex.count}).values(), pool._get

    def patient(answer: Any, which: int) -> Any:
        # However long the machine takes to answer a ping.
        patch.setattr("prvr.index.cluster.PATIENCE", 120)
        looked.append(which)
        return get(answer, which)

    patch.setattr(pool, "_get", patient)
    patch.setattr("prvr.index.cluster.PATIENCE", 0.5)
    assert pool.call({shard: slow}) == {shard: count}
    assert looked == [shard, shard]


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("default")
def test_a_cluster_without_room_is_told(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(f"shards://{tmp_path}/a?shards=1", MODEL, HEADER).close()
    monkeypatch.setattr("prvr.index.cluster.PATIENCE", 2)
    monkeypatch.setattr("prvr.index.cluster.PROCESSORS", 64)
    with pytest.raises(DataError, match=r"no machine of the Ray cluster serves .*0-of-1: .*; see that one has 64 processors"):
        open_store(f"ray://{cluster.address}{tmp_path}/a", MODEL)


@pytest.mark.slow
@pytest.mark.thorough
@needs_ray
@pytest.mark.filterwarnings("default")
def test_a_method_that_its_model_scores_is_served_like_any_other(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, videos = MODELS["no sum of cosines"](), gallery(7)
    index = make_store(f"ray://{cluster.address}{tmp_path}/a?shards=1", model, HEADER)
    try:
        with monkeypatch.context() as patch:
            check_slow_answer(index, 0, patch)
        assert model.score_weights is None
        add_videos(index, videos, videos)
        assert_serves(index, videos, tolerance=TOLERANCE["disk float16"])
    finally:
        index.close()


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("default")
def test_a_cluster_serves_the_shards_and_loses_a_node(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    url = f"ray://{cluster.address}{tmp_path}/a"
    student, videos = MODELS["two branches"](), {name: video(n) for n, name in enumerate(NAMES)}
    index, one = make_store(f"{url}?shards=2", student, HEADER), DiskIndex.make(tmp_path / "one", student, HEADER)

    def check() -> None:
        assert_same(index, one, asked(student, 1))
        assert_serves(index, dict(sorted(videos.items())), tolerance=TOLERANCE["disk float16"])

    try:
        for each in (index, one):
            each.add(encode(student, [Sampled(name, rows, about={"seed": n}) for n, (name, rows) in enumerate(videos.items())]))
        check()
        with monkeypatch.context() as patch:
            check_slow_answer(index, 1, patch)
        assert len(index.fetch(["3.mp4"])["3.mp4"].fields) == len(student.score_weights or ()) == 2

        def homes() -> list[tuple[str, int]]:
            return list(index._pool.call(dict.fromkeys((0, 1), home)).values())

        before = dict(homes())
        head = ray.get_runtime_context().get_node_id()
        assert len(before) == 2
        assert head in before
        (other,) = [node for node in cluster.worker_nodes if node.node_id != head]
        cluster.remove_node(other, allow_graceful=False)
        # What runs there may outlive Ray's own process by a moment; of a machine that is lost nothing does.
        with suppress(ProcessLookupError):
            os.kill(before[other.node_id], signal.SIGKILL)
        # A change while nobody may have noticed yet, and what both shards say afterwards.
        index.delete(["3.mp4", "4.mp4"])
        one.delete(["3.mp4", "4.mp4"])
        del videos["3.mp4"], videos["4.mp4"]
        check()
        assert {node for node, _ in homes()} == {head}
    finally:
        index.close()
    assert not ray.is_initialized()
    assert_same(open_store(f"shards://{tmp_path}/a", student), one, asked(student, 1))


# Videos are indexed there


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("default")
def test_the_nodes_index_each_its_shard_and_one_that_dies_goes_on(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil
    from tiny_encoders import make_textual, make_visual
    from tiny_videos import SECONDS, plain, write_video

    from prvr.search import Indexing, index_folder, open_index, zero_shot

    # The test before this one may have lost a node.
    cluster.add_node(num_cpus=1)
    teacher, videos = zero_shot(make_textual(make_visual(tmp_path / "tiny", size=[8, 12])), rate=2.0), tmp_path / "videos"
    videos.mkdir()
    for number, colour in enumerate(SECONDS):
        write_video(videos / f"{number}{number}.mp4", [(100 * n, plain(colour)) for n in range(200)])
    names, killed = tuple(sorted(path.name for path in videos.iterdir())), []

    def kill_one(*_: object) -> None:
        if not killed:
            indexers = [one for one in psutil.process_iter(["name", "cmdline"]) if "ray::ShardIndexer" in str(one.info)]
            # One that has ended meanwhile: another one the next time.
            with suppress(ProcessLookupError, IndexError):
                os.kill(indexers[0].pid, signal.SIGKILL)
                killed.append(indexers[0].pid)

    url = f"ray://{cluster.address}{tmp_path}/shards?shards=2"
    # Soon, before all is done.
    monkeypatch.setattr("prvr.search.cluster_indexing.LOOK", 0.02)
    # The first shard, whose actor is killed, goes on; the second one cannot be written to.
    mine = [name for name in names if shard_of(name, 2) == 0]
    others = [name for name in names if name not in mine]
    make_store(f"shards://{tmp_path}/shards?shards=2", teacher.model, Header(teacher.fingerprint, "float16", str(videos)))
    lock = lock_for_writing(tmp_path / "shards" / "1-of-2" / FILE)
    try:
        done = index_folder(videos, url, teacher, on_progress=kill_one)
    finally:
        lock.release()
    assert (sorted(done.added + done.kept), done.dropped, len(killed)) == (mine, (), 1)
    ((shard, problem),) = done.problems.items()
    assert shard == f"shard 2 of 2 ({tmp_path}/shards/1-of-2)"
    assert f"{len(others)} of its {len(others)} videos are not finished: {', '.join(others)}; run again" in problem
    (videos / mine[0]).unlink()
    # Without Ray, which takes seconds to start an actor: the files are the same.
    rest = Indexing(tuple(others), tuple(mine[1:]), (mine[0],), {})
    assert index_folder(videos, f"shards://{tmp_path}/shards", teacher) == rest
    index_folder(videos, tmp_path / "one", teacher)
    shards, one = open_index(f"shards://{tmp_path}/shards"), open_index(tmp_path / "one")
    unmeasured = [dataclasses.replace(hit, strength=None) for hit in one.search("a red picture")]
    assert shards.search("a red picture") == unmeasured
    for index in (shards, one):
        index.index.close()
