"""Real clips with their own sound: what is said is found only by speech, and captions of pictures are found as before.

python experiments/heard.py ../shared/data GALLERY --speech MODEL
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from prvr.search import index_folder, open_index, zero_shot

SAID = {
    "segment of the web space telescope": "meta-pytorch__nasa_13013",
    "one of the largest clean rooms in the world": "meta-pytorch__nasa_13013",
    "Goddard Space Flight Center in Greenbelt, Maryland": "meta-pytorch__nasa_13013",
    "started the outer corner and then move in": "open-mmlab__test.avi",
    "you keep doing this until": "open-mmlab__test.avi",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--speech", required=True)
    args = parser.parse_args()
    clips = [json.loads(line) for line in (args.data / "videos/clips.jsonl").open()]
    videos = args.data / "videos/clips"
    teacher = zero_shot(args.data / "models/mobilenet-minilm")
    index_folder(videos, args.gallery, teacher)
    began = time.process_time()
    index_folder(videos, args.gallery, teacher, texts={"speech": args.speech})
    print(f"speech: {time.process_time() - began:.1f} s of processor", flush=True)
    search = open_index(args.gallery)
    for video in search.index.ids:
        for text in search.index.texts.read(video):
            print(video, text)
    place = {Path(id).name: id for id in search.index.ids}
    for query, name in SAID.items():
        ids = [id for file, id in place.items() if file.startswith(name)]
        ranks = {
            sense: [n for n, hit in enumerate(search.search(query, sense=sense), 1) if hit.video in ids][:1]
            for sense in ("picture", "speech", "any")
        }
        print(query, ranks, flush=True)
    for sense in ("picture", "any"):
        found = []
        for clip in clips:
            for caption in clip["captions"]:
                hits = [hit.video for hit in search.search(caption["text"], k=100, sense=sense)]
                id = place[Path(clip["file"]).name]
                found.append(hits.index(id) + 1 if id in hits else 1000)
        recalls = [100 * sum(rank <= k for rank in found) / len(found) for k in (1, 5, 10, 100)]
        print(sense, [round(recall, 1) for recall in recalls], "SumR", round(sum(recalls), 1), flush=True)


if __name__ == "__main__":
    main()
