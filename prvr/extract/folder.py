"""Encodes a folder of videos, and its captions if it has any, to packed features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prvr.datasets import cut_spans
from prvr.datasets.folder import CAPTIONS
from prvr.datasets.folder import load as load_folder
from prvr.encoders import SentenceEncoder, image_encoder, word_encoder
from prvr.errors import DataError
from prvr.extract import (
    Extraction,
    Progress,
    engine_for,
    extract_sentences,
    extract_videos,
    extract_words,
    feature_folder,
)
from prvr.features import durations_of
from prvr.features.object_storage import require_folder
from prvr.features.packed import Packed
from prvr.video import VideoPath, find_passed_over, find_videos, place_of


def extract_folder(
    videos: str | VideoPath,
    features: str | Path,
    *,
    encoders: Sequence[str | Path],
    words: Sequence[str | Path] = (),
    rate: float = 1.0,
    batch_size: int = 32,
    every_frame: bool = False,
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Extraction]:
    """Extracts features of a folder's videos, and of its captions if it has any.

    Args:
        videos: the folder, or its URL (`prvr.video.remote`), where captions are not read.
        encoders: encoders of frames, by folder or hub name; those that also read sentences encode the captions, too.
        words: encoders with a row per word, for the captions.
        rate: frames per second.
        every_frame: encodes also a frame that looks like the one before, instead of giving it the row of that.
        workers: the number of processes; by default this process alone, or one on each machine of a cluster.
        ray: the address of a Ray cluster that does it: HOST:PORT, `auto` or `local`.

    Returns:
        What was done for each encoder and kind, by ENCODER/KIND.

    Raises:
        ModelError: an encoder cannot be opened, or has no images or no words.
        SettingError: there is no cluster at that address, or `features` is a URL.
        DataError: there are no videos, the captions are broken, or the folder has features of another encoder or rate.
    """
    require_folder(features)
    # Absolute: other machines have other working directories.
    videos, features = place_of(videos).absolute(), Path(features)
    files = find_videos(videos)
    dataset = load_folder(videos, "all") if isinstance(videos, Path) and (videos / CAPTIONS).exists() else None
    texts = {caption.id: caption.text for caption in dataset.captions} if dataset else {}
    if words and not texts:
        raise DataError(f"{videos} has no {CAPTIONS}; there is nothing for {words[0]} to read")
    done = {}
    # Words first: one that cannot read them is refused before hours of video.
    for source in words:
        reader = word_encoder(source, device=device)
        out = feature_folder(features, reader.name, "words")
        done[f"{reader.name}/words"] = extract_words(texts, out, encoder=reader, on_progress=on_progress)
    for source in encoders:
        encoder = image_encoder(source, device=device)
        out = feature_folder(features, encoder.name, "frames")
        frames = extract_videos(
            files,
            out,
            encoder=encoder,
            rate=rate,
            batch_size=batch_size,
            every_frame=every_frame,
            engine=engine_for(encoder, device=device, workers=workers, ray=ray),
            on_progress=on_progress,
        )
        problems = {**find_passed_over(videos), **frames.problems}
        if dataset:
            problems |= cut_spans(dataset, durations_of(Packed(out), dataset.video_ids)).notes
        done[f"{encoder.name}/frames"] = replace(frames, problems=problems)
        if texts and isinstance(encoder, SentenceEncoder):
            out = feature_folder(features, encoder.name, "sentences")
            done[f"{encoder.name}/sentences"] = extract_sentences(texts, out, encoder=encoder, on_progress=on_progress)
    return done
