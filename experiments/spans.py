"""How well spans fit, on real video: compositions with hard cuts and with cross-fades, single clips, photographs in a row.

    python experiments/spans.py SHARED OUT [--demo DEMO] [--rate 1]

SHARED holds data/ and tools/ (see its data/README.md). The clips are divided into two halves (near duplicates stay together):
constants are chosen on `dev`, `test` is reported. Of each half, three compositions of about six clips are made for each of six
seeds with hard cuts, from the rows of the clips' frames, and for one seed with cross-fades of a second, as files; `twelve` are
files of all clips (seeds 0 and 1, six each), as `compose_videos.py` makes them. Encoder: mobilenet-minilm, `--rate` frames a
second. `montage` are rows of photographs, eight in a row, of the test photographs. DEMO is the folder of `prvr demo`: its
teacher and its student on the videos of dev and test. Prints, for each set, the mean IoU of the first span with the annotated
one, in the right video: of all captions, of those below 4 s and from 4 s on, beside simple rules.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from PIL import Image

from prvr.encoders import open_encoder
from prvr.evaluate.metrics import overlap
from prvr.index.contract import Entry
from prvr.index.encode import Sampled, encode_long, encode_queries
from prvr.index.moments import best_span, frame_edges, frame_rows, peak_time, relevance
from prvr.methods.contract import Embeddings, Model
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.video import VideoReader

SHORT = 4.0
RATE = 8.0
FADE = 1.0
# Of the clips: 24 to 30 frames a second, of the compositions 25.
SHOWN = 0.04


class Case(NamedTuple):
    """A caption with its span, in its own video."""

    query: Embeddings
    entry: Entry
    start: float
    end: float
    edges_before: list[float] | None = None


Rule = Callable[[Model, Case], tuple[float, float]]


def name_of(clip: dict) -> str:
    """Two clips share the name of their video."""
    return str(Path(clip["file"]).name).replace(".", "_")


def halves(clips: list[dict]) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for clip in clips:
        groups.setdefault(clip["near_duplicate_group"] or clip["video"], []).append(clip)
    order = sorted(groups)
    random.Random(0).shuffle(order)
    parts: dict[str, list[dict]] = {"dev": [], "test": []}
    for name in order:
        parts["dev" if len(parts["dev"]) < len(clips) // 2 else "test"] += groups[name]
    return parts


def composer(shared: Path) -> Any:
    spec = importlib.util.spec_from_file_location("compose_videos", shared / "tools" / "compose_videos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compose(tool: Any, source: Path, clips: list[dict], path: Path, fade: float) -> list[dict]:
    """Writes the clips one after another, blended over `fade` seconds; returns their captions with spans of the whole."""
    captions, written, overlapping = [], 0, round(fade * tool.RATE)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=tool.RATE)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = tool.WIDTH, tool.HEIGHT, "yuv420p", Fraction(1, tool.RATE)
        stream.options = {"crf": "26", "preset": "veryfast", "g": "50"}

        def write(image: Image.Image) -> None:
            nonlocal written
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = written, Fraction(1, tool.RATE)
            out.mux(stream.encode(frame))
            written += 1

        before: list[Image.Image] = []
        for clip in clips:
            images = [tool.letterbox(image) for image in tool.resampled(source / clip["file"])]
            begin = written / tool.RATE
            for number, old in enumerate(before):
                write(Image.blend(old, images[number], (number + 1) / (len(before) + 1)))
            last = len(images) - overlapping
            for image in images[len(before) : last]:
                write(image)
            before = images[last:] if overlapping else []
            for one in clip["captions"]:
                end = min(begin + one["end"], begin + len(images) / tool.RATE)
                captions.append({**one, "video": path.name, "start": begin + one["start"], "end": end})
        for image in before:
            write(image)
        out.mux(stream.encode())
    return captions


def folder(out: Path, name: str, make: Callable[[Path], list[dict]]) -> list[dict]:
    """The captions of a set, which is made if it is not there."""
    place = out / name
    place.mkdir(parents=True, exist_ok=True)
    listed = place / "captions.jsonl"
    if not listed.exists():
        captions = make(place)
        listed.write_text("".join(json.dumps(caption) + "\n" for caption in captions))
    return [{**json.loads(line), "path": place} for line in listed.open()]


def compositions(shared: Path, clips: list[dict], seeds: range, videos: int, fade: float) -> Callable[[Path], list[dict]]:
    def make(place: Path) -> list[dict]:
        tool, captions = composer(shared), []
        for seed in seeds:
            order = list(clips)
            random.Random(seed).shuffle(order)
            for number in range(videos):
                path = place / f"{seed}_{number:02d}.mp4"
                captions += compose(tool, shared / "data" / "videos", order[number::videos], path, fade)
        return captions

    return make


class Encoded:
    """The rows of videos at `RATE`, kept beside them; cases of captions at `rate`."""

    def __init__(self, shared: Path, rate: float) -> None:
        self.rate = rate
        self.before: dict[int, list[float]] = {}
        self.entries: list[Entry] = []
        self.encoder: Any = open_encoder(str(shared / "data" / "models" / "mobilenet-minilm"))
        columns = self.encoder.image_columns
        self.model = ZeroShot(ZeroShotConfig(), frame_columns=columns, word_columns=columns)
        self.sentences: dict[str, Embeddings] = {}

    def query(self, text: str) -> Embeddings:
        if text not in self.sentences:
            self.sentences[text] = encode_queries(self.model, [self.encoder.encode_sentences([text])])
        return self.sentences[text]

    def rows(self, path: Path, kept: Path) -> tuple[np.ndarray, np.ndarray, float]:
        if not kept.exists():
            times, rows, reader = [], [], VideoReader(path, rate=RATE)
            with reader:
                for time, frame in reader:
                    times.append(time)
                    rows.append(self.encoder.encode_images([frame])[0])
            np.savez(kept, times=times, rows=np.array(rows, np.float32), duration=reader.duration)
        held = np.load(kept)
        return held["times"], held["rows"], float(held["duration"])

    def strung(self, clips: list[dict], folder: Path, out: Path, seeds: range, videos: int) -> list[Case]:
        """Cases of compositions with hard cuts, whose rows are those of the clips' frames at the same instants."""
        cases: list[Case] = []
        for seed in seeds:
            order = list(clips)
            random.Random(seed).shuffle(order)
            for number in range(videos):
                begin, times, rows, captions = 0.0, [], [], []
                for clip in order[number::videos]:
                    of_clip = self.rows(folder / clip["file"], out / f"{name_of(clip)}.npz")
                    times.append(begin + of_clip[0])
                    rows.append(of_clip[1])
                    captions += [{**one, "start": begin + one["start"], "end": begin + one["end"]} for one in clip["captions"]]
                    begin += of_clip[2]
                entry = self.entry(f"{seed}_{number}", np.concatenate(times), np.concatenate(rows), begin)
                cases += [self.case(one, entry) for one in captions]
        return cases

    def entry(self, name: str, times: np.ndarray, rows: np.ndarray, duration: float) -> Entry:
        slots = np.floor(times * self.rate + 1e-3)
        coarse = np.flatnonzero(np.r_[True, slots[1:] > slots[:-1]])
        instants = tuple(times[coarse].tolist())
        (entry,) = encode_long(self.model, [Sampled(name, rows[coarse], instants, duration, frame_seconds=SHOWN)])
        # Kept, so that no other entry has its id.
        self.entries.append(entry)
        self.before[id(entry)] = frame_edges(instants, duration)
        return entry

    def case(self, caption: dict, entry: Entry) -> Case:
        return Case(self.query(caption["text"]), entry, caption["start"], caption["end"], self.before[id(entry)])

    def cases(self, captions: list[dict]) -> list[Case]:
        entries, cases = {}, []
        for caption in captions:
            path = caption["path"] / caption["video"]
            if path not in entries:
                times, rows, duration = self.rows(path, caption.get("kept", path).with_suffix(".npz"))
                entries[path] = self.entry(path.name, times, rows, duration)
            cases.append(self.case(caption, entries[path]))
        return cases


def montage(shared: Path, model: Model, split: str) -> list[Case]:
    """Eight photographs in a row, 3 to 12 frames each, the view moving from the picture to its mirror image."""
    data = shared / "data" / "montage"
    photos = [json.loads(line) for line in (data / "photos.jsonl").open()]
    rows, spoken = np.load(data / "teacher.npy", mmap_mode="r"), np.load(data / "teacher_captions.npy", mmap_mode="r")
    draw = np.random.default_rng(0)
    order = draw.permutation([place for place, photo in enumerate(photos) if photo["split"] == "test"])
    order, cases = order[: len(order) // 2] if split == "dev" else order[len(order) // 2 :], []
    for first in range(0, len(order) - 7, 8):
        parts, spans, begin = [], [], 0
        for place in order[first : first + 8]:
            count = int(draw.integers(3, 13))
            move = np.linspace(0, 1, count)[:, None]
            parts.append((1 - move) * rows[place, 0].astype(np.float32) + move * rows[place, 1].astype(np.float32))
            spans.append((photos[place]["rows"][0], begin, begin + count))
            begin += count
        frames = np.concatenate(parts).astype(np.float32)
        (entry,) = encode_long(model, [Sampled(str(first), frames, tuple(map(float, range(begin))), float(begin))])
        for row, start, end in spans:
            query = encode_queries(model, [np.array(spoken[row : row + 1], np.float32)])
            cases.append(Case(query, entry, start, end))
    return cases


def of_demo(demo: Path, split: str) -> Iterator[tuple[str, Model, list[Case]]]:
    """The rendered world's teacher and student."""
    from prvr.datasets.folder import load
    from prvr.evaluate.evaluation import encode_captions, encode_split, fit_spans
    from prvr.features.shelf import student_features, teacher_features
    from prvr.methods import checkpoint as checkpoints

    features = demo / "features"
    data = load(demo / "videos", split)
    (name,) = (path.parent.name for path in features.glob("*/sentences"))
    (words,) = (path.parent.name for path in features.glob("*/words"))
    given = teacher_features(features, name)
    columns = given.sources.frames.columns
    student = checkpoints.load(demo / "runs" / "dl-dkd++" / "seed0").model
    for title, model, chosen in (
        ("demo teacher", ZeroShot(ZeroShotConfig(), frame_columns=columns, word_columns=columns), given),
        ("demo student", student, student_features(features, words=words, teachers=[name])),
    ):
        cut = fit_spans(data, chosen.frames)
        index, _ = encode_split(model, cut, chosen)
        queries = encode_captions(model, [caption.id for caption in cut.captions], chosen.text)
        cases = []
        for row, caption in enumerate(cut.captions):
            query = tuple(field[row : row + 1] for field in queries)
            for start, end in caption.moments[:1]:
                cases.append(Case(query, index.fetch([caption.video])[caption.video], start, end))
        yield title, model, cases


def all_sets(shared: Path, out: Path, demo: Path | None, rate: float) -> Iterator[tuple[str, Model, list[Case]]]:
    clips = [json.loads(line) for line in (shared / "data" / "videos" / "clips.jsonl").open()]
    encoded, parts = Encoded(shared, rate), halves(clips)
    for split, some in parts.items():
        (out / "single").mkdir(exist_ok=True)
        yield f"cuts {split}", encoded.model, encoded.strung(some, shared / "data" / "videos", out / "single", range(6), 3)
        captions = folder(out, f"fades_{split}", compositions(shared, some, range(1), 3, FADE))
        yield f"fades {split}", encoded.model, encoded.cases(captions)
        single = [
            {**one, "video": clip["file"], "path": shared / "data" / "videos", "kept": out / "single" / name_of(clip)}
            for clip in some
            for one in clip["captions"]
        ]
        yield f"single {split}", encoded.model, encoded.cases(single)
        yield f"montage {split}", encoded.model, montage(shared, encoded.model, split)
        if demo is not None:
            for title, model, cases in of_demo(demo, split):
                yield f"{title} {split}", model, cases
    captions = folder(out, "twelve", compositions(shared, clips, range(2), 6, 0.0))
    yield "twelve", encoded.model, encoded.cases(captions)


def first_span(model: Model, case: Case) -> tuple[float, float]:
    """What a hit says."""
    curve, edges = relevance(model, case.query, case.entry)
    assert edges is not None
    return best_span(curve, edges, frames=frame_rows(model, case.entry))


def by_the_curve_alone(model: Model, case: Case) -> tuple[float, float]:
    """The rule of decision 0017: without the rows of frames, each of which has the time until the next."""
    curve, edges = relevance(model, case.query, case.entry)
    assert edges is not None
    return best_span(curve, case.edges_before or edges)


def around_peak(model: Model, case: Case) -> tuple[float, float]:
    curve, edges = relevance(model, case.query, case.entry)
    assert edges is not None
    time = peak_time(curve, edges)
    return max(time - 2.0, 0.0), min(time + 2.0, edges[-1])


def whole(model: Model, case: Case) -> tuple[float, float]:
    assert case.entry.edges is not None
    return case.entry.edges[0], case.entry.edges[-1]


RULES: dict[str, Rule] = {
    "the product": first_span,
    "by the curve alone": by_the_curve_alone,
    "best frame ± 2 s": around_peak,
    "whole video": whole,
}


def figures(model: Model, cases: list[Case], rule: Rule) -> str:
    fits = np.array([overlap(rule(model, case), (case.start, case.end)) for case in cases])
    lengths = np.array([case.end - case.start for case in cases])
    found = np.array([end - start for start, end in (rule(model, case) for case in cases)])
    parts = [fits, fits[lengths < SHORT], fits[lengths >= SHORT]]
    numbers = " ".join(f"{part.mean():.3f}" if len(part) else "    -" for part in parts)
    return f"{numbers}  {np.mean(found > 2 * lengths):4.0%} too long, median {np.median(found):.1f} of {np.median(lengths):.1f} s"


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--rate", type=float, default=1.0)
    given = parser.parse_args()
    for name, model, cases in all_sets(given.shared, given.out, given.demo, given.rate):
        print(f"{name}: {len(cases)} captions; mean IoU of all, below {SHORT:g} s, from there on")
        for title, rule in RULES.items():
            print(f"  {title:18} {figures(model, cases, rule)}", flush=True)


if __name__ == "__main__":
    main()
