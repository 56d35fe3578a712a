"""What it brings to ask with more than one sentence, by `VideoSearch.search` on held-out captions of the montage.

    python experiments/asking.py SHARED OUT [--pairs 2000] [--every 1]

SHARED holds data/montage (see its data/README.md). The 250 videos are those of SHARED/tools/make_montage.py with seed 0: eight
photographs of the test split each, 3 to 12 frames a photograph. Frames and captions are the rows of the teacher, which never saw
these photographs. Every figure is of the product's own search over an index on disk in OUT. Prints tables of
docs/how/indexes.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Header
from prvr.index.disk import DiskIndex
from prvr.index.encode import Sampled, encode
from prvr.methods import checkpoint as checkpoints
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search.asking import VideoSearch
from prvr.search.hits import Hit
from prvr.search.question import Moment, Question

PHOTOS, DEPTH = 8, 10


class CaptionRows:
    """The stored rows of captions, as an encoder of sentences."""

    name, source, fingerprint = "teacher_captions", "montage", "0" * 16

    def __init__(self, rows: dict[str, np.ndarray]) -> None:
        self.rows, self.sentence_columns = rows, len(next(iter(rows.values())))

    def encode_sentences(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.rows[text] for text in texts])


def montage(data: Path) -> tuple[list[Sampled], list[tuple[int, float, list[str]]], CaptionRows]:
    """The videos; of each photograph the video, the time of its middle and its captions; and the encoder."""
    photos = [json.loads(line) for line in (data / "photos.jsonl").read_text().splitlines()]
    teacher = np.load(data / "teacher.npy").astype(np.float32)
    spoken = np.load(data / "teacher_captions.npy").astype(np.float32)
    rng, videos, described, rows = np.random.default_rng(0), [], [], {}
    # As make_montage.py draws them: the train videos first.
    for split in ("train", "test"):
        members = rng.permutation([i for i, photo in enumerate(photos) if photo["split"] == split]).tolist()
        for number in range(len(members) // PHOTOS):
            frames: list[np.ndarray] = []
            for photo in members[number * PHOTOS : (number + 1) * PHOTOS]:
                count, begin = int(rng.integers(3, 13)), sum(map(len, frames))
                move = np.linspace(0, 1, count)[:, None]
                frames.append((1 - move) * teacher[photo, 0] + move * teacher[photo, 1])
                if split == "test":
                    captions = [
                        f"{row}: {text}"[:900]
                        for row, text in zip(photos[photo]["rows"], photos[photo]["captions"], strict=False)
                    ]
                    rows |= {text: spoken[row] for text, row in zip(captions, photos[photo]["rows"], strict=False)}
                    described.append((number, begin + count / 2, captions))
            if split == "test":
                whole = np.concatenate(frames)
                videos.append(Sampled(f"{number:03}.mp4", whole, tuple(range(len(whole))), float(len(whole))))
    return videos, described, CaptionRows(rows)


def opened(out: Path, videos: list[Sampled], encoder: CaptionRows) -> VideoSearch:
    shutil.rmtree(out, ignore_errors=True)
    sources = FeatureSources(Source("frames", encoder.sentence_columns), Source("text", encoder.sentence_columns))
    checkpoint = checkpoints.build("zero_shot", ZeroShotConfig(), sources)
    index = DiskIndex.make(out, checkpoint.model, Header(checkpoint.fingerprint, "float32", str(out)))
    index.add(encode(checkpoint.model, videos))
    return VideoSearch(checkpoint, index, encoder, videos=out)


def rank_of(hits: list[Hit], video: str) -> int:
    """The place of a video among hits, from 0; `DEPTH` if it is not there."""
    return next((place for place, hit in enumerate(hits) if hit.video == video), DEPTH)


def recalls(ranks: list[int]) -> str:
    return " | ".join(f"{100 * np.mean([rank < k for rank in ranks]):.1f}" for k in (1, 5, 10))


def order(search: VideoSearch, described: list, pairs: int) -> None:
    """Two sentences about photographs of one video, in their order, among the videos and their reversed twins."""
    draw, ranks, ahead, overlaps = np.random.default_rng(1), {"one box": [], "in order": []}, [], []
    for _ in range(pairs):
        video, (a, b) = int(draw.integers(len(described) // PHOTOS)), sorted(draw.choice(PHOTOS, 2, replace=False).tolist())
        (_, at_a, said_a), (_, at_b, said_b) = described[video * PHOTOS + a], described[video * PHOTOS + b]
        own, twin = f"{video:03}.mp4", f"{video:03} reversed.mp4"
        box = search.search(Question(said_a[0], also=(said_b[0],)), k=DEPTH)
        # Twins tie, and the first by name would always come first: a coin decides.
        ranks["one box"].append(min(rank_of(box, own), rank_of(box, twin)) + int(draw.integers(2)))
        asked = Question(said_a[0], then=(said_b[0],))
        hits = search.search(asked, k=DEPTH)
        ranks["in order"].append(rank_of(hits, own))
        scores = [one.score for one in (search.explain(asked, own), search.explain(asked, twin)) if one is not None]
        ahead.append(scores[0] > scores[1])
        parts = next((hit.parts for hit in hits if hit.video == own), ())
        overlaps += [part.start <= at <= part.end for part, at in zip(parts, (at_a, at_b), strict=False)]
    for name, of in ranks.items():
        print(f"| {name} | {recalls(of)} |", flush=True)
    print(
        f"{pairs} pairs; {100 * np.mean(ahead):.1f} % ahead of the twin; {100 * np.mean(overlaps):.1f} % of the parts' spans hold"
    )


def wordings(search: VideoSearch, described: list) -> None:
    ranks: dict[str, list[int]] = {"first wording": [], "second wording": [], "both": []}
    for video, _, (one, other) in described:
        own = f"{video:03}.mp4"
        for name, question in zip(ranks, (Question(one), Question(other), Question(one, also=(other,))), strict=False):
            ranks[name].append(rank_of(search.search(question, k=DEPTH), own))
    for name, of in ranks.items():
        print(f"| {name} | {recalls(of)} |", flush=True)


def feedback(search: VideoSearch, described: list) -> None:
    """One thumb up or down among the ten first hits, by a user who knows the moment; marked videos no longer count.

    Up: the hit whose best frame looks most like the moment, of another video. Down: the first wrong hit.
    """
    ranks: dict[str, list[int]] = {"before": [], "one up": [], "one down": [], "both": []}
    for video, seconds, (one, _) in described:
        own = f"{video:03}.mp4"
        hits = search.search(one, k=DEPTH)
        if (before := rank_of(hits, own)) == 0:
            continue
        wrong = [hit for hit in hits[:10] if hit.video != own]
        row = search.index.fetch([own])[own].fields[0][int(seconds)]
        at = [Moment(hit.video, float(hit.edges[int(np.argmax(hit.curve))])) for hit in wrong]
        alike = [float(search.index.fetch([m.video])[m.video].fields[0][int(m.seconds)] @ row) for m in at]
        up, down = at[int(np.argmax(alike))], at[0] if int(np.argmax(alike)) else at[-1]
        ranks["before"].append(before)
        for name, more, less in (("one up", (up,), ()), ("one down", (), (at[0],)), ("both", (up,), (down,))):
            again = [
                hit for hit in search.search(Question(one, more=more, less=less), k=DEPTH) if not more or hit.video != up.video
            ]
            ranks[name].append(rank_of(again, own))
    for name, of in ranks.items():
        print(f"| {name} | {recalls(of)} |", flush=True)
    print(f"{len(ranks['before'])} captions whose video is not first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--every", type=int, default=1, help="only every n-th caption, for wordings and feedback")
    arguments = parser.parse_args()
    videos, described, encoder = montage(arguments.shared / "data" / "montage")
    search = opened(arguments.out / "videos", videos, encoder)
    merged = [hit.near_identical for hit in search.search(described[0][2][0], k=len(videos)) if hit.near_identical]
    print(f"{len(videos)} videos, {len(merged)} folded as near-identical", flush=True)
    print("| wording | R@1 | R@5 | R@10 |\n|---|---|---|---|")
    wordings(search, described[:: arguments.every])
    print("| feedback | R@1 | R@5 | R@10 |\n|---|---|---|---|", flush=True)
    feedback(search, described[:: arguments.every])
    twins = [
        Sampled(video.video.replace(".", " reversed."), video.rows[::-1].copy(), video.times, video.duration) for video in videos
    ]
    search = opened(arguments.out / "twins", [*videos, *twins], encoder)
    print("| order | R@1 | R@5 | R@10 |\n|---|---|---|---|", flush=True)
    order(search, described, arguments.pairs)


if __name__ == "__main__":
    main()
