"""A folder of features by name, read for training and evaluation: one that `prvr extract` keeps, or a published package.

FEATURES/<encoder>/frames      of every video
FEATURES/<encoder>/sentences   of every caption, for encoders with images and sentences in one space
FEATURES/<encoder>/words       of every caption, for text encoders

`prvr data convert` packs a published package in the same layout; ROOT/COLLECTION itself can be read in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prvr.checkpoint import Checkpoint, Reads, Source, joined
from prvr.convert import taught_folder
from prvr.datasets import Dataset
from prvr.datasets.folder import CAPTIONS
from prvr.datasets.folder import load as load_folder
from prvr.encoders import SentenceEncoder, image_encoder, word_encoder
from prvr.errors import DataError, nearest
from prvr.extract import (
    Extraction,
    Progress,
    engine_for,
    extract_sentences,
    extract_videos,
    extract_words,
    feature_folder,
)
from prvr.features import Features, FeatureSet, TeacherFeatures, columns, place
from prvr.features.joined import JoinedFeatures
from prvr.features.packed import Packed, is_packed
from prvr.published import Package, is_package, open_package
from prvr.similarities import Similarities, keep_similarities
from prvr.video import find_videos


def extract_folder(
    videos: str | Path,
    features: str | Path,
    *,
    encoders: Sequence[str | Path],
    words: Sequence[str | Path] = (),
    rate: float = 1.0,
    batch_size: int = 32,
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Extraction]:
    """Features of a folder's videos, and of its captions if it has any; what each encoder and kind came to.

    Args:
        encoders: of frames, by folder or hub name; those that also read sentences encode the captions, too.
        words: encoders that give a row per word of each caption.
        rate: frames per second.
        workers: processes that decode and encode videos; by default this one, or one on each machine of a cluster.
        ray: the address of a Ray cluster to do it: HOST:PORT, `auto` or `local`.

    Raises:
        ModelError: an encoder cannot be opened or cannot do what it is asked for.
        SettingError: no cluster at that address.
        DataError: no videos, broken captions, or features that are there are of another encoder or rate.
    """
    # Other machines have other working directories.
    videos, features = Path(videos).absolute(), Path(features)
    files = find_videos(videos)
    has_captions = (videos / CAPTIONS).exists()
    texts = {caption.id: caption.text for caption in load_folder(videos, "all").captions} if has_captions else {}
    if words and not texts:
        raise DataError(f"{videos} has no {CAPTIONS}; there is nothing for {words[0]} to read")
    done = {}
    for source in encoders:
        encoder = image_encoder(source, device=device)
        out = feature_folder(features, encoder.name, "frames")
        done[f"{encoder.name}/frames"] = extract_videos(
            files,
            out,
            encoder=encoder,
            rate=rate,
            batch_size=batch_size,
            engine=engine_for(encoder, device=device, workers=workers, ray=ray),
            on_progress=on_progress,
        )
        if texts and isinstance(encoder, SentenceEncoder):
            out = feature_folder(features, encoder.name, "sentences")
            done[f"{encoder.name}/sentences"] = extract_sentences(texts, out, encoder=encoder, on_progress=on_progress)
    for source in words:
        reader = word_encoder(source, device=device)
        out = feature_folder(features, reader.name, "words")
        done[f"{reader.name}/words"] = extract_words(texts, out, encoder=reader, on_progress=on_progress)
    return done


@dataclass(frozen=True)
class PackedShelf:
    """The packed folders below one folder."""

    root: Path

    def frames(self, name: str) -> Packed:
        """The frames of every video."""
        return self._packed(name, "frames")

    def text(self, name: str, kind: str) -> Packed:
        """The words or sentences of every caption."""
        return self._packed(name, kind)

    def teacher(self, name: str) -> TeacherFeatures:
        """An encoder's frames and sentences."""
        return TeacherFeatures(self._packed(name, "frames"), self._packed(name, "sentences"))

    def _packed(self, name: str, kind: str) -> Packed:
        path = self.root / name / kind
        if not is_packed(path):
            known = sorted(folder.parent.name for folder in self.root.glob(f"*/{kind}") if is_packed(folder))
            make = f"make them with: prvr extract VIDEOS {self.root}, or name the folder ROOT/COLLECTION of a package"
            hint = nearest(name, known) if known else f"there are none in {self.root}; {make}"
            raise DataError(f"no {kind} features of {name!r} in {self.root}; {hint}")
        return Packed(path)


def open_shelf(features: str | Path) -> Package | PackedShelf:
    """The features in a folder: a published package, or packed ones."""
    path = Path(features)
    return open_package(path) if is_package(path) else PackedShelf(path)


def student_features(features: str | Path, *, frames: str, words: str, teachers: Sequence[str] = ()) -> tuple[FeatureSet, Reads]:
    """What a student reads and is taught with, by the names of the encoders, and the sources for its checkpoint.

    Raises:
        DataError: features of that name and kind are not there; the nearest is suggested.
    """
    shelf = open_shelf(features)
    seen, read = _frames(shelf, frames), _text(shelf, words, "words")
    taught = []
    for name in teachers:
        coarser = taught_folder(Path(features), frames, name)
        student = Packed(coarser) if isinstance(seen, Packed) and "read" in seen.about and is_packed(coarser) else None
        taught.append(replace(shelf.teacher(name), student=student))
    return FeatureSet(seen, read, tuple(taught)), Reads(_source(frames, seen), _source(words, read))


def teacher_features(features: str | Path, name: str) -> tuple[FeatureSet, Reads]:
    """What the teacher alone reads: its frames, and its sentences as text."""
    teacher = open_shelf(features).teacher(name)
    return FeatureSet(teacher.frames, teacher.sentences), Reads(_source(name, teacher.frames), _source(name, teacher.sentences))


def features_for(features: str | Path, checkpoint: Checkpoint) -> FeatureSet:
    """The features that a checkpoint reads, among those of a folder.

    Raises:
        DataError: they are not there, or come from an encoder of that name with other weights.
    """
    shelf, reads = open_shelf(features), checkpoint.reads
    found = _frames(shelf, reads.frames.name), _text(shelf, reads.text.name, checkpoint.model.reading.text)
    for given, wanted in zip(found, (reads.frames, reads.text), strict=True):
        there = _source(wanted.name, given)
        if (there.fingerprint, there.rate) != (wanted.fingerprint, wanted.rate):
            raise DataError(
                f"{place(given)} is of {there.name!r} with fingerprint {there.fingerprint} at rate {there.rate}; "
                f"the model reads fingerprint {wanted.fingerprint} at rate {wanted.rate}: extract with that encoder"
            )
    return FeatureSet(*found)


def kept_similarities(
    features: str | Path, teachers: Sequence[Checkpoint], train: Dataset, *, out: Path
) -> tuple[Similarities, ...]:
    """What trained models say of a train split, each from the features that it reads; kept in OUT/0, OUT/1, ...

    Raises:
        DataError: their features are not there, or not those that they were trained on.
    """
    return tuple(
        keep_similarities(out / str(place), teacher, train, features_for(features, teacher))
        for place, teacher in enumerate(teachers)
    )


def _frames(shelf: Package | PackedShelf, name: str) -> Features:
    """The frames of an encoder, or of several side by side: NAME+NAME."""
    return _joined([shelf.frames(each) for each in name.split("+")])


def _text(shelf: Package | PackedShelf, name: str, kind: str) -> Features:
    """The text of an encoder, or words with the sentences of others beside each: NAME+NAME."""
    first, *others = name.split("+")
    return _joined([shelf.text(first, kind), *(shelf.text(each, "sentences") for each in others)])


def _joined(parts: Sequence[Features]) -> Features:
    return parts[0] if len(parts) == 1 else JoinedFeatures([(part, columns(part)) for part in parts])


def _source(name: str, features: Features) -> Source:
    if isinstance(features, JoinedFeatures):
        parts = zip(name.split("+"), features.parts, strict=True)
        return joined([_source(each, part) for each, (part, _) in parts])
    if not isinstance(features, Packed):
        return Source(name, columns(features))
    encoder, rate = features.about["encoder"], features.about.get("rate")
    # Published features come from no encoder that could be opened here.
    return Source(encoder["name"], features.columns, features.source or None, encoder["fingerprint"], rate)
