"""kill -9 at random moments of adding, deleting, indexing and copying: what was acknowledged is there, and nothing by half.

    python tests/support/kills.py 200 FOLDER

Each round starts a process, kills it after a random time, opens what it left and compares: every video whose storing (or
deleting) was acknowledged, each embedding, checksums, the file's structure, and that it can be searched. Prints counts.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from texts import SpokenSeconds
from tiny_encoders import make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video

from prvr.errors import ModelError
from prvr.extract.file_stamps import stamp_of
from prvr.extract.timed_texts import TextJob, update_texts
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE
from prvr.index.text_windows import embedded_by, windows_of
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search import copy_index, index_folder, zero_shot
from prvr.search.copying import is_same
from prvr.search.text_embedding import embed_texts

COLUMNS, VIDEOS, PARTS = 64, 12, 100
OTHER_NOTES = ("comparing ", "subtitle: ", "unrelated sentences")
HEADER = Header("0123456789abcdef", "float16", "")
MODEL = ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS).eval()

Tell = Callable[[str], None]


def entry(id: str, version: int) -> Entry:
    """A video of 40 frames whose embeddings tell its id and version."""
    draw = np.random.default_rng([version, *id.encode()])
    rows = draw.normal(size=(40, COLUMNS)).astype(np.float16).astype(np.float32)
    return Entry(id, (rows,), (40,), tuple(float(n) for n in range(41)), {"version": version})


def killed(work: Callable[[Tell], None], *, within: float, draw: random.Random) -> list[str]:
    """Runs work in a process that is killed at a random moment of so many seconds; what it told until then."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            work(lambda line: os.write(write, f"{line}\n".encode()) and None)
        finally:
            os._exit(0)
    os.close(write)
    time.sleep(draw.uniform(0, within))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read) as told:
        return told.read().splitlines()


def sound(index: DiskIndex) -> None:
    assert index.verify() == {}
    found = index.search((torch.ones(1, COLUMNS),), 3)[0]
    assert len(found) == min(3, index.count())


def adding_and_deleting(folder: Path, draw: random.Random) -> Iterator[int]:
    """Gives after each round how many operations were acknowledged in it."""
    state: dict[str, int | None] = {}
    version = 0
    DiskIndex.make(folder, MODEL, HEADER).close()
    while True:
        order = [(f"{draw.randrange(VIDEOS)}.mp4", draw.random() < 0.3) for _ in range(500)]

        def work(tell: Tell, order: list[tuple[str, bool]] = order, first: int = version) -> None:
            index = DiskIndex(folder, MODEL)
            for version, (id, is_deleted) in enumerate(order, start=first):
                tell(f"begin {id} {-1 if is_deleted else version}")
                if is_deleted:
                    index.delete([id])
                else:
                    index.add([entry(id, version)])
                tell(f"done {id} {-1 if is_deleted else version}")

        told = [line.split() for line in killed(work, within=0.15, draw=draw)]
        version += len(told)
        done = {id: None if which == "-1" else int(which) for what, id, which in told if what == "done"}
        state |= done
        begun = told[-1] if told and told[-1][0] == "begin" else None
        index = DiskIndex(folder, MODEL)
        sound(index)
        there = index.fetch(index.ids)
        for id in {*state, *there}:
            may = [state.get(id)] + ([None if begun[2] == "-1" else int(begun[2])] if begun and begun[1] == id else [])
            found = int(there[id].about["version"]) if id in there else None
            assert found in may, (id, found, may)
            if found is not None:
                assert is_same(there[id], entry(id, found), "float16"), id
            state[id] = found
        index.close()
        yield sum(what == "done" for what, *_ in told)


def copying(folder: Path, draw: random.Random) -> Iterator[int]:
    """Gives after each round how many videos the copy had; a copy that was whole is begun again."""
    from prvr.features.sources import FeatureSources, Source
    from prvr.methods import checkpoint as checkpoints
    from prvr.methods.checkpoint import Checkpoint

    reads = Source("any", COLUMNS)
    checkpoint = Checkpoint("zero_shot", ZeroShotConfig(), FeatureSources(reads, reads), MODEL)
    source, target = folder / "source", folder / "target"
    checkpoints.save(checkpoint, source / "model")
    ours = DiskIndex.make(source, MODEL, Header(checkpoint.fingerprint, "float16", ""))
    ours.add([entry(f"{n}.mp4", n) for n in range(200)])
    wanted = ours.fetch(ours.ids)
    ours.close()
    while True:

        def work(tell: Tell) -> None:
            copy_index(source, target)
            tell("done")

        told = killed(work, within=0.25, draw=draw)
        count = 0
        if (target / FILE).exists():
            # A copy that was never begun is none, and says so.
            with suppress(ModelError):
                theirs = DiskIndex(target, MODEL)
                sound(theirs)
                there = theirs.fetch(theirs.ids)
                assert all(is_same(there[id], wanted[id], "float16") for id in there)
                count = len(there)
                theirs.close()
        assert not told or count == 200
        if count == 200:
            shutil.rmtree(target)
        yield count


def indexing(folder: Path, draw: random.Random) -> Iterator[int]:
    """Gives after each round how many videos were acknowledged in it; files change and vanish between rounds."""
    videos, gallery = folder / "videos", folder / "gallery"
    videos.mkdir(parents=True)
    make_textual(make_visual(folder / "encoder", size=[8, 12]))
    checkpoint = zero_shot(folder / "encoder", rate=4.0)
    originals = []
    for number, colour in enumerate(SECONDS):
        originals.append(write_video(folder / f"{number}.mp4", [(100 * n, plain(colour)) for n in range(20 + 5 * number)]))
    reference = folder / "reference"
    index_folder(folder, reference, checkpoint)
    known = DiskIndex(reference, checkpoint.model)
    wanted = known.fetch(known.ids)
    known.close()
    content: dict[str, str] = {}
    while True:
        for number in draw.sample(range(VIDEOS), 4):
            origin = draw.choice(originals)
            shutil.copyfile(origin, videos / f"{number}.mp4")
            content[f"{number}.mp4"] = origin.name

        def work(tell: Tell) -> None:
            index_folder(videos, gallery, checkpoint, on_progress=lambda note, seconds, _: tell(f"{seconds} {note}"))

        told = killed(work, within=0.6, draw=draw)
        # A video that is only compared is not acknowledged, nor is one that is only opened: no seconds are added by it.
        notes = [(float(done), id) for done, _, id in (line.partition(" ") for line in told) if not id.startswith(OTHER_NOTES)]
        acknowledged = [id for (before, _), (done, id) in pairwise(notes) if done > before]
        if (gallery / FILE).exists():
            index = DiskIndex(gallery, checkpoint.model)
            assert index.verify() == {}
            there = index.fetch(index.ids)
            index.close()
            for id in acknowledged:
                assert id in there, id
                assert same_rows(there[id], wanted[content[id]]), id
            assert all(any(same_rows(found, one) for one in wanted.values()) for found in there.values())
        yield len(acknowledged)


class Lengths:
    """An encoder of sentences by their lengths."""

    name, source, fingerprint, sentence_columns = "lengths", "lengths", "1", 4

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, len(text), len(text) % 7, len(text) % 3] for text in texts], np.float32)


LENGTHS = embedded_by(Lengths.fingerprint)


def reading_texts(folder: Path, draw: random.Random) -> Iterator[int]:
    """Gives after each round how many parts were acknowledged in it; a film that was read to its end is begun again."""
    index = DiskIndex.make(folder, MODEL, HEADER)
    index.add([entry("a.mp4", 0)])
    index.close()
    (film := folder / "a.mp4").write_bytes(b"film")
    job = TextJob("a.mp4", (film,), {**stamp_of(film), "sha256": "of the film"}, float(PARTS))
    version = 0
    while True:

        def work(tell: Tell, version: str = str(version)) -> None:
            index = DiskIndex(folder, MODEL)
            reader = SpokenSeconds(PARTS, version=version)
            update_texts([job], reader, index.texts, on_progress=lambda _, done, total: tell("done"))
            embed_texts(index.texts, Lengths())

        told = killed(work, within=0.4, draw=draw)
        index = DiskIndex(folder, MODEL)
        sound(index)
        source, texts = index.texts.sources().get("a.mp4", {}).get("speech"), index.texts.read("a.mp4")
        embedded, to_embed = {one.key for one in index.texts.embeddings("a.mp4")}, index.texts.videos_to_embed(LENGTHS)
        index.close()
        assert to_embed or embedded == {window.key(LENGTHS) for window in windows_of(texts)}
        assert source is not None or not told
        if source is not None:
            assert [text.text for text in texts] == [f"second {n}" for n in range(int(source.seconds))]
            assert source.is_complete == (source.seconds == PARTS)
            assert source.made_of.endswith(f'"{version}"]') or not told
            version += source.is_complete
        yield len(told)


def same_rows(ours: Entry, theirs: Entry) -> bool:
    return ours.edges == theirs.edges and all(np.array_equal(a, b) for a, b in zip(ours.fields, theirs.fields, strict=True))


STORMS = {"adding and deleting": adding_and_deleting, "copying": copying, "indexing": indexing, "reading texts": reading_texts}


def storm(kind: str, folder: Path, *, rounds: int, seed: int = 0) -> Counter[str]:
    """Kills so many processes, and counts what they had acknowledged; an assertion fails where anything was lost."""
    counts: Counter[str] = Counter()
    for done, _ in zip(STORMS[kind](folder, random.Random(seed)), range(rounds), strict=False):
        counts += Counter({"kills": 1, "acknowledged": done, "rounds with some": bool(done)})
    return counts


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in STORMS:
        place = Path(sys.argv[2]) / kind.replace(" ", "-")
        sys.stdout.write(f"{kind}: {dict(storm(kind, place, rounds=int(sys.argv[1])))}, nothing lost\n")
