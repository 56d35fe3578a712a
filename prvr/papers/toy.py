"""A toy world in the layout of the published packages: made-up features in which the papers' experiments run in minutes.

A video is a string of events before a background; an event is who does what to what. A caption says one of them in five to
nine words. The words' vectors are random, so that a student has to learn what each means. Its frames carry the event
through a fixed random network, with noise and with nuisance of the video. A teacher's frames and sentences carry the
event's code itself, with less noise, but for some of the things its sight and its language do not agree: the domain gap,
which makes a teacher strong or mediocre. No figure from here says anything about real video.

Test videos hold events of which every part was seen in training, most of them never together.
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
SIGHT_NOISE, NUISANCE, TEACHER_NOISE = 1.0, 1.5, 1.0

# By name: for which share of the things a teacher's sight and language do not agree. `second` lacks other things than
# `mediocre`.
TEACHERS: Mapping[str, float] = {"strong": 0.1, "mediocre": 0.5, "second": 0.5}


@dataclass(frozen=True)
class World:
    """What things look like and how words sound: drawn once, the same for all videos."""

    codes: Mapping[str, Float32[np.ndarray, "K"]]
    words: Mapping[str, Float32[np.ndarray, "C"]]
    eye: Float32[np.ndarray, "N E"]
    teachers: Mapping[str, Teacher]


@dataclass(frozen=True)
class Teacher:
    """Its space, and how the things look to it: their codes, or other ones where it does not know them."""

    space: Float32[np.ndarray, "K T"]
    sight: Mapping[str, Float32[np.ndarray, "K"]]


@dataclass(frozen=True)
class Moment:
    """One event of a video: its words, who does what to what, and its frames."""

    words: tuple[str, ...]
    parts: tuple[str, str, str]
    first: int
    last: int


def write_toy(
    root: str | Path, *, collection: str = "toy", train_videos: int = 240, test_videos: int = 120, seed: int = 0
) -> Path:
    """Writes a toy package ROOT/COLLECTION, with captions, spans, features and several teachers; gives its folder.

    The test captions stand as `val` and as `test`, as in the packages of the field.

    Raises:
        SettingError: fewer than two videos of a split.
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
    for split, stands_as in (("train", ("train",)), ("test", ("val", "test"))):
        for its in stands_as:
            _write_captions(package, collection, its, splits[split])
    # Last: a folder that has it is whole.
    write_json(package / "toy.json", _about(train_videos, test_videos, seed))
    return package


def is_toy(package: Path, *, train_videos: int = 240, test_videos: int = 120, seed: int = 0) -> bool:
    """Whether a folder holds a whole toy package of these sizes and this seed."""
    path = package / "toy.json"
    return path.is_file() and json.loads(path.read_text()) == _about(train_videos, test_videos, seed)


def _about(train_videos: int, test_videos: int, seed: int) -> dict[str, int]:
    return {"version": 1, "train_videos": train_videos, "test_videos": test_videos, "seed": seed}


def _world(rng: np.random.Generator) -> World:
    def unit(count: int, columns: int) -> Float32[np.ndarray, "N K"]:
        rows = rng.normal(size=(count, columns)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    things = (*WHO, *DOES, *WHAT)
    spoken = (*things, *COLOURS, *ARTICLES)
    codes = dict(zip(things, unit(len(things), CODE), strict=True))
    words = dict(zip(spoken, unit(len(spoken), WORD_COLUMNS), strict=True))
    eye = rng.normal(size=(2 * CODE, FRAME_COLUMNS)).astype(np.float32) / np.float32(np.sqrt(2 * CODE))
    teachers = {}
    for name, gap in TEACHERS.items():
        space = np.linalg.qr(rng.normal(size=(TEACHER_COLUMNS, CODE)))[0].T.astype(np.float32)
        unknown = rng.choice(things, size=round(gap * len(things)), replace=False)
        sight = {**codes, **dict(zip(map(str, unknown), unit(len(unknown), CODE), strict=True))}
        teachers[name] = Teacher(space, sight)
    return World(codes, words, eye, teachers)


def _moments(rng: np.random.Generator) -> tuple[Moment, ...]:
    moments, frame = [], int(rng.integers(2, 6))
    for _ in range(int(rng.integers(3, 6))):
        who, does, what = (str(rng.choice(names)) for names in (WHO, DOES, WHAT))
        noun_phrases = [[str(rng.choice(ARTICLES)), str(rng.choice(COLOURS)), noun] for noun in (who, what)]
        words = tuple(word for word in (*noun_phrases[0], does, *noun_phrases[1]) if word)
        last = frame + int(rng.integers(3, 9))
        moments.append(Moment(words, (who, does, what), frame, last))
        frame = last + int(rng.integers(1, 6))
    return tuple(moments)


def _frames_of(moments: tuple[Moment, ...]) -> int:
    return moments[-1].last + 3


def _content(
    moments: tuple[Moment, ...], codes: Mapping[str, np.ndarray], rng: np.random.Generator
) -> Float32[np.ndarray, "F K"]:
    """What is to be seen at each frame: the event, or background."""
    content = 0.5 * np.repeat(_noise(rng, 1), _frames_of(moments), axis=0)
    for moment in moments:
        content[moment.first : moment.last] = _code(moment, codes)
    return content


def _code(moment: Moment, codes: Mapping[str, np.ndarray]) -> Float32[np.ndarray, "K"]:
    return sum((codes[part] for part in moment.parts), np.zeros(CODE, np.float32))


def _noise(rng: np.random.Generator, count: int) -> Float32[np.ndarray, "N K"]:
    return (rng.normal(size=(count, CODE)) / np.sqrt(CODE)).astype(np.float32)


def _write_frames(folder: Path, videos: Mapping[str, tuple[Moment, ...]], world: World, rng: np.random.Generator) -> None:
    rows, frames_of = [], {}
    for name, moments in videos.items():
        count = _frames_of(moments)
        drift = NUISANCE * (_noise(rng, 1) + np.cumsum(_noise(rng, count), axis=0) / np.float32(np.sqrt(count)))
        seen = np.concatenate([_content(moments, world.codes, rng) + SIGHT_NOISE * _noise(rng, count), drift], axis=1)
        rows.append(np.tanh(3 * seen @ world.eye))
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
    videos: Mapping[str, tuple[Moment, ...]],
    world: World,
    rng: np.random.Generator,
) -> None:
    teacher = world.teachers[name]

    def through(rows: Float32[np.ndarray, "N K"]) -> Float32[np.ndarray, "N T"]:
        return ((rows + np.float32(TEACHER_NOISE) * _noise(rng, len(rows))) @ teacher.space).astype(np.float32)

    frames = {video: through(_content(moments, teacher.sight, rng)) for video, moments in videos.items()}
    sentences = {id: through(_code(moment, world.codes)[None]) for id, moment in _captions(videos)}
    _write_hdf5(package / "FeatureData" / f"{name}_{collection}_vid_features.hdf5", frames)
    _write_hdf5(package / "TextData" / f"{name}_{collection}_query_feat.hdf5", sentences)


def _write_words(package: Path, collection: str, videos: Mapping[str, tuple[Moment, ...]], world: World) -> None:
    """Three kinds: words that know their sentence (as a language model's), word vectors, word vectors with roles."""
    kinds: dict[str, dict[str, Float32[np.ndarray, "W C"]]] = {"words": {}, "vectors": {}, "roles": {}}
    for id, moment in _captions(videos):
        rows = np.stack([world.words[word] for word in moment.words])
        kinds["words"][id] = (rows + 0.5 * rows.mean(0)).astype(np.float32)
        kinds["vectors"][id] = rows
        kinds["roles"][id] = np.concatenate([rows, _labels(moment)], axis=1)
    for kind, features in kinds.items():
        _write_hdf5(package / "TextData" / f"{kind}_{collection}_query_feat.hdf5", features)


def _labels(moment: Moment) -> Float32[np.ndarray, "W L"]:
    """Who, does and what as the graph of `encoders.roles`: one action, an agent before it and a patient after it."""
    labels = np.zeros((len(moment.words), LABEL_COLUMNS), np.float32)
    verb = moment.words.index(moment.parts[1])
    labels[verb, 0] = 1
    for entity, (place, role) in enumerate(((slice(0, verb), "agent"), (slice(verb + 1, None), "patient")), start=1):
        labels[place, 1], labels[place, LABEL_COLUMNS - ACTIONS] = entity, 1 + ROLES.index(role)
    return labels


def _write_captions(package: Path, collection: str, split: str, videos: Mapping[str, tuple[Moment, ...]]) -> None:
    lines, spans = [], []
    for id, moment in _captions(videos):
        video, text = id.partition("#")[0], " ".join(moment.words)
        span = [moment.first * FRAME_SECONDS, moment.last * FRAME_SECONDS]
        lines.append(f"{id} {text}\n")
        duration = _frames_of(videos[video]) * FRAME_SECONDS
        spans.append(json.dumps({"vid_name": video, "desc_id": id, "duration": duration, "ts": span, "desc": text}) + "\n")
    write_whole(package / "TextData" / f"{collection}{split}.caption.txt", "".join(lines).encode())
    write_whole(package / "annotations" / f"{split}.jsonl", "".join(spans).encode())


def _captions(videos: Mapping[str, tuple[Moment, ...]]) -> Iterator[tuple[str, Moment]]:
    for video, moments in videos.items():
        for number, moment in enumerate(moments):
            yield f"{video}#enc#{number}", moment


def _write_hdf5(path: Path, features: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for id, rows in features.items():
            file[id] = rows
