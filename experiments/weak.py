"""How well hits are told right from wrong without captions, by their score and by their strength (`prvr.index.reference`).

    python experiments/weak.py SHARED OUT

SHARED holds data/ (see its data/README.md); OUT is that of `experiments/spans.py`, which has encoded the clips. Galleries: the 35
real clips with 79 captions, and 250 rows of eight photographs with a caption each (of the test photographs), encoder
mobilenet-minilm. `absent` are 25 sentences about what neither shows. Prints the area under the ROC curve of best hits, right
against wrong and right against those of absent sentences, and the share of hits that are not called weak.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from spans import Encoded, montage, name_of

from prvr.index.exact import ExactIndex
from prvr.index.reference import Reference, measure, unrelated_sentences
from prvr.methods.contract import Embeddings
from prvr.search.hits import WEAK

ABSENT = """a submarine under the ice|a nuclear power plant|a bullfighter in an arena|a samurai draws his sword|a walrus
an opera singer in costume|a chess grandmaster|a hospital operating room|a rhinoceros charges|a Formula 1 pit stop|a violin maker
a snow leopard|an igloo|a scuba diver with a shark|a wedding in a church|a tank fires a shell|a volcano erupts at night
a bowling alley|a parachutist lands|a courtroom trial|a lobster on a plate|a printing press|a dentist pulls a tooth
a space shuttle docks|a kangaroo with a joey""".replace("\n", "|").split("|")


def area(of_right: np.ndarray, of_others: np.ndarray) -> float:
    return float(np.mean((of_right[:, None] > of_others) + 0.5 * (of_right[:, None] == of_others)))


def best_hits(index: ExactIndex, reference: Reference, queries: list[Embeddings]) -> tuple[list[str], np.ndarray, np.ndarray]:
    videos, scores, strengths = [], [], []
    for query in queries:
        found = index.search(query, 1)[0]
        videos.append(found[0].video)
        scores.append(found[0].score)
        strengths += reference.strengths(query, found)
    return videos, np.array(scores), np.array(strengths)


def report(name: str, encoded: Encoded, index: ExactIndex, queries: list[Embeddings], right: list[set[str]]) -> None:
    unrelated = torch.cat([encoded.query(sentence)[0] for sentence in unrelated_sentences()])
    reference = measure(index, (unrelated,))
    videos, scores, strengths = best_hits(index, reference, queries)
    _, scores_absent, strengths_absent = best_hits(index, reference, [encoded.query(sentence) for sentence in ABSENT])
    good = np.array([video in wanted for video, wanted in zip(videos, right, strict=True)])
    print(f"{name}: {index.count()} videos, {len(queries)} captions, the best hit is right for {good.mean():.0%}")
    for title, found, absent in (("score", scores, scores_absent), ("strength", strengths, strengths_absent)):
        print(f"  {title:8} right against wrong {area(found[good], found[~good]):.3f}, absent {area(found[good], absent):.3f}")
    shares = [np.mean(part >= WEAK) for part in (strengths[good], strengths[~good], strengths_absent)]
    print("  not weak: right {:.0%}, wrong {:.0%}, absent {:.0%}".format(*shares))


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    encoded, queries, right = Encoded(given.shared, 1.0), [], []
    clips = [json.loads(line) for line in (given.shared / "data" / "videos" / "clips.jsonl").open()]
    index = ExactIndex(encoded.model)
    for clip in clips:
        times, rows, duration = encoded.rows(
            given.shared / "data" / "videos" / clip["file"], given.out / "single" / f"{name_of(clip)}.npz"
        )
        index.add([encoded.entry(name_of(clip), times, rows, duration)])
        group = clip["near_duplicate_group"]
        same = {name_of(one) for one in clips if one is clip or (group and one["near_duplicate_group"] == group)}
        queries += [encoded.query(caption["text"]) for caption in clip["captions"]]
        right += [same] * len(clip["captions"])
    report("real clips", encoded, index, queries, right)
    index = ExactIndex(encoded.model)
    cases = [(split, case) for split in ("dev", "test") for case in montage(given.shared, encoded.model, split)]
    names = [f"{split} {case.entry.video}" for split, case in cases]
    entries = {name: case.entry for name, (_, case) in zip(names, cases, strict=True)}
    index.add([type(entry)(name, entry.fields, entry.windows, entry.edges) for name, entry in entries.items()])
    report("montage", encoded, index, [case.query for _, case in cases], [{name} for name in names])


if __name__ == "__main__":
    main()
