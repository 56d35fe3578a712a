"""Encrypted files are named as what they are, in every container that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_videos import av, colourful, noisy, write_video

from prvr.errors import VideoError
from prvr.video import VideoReader
from prvr.video.encryption import ASF_ENCRYPTIONS, is_encrypted
from prvr.video.structures import SEGMENT, TRACK, TRACKS, elements_of


def element(name: str, content: bytes) -> bytes:
    """An EBML element, its length in eight bytes."""
    return bytes.fromhex(name) + (len(content) | 1 << 56).to_bytes(8) + content


def with_encoding(path: Path, content: bytes) -> Path:
    """Adds content to the first track of a Matroska that was written live: its segment states no length."""
    data = path.read_bytes()
    with path.open("rb") as file:
        (segment, *_) = [place for name, *place in elements_of(file, 0, len(data)) if name == SEGMENT]
        (tracks, *_) = [place for name, *place in elements_of(file, *segment) if name == TRACKS]
        (track, *rest) = [place for name, *place in elements_of(file, *tracks) if name == TRACK]
    assert not rest
    inside = element("AE", data[slice(*track)] + content)
    head = data[: data.rindex(bytes.fromhex("1654AE6B"), 0, tracks[0])]
    path.write_bytes(head + element("1654AE6B", inside) + data[tracks[1] :])
    return path


ENCRYPTION = element("6240", element("5031", b"\0") + element("5033", b"\1") + element("5035", element("47E1", b"\5")))
COMPRESSION = element("6240", element("5033", b"\0") + element("5034", element("4254", b"\3") + element("4255", b"")))
WITH_KEY = element(
    "6240", element("5033", b"\1") + element("5035", element("47E1", b"\5") + element("47E2", b"0123456789abcdef"))
)


@pytest.mark.parametrize("encoding", [ENCRYPTION, WITH_KEY])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx")])
def test_matroska(tmp_path: Path, name: str, codec: str, encoding: bytes) -> None:
    with av.open(str(tmp_path / name), "w", container_options={"live": "1"}) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for number in range(25):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noisy(number), format="rgb24")))
        out.mux(stream.encode())
    path = with_encoding(tmp_path / name, element("6D80", encoding))
    with pytest.raises(VideoError, match="is encrypted"):
        VideoReader(path, rate=1.0)


def test_a_matroska_that_is_only_compressed_is_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", colourful(seconds=2), container_options={"live": "1"})
    with_encoding(path, element("6D80", COMPRESSION))
    with VideoReader(path, rate=1.0) as reader:
        assert len(list(reader)) == 2
        assert reader.problem is None


@pytest.mark.parametrize("kind", sorted(ASF_ENCRYPTIONS), ids=lambda kind: kind.hex()[:8])
def test_asf(tmp_path: Path, kind: bytes) -> None:
    path = write_video(tmp_path / "a.wmv", colourful(seconds=1), codec="wmv2", options={})
    codecs = bytes.fromhex("4052d1861d31d011a3a400a0c90348f6")
    data = path.read_bytes()
    assert data.count(codecs) == 1
    assert not is_encrypted(path)
    path.write_bytes(data.replace(codecs, kind))
    with pytest.raises(VideoError, match="is encrypted"):
        VideoReader(path, rate=1.0)


def test_a_dvd(tmp_path: Path) -> None:
    """Every second packet of pictures is scrambled, which its second byte of flags says."""
    path = write_video(
        tmp_path / "a.vob", [(40 * n, noisy(n)) for n in range(50)], codec="mpeg2video", options={"b": "4000000"}, format="vob"
    )
    assert not is_encrypted(path)
    data = bytearray(path.read_bytes())
    at = scrambled = 0
    while (at := data.find(b"\0\0\1\xe0", at + 1)) >= 0:
        scrambled += 1
        data[at + 6] |= 0x10 * (scrambled % 2)
    assert scrambled > 20
    path.write_bytes(data)
    with pytest.raises(VideoError, match="is encrypted"):
        VideoReader(path, rate=1.0)


@pytest.mark.parametrize("entry", [b"encv", b"drmi"])
def test_mp4(tmp_path: Path, entry: bytes) -> None:
    path = write_video(tmp_path / "a.mp4", [(40 * n, noisy(n)) for n in range(25)], options={"bf": "0"})
    data = path.read_bytes()
    assert data.count(b"avc1") >= 1
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    noise = noisy(9).tobytes()
    scrambled = (noise * (1 + (end - start) // len(noise)))[: end - start]
    path.write_bytes(data[:start] + scrambled + data[end:].replace(b"avc1", entry))
    with pytest.raises(VideoError, match="encrypted"), VideoReader(path, rate=1.0) as reader:
        list(reader)
