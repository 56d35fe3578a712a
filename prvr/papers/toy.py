"""A toy world in the layout of the published packages: random features on which the papers' experiments run in minutes.

A video is a sequence of events with background between them; an event is who does what to what. A caption describes one event in
five to nine words. The word vectors are random, so a student has to learn the meaning of each word. The student's frames contain
the event through a fixed random network, with noise and a drift that differs by video. A teacher's frames and sentences contain
the event's code itself, with less noise, but its vision and its language disagree about some of the things: this is the domain
gap, which makes a teacher strong or mediocre. No figure of this world is evidence about real video.

Every part of a test video's events occurs in training, most of the combinations do not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float32

from prvr.encoders.roles import ACTIONS, LABEL_COLUMNS, ROLES
from prvr.errors import SettingError
from prvr.files import write_json, write_whole

WHO = ("man", "woman", "girl", "boy", "dog", "cat", "chef", "clown", "farmer", "horse", "nurse", "robot")
DOES = ("carries", "chases", "drops", "lifts", "paints", "pushes", "throws", "watches", "hides", "hits", "kicks", "washes")
WHAT = ("ball", "box", "car", "chair", "cup", "guitar", "hat", "lamp", "plate", "rope", "table", "umbrella")
COLOURS = ("red", "blue", "old", "small", "")
ARTICLES = ("a", "the", "one")
CODE, FRAME_COLUMNS, WORD_COLUMNS, TEACHER_COLUMNS, FRAME_SECONDS = 24, 64, 48, 32, 1.5
FRAME_NOISE, DRIFT, TEACHER_NOISE = 1.0, 1.5, 1.0

# By name: the share of the things about which a teacher's vision and language disagree. The things are different ones for
# `second` and for `mediocre`.
TEACHERS: Mapping[str, float] = {"strong": 0.1, "mediocre": 0.5, "second": 0.5}


@dataclass(frozen=True)
class World:
    """The random codes of things and vectors of words: drawn once, the same for all videos."""

    codes: Mapping[str, Float32[np.ndarray, "K"]]
    words: Mapping[str, Float32[np.ndarray, "C"]]
    projection: Float32[np.ndarray, "N E"]
    teachers: Mapping[str, Teacher]


@dataclass(frozen=True)
class Teacher:
    """A teacher's space, and the code that it sees for each thing: another code for a thing that it does not know."""

    space: Float32[np.ndarray, "K T"]
    seen_codes: Mapping[str, Float32[np.ndarray, "K"]]


@dataclass(frozen=True)
class ToyEvent:
    """One event of a video: its words, its parts (agent, action, patient), and its first frame and end."""

    words: tuple[str, ...]
    parts: tuple[str, str, str]
    first: int
    last: int


def write_toy(
    root: str | Path, *, collection: str = "toy", train_videos: int = 240, test_videos: int = 120, seed: int = 0
) -> Path:
    """Writes a toy package ROOT/COLLECTION, with captions, spans, features and several teachers; returns its folder.

    The test captions are written as `val` and as `test`, as in the published packages.

    Raises:
        SettingError: a split has fewer than two videos.
    """
    if min(train_videos, test_videos) < 2:
        raise SettingError(f"{train_videos} train and {test_videos} test videos are too few; make at least two of each")
    package, rng = Path(root) / collection, np.random.default_rng(seed)
    world = _world(rng)
    splits = {
        split: {f"{collection}_{split}_{n:04d}": _moments(rng) for n in range(count)}
        for split, count in (("train", train_videos), ("test", test_videos))
    }
    videos = {name: moments for split in splits.values() for name, moments in split.items()}
    _write_frames(package / "FeatureData" / "toy_frames", videos, world, rng)
    for name in TEACHERS:
        _write_teacher(package, collection, name, videos, world, rng)
    _write_words(package, collection, videos, world)
    for name, split in (("train", "train"), ("val", "test"), ("test", "test")):
        _write_captions(package, collection, name, splits[split])
    # The last file: a folder that has it is complete.
    write_json(package / "toy.json", _about(train_videos, test_videos, seed))
    return package


def is_toy(package: Path, *, train_videos: int = 240, test_videos: int = 120, seed: int = 0) -> bool:
    """Whether a folder holds a complete toy package of these sizes and this seed."""
    path = package / "toy.json"
    return path.is_file() and json.loads(path.read_text()) == _about(train_videos, test_videos, seed)


def _about(train_videos: int, test_videos: int, seed: int) -> dict[str, int]:
    return {"version": 1, "train_videos": train_videos, "test_videos": test_videos, "seed": seed}


def _world(rng: np.random.Generator) -> World:
    def unit(count: int, columns: int) -> Float32[np.ndarray, "N K"]:
        rows = rng.normal(size=(count, columns)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    things = (*WHO, *DOES, *WHAT)
    vocabulary = (*things, *COLOURS, *ARTICLES)
    codes = dict(zip(things, unit(len(things), CODE), strict=True))
    words = dict(zip(vocabulary, unit(len(vocabulary), WORD_COLUMNS), strict=True))
    projection = rng.normal(size=(2 * CODE, FRAME_COLUMNS)).astype(np.float32) / np.float32(np.sqrt(2 * CODE))
    teachers = {}
    for name, gap in TEACHERS.items():
        space = np.linalg.qr(rng.normal(size=(TEACHER_COLUMNS, CODE)))[0].T.astype(np.float32)
        unknown = rng.choice(things, size=round(gap * len(things)), replace=False)
        seen_codes = {**codes, **dict(zip(map(str, unknown), unit(len(unknown), CODE), strict=True))}
        teachers[name] = Teacher(space, seen_codes)
    return World(codes, words, projection, teachers)


def _moments(rng: np.random.Generator) -> tuple[ToyEvent, ...]:
    moments, frame = [], int(rng.integers(2, 6))
    for _ in range(int(rng.integers(3, 6))):
        who, does, what = (str(rng.choice(names)) for names in (WHO, DOES, WHAT))
        noun_phrases = [[str(rng.choice(ARTICLES)), str(rng.choice(COLOURS)), noun] for noun in (who, what)]
        words = tuple(word for word in (*noun_phrases[0], does, *noun_phrases[1]) if word)
        last = frame + int(rng.integers(3, 9))
        moments.append(ToyEvent(words, (who, does, what), frame, last))
        frame = last + int(rng.integers(1, 6))
    return tuple(moments)


def _frames_of(moments: tuple[ToyEvent, ...]) -> int:
    return moments[-1].last + 3


def _content(
    moments: tuple[ToyEvent, ...], codes: Mapping[str, np.ndarray], rng: np.random.Generator
) -> Float32[np.ndarray, "F K"]:
    """The content of each frame: the event, or background."""
    content = 0.5 * np.repeat(_noise(rng, 1), _frames_of(moments), axis=0)
    for moment in moments:
        content[moment.first : moment.last] = _code(moment, codes)
    return content


def _code(moment: ToyEvent, codes: Mapping[str, np.ndarray]) -> Float32[np.ndarray, "K"]:
    return sum((codes[part] for part in moment.parts), np.zeros(CODE, np.float32))


def _noise(rng: np.random.Generator, count: int) -> Float32[np.ndarray, "N K"]:
    return (rng.normal(size=(count, CODE)) / np.sqrt(CODE)).astype(np.float32)


def _write_frames(folder: Path, videos: Mapping[str, tuple[ToyEvent, ...]], world: World, rng: np.random.Generator) -> None:
    rows, frames_of = [], {}
    for name, moments in videos.items():
        count = _frames_of(moments)
        drift = DRIFT * (_noise(rng, 1) + np.cumsum(_noise(rng, count), axis=0) / np.float32(np.sqrt(count)))
        seen = np.concatenate([_content(moments, world.codes, rng) + FRAME_NOISE * _noise(rng, count), drift], axis=1)
        rows.append(np.tanh(3 * seen @ world.projection))
        frames_of[name] = [f"{name}_{frame}" for frame in range(count)]
    table = np.concatenate(rows).astype("<f4")
    write_whole(folder / "feature.bin", table.tobytes())
    write_whole(folder / "shape.txt", f"{len(table)} {table.shape[1]}\n".encode())
    write_whole(folder / "id.txt", " ".join(id for ids in frames_of.values() for id in ids).encode())
    write_json(folder / "video2frames.txt", frames_of)


def _write_teacher(
    package: Path,
    collection: str,
    name: str,
    videos: Mapping[str, tuple[ToyEvent, ...]],
    world: World,
    rng: np.random.Generator,
) -> None:
    teacher = world.teachers[name]

    def through(rows: Float32[np.ndarray, "N K"]) -> Float32[np.ndarray, "N T"]:
        return ((rows + np.float32(TEACHER_NOISE) * _noise(rng, len(rows))) @ teacher.space).astype(np.float32)

    frames = {video: through(_content(moments, teacher.seen_codes, rng)) for video, moments in videos.items()}
    sentences = {id: through(_code(moment, world.codes)[None]) for id, moment in _captions(videos)}
    _write_hdf5(package / "FeatureData" / f"{name}_{collection}_vid_features.hdf5", frames)
    _write_hdf5(package / "TextData" / f"{name}_{collection}_query_feat.hdf5", sentences)


def _write_words(package: Path, collection: str, videos: Mapping[str, tuple[ToyEvent, ...]], world: World) -> None:
    """Writes three kinds: words in context (as of a language model), word vectors, word vectors with roles."""
    kinds: dict[str, dict[str, Float32[np.ndarray, "W C"]]] = {"words": {}, "vectors": {}, "roles": {}}
    for id, moment in _captions(videos):
        rows = np.stack([world.words[word] for word in moment.words])
        kinds["words"][id] = (rows + 0.5 * rows.mean(0)).astype(np.float32)
        kinds["vectors"][id] = rows
        kinds["roles"][id] = np.concatenate([rows, _labels(moment)], axis=1)
    for kind, features in kinds.items():
        _write_hdf5(package / "TextData" / f"{kind}_{collection}_query_feat.hdf5", features)


def _labels(moment: ToyEvent) -> Float32[np.ndarray, "W L"]:
    """The labels of `encoders.roles`: one action, an agent before it and a patient after it."""
    labels = np.zeros((len(moment.words), LABEL_COLUMNS), np.float32)
    verb = moment.words.index(moment.parts[1])
    labels[verb, 0] = 1
    for entity, (place, role) in enumerate(((slice(0, verb), "agent"), (slice(verb + 1, None), "patient")), start=1):
        labels[place, 1], labels[place, LABEL_COLUMNS - ACTIONS] = entity, 1 + ROLES.index(role)
    return labels


def _write_captions(package: Path, collection: str, split: str, videos: Mapping[str, tuple[ToyEvent, ...]]) -> None:
    lines, spans = [], []
    for id, moment in _captions(videos):
        video, text = id.partition("#")[0], " ".join(moment.words)
        span = [moment.first * FRAME_SECONDS, moment.last * FRAME_SECONDS]
        lines.append(f"{id} {text}\n")
        duration = _frames_of(videos[video]) * FRAME_SECONDS
        spans.append(json.dumps({"vid_name": video, "desc_id": id, "duration": duration, "ts": span, "desc": text}) + "\n")
    write_whole(package / "TextData" / f"{collection}{split}.caption.txt", "".join(lines).encode())
    write_whole(package / "annotations" / f"{split}.jsonl", "".join(spans).encode())


def _captions(videos: Mapping[str, tuple[ToyEvent, ...]]) -> Iterator[tuple[str, ToyEvent]]:
    for video, moments in videos.items():
        for number, moment in enumerate(moments):
            yield f"{video}#enc#{number}", moment


def _write_hdf5(path: Path, features: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for id, rows in features.items():
            file[id] = rows
