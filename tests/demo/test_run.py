"""The demo, all of it, on a world of a few videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from prvr.demo import run, teacher


@pytest.mark.slow
def test_the_whole_demo_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prvr.train.presets import PRESETS

    quick = {"lr": 1e-3, "epochs": 2, "batch_videos": 8}
    for name in run.STUDENTS:
        monkeypatch.setitem(PRESETS, name, PRESETS[name]._replace(training=quick))
    monkeypatch.setattr(run, "train_teacher", lambda folder, **more: teacher.train_teacher(folder, steps=3, **more))
    sizes = {"train": 4, "dev": 3, "test": 4}
    demo = run.run_demo(tmp_path, videos=sizes)
    assert list(demo.figures) == ["zero-shot teacher", "no-distillation", "dl-dkd++"]
    assert all(evaluation.retrieval.videos == 4 for evaluation in demo.figures.values())
    page = demo.report.read_text()
    assert page.count("<section>") == len(demo.answers) == 3
    assert page.count("data:image/jpeg;base64,") == 3 * 6
    assert "http" not in page.replace("<!doctype html>", "")
    for answer in demo.answers:
        assert answer.caption.text in page
        assert 1 <= answer.rank <= 4
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/model.safetensors")}
    again = run.run_demo(tmp_path, videos=sizes)
    assert [answer.hits for answer in again.answers] == [answer.hits for answer in demo.answers]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/model.safetensors")}
    assert demo.lines()[-1] == f"open {demo.report}"
    assert demo.as_dict()["test"]["dl-dkd++"]["videos"] == 4
