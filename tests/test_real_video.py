"""Real clips, real captions, a real encoder: folder to index to answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from prvr.evaluate.metrics import overlap
from prvr.search import index_folder, open_index, zero_shot


@pytest.mark.slow
@pytest.mark.shared
def test_captions_find_their_clips_and_moments(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "videos"
    clips = [json.loads(line) for line in (source / "clips.jsonl").read_text().splitlines()]
    (tmp_path / "clips").mkdir()
    for clip in clips:
        shutil.copy2(source / clip["file"], tmp_path / "clips")
    checkpoint = zero_shot(shared / "data" / "models" / "mobilenet-minilm", rate=1.0)
    done = index_folder(tmp_path / "clips", tmp_path / "gallery", checkpoint)
    assert len(done.added) == len(clips)
    gallery = open_index(tmp_path / "gallery")
    ranks, overlaps = [], []
    for clip in clips:
        for caption in clip["captions"]:
            hits = gallery.search(caption["text"], k=35)
            rank = 1 + [hit.video for hit in hits].index(Path(clip["file"]).name)
            ranks.append(rank)
            assert 0 <= hits[0].start < hits[0].end <= 40
            if rank == 1:
                overlaps.append(overlap((hits[0].start, hits[0].end), (caption["start"], caption["end"])))
    recall = tuple(100 * np.mean(np.array(ranks) <= k) for k in (1, 5, 10))
    assert all(found >= wanted for found, wanted in zip(recall, (42, 77, 92), strict=True)), recall
    assert np.mean([o >= 0.3 for o in overlaps]) > 0.4
