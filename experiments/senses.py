"""What texts are worth beside a picture: the weights of `prvr.search.senses.FusionWeights`, and R@1 of picture, texts and both.

    python experiments/senses.py ../shared/data/montage ENCODER

2,000 real photographs are strung into 250 videos of eight, five seconds each. In one video of four, each photograph is spoken of
by the very caption that is asked, in one by its other caption, in two by captions of photographs that are not there. ENCODER
embeds texts and queries. The form of the strength of meaning is chosen, and weights are fitted, on the queries of half
of the videos alone; the other half, over all videos, is printed once, at the end.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prvr.encoders import open_encoder
from prvr.encoders.sentence_embeddings import sentence_embedder
from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.methods.calibration import logistic
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search.text_matches import match_words

PHOTOS, SECONDS = 8, 5.0
GROUPS = ("very words", "other words", "noise", "noise")
NEIGHBOURS, POWERS = (2, 3, 5, 8, 10), (1, 2)


def main(root: Path, encoder: str) -> None:
    draw = np.random.default_rng(0)
    photos = [{**json.loads(line), "number": number} for number, line in enumerate((root / "photos.jsonl").open())]
    teacher = np.load(root / "teacher.npy", mmap_mode="r")
    captions = np.load(root / "teacher_captions.npy")
    test = [photo for photo in photos if photo["split"] == "test"]
    others = [text for photo in photos if photo["split"] != "test" for text in photo["captions"]]
    order = draw.permutation(len(test))
    videos = [[test[place] for place in order[start : start + PHOTOS]] for start in range(0, len(test) - PHOTOS + 1, PHOTOS)]
    frames = unit(np.stack([[teacher[photo["number"], 0] for photo in video] for video in videos]))
    asked = unit(np.stack([captions[photo["rows"][0]] for video in videos for photo in video]))
    queries = [photo["captions"][0] for video in videos for photo in video]
    said = []
    for number, video in enumerate(videos):
        which = {"very words": 0, "other words": 1}.get(GROUPS[number % 4])
        said += [draw.choice(others) if which is None else photo["captions"][which] for photo in video]
    pictures = np.einsum("qd,vfd->qvf", asked, frames).max(2)
    embed = sentence_embedder(open_encoder(encoder))
    began = time.process_time()
    texts = embed(said)
    print(f"meaning: {1000 * (time.process_time() - began) / len(said):.1f} ms of processor a text", flush=True)
    cosines = (embed(queries) @ texts.T).reshape(len(queries), len(videos), PHOTOS).max(2)
    target = np.arange(len(queries)) // PHOTOS
    group = np.array([GROUPS[number % 4] for number in target])
    z = (pictures - pictures.mean(1, keepdims=True)) / pictures.std(1, keepdims=True)
    measure(z, strengths_of_words(queries, said, frames), cosines, target, group)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def strengths_of_words(queries: list[str], said: list[str], frames: np.ndarray) -> np.ndarray:
    model = ZeroShot(ZeroShotConfig(), frame_columns=frames.shape[-1], word_columns=frames.shape[-1]).eval()
    strengths = np.zeros((len(queries), len(frames)))
    with tempfile.TemporaryDirectory() as folder:
        index = DiskIndex.make(Path(folder), model, Header("model", "float16", "videos"))
        edges = tuple(SECONDS * n for n in range(PHOTOS + 1))
        index.add([Entry(f"{number:04}", (rows,), (PHOTOS,), edges) for number, rows in enumerate(frames)])
        for number in range(len(frames)):
            own = said[PHOTOS * number : PHOTOS * (number + 1)]
            timed = tuple(TimedText(SECONDS * n, SECONDS * (n + 1), text, "speech") for n, text in enumerate(own))
            index.texts.extend(f"{number:04}", "speech", TextsPart(edges[-1], timed), made_of="", is_complete=True)
        for row, query in enumerate(queries):
            for match in match_words(index.texts, query, "speech", of=len(frames)):
                strengths[row, int(match.video)] = match.strength
        index.close()
    return strengths


def forms(z: np.ndarray, words: np.ndarray, cosines: np.ndarray) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Name, strength of meaning, and whether words and meaning are added; otherwise the greater gain counts."""
    yield "words alone", np.zeros_like(z), False
    ordered = np.sort(cosines, 1)[:, ::-1]
    for neighbour in NEIGHBOURS:
        excess = np.maximum(cosines - ordered[:, neighbour - 1 : neighbour], 0)
        for power in POWERS:
            for is_sum in (False, True):
                yield f"(cosine - {neighbour}th)^{power}, {'sum' if is_sum else 'greater'}", excess**power, is_sum


def measure(z: np.ndarray, words: np.ndarray, cosines: np.ndarray, target: np.ndarray, group: np.ndarray) -> None:
    fit_on = target // 4 % 2 == 0
    right = np.arange(z.shape[1])[None] == target[:, None]

    def recalls(scores: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
        first = scores.argmax(1) == target
        return {name: round(100 * float(first[chosen & (group == name)].mean()), 1) for name in dict.fromkeys(GROUPS)}

    def slopes(*columns: np.ndarray) -> np.ndarray:
        _, *fitted = logistic(np.stack([column[fit_on].ravel() for column in (z, *columns)], 1), right[fit_on].ravel())
        return np.array(fitted[1:]) / fitted[0]

    alone = {"picture": z, "words": words + 1e-9 * z, "meaning": cosines}
    fused = {}
    for name, meaning, is_sum in forms(z, words, cosines):
        if is_sum:
            weights = slopes(words, meaning)
            fused[name] = z + weights[0] * words + weights[1] * meaning, weights
        else:
            weights = np.array([slopes(words)[0], slopes(meaning)[0] if meaning.any() else 0.0])
            fused[name] = z + np.maximum(weights[0] * words, weights[1] * meaning), weights
    sizes = {name: int((fit_on & (group == name)).sum()) for name in dict.fromkeys(GROUPS)}
    best = {name: max(recalls(scores, fit_on)[name] for scores in alone.values()) for name in sizes}
    print("half A, alone:", {name: recalls(scores, fit_on) for name, scores in alone.items()}, flush=True)
    shortfalls = {}
    for name, (scores, weights) in fused.items():
        found = recalls(scores, fit_on)
        # Below the better of picture and texts, over all queries.
        shortfalls[name] = sum(sizes[one] * max(0.0, best[one] - found[one]) for one in sizes) / sum(sizes.values())
        print(f"half A, {name}: {found}, short by {shortfalls[name]:.2f}; weights {weights.round(2)}", flush=True)
    name = min(shortfalls, key=lambda one: shortfalls[one])
    print("half B, alone:", {one: recalls(scores, ~fit_on) for one, scores in alone.items()})
    for one in ("words alone", "(cosine - 8th)^2, greater", name):
        print(f"half B, {one}:", recalls(fused[one][0], ~fit_on), fused[one][1].round(2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
