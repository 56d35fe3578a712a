"""Random galleries and queries: queries that are as hard for an index as sentences are, and easy ones.

Directions have the spectrum of photographs and captions in a real dual encoder of 384 columns: the first 8, 32 and 64 principal
columns hold 30, 66 and 84 % of the photographs' variance, and 22, 49 and 65 % of the captions' energy (here 30, 65, 80 and 20,
49, 66). Neighbouring frames are as similar as in real clips at one frame a second (a mean cosine of 0.85 to the next frame), and
a third of the frames repeat the one before.

A hard query is like a sentence: far from every frame, because sentences and frames lie in two different cones, and its own frame
is hardly nearer than the nearest of a million others. An easy query is a frame with noise; every index finds its frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

FEWEST, MOST = 64, 128
CHUNK = 500

Fields = tuple[Float32[np.ndarray, "R D"], ...]
Queries = tuple[Float32[np.ndarray, "Q D"], ...]


@dataclass(frozen=True)
class World:
    """The parameters of a gallery: the frames of `videos` videos in two branches.

    decay: exponent with which the frames' variance falls over the columns; that of the queries is half smaller. 0 for constant
        variance, which no real embeddings have; a first stage that keeps few columns then finds nothing.
    cone: share of a frame's square that all frames have in common.
    scene: mean number of frames in a scene.
    still: share of frames that repeat the one before.
    wander: share of a frame's square that does not come from its scene.
    topic: share of a scene's square that comes from its video.
    shared: share of the second branch's square that comes from the first.
    """

    videos: int
    columns: int = 384
    fewest: int = FEWEST
    most: int = MOST
    decay: float = 2.0
    cone: float = 0.5
    scene: float = 10.0
    still: float = 0.3
    wander: float = 0.3
    topic: float = 0.3
    shared: float = 0.6
    seed: int = 0

    @property
    def chunks(self) -> int:
        """The number of parts in which the gallery is generated, each from its own seed."""
        return -(-self.videos // CHUNK)


def chunks(world: World) -> Iterator[tuple[Fields, Int[np.ndarray, "N"]]]:
    """Yields the gallery in parts: unit rows of each branch, and the first row of each video, with the end of the last one."""
    for number in range(world.chunks):
        contents, starts = _contents(world, number)
        yield tuple(_in_cone(world, content, of="frames") for content in contents), starts


def hard_queries(world: World, count: int, *, nearness: float = 0.5, gap: float = 0.65, turned: bool = False) -> Queries:
    """Returns queries like sentences about frames of the first part.

    Args:
        turned: what a query has beside its own frame varies along axes of its own, not along those of the frames.
        nearness: cosine of a query with its own frame, without the cones.
        gap: share of a query's square that all queries have in common.
    """
    draw = np.random.default_rng([world.seed, 1])
    contents, _ = _contents(world, 0)
    places = draw.integers(0, len(contents[0]), count)
    noise = [_units(_spread(world, draw, count, power=world.decay - 0.5 if world.decay else 0)) for _ in range(2)]
    if turned:
        axes, _ = np.linalg.qr(draw.standard_normal((world.columns, world.columns)))
        noise = [away @ axes.astype(np.float32) for away in noise]
    other = math.sqrt(world.shared) * noise[0] + math.sqrt(1 - world.shared) * noise[1]
    texts = [
        nearness * content[places] + math.sqrt(1 - nearness**2) * away
        for content, away in zip(contents, (noise[0], _units(other)), strict=True)
    ]
    return tuple(_in_cone(world, _units(text), of="sentences", share=gap) for text in texts)


def easy_queries(world: World, count: int, *, nearness: float = 0.8) -> Queries:
    """Returns frames of the first part, with noise in all columns."""
    draw = np.random.default_rng([world.seed, 2])
    contents, _ = _contents(world, 0)
    places = draw.integers(0, len(contents[0]), count)
    frames = [_in_cone(world, content[places], of="frames") for content in contents]
    away = [_units(draw.standard_normal(frame.shape, np.float32)) for frame in frames]
    return tuple(_units(nearness * f + math.sqrt(1 - nearness**2) * a) for f, a in zip(frames, away, strict=True))


def _contents(world: World, number: int) -> tuple[Fields, Int[np.ndarray, "N"]]:
    """Returns the content of the frames of a part, before the cone is added: unit rows of each branch."""
    draw = np.random.default_rng([world.seed, 0, number])
    videos = min(CHUNK, world.videos - number * CHUNK)
    starts = np.append(0, np.cumsum(draw.integers(world.fewest, world.most + 1, videos)))
    rows = np.arange(starts[-1])
    cuts = draw.random(len(rows)) < 1 / world.scene
    cuts[starts[:-1]] = True
    repeats = (draw.random(len(rows)) < world.still) & ~cuts
    shown = np.maximum.accumulate(np.where(repeats, 0, rows))
    scene, video = np.cumsum(cuts) - 1, np.repeat(np.arange(videos), np.diff(starts))
    one, two = (_shots(world, draw, scene, video)[shown] for _ in range(2))
    return (one, _units(math.sqrt(world.shared) * one + math.sqrt(1 - world.shared) * two)), starts


def _shots(
    world: World, draw: np.random.Generator, scene: Int[np.ndarray, "R"], video: Int[np.ndarray, "R"]
) -> Float32[np.ndarray, "R D"]:
    topics = _spread(world, draw, int(video[-1]) + 1, power=world.decay)
    scenes = _spread(world, draw, int(scene[-1]) + 1, power=world.decay)
    video_of_scene = video[np.flatnonzero(np.diff(scene, prepend=-1))]
    scenes = math.sqrt(world.topic) * topics[video_of_scene] + math.sqrt(1 - world.topic) * scenes
    steps = _spread(world, draw, len(scene) + 2, power=world.decay)
    # A mean of three successive steps: neighbours share two thirds of it.
    wander = (steps[2:] + steps[1:-1] + steps[:-2]) / math.sqrt(3)
    return _units(math.sqrt(1 - world.wander) * scenes[scene] + math.sqrt(world.wander) * wander)


def _spread(world: World, draw: np.random.Generator, count: int, *, power: float) -> Float32[np.ndarray, "N D"]:
    """Draws normal rows with mean length 1; their variance falls over the columns as `(column + 20) ** -power`."""
    spread = (np.arange(world.columns) + 20.0) ** -power
    return draw.standard_normal((count, world.columns), np.float32) * np.sqrt(spread / spread.sum()).astype(np.float32)


def _in_cone(
    world: World, content: Float32[np.ndarray, "N D"], *, of: str, share: float | None = None
) -> Float32[np.ndarray, "N D"]:
    share = world.cone if share is None else share
    axes = np.random.default_rng([world.seed, 3]).standard_normal((2, world.columns)).astype(np.float32)
    axis = _units(axes)[("frames", "sentences").index(of)]
    return _units(math.sqrt(share) * axis + math.sqrt(1 - share) * content)


def _units(rows: Float32[np.ndarray, "N D"]) -> Float32[np.ndarray, "N D"]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
