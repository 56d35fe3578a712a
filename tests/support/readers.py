"""Every reader of files that a stranger may have made, with a small whole file, and what has to hold for what it returns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from texts import srt
from tiny_encoders import make_textual, make_visual, onnx
from tiny_videos import plain, write_video

from prvr.config import to_dict
from prvr.datasets import Dataset
from prvr.datasets.annotations import load_annotations
from prvr.datasets.folder import load as load_folder
from prvr.datasets.positives import with_positives
from prvr.datasets.published import load as load_published
from prvr.encoders import open_encoder
from prvr.encoders.subtitles import read_subtitle_file
from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import ModelError
from prvr.evaluate.figures import count_figures
from prvr.evaluate.saved_scores import SavedScores, save_scores
from prvr.evaluate.saved_scores.forms import open_scores
from prvr.evaluate.saved_scores.moments import score_moments
from prvr.extract.extraction import open_frames
from prvr.extract.file_stamps import ends_of, stamp_of
from prvr.extract.videos import extract_videos
from prvr.features import Features, columns, open_features, rows_of
from prvr.features.packed import PackedWriter
from prvr.features.reading import read_words
from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.index.encode import read_sampled
from prvr.index.setting import Setting
from prvr.index.text_embeddings import TextBackground, to_embeddings
from prvr.methods import checkpoint as checkpoints
from prvr.methods.calibration import Calibration
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.exported import EXPORT, FOLDER, QUERIES, config_of, open_exported, output_name
from prvr.methods.repository import open_checkpoint
from prvr.nn.ranks import as_arrays
from prvr.report.leaderboard import make_leaderboard
from prvr.report.papers import read_tables
from prvr.report.systems import read_history
from prvr.search.senses import FusionWeights
from prvr.search.text_matches import MeaningMatcher
from prvr.search.verifying import read_queries
from prvr.search.video_fields import read_video_fields
from prvr.train.distributed import SingleProcess
from prvr.train.experiment import Experiment, read_recipe, recipe_text
from prvr.train.optimisation import Optimisation
from prvr.train.recipe import Training
from prvr.train.run_state import STATE, RunState, load_state, read_state, save_state
from prvr.train.similarities import ABOUT, SCORES, open_similarities
from prvr.video import VideoReader
from prvr.video.picture_file import read_picture
from prvr.video.subtitle_streams import read_subtitle_streams

Form = Literal["bytes", "json", "lines", "words"]
ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
SOURCES = FeatureSources(Source("siglip", 6, "google/siglip2-base-patch16-224", "1" * 16, 2.0), Source("mine", 5, None, "2" * 16))


@dataclass(frozen=True)
class Reader:
    """A reader of a file.

    file: the one that is damaged, below a folder. make: writes it and its neighbours. read: reads all of it and asserts what
    has to hold of a result. form: how the file is built, for values in it that are whole and wrong. keys: what separates words.
    """

    name: str
    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    form: Form = "bytes"
    separators: str = " "

    def __str__(self) -> str:
        return self.name


def _text(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


def _lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


# Features


def _check_features(features: Features) -> None:
    for id in list(features)[:20]:
        rows = rows_of("video", id, features)
        assert rows.ndim == 2
        assert np.isfinite(rows).all()
    if len(features):
        assert columns(features) > 0


def _make_bigfile(folder: Path) -> None:
    (folder / "shape.txt").write_text("4 3\n")
    (folder / "id.txt").write_text("a_0 a_1 b_0 b_1")
    (folder / "video2frames.txt").write_text("{'a': ['a_0', 'a_1'], 'b': ['b_0', 'b_1']}")
    ROWS.tofile(folder / "feature.bin")


def _make_hdf5(folder: Path) -> None:
    with h5py.File(folder / "rows.h5", "w") as file:
        file["a"], file["in/b"] = ROWS, ROWS[:1]
        file.create_dataset("c", data=ROWS, chunks=(2, 3), compression="gzip")


def _make_npz(folder: Path) -> None:
    np.savez_compressed(folder / "a.npz", features=ROWS)


class _Colours:
    """An encoder of pictures as their mean colour."""

    name, source, fingerprint, image_columns = "colours", "here", "0" * 16, 3

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([frame.mean((0, 1)) for frame in frames]).astype(np.float32)


def _extract(folder: Path) -> None:
    videos = {"a.mp4": folder / "a.mp4", "b.mp4": folder / "b.mp4"}
    extract_videos(videos, folder / "frames", encoder=_Colours(), rate=2.0)


def _make_extracted(folder: Path) -> None:
    """Features of two videos, and a part of a film that was not read to its end."""
    write_video(folder / "a.mp4", [(200 * n, plain("red")) for n in range(6)])
    write_video(folder / "b.mp4", [(200 * n, plain("blue")) for n in range(8)])
    _extract(folder)
    with open_frames(folder / "frames.unfinished", _Colours(), 2.0) as out:
        about = {"times": [0.0, 0.5], "file": stamp_of(folder / "b.mp4"), "ends": ends_of(folder / "b.mp4"), "batch_size": 32}
        out.append("b.mp4, from frame 0", ROWS[:2], {**about, "damage": None, "video": "b.mp4", "first": 0})


def _read_extracted(folder: Path) -> None:
    for name in ("frames.unfinished", "frames"):
        if not (folder / name).exists():
            continue
        # As the run that reads them finds them.
        open_features(folder / name)
    saved = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    try:
        _extract(folder)
        for id in (features := open_features(folder / "frames")):
            read_sampled(id, features, durations={})
            assert rows_of("video", id, features).shape[1] == 3
    finally:
        for path, data in saved.items():
            path.parent.mkdir(exist_ok=True)
            if not path.exists() or path.read_bytes() != data:
                path.unlink(missing_ok=True)
                path.write_bytes(data)


def _make_packed(folder: Path) -> None:
    with PackedWriter(folder / "packed", columns=3, about={"encoder": {"name": "clip", "fingerprint": None}, "rate": 1.0}) as out:
        out.append("a", ROWS, {"duration": 4.0, "of": 9})
        out.append("b", ROWS[:2], {})


def _read_packed(folder: Path) -> None:
    features = open_features(folder / "packed")
    _check_features(features)
    for id in features:
        features.rows_before(id), features.is_sound(id)


# Captions and annotations


def _check_dataset(dataset: Dataset) -> None:
    assert len({caption.id for caption in dataset.captions}) == len(dataset.captions)
    for caption in dataset.captions:
        assert caption.text.strip()
        caption.text.encode()
        for start, end in caption.moments:
            assert 0 <= start < end < math.inf
    assert all(0 < seconds < math.inf for seconds in dataset.durations.values())


def _make_captions(folder: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(b"")
    _text(
        folder,
        "captions.jsonl",
        _lines(
            {"video": "a.mp4", "text": "a dog runs", "start": 0.5, "end": 2, "id": "q1", "split": "train"},
            {"video": "b.mp4", "text": "a cat sits"},
        ),
    )


def _make_published(folder: Path) -> None:
    _text(folder, "toy/TextData/toytest.caption.txt", "a#enc#0 a dog runs\na#enc#1 it sits\nb#enc#0 a cat\n")


def _annotations(name: str, split: str) -> Callable[[Path], None]:
    return lambda folder: _check_dataset(load_annotations(name, folder, split))


TVR = [
    {"vid_name": "a", "duration": 9.5, "ts": [1, 4.5], "desc": "a dog runs", "type": "v", "desc_id": 7},
    {"vid_name": "b", "duration": 20, "ts": [0, 3], "desc": "a cat", "type": "vt", "desc_id": 8},
]
ACTIVITYNET = {"v_a": {"duration": 9.5, "timestamps": [[0, 2.5], [3, 9]], "sentences": ["a dog runs", " it sits"]}}
TACOS = {"s1.avi": {"fps": 29.4, "num_frames": 300, "timestamps": [[0, 100], [90, 300]], "sentences": ["he cuts", "he eats"]}}
WINDOWS = [
    {"qid": 1, "query": "a dog", "duration": 10, "vid": "a_0.0_10.0", "relevant_windows": [[0, 4], [6, 8]]},
    {"qid": "two", "query": "a cat", "duration": 10, "vid": "b_0.0_10.0", "relevant_windows": [[2, 4]]},
]
WINDOWS[0] |= {"relevant_clip_ids": [0, 1, 3], "saliency_scores": [[1, 2], [4, 4], [0, 3]]}
MSRVTT = {
    "videos": [{"video_id": "a", "start time": 1.5, "end time": 9}],
    "sentences": [{"video_id": "a", "caption": "a dog runs", "sen_id": 0}, {"video_id": "a", "caption": "it sits", "sen_id": 1}],
}


def _make_msrvtt(folder: Path) -> None:
    _text(folder, "MSRVTT_data.json", json.dumps(MSRVTT))
    _text(folder, "test_list_full.txt", "a\n")
    _text(folder, "MSRVTT_JSFUSION_test.csv", "video_id,sentence\na,a dog runs\n")


def _make_charades(folder: Path) -> None:
    _text(folder, "charades_sta_test.txt", "AB 0.0 7.5##a person runs.\nAB 2 30##a person sits.\n")
    _text(folder, "Charades_v1_test.csv", "id,subject,length\nAB,S1,30.5\n")


def _make_labels(folder: Path) -> None:
    _make_published(folder)
    _text(folder, "toy.gt.jsonl", _lines({"query_id": "a#enc#0", "caption": "a dog runs.", "gt_video_ids": ["a", "b", "x"]}))


def _read_labels(folder: Path) -> None:
    dataset = with_positives(load_published(folder, "toy", "test"), folder / "toy.gt.jsonl")
    assert all(set(caption.also) <= set(dataset.video_ids) for caption in dataset.captions)


# Scores and figures


def _scores() -> SavedScores:
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, -np.inf]], np.float32)
    calibration = Calibration(0.5, 1.0, 2.0, 0.0, "dev", 9, 8)
    return SavedScores(scores, ("q0", "q1"), ("a", "b", "c"), np.array([0, 1]), calibration=calibration, system="s", seed=1)


def _make_scores(folder: Path) -> None:
    save_scores(_scores(), folder / "scores.npz")
    np.save(folder / "matrix.npy", _scores().scores)
    _text(folder, "ranking.txt", "q0 Q0 a 1 0.9 s\nq0 Q0 b 2 0.1 s\nq1 Q0 b 1 0.8 s\n")
    _text(folder, "qrels.txt", "q0 0 a 1\nq1 0 b 1\nq1 0 a 0\n")
    _text(folder, "truth.jsonl", _lines({"video": "a", "text": "a dog", "id": "q0"}, {"video": "b", "text": "b", "id": "q1"}))
    labels = [{"query_id": "q0", "caption": "a dog", "gt_video_ids": ["a", "b"]}, {"query_id": "q1", "gt_video_ids": ["b"]}]
    _text(folder, "labels.jsonl", _lines(*labels))
    _text(folder, "queries.txt", "q0\nq1\n")
    _text(folder, "gallery.txt", "a\nb\nc\n")


def _read_scores(name: str, **beside: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        opened = open_scores(folder / name, **{option: folder / file for option, file in beside.items()}).saved
        assert not np.isnan(opened.scores).any()
        figures = count_figures(opened, groups=opened.facts.ratios is not None).as_dict()
        assert all(0 <= figures[name] <= 100 for name in ("r1", "r5", "r10", "r100"))

    return read


def _rewrite_about(folder: Path) -> None:
    """The JSON of saved scores as a file of its own, so that its values can be altered."""
    _make_scores(folder)
    with np.load(folder / "scores.npz") as arrays:
        (folder / "about.json").write_bytes(arrays["about"].tobytes())


def _read_about(folder: Path) -> None:
    about = np.frombuffer((folder / "about.json").read_bytes(), np.uint8)
    with np.load(folder / "scores.npz") as arrays:
        np.savez(folder / "changed.npz", **{**arrays, "about": about})
    _read_scores("changed.npz")(folder)


def _make_moments(folder: Path) -> None:
    _text(folder, "truth.jsonl", _lines(*WINDOWS))
    predictions = [
        {"qid": line["qid"], "pred_relevant_windows": [[0, 4, 0.9], [1, 2, 0.5]], "pred_saliency_scores": [0.5] * 5}
        for line in WINDOWS
    ]
    _text(folder, "predictions.jsonl", _lines(*predictions))


def _read_moments(folder: Path) -> None:
    figures = score_moments(folder / "predictions.jsonl", folder / "truth.jsonl")
    assert all(0 <= value <= 100 for of in figures.mean_precision.values() for value in of.values())


ORIGIN = {"collection": "tvr", "method": "gmmformer", "frames": "i3d_resnet (3072)", "words": "roberta (768)", "teachers": ""}
FIGURES = {"r1": 20.0, "r5": 40.0, "r10": 50.0, "r100": 90.0, "sumr": 200.0, "medr": 11.0, "queries": 10895, "videos": 2179}
RESULT = {**FIGURES, "split": "test", "system": "ours", "seed": 1, "protocol": "honest", "origin": ORIGIN}
FOUR = {
    "R@1": 1.0,
    "R@5": 2.0,
    "R@10": 3.0,
    "R@100": 4.0,
    "SumR": 10.0,
    "r1": 1.0,
    "r5": 2.0,
    "r10": 3.0,
    "r100": 4.0,
    "sumr": 10.0,
}
EFFECT = {"sumr": {"difference": 1.0, "low": 0.5, "high": 1.5, "p_holm": 0.01}}
TABLE = {
    **dict.fromkeys(("table", "title", "source", "claim", "protocol", "collection", "command", "machine"), "x"),
    "rows": [{"name": "a", "mean": FOUR, "std": FOUR, "published": FOUR}, {"name": "b", "mean": FOUR, "std": None}],
    "compared_with_first": {"b": EFFECT},
}
HISTORY = [{"epoch": 0, "losses": {"nce": 1.5, "triplet": 0.2}, "loss": 1.7, "dev": {"sumr": 99.0}}] * 2


def _read_leaderboard(folder: Path) -> None:
    str(make_leaderboard("tvr", [str(folder / "result.json")]))


def _read_history(folder: Path) -> None:
    for record in read_history(folder / "history.jsonl"):
        assert all(math.isfinite(value) for value in (*record["losses"].values(), record["sumr"]))


def _make_similarities(folder: Path) -> None:
    (folder / ABOUT).write_text(json.dumps({"model": "m", "captions": ["q0", "q1"], "videos": ["a", "b", "c"]}))
    np.save(folder / SCORES, ROWS[:2].astype(np.float16))


def _read_similarities(folder: Path) -> None:
    found = open_similarities(folder)
    assert found.scores.shape == (len(found.rows), len(found.columns))


# Checkpoints and recipes


def _make_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    made = checkpoints.build("dl_dkd", DlDkdConfig(hidden=4, heads=1), SOURCES)
    calibration = Calibration(0.5, 1.0, 2.0, 0.0, "dev", 9, 8)
    checkpoints.save(Checkpoint(made.method, made.settings, SOURCES, made.model, {"epoch": 3}, calibration), folder / "run")


def _read_checkpoint(folder: Path) -> None:
    checkpoint = open_checkpoint(str(folder / "run"))
    assert isinstance(checkpoint.about, dict)
    assert isinstance(checkpoint.fingerprint, str)


def _optimisation() -> tuple[torch.nn.Linear, Optimisation]:
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 1)
    return layer, Optimisation(layer, layer, Training(epochs=3), steps=6, device=torch.device("cpu"))


def _make_state(folder: Path) -> None:
    layer, optimisation = _optimisation()
    optimisation.step(layer(torch.ones(1, 2)).sum(), SingleProcess())
    record = {"epoch": 0, "losses": {"a": 1.0}, "loss": 1.0, "dev": {"sumr": 3.0}, "best": True}
    state = RunState().after(record, epochs=3, patience=2)
    save_state(folder, state, run={"seed": 1}, model=layer, optimisation=optimisation)
    header, _ = _parts_of_state(folder)
    (folder / "about.json").write_text(header["__metadata__"]["prvr"])


def _parts_of_state(folder: Path) -> tuple[dict[str, Any], bytes]:
    stored = (folder / STATE).read_bytes()
    end = 8 + int.from_bytes(stored[:8], "little")
    return json.loads(stored[8:end]), stored[end:]


def _read_state(folder: Path) -> None:
    layer, optimisation = _optimisation()
    load_state(folder, read_state(folder), run={"seed": 1}, model=layer, optimisation=optimisation)


def _read_state_text(folder: Path) -> None:
    """The state with other values in its header, which no checksum guards."""
    header, tensors = _parts_of_state(folder)
    header["__metadata__"]["prvr"] = (folder / "about.json").read_bytes().decode(errors="replace")
    text = json.dumps(header).encode()
    layer, optimisation = _optimisation()
    stored = len(text).to_bytes(8, "little") + text + tensors
    load_state(folder, stored, run={"seed": 1}, model=layer, optimisation=optimisation)


def _make_export(folder: Path) -> None:
    _make_checkpoint(folder)
    checkpoint = checkpoints.load(folder / "run")
    fields = list(checkpoint.model.embedding_fields)
    about = {
        "format": 1,
        "fingerprint": checkpoint.fingerprint,
        "config": config_of(checkpoint.method, to_dict(checkpoint.settings), checkpoint.sources),
        "reading": asdict(checkpoint.model.reading),
        "embedding_fields": fields,
        "frame_fields": list(checkpoint.model.frame_fields),
        "score_weights": [0.7, 0.3],
        "curve_weights": [0.7, 0.3],
        "has_frame_scores": True,
    }
    words = onnx.helper.make_tensor_value_info("words", onnx.TensorProto.FLOAT, [1, "words", 5])
    means = [onnx.helper.make_node("ReduceMean", ["words", "axis"], [output_name(name)], keepdims=0) for name in fields]
    outputs = [onnx.helper.make_tensor_value_info(output_name(name), onnx.TensorProto.FLOAT, [1, 5]) for name in fields]
    axis = onnx.numpy_helper.from_array(np.array([1]), "axis")
    graph = onnx.helper.make_graph(means, "means", [words], outputs, [axis])
    (folder / "run" / FOLDER).mkdir()
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(folder / "run" / FOLDER / QUERIES))
    (folder / "run" / FOLDER / EXPORT).write_text(json.dumps(about))
    (folder / "fingerprint").write_text(checkpoint.fingerprint)


def _read_export(folder: Path) -> None:
    opened = open_exported(folder / "run", fingerprint=(folder / "fingerprint").read_text())
    if opened is not None:
        rows = read_words(np.ones((3, 5), np.float32), opened.model.reading)
        assert all(np.isfinite(field).all() for field in as_arrays(opened.model.encode_sentence(rows)))


def _make_recipe(folder: Path) -> None:
    recipe = Experiment(str(folder / "videos"), str(folder / "features"), str(folder / "run"), words="mine", preset="dl-dkd")
    (folder / "recipe.toml").write_text(recipe_text(recipe.with_recipe(recipe.recipe())))


def _read_recipe(folder: Path) -> None:
    experiment = read_recipe(folder / "recipe.toml")
    to_dict(experiment.recipe().training)


# Encoders


def _make_vectors(folder: Path) -> None:
    _text(folder, "words.txt", "3 2\na 0.5 1\ndog 0.25 -1\nruns 0 1e-3\n")


def _read_vectors(folder: Path) -> None:
    (rows,) = open_encoder(f"vectors:{folder / 'words.txt'}").encode_words(["a dog runs"])
    assert rows.shape[0] == 3
    assert np.isfinite(rows).all()


def _read_vocabulary(folder: Path) -> None:
    (rows,) = open_encoder(f"ids:{folder / 'words.txt'}").encode_words(["a dog runs"])
    assert rows.shape[1] == 1


def _make_onnx(folder: Path) -> None:
    make_textual(make_visual(folder / "encoder", size=[8, 12]))
    (folder / "encoder" / "textual" / "prompt.json").write_text('{"prompt": "a photo of a {}."}')


def _read_onnx(folder: Path) -> None:
    encoder: Any = open_encoder(str(folder / "encoder"))
    assert np.isfinite(encoder.encode_sentences(["a dog runs"])).all()
    encoder.encode_images([plain("red")])


# Indexes


def make_index(folder: Path) -> None:
    _make_checkpoint(folder)
    checkpoint = checkpoints.load(folder / "run")
    model: Any = checkpoint.model
    store = DiskIndex.make(folder, model, Header(checkpoint.fingerprint, "float16", str(folder)))
    draw = np.random.default_rng(0)
    for video in ("a.mp4", "b.mp4"):
        fields = tuple(draw.normal(size=(4, 4)).astype(np.float32) for _ in model.embedding_fields)
        about = {"duration": 4.0, "date": "2026-01-02T03:04:05+00:00", "file": {"size": 3, "mtime_ns": 5}}
        store.add([Entry(video, fields, (4,), (0.0, 1.0, 2.0, 3.0, 4.0), about)])
        part = TextsPart(4.0, (TimedText(0.0, 2.0, "a dog runs", "subtitle", 0.9, "en"),), ())
        store.texts.extend(video, "subtitle", part, made_of="x", is_complete=True)
    store.texts.keep_weights(FusionWeights(1.5).to_json())
    store.texts.keep_background(TextBackground("x", np.eye(4, dtype=np.float32)))
    for video in store.ids:
        embedding = to_embeddings([("key", "subtitle", 0.0, 2.0)], np.ones((1, 4), np.float32))
        store.texts.keep_embeddings(video, "x", embedding, is_complete=True)
    store.texts.keep_readers({"subtitle": ""})
    learned = store.learn_stage(tuple(torch.ones(1, 4) for _ in model.embedding_fields))
    store.keep_setting(Setting(0.5), learned, recall=1.0, queries=9)
    store.close()


_MODEL: dict[str, Any] = {}


def read_index(folder: Path) -> None:
    # A model of its settings alone: the checkpoint beside it is another reader.
    if not _MODEL:
        _MODEL["model"] = checkpoints.load(folder / "run").model
    for suffix in ("-wal", "-shm"):
        (folder / f"index.sqlite{suffix}").unlink(missing_ok=True)
    model = _MODEL["model"]
    store = DiskIndex(folder, model)
    try:
        store.verify(), store.stage_fault()
        store.fetch(store.ids)
        store.about()
        words, mask = torch.ones(1, 2, 5), torch.ones(1, 2, dtype=torch.bool)
        with torch.no_grad():
            (found,) = store.search(model.encode_queries(words, mask), 2)
            with suppress(ModelError):
                store.search_approximately(model.encode_queries(words, mask), 1)
        assert all(math.isfinite(video.score) for video in found)
        for video in store.ids:
            store.texts.read(video)
        store.texts.count(), store.texts.sources(), store.texts.readers()
        FusionWeights.from_json(store.texts.weights())
        matcher = MeaningMatcher(store.texts, lambda query: np.full(4, 0.5, np.float32), "x")
        assert all(0 <= match.score <= 1 for match in matcher.match("a dog", "speech"))
        store.texts.videos_to_embed("x"), [store.texts.embeddings(video) for video in store.ids]
    finally:
        store.close()


def _make_fields(folder: Path) -> None:
    _text(folder, "videos.jsonl", _lines({"video": "a.mp4", "camera": "north", "tags": ["snow", 2025], "place": {"lat": 1.5}}))


def _read_fields(folder: Path) -> None:
    fields, _ = read_video_fields(folder, ["a.mp4"])
    json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()


# Pictures, videos and subtitles


def _make_subtitles(folder: Path) -> None:
    cues = srt((0.5, 1.5, "a <i>dog</i> runs"), (1.0, 3.5, "it sits & waits"))
    _text(folder, "film.en.srt", cues)
    _text(folder, "film.en.vtt", "WEBVTT\n\nNOTE x\n\n" + cues.replace(",", "."))
    line = "Dialogue: 0,0:00:00.50,0:00:01.50,Default,,0,0,0,,{\\i1}a dog{\\i0}\\Nruns\n"
    head = "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n\n[Events]\n"
    _text(
        folder, "film.en.ass", head + "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n" + line
    )


def _read_subtitles(kind: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        texts, problems = read_subtitle_file(folder / f"film.en.{kind}")
        assert texts or problems
        assert all(0 <= text.start <= text.end < math.inf and text.text.strip() for text in texts)
        assert not any("\n" in problem for problem in problems)

    return read


def _make_picture(folder: Path) -> None:
    from PIL import Image

    for suffix in ("jpg", "png", "webp", "gif", "bmp"):
        Image.fromarray(plain("red")[:16, :16]).save(folder / f"picture.{suffix}")


def _read_picture(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        picture = read_picture(folder / name)
        assert picture.dtype == np.uint8
        assert picture.shape[2:] == (3,)

    return read


def _make_video(folder: Path) -> None:
    write_video(folder / "film.mp4", [(200 * n, plain("red")) for n in range(6)])


def _read_video(folder: Path) -> None:
    with VideoReader(folder / "film.mp4", rate=2.0) as reader:
        for time, frame in reader:
            assert math.isfinite(time)
            assert frame.shape[2:] == (3,)
    read_subtitle_streams(folder / "film.mp4")


def _json_of(value: object, name: str) -> Callable[[Path], None]:
    return lambda folder: _text(folder, name, json.dumps(value))


def _lines_of(values: Iterable[Mapping[str, Any]], name: str) -> Callable[[Path], None]:
    return lambda folder: _text(folder, name, _lines(*values))


READERS = [
    Reader("BigFile shape", "shape.txt", _make_bigfile, lambda f: _check_features(open_features(f)), "words", " "),
    Reader("BigFile names", "id.txt", _make_bigfile, lambda f: _check_features(open_features(f)), "words", " "),
    Reader("BigFile frames", "video2frames.txt", _make_bigfile, lambda f: _check_features(open_features(f)), "words", "'"),
    Reader("BigFile rows", "feature.bin", _make_bigfile, lambda f: _check_features(open_features(f))),
    Reader("HDF5", "rows.h5", _make_hdf5, lambda f: _check_features(open_features(f / "rows.h5"))),
    Reader("npz features", "a.npz", _make_npz, lambda f: _check_features(open_features(f))),
    Reader("packed header", "packed/packed.json", _make_packed, _read_packed, "json"),
    Reader("packed journal", "packed/items.jsonl", _make_packed, _read_packed, "lines"),
    Reader("journal of extraction", "frames/items.jsonl", _make_extracted, _read_extracted, "lines"),
    Reader("journal of a film's parts", "frames.unfinished/items.jsonl", _make_extracted, _read_extracted, "lines"),
    Reader("packed rows", "packed/rows.bin", _make_packed, _read_packed),
    Reader("captions.jsonl", "captions.jsonl", _make_captions, lambda f: _check_dataset(load_folder(f, "all")), "lines"),
    Reader(
        "caption list",
        "toy/TextData/toytest.caption.txt",
        _make_published,
        lambda f: _check_dataset(load_published(f, "toy", "test")),
        "words",
        " ",
    ),
    Reader("TVR", "tvr_val_release.jsonl", _lines_of(TVR, "tvr_val_release.jsonl"), _annotations("tvr", "val"), "lines"),
    Reader("spans of packages", "test.jsonl", _lines_of(TVR, "test.jsonl"), _annotations("vcmr", "test"), "lines"),
    Reader("ActivityNet", "val_1.json", _json_of(ACTIVITYNET, "val_1.json"), _annotations("activitynet", "val_1"), "json"),
    Reader("TACoS", "test.json", _json_of(TACOS, "test.json"), _annotations("tacos", "test"), "json"),
    Reader("Charades-STA", "charades_sta_test.txt", _make_charades, _annotations("charades", "test"), "words", " "),
    Reader("Charades lengths", "Charades_v1_test.csv", _make_charades, _annotations("charades", "test"), "words", ","),
    Reader("MSR-VTT", "MSRVTT_data.json", _make_msrvtt, _annotations("msrvtt", "test"), "json"),
    Reader("MSR-VTT list", "MSRVTT_JSFUSION_test.csv", _make_msrvtt, _annotations("msrvtt", "test-1k"), "words", ","),
    Reader(
        "QVHighlights",
        "highlight_val_release.jsonl",
        _lines_of(WINDOWS, "highlight_val_release.jsonl"),
        _annotations("qvhighlights_sources", "val"),
        "lines",
    ),
    Reader("further correct videos", "toy.gt.jsonl", _make_labels, _read_labels, "lines"),
    Reader("saved scores", "scores.npz", _make_scores, _read_scores("scores.npz")),
    Reader("text of saved scores", "about.json", _rewrite_about, _read_about, "json"),
    Reader(
        "score matrix",
        "matrix.npy",
        _make_scores,
        _read_scores("matrix.npy", truth="qrels.txt", queries="queries.txt", gallery="gallery.txt"),
    ),
    Reader("TREC ranking", "ranking.txt", _make_scores, _read_scores("ranking.txt", truth="qrels.txt"), "words", " "),
    Reader("qrels", "qrels.txt", _make_scores, _read_scores("ranking.txt", truth="qrels.txt"), "words", " "),
    Reader("truth as lines", "truth.jsonl", _make_scores, _read_scores("scores.npz", truth="truth.jsonl"), "lines"),
    Reader("truth as labels", "labels.jsonl", _make_scores, _read_scores("scores.npz", truth="labels.jsonl"), "lines"),
    Reader("predicted moments", "predictions.jsonl", _make_moments, _read_moments, "lines"),
    Reader("moments' truth", "truth.jsonl", _make_moments, _read_moments, "lines"),
    Reader("leaderboard figures", "result.json", _json_of(RESULT, "result.json"), _read_leaderboard, "json"),
    Reader("a paper's table", "main.json", _json_of(TABLE, "main.json"), lambda f: read_tables(f), "json"),
    Reader("history of a run", "history.jsonl", _lines_of(HISTORY, "history.jsonl"), _read_history, "lines"),
    Reader("kept similarities", ABOUT, _make_similarities, _read_similarities, "json"),
    Reader("similarities' scores", SCORES, _make_similarities, _read_similarities),
    Reader("checkpoint config", "run/config.json", _make_checkpoint, _read_checkpoint, "json"),
    Reader("checkpoint weights", "run/model.safetensors", _make_checkpoint, _read_checkpoint),
    Reader("state of a run", STATE, _make_state, _read_state),
    Reader("text of a state", "about.json", _make_state, _read_state_text, "json"),
    Reader("export of a checkpoint", f"run/{FOLDER}/{EXPORT}", _make_export, _read_export, "json"),
    Reader("recipe", "recipe.toml", _make_recipe, _read_recipe, "words", "="),
    Reader("word vectors", "words.txt", _make_vectors, _read_vectors, "words", " "),
    Reader("vocabulary", "words.txt", lambda f: _text(f, "words.txt", "a\ndog\nruns\n"), _read_vocabulary, "words", "\n"),
    Reader("ONNX pixels", "encoder/visual/preprocess_cfg.json", _make_onnx, _read_onnx, "json"),
    Reader("ONNX prompt", "encoder/textual/prompt.json", _make_onnx, _read_onnx, "json"),
    Reader("ONNX model", "encoder/textual/model.onnx", _make_onnx, _read_onnx),
    Reader("ONNX tokenizer", "encoder/textual/tokenizer.json", _make_onnx, _read_onnx, "json"),
    Reader("index", "index.sqlite", make_index, read_index),
    Reader("videos.jsonl", "videos.jsonl", _make_fields, _read_fields, "lines"),
    Reader(
        "queries for verify",
        "queries.txt",
        lambda f: _text(f, "queries.txt", "a dog\na cat\n"),
        lambda f: read_queries(f / "queries.txt"),
    ),
    *(Reader(f"subtitles .{kind}", f"film.en.{kind}", _make_subtitles, _read_subtitles(kind)) for kind in ("srt", "vtt", "ass")),
    *(
        Reader(f"picture .{suffix}", f"picture.{suffix}", _make_picture, _read_picture(f"picture.{suffix}"))
        for suffix in ("jpg", "png", "webp", "gif", "bmp")
    ),
    Reader("video", "film.mp4", _make_video, _read_video),
]
