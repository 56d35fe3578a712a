"""ONNX encoders: the pixels and tokens that reach the model, and the real ones of ../shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_encoders import TEXTS, frames, make_textual, make_visual, onnx

from prvr.encoders import FittingEncoder, image_encoder, open_encoder, sentence_encoder
from prvr.encoders.onnx import OnnxDual, OnnxImages, OnnxSentences
from prvr.errors import ModelError


def onnx_table(folder: Path) -> np.ndarray:
    graph = onnx.load(str(folder / "textual" / "model.onnx")).graph
    return onnx.numpy_helper.to_array(graph.initializer[0])


def pixels_of(encoder: OnnxImages, frame: np.ndarray) -> np.ndarray:
    """What the model was given, back as values in 0..255."""
    planes = encoder.encode_images([frame]).reshape(3, 8, 12).transpose(1, 2, 0)
    return (planes * np.array([0.5, 0.25, 1.0]) + np.array([0.5, 0.4, 0.3])) * 255


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_squash_resizes_both_sides(tmp_path: Path, interpolation: str) -> None:
    image = pytest.importorskip("PIL.Image")
    encoder = OnnxImages(make_visual(tmp_path, size=[8, 12], interpolation=interpolation))
    frame = frames((40, 60))[0]
    resized = image.fromarray(frame).resize((12, 8), image.Resampling[interpolation.upper()])
    np.testing.assert_allclose(pixels_of(encoder, frame), np.asarray(resized), atol=1e-3)
    same = frames((8, 12))[0]
    np.testing.assert_allclose(pixels_of(encoder, same), same, atol=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "part"),
    [(8, 30, np.s_[:, 9:21]), (20, 12, np.s_[6:14, :]), (16, 60, np.s_[:, 18:42]), (60, 24, np.s_[22:38, :])],
)
def test_shortest_keeps_the_middle(tmp_path: Path, height: int, width: int, part: tuple[slice, slice]) -> None:
    encoder = OnnxImages(make_visual(tmp_path, size=[8, 12], resize_mode="shortest", interpolation="nearest"))
    frame = frames((height, width))[0]
    middle = frame[part]
    step = len(middle) // 8
    np.testing.assert_allclose(pixels_of(encoder, frame), middle[step // 2 :: step, step // 2 :: step], atol=1e-3)


@pytest.mark.parametrize("tokens", ["tokens", 7])
def test_onnx_sentences_are_tokenised_masked_and_cut(tmp_path: Path, tokens: int | str) -> None:
    encoder = OnnxSentences(make_textual(tmp_path, tokens=tokens))
    table = onnx_table(tmp_path)
    np.testing.assert_allclose(encoder.encode_sentences(["a dog runs"])[0], table[[1, 4, 6, 10, 2]].sum(0), atol=1e-5)
    if tokens == 7:
        np.testing.assert_allclose(encoder.encode_sentences(["a " * 50])[0], table[[1, 4, 4, 4, 4, 4, 2]].sum(0), atol=1e-5)


def test_halves_of_different_models_are_refused(tmp_path: Path) -> None:
    make_textual(make_visual(tmp_path, size=[8, 12]), columns=5)
    with pytest.raises(ModelError, match="images have 288 columns, sentences 5"):
        open_encoder(tmp_path)


@pytest.mark.parametrize(
    ("setting", "line"), [({"resize_mode": "shortset"}, "'shortest'"), ({"interpolation": "bi"}, "unknown 'bi'")]
)
def test_unknown_preprocessing_is_refused(tmp_path: Path, setting: dict[str, str], line: str) -> None:
    make_visual(tmp_path, size=[8, 12], **setting)
    with pytest.raises(ModelError, match=line):
        open_encoder(tmp_path)


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    make_visual(tmp_path, size=[8, 12])
    with pytest.raises(ModelError, match="cannot run on 'cuda'"):
        open_encoder(tmp_path, device="cuda")
    with pytest.raises(ModelError, match="cannot run on 'tpu'"):
        open_encoder(tmp_path, device="tpu")


@pytest.mark.shared
def test_a_real_encoder_finds_the_right_picture(shared: Path) -> None:
    from prvr.video import VideoReader

    encoder = OnnxDual(shared / "data/models/mobilenet-minilm")
    clips = {"showlab__man-surfing.mp4": "a man surfing on a wave", "facebookresearch__dog.mp4": "a dog"}
    clips |= {"zulko__example3.mp4": "", "udacity__solidWhiteRight.mp4": "a road with cars seen from a car"}
    rows = []
    for name in clips:
        with VideoReader(shared / "data/videos/clips" / name, rate=1.0) as reader:
            rows.append(encoder.encode_images([frame for _, frame in reader]).mean(0))
    for place, text in enumerate(clips.values()):
        if text:
            assert np.argmax(np.stack(rows) @ encoder.encode_sentences([text])[0]) == place, text


@pytest.mark.shared
def test_a_real_quantised_text_side_does_not_depend_on_its_batch(shared: Path) -> None:
    encoder = OnnxDual(shared / "data/models/mobilenet-minilm")
    together = encoder.encode_sentences(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(together, np.concatenate([encoder.encode_sentences([text]) for text in TEXTS]), atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "columns"), [("mobilenet-v1-025", 256), ("mobilenet-v2", 1280)])
def test_real_eyes(shared: Path, name: str, columns: int) -> None:
    encoder = image_encoder(shared / "data/models" / name)
    assert encoder.encode_images(frames((48, 64), (64, 48))).shape == (2, columns)
    with pytest.raises(ModelError, match="no text side"):
        sentence_encoder(shared / "data/models" / name)


@pytest.mark.parametrize("mode", ["squash", "shortest"])
def test_a_frame_that_was_fitted_before_has_the_same_row(tmp_path: Path, mode: str) -> None:
    encoder = OnnxImages(make_visual(tmp_path, size=[8, 12], resize_mode=mode, interpolation="bicubic"))
    assert isinstance(encoder, FittingEncoder)
    sizes = [(40, 60), (33, 20), (8, 12), (9, 100)]
    whole = [frame for size in sizes for frame in frames(size)]
    fitted = [encoder.fit(frame) for frame in whole]
    assert {frame.shape for frame in fitted} == {(8, 12, 3)}
    assert np.array_equal(encoder.encode_images(5 * fitted), encoder.encode_images(5 * whole))
