"""A folder of features that `prvr extract` keeps: made from a folder of videos, read for training and evaluation.

FEATURES/<encoder>/frames      of every video
FEATURES/<encoder>/sentences   of every caption, for encoders with images and sentences in one space
FEATURES/<encoder>/words       of every caption, for text encoders
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prvr.checkpoint import Checkpoint, Reads, Source
from prvr.datasets.folder import CAPTIONS
from prvr.datasets.folder import load as load_folder
from prvr.encoders import SentenceEncoder, image_encoder, word_encoder
from prvr.errors import DataError, nearest
from prvr.extract import Extraction, Progress, extract_sentences, extract_videos, extract_words, feature_folder
from prvr.features import FeatureSet, TeacherFeatures
from prvr.features.packed import Packed, is_packed
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
    on_progress: Progress | None = None,
) -> dict[str, Extraction]:
    """Features of a folder's videos, and of its captions if it has any; what each encoder and kind came to.

    Args:
        encoders: of frames, by folder or hub name; those that also read sentences encode the captions, too.
        words: encoders that give a row per word of each caption.
        rate: frames per second.

    Raises:
        ModelError: an encoder cannot be opened or cannot do what it is asked for.
        DataError: no videos, broken captions, or features that are there are of another encoder or rate.
    """
    videos, features = Path(videos), Path(features)
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
            files, out, encoder=encoder, rate=rate, batch_size=batch_size, on_progress=on_progress
        )
        if texts and isinstance(encoder, SentenceEncoder):
            out = feature_folder(features, encoder.name, "sentences")
            done[f"{encoder.name}/sentences"] = extract_sentences(texts, out, encoder=encoder, on_progress=on_progress)
    for source in words:
        reader = word_encoder(source, device=device)
        out = feature_folder(features, reader.name, "words")
        done[f"{reader.name}/words"] = extract_words(texts, out, encoder=reader, on_progress=on_progress)
    return done


def student_features(features: str | Path, *, frames: str, words: str, teachers: Sequence[str] = ()) -> tuple[FeatureSet, Reads]:
    """What a student reads and is taught with, by the names of the encoders, and the sources for its checkpoint.

    Raises:
        DataError: features of that name and kind are not there; the nearest is suggested.
    """
    root = Path(features)
    seen, read = _packed(root, frames, "frames"), _packed(root, words, "words")
    taught = tuple(TeacherFeatures(_packed(root, name, "frames"), _packed(root, name, "sentences")) for name in teachers)
    return FeatureSet(seen, read, taught), Reads(_source(seen), _source(read))


def teacher_features(features: str | Path, name: str) -> tuple[FeatureSet, Reads]:
    """What the teacher alone reads: its frames, and its sentences as text."""
    root = Path(features)
    frames, sentences = _packed(root, name, "frames"), _packed(root, name, "sentences")
    return FeatureSet(frames, sentences), Reads(_source(frames), _source(sentences))


def features_for(features: str | Path, checkpoint: Checkpoint) -> FeatureSet:
    """The features that a checkpoint reads, among those of a folder.

    Raises:
        DataError: they are not there, or come from an encoder of that name with other weights.
    """
    root, reads = Path(features), checkpoint.reads
    found = _packed(root, reads.frames.name, "frames"), _packed(root, reads.text.name, checkpoint.model.reading.text)
    for packed, wanted in zip(found, (reads.frames, reads.text), strict=True):
        there = _source(packed)
        if (there.fingerprint, there.rate) != (wanted.fingerprint, wanted.rate):
            raise DataError(
                f"{packed.path} is of {there.name!r} with fingerprint {there.fingerprint} at rate {there.rate}; "
                f"the model reads fingerprint {wanted.fingerprint} at rate {wanted.rate}: extract with that encoder"
            )
    return FeatureSet(*found)


def _packed(root: Path, name: str, kind: str) -> Packed:
    path = root / name / kind
    if not is_packed(path):
        known = sorted(folder.parent.name for folder in root.glob(f"*/{kind}") if is_packed(folder))
        hint = nearest(name, known) if known else f"there are none in {root}; make them with: prvr extract VIDEOS {root}"
        raise DataError(f"no {kind} features of {name!r} in {root}; {hint}")
    return Packed(path)


def _source(packed: Packed) -> Source:
    encoder: Mapping[str, str] = packed.about["encoder"]
    return Source(encoder["name"], packed.columns, packed.source, encoder["fingerprint"], packed.about.get("rate"))
