"""Captions spoken over silent real clips: R@1 of picture, speech, and both, where the speech is true and where it is not.

    python experiments/spoken.py ../shared/data FOLDER --speech MODEL [--clips 35]

espeak-ng speaks a caption of every second clip over it, and captions of photographs that are not there over the others; the
clips' own sound is taken away. MODEL is a folder of a Whisper model. Needs espeak-ng and ffmpeg on the path.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from prvr.search import index_folder, open_index, zero_shot
from prvr.search.asking import VideoSearch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speech", required=True)
    parser.add_argument("--clips", type=int, default=35)
    args = parser.parse_args()
    clips = [json.loads(line) for line in (args.data / "videos/clips.jsonl").open()][: args.clips]
    noise = [json.loads(line)["captions"][0] for line in (args.data / "montage/photos.jsonl").open()][: len(clips)]
    (args.folder / "videos").mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(clips):
        clip["is_said"] = number % 2 == 0
        clip["said"] = clip["captions"][0]["text"] if clip["is_said"] else noise[number]
        speak(args.data / "videos" / clip["file"], clip["said"], args.folder / "videos" / f"{clip['video']}.mkv")
    began = time.process_time()
    teacher = zero_shot(args.data / "models/mobilenet-minilm")
    index_folder(args.folder / "videos", args.folder / "gallery", teacher)
    print(f"pictures and subtitles: {time.process_time() - began:.1f} s of processor", flush=True)
    began = time.process_time()
    index_folder(args.folder / "videos", args.folder / "gallery", teacher, texts={"speech": args.speech})
    seconds = sum(clip["duration"] for clip in clips)
    print(f"speech: {seconds:.0f} s of sound in {time.process_time() - began:.1f} s of processor", flush=True)
    measure(open_index(args.folder / "gallery"), clips)


def speak(clip: Path, text: str, out: Path) -> None:
    if out.exists():
        return
    wav = out.with_suffix(".wav")
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", wav, text], check=True)
    streams = ["-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy", "-c:a", "aac"]
    subprocess.run(["ffmpeg", "-v", "error", "-fflags", "+genpts", "-i", clip, "-i", wav, *streams, out], check=True)
    wav.unlink()


def measure(search: VideoSearch, clips: list[dict]) -> None:
    for clip in clips:
        heard = " ".join(text.text for text in search.index.texts.read(f"{clip['video']}.mkv"))
        print(f"{'said' if clip['is_said'] else 'noise'}: {clip['said']} | {heard}")
    groups = {
        "the spoken caption": [(clip, 0) for clip in clips if clip["is_said"]],
        "another caption of such a clip": [
            (clip, n) for clip in clips if clip["is_said"] for n in range(1, len(clip["captions"]))
        ],
        "a caption of a clip with other speech": [
            (clip, n) for clip in clips if not clip["is_said"] for n in range(len(clip["captions"]))
        ],
    }
    groups["all"] = [one for group in groups.values() for one in group]
    for name, queries in groups.items():
        found = {}
        for sense in ("picture", "speech", "any"):
            hits = [search.search(clip["captions"][n]["text"], k=1, sense=sense) for clip, n in queries]
            right = [bool(hit) and hit[0].video == f"{clip['video']}.mkv" for hit, (clip, _) in zip(hits, queries, strict=True)]
            found[sense] = round(100 * sum(right) / max(1, len(right)), 1)
        print(f"{name:40} {len(queries):3}", found, flush=True)


if __name__ == "__main__":
    sys.exit(main())
