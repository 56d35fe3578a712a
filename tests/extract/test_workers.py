"""Several processes, and several machines: the same features to the bit, whatever dies on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from deadly_encoder import Deadly
from tiny_encoders import make_textual, make_visual
from tiny_videos import colourful, copy_as_another, plain, write_video
from waiting import until

from prvr.encoders import JoinedImageEncoder, image_encoder
from prvr.errors import MissingExtra, ModelError, SettingError
from prvr.extract import EncoderOpener, Engine, Extraction, engine_for, extract_videos
from prvr.extract.cluster import _worker_count, takes_gpus
from prvr.extract.engine import FrameSampling, Job
from prvr.extract.job_queue import Assignment, JobQueue
from prvr.extract.processes import Processes
from prvr.features.packed import Packed, is_packed
from prvr.index.disk import DiskIndex
from prvr.search import index_folder, zero_shot
from prvr.search.copying import is_same
from prvr.video import find_videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of one to four seconds, none with black in it, and a file that is none; and an encoder."""
    root = tmp_path_factory.mktemp("folder")
    (root / "videos").mkdir()
    for number in range(5):
        # The last one is a frame shorter than the first, so that it is not a copy.
        write_video(root / "videos" / f"{number}.mp4", colourful(seconds=1 + number % 4)[number // 4 :])
    (root / "videos" / "bad.mp4").write_text("no video\n" * 9)
    make_textual(make_visual(root / "encoder", size=[8, 12]))
    return root


@pytest.fixture(scope="module")
def expected(folder: Path) -> Packed:
    run(folder, folder / "one", None)
    return Packed(folder / "one")


def run(folder: Path, out: Path, engine: Engine | None, **more: Any) -> Extraction:
    return extract_videos(find_videos(folder / "videos"), out, encoder=image_encoder(folder / "encoder"), engine=engine, **more)


def opener(folder: Path, kind: type[EncoderOpener] = EncoderOpener) -> EncoderOpener:
    encoder = image_encoder(folder / "encoder")
    return kind(encoder.source, encoder.fingerprint, "cpu")


def assert_same(made: Packed, expected: Packed) -> None:
    assert set(made) == set(expected)
    assert made.about == expected.about
    for id in expected:
        assert made[id].tobytes() == expected[id].tobytes()
        assert made.info(id) == expected.info(id)


def with_a_deadly_video(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "videos").mkdir()
    for path in (folder / "videos").iterdir():
        shutil.copy2(path, copy / "videos" / path.name)
    (copy / "encoder").symlink_to(folder / "encoder")
    write_video(copy / "videos" / "2b.mp4", [(40 * n, plain("black")) for n in range(50)])
    return copy


# Processes on one machine


def test_two_processes_give_the_same_to_the_bit(folder: Path, expected: Packed, tmp_path: Path) -> None:
    steps: list[tuple[float, float]] = []
    result = run(folder, tmp_path / "f", Processes(2, opener(folder)), on_progress=lambda _, n, of: steps.append((n, of)))
    assert result.done == tuple(f"{number}.mp4" for number in range(5))
    assert "bad.mp4" in result.problems
    # Files of equal size are compared first, and counted; then seconds of video are.
    seconds = [done for done, _ in steps if isinstance(done, float)]
    assert seconds == sorted(seconds)
    assert steps[-1] == (pytest.approx(11, abs=0.3), pytest.approx(steps[-1][0]))
    assert_same(Packed(tmp_path / "f"), expected)
    again = run(folder, tmp_path / "f", Processes(2, opener(folder)))
    assert (again.kept, again.done, set(again.problems)) == (result.done, (), {"bad.mp4"})


def test_a_video_that_kills_its_worker_is_told_and_the_rest_is_done(folder: Path, expected: Packed, tmp_path: Path) -> None:
    copy = with_a_deadly_video(folder, tmp_path)
    result = run(copy, tmp_path / "f", Processes(2, opener(copy, Deadly)))
    assert set(result.problems) == {"bad.mp4", "2b.mp4"}
    assert "2b.mp4 ends the process that reads it (killed by SIGSEGV); " in result.problems["2b.mp4"]
    assert "\n" not in result.problems["2b.mp4"]
    made = Packed(tmp_path / "f")
    assert set(made) == set(expected)
    assert all(made[id].tobytes() == expected[id].tobytes() for id in expected)


def test_workers_refuse_another_encoder(folder: Path, tmp_path: Path) -> None:
    other = EncoderOpener(str(folder / "encoder"), "f" * 16, "cpu")
    with pytest.raises(ModelError, match="where a worker looks"):
        run(folder, tmp_path / "f", Processes(2, other))
    gone = EncoderOpener(str(folder / "nowhere" / "encoder"), "f" * 16, "cpu")
    with pytest.raises(ModelError):
        run(folder, tmp_path / "f", Processes(1, gone))


def test_workers_open_encoders_that_are_used_side_by_side(folder: Path, expected: Packed, tmp_path: Path) -> None:
    encoder = JoinedImageEncoder([image_encoder(folder / "encoder")] * 2)
    engine = engine_for(encoder, device="cpu", workers=2)
    extract_videos(find_videos(folder / "videos"), tmp_path / "f", encoder=encoder, engine=engine)
    made = Packed(tmp_path / "f")
    assert set(made) == set(expected)
    assert all(np.array_equal(made[id], np.concatenate([expected[id]] * 2, axis=1)) for id in expected)


def test_no_process_is_started_for_nothing(folder: Path) -> None:
    assert list(Processes(2, opener(folder)).encode([], sampling=FrameSampling(1.0, 32))) == []


def test_who_does_it(folder: Path) -> None:
    encoder = image_encoder(folder / "encoder")
    names = [
        type(engine_for(encoder, device="cpu", workers=workers, ray=ray)).__name__
        for workers, ray in ((None, None), (1, None), (2, None), (None, "auto"), (2, "auto"))
    ]
    assert names == ["ThisProcess", "Processes", "Processes", "Cluster", "Cluster"]


# The command, killed and interrupted

VIDEOS = 40


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    # Enough videos to be at it for a while when the first are seen to be done.
    copy = tmp_path / "long"
    copy.mkdir()
    write_video(copy / "0.mp4", colourful(seconds=6))
    for number in range(1, VIDEOS):
        copy_as_another(copy / "0.mp4", copy / f"{number}.mp4")
    running: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "prvr", "extract", copy, tmp_path / "f", "--encoder", folder / "encoder", "--rate", "25"]
        process = subprocess.Popen(
            [*map(str, command), "--workers", "2"],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Where the tests run in the background of a shell an interrupt is ignored, and by their children, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def finished(out: Path) -> int:
    return len(Packed(out)) if is_packed(out) else 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)])
def test_a_run_that_is_cut_off_goes_on(
    start: Callable[[], subprocess.Popen[str]], folder: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "f" / "encoder" / "frames"
    process = start()
    # The third may be seen before it is safe on the disk, and then an interrupt takes it back.
    until(lambda: finished(out) >= 3)
    workers = children(process.pid)
    assert len(workers) >= 2
    os.kill(process.pid, how) if how == signal.SIGKILL else os.killpg(process.pid, how)
    _, said = process.communicate(timeout=300)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines() == ["prvr: interrupted; completed work is kept: repeat the command to continue"]
    before = {id: rows.tobytes() for id, rows in Packed(out).items()}
    assert 2 <= len(before) < VIDEOS
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    process = start()
    answer, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert f"{VIDEOS - len(before)} done, {len(before)} kept" in answer
    extract_videos(find_videos(tmp_path / "long"), tmp_path / "one", encoder=image_encoder(folder / "encoder"), rate=25.0)
    assert_same(Packed(out), Packed(tmp_path / "one"))


# The queue of jobs


def jobs(*ids: str) -> list[Job]:
    return [Job(id, Path(id)) for id in ids]


def test_what_a_dead_worker_had_in_hand_is_tried_alone() -> None:
    queue, first, second = JobQueue(jobs("a", "b", "c", "d"), deaths=1), Assignment(), Assignment()
    assert queue.assign(first, limit=2) == jobs("a", "b")
    assert queue.assign(second, limit=1) == jobs("c")
    del first.jobs["a"]
    assert list(queue.worker_died(first, "x")) == []
    # One that is at work goes on with the rest; a fresh one gets the suspect, and nothing but it.
    assert len(queue) == 2
    fresh = Assignment()
    assert queue.assign(fresh, limit=2) == jobs("b")
    assert queue.assign(fresh, limit=2) == []
    assert queue.assign(second, limit=2) == jobs("d")
    (refused,) = queue.worker_died(fresh, "killed by SIGSEGV")
    assert refused.id == "b"
    assert "killed by SIGSEGV" in refused.problem
    assert len(queue) == 0


def test_a_second_death_may_be_asked_for() -> None:
    queue = JobQueue(jobs("a"), deaths=2)
    for _ in range(2):
        assignment = Assignment()
        assert queue.assign(assignment) == jobs("a")
        assert list(queue.worker_died(assignment, "x")) == []
    assignment = Assignment()
    assert queue.assign(assignment) == jobs("a")
    assert [refused.id for refused in queue.worker_died(assignment, "x")] == ["a"]


# Several machines


@pytest.mark.parametrize(
    ("device", "source", "gpus", "takes"),
    [
        ("auto", "openai/clip-vit-base-patch32", (0, 2), True),
        ("auto", "openai/clip-vit-base-patch32", (0, 0), False),
        ("auto", "onnx", (0, 2), False),
        ("cpu", "openai/clip-vit-base-patch32", (0, 2), False),
        ("cuda", "onnx", (0, 2), True),
    ],
)
def test_workers_take_gpus_where_the_cluster_has_some(
    folder: Path, device: str, source: str, gpus: tuple[int, int], takes: bool
) -> None:
    source = str(folder / "encoder") if source == "onnx" else source
    nodes = [{"CPU": 4.0, "GPU": float(number)} for number in gpus]
    assert takes_gpus(EncoderOpener(source, "", device), nodes) is takes
    joined = EncoderOpener("both", "", device, (EncoderOpener(source, "", device),))
    assert takes_gpus(joined, nodes) is takes
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes])
    # One for each GPU, and with a processor's half for each, one for each machine.
    unit, share, number = ("GPU", 1.0, sum(gpus)) if takes else ("CPU", 0.5, 2)
    assert _worker_count(ray, None, unit=unit, share=share) == number


needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed; pip install 'prvr[ray]'")


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'prvr\[ray\]'"):
        run(folder, tmp_path / "f", engine_for(image_encoder(folder / "encoder"), device="cpu", ray="local"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on two nodes with one processor each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # For `Deadly`.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path), prepend=os.pathsep)
        from ray.cluster_utils import Cluster as RealCluster

        made = RealCluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
        made.shutdown()


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("default")
class TestCluster:
    @pytest.mark.thorough
    def test_two_nodes_give_the_same_to_the_bit(self, cluster: Any, folder: Path, expected: Packed, tmp_path: Path) -> None:
        from prvr.extract.cluster import Cluster

        result = run(folder, tmp_path / "f", Cluster(cluster.address, opener(folder)))
        assert (len(result.done), set(result.problems)) == (5, {"bad.mp4"})
        assert_same(Packed(tmp_path / "f"), expected)
        assert run(folder, tmp_path / "f", Cluster(cluster.address, opener(folder))).kept == result.done

    @pytest.mark.thorough
    def test_an_index_is_the_same_to_the_bit(self, cluster: Any, folder: Path, tmp_path: Path) -> None:
        checkpoint = zero_shot(folder / "encoder")
        one = index_folder(folder / "videos", tmp_path / "one", checkpoint)
        two = index_folder(folder / "videos", tmp_path / "two", checkpoint, ray=cluster.address)
        assert (len(two.added), set(two.problems)) == (5, {"bad.mp4"})
        assert one == two
        made, expected = (DiskIndex(tmp_path / which, checkpoint.model) for which in ("two", "one"))
        entries = expected.fetch(expected.ids)
        assert made.fetch(made.ids).keys() == entries.keys()
        assert all(is_same(made.fetch([id])[id], entries[id], "float16") for id in entries)

    @pytest.mark.thorough
    def test_the_command(self, cluster: Any, folder: Path, expected: Packed, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "prvr", "extract", "videos", tmp_path / "f", "--encoder", "encoder"]
        command += ["--ray", cluster.address, "--workers", "2"]
        answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder, check=True)
        assert answer.stdout == "encoder/frames: 5 done, 0 kept, 0 dropped, 1 problems\n"
        # On a busy machine there are lines of progress, too.
        assert answer.stderr.count("prvr: ") == 1
        assert_same(Packed(tmp_path / "f" / "encoder" / "frames"), expected)

    def test_more_workers_than_fit(self, cluster: Any, folder: Path, tmp_path: Path) -> None:
        from prvr.extract.cluster import Cluster

        with pytest.raises(SettingError, match="9 workers do not fit on the Ray cluster, which has room for 4"):
            run(folder, tmp_path / "f", Cluster(cluster.address, opener(folder), number=9))

    def test_workers_that_cannot_work_say_why(self, cluster: Any, folder: Path, tmp_path: Path) -> None:
        from prvr.extract.cluster import Cluster

        with pytest.raises(ModelError, match="where a worker looks"):
            run(
                folder,
                tmp_path / "f",
                Cluster(cluster.address, EncoderOpener(str(folder / "encoder"), "f" * 16, "cpu"), number=1),
            )

    @pytest.mark.thorough
    def test_a_video_that_kills_its_worker(self, cluster: Any, folder: Path, expected: Packed, tmp_path: Path) -> None:
        from prvr.extract.cluster import Cluster

        copy = with_a_deadly_video(folder, tmp_path)
        result = run(copy, tmp_path / "f", Cluster(cluster.address, opener(copy, Deadly)))
        assert set(result.problems) == {"bad.mp4", "2b.mp4"}
        assert "2b.mp4 ends the process that reads it" in result.problems["2b.mp4"]
        assert set(Packed(tmp_path / "f")) == set(expected)

    def test_a_node_that_is_lost(self, cluster: Any, folder: Path, tmp_path: Path) -> None:
        from prvr.extract.cluster import Cluster

        source = tmp_path / "long"
        source.mkdir()
        for number in range(12):
            write_video(source / f"{number}.mp4", colourful(seconds=4 + number % 3))
        (source / "bad.mp4").write_text("no video")
        third = cluster.add_node(num_cpus=1)
        lost: list[str] = []

        def lose_a_node(id: str, number: int, of: int) -> None:
            if number == 3 and not lost:
                lost.append(id)
                cluster.remove_node(third, allow_graceful=False)

        encoder = image_encoder(folder / "encoder")
        engine = Cluster(cluster.address, opener(folder), number=3)
        found = find_videos(source)
        result = extract_videos(found, tmp_path / "f", encoder=encoder, rate=25.0, engine=engine, on_progress=lose_a_node)
        assert lost
        assert (len(result.done), set(result.problems)) == (12, {"bad.mp4"})
        extract_videos(found, tmp_path / "one", encoder=encoder, rate=25.0)
        assert_same(Packed(tmp_path / "f"), Packed(tmp_path / "one"))


@needs_ray
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("address", ["nonsense://x", "127.0.0.1:9", "127.0.0.1:99999"])
def test_no_cluster_there(folder: Path, tmp_path: Path, address: str) -> None:
    from prvr.extract.cluster import Cluster

    with pytest.raises(SettingError, match=f"no Ray cluster at '{address}'"):
        run(folder, tmp_path / "f", Cluster(address, opener(folder)))
