from pathlib import Path

import pytest

from engine.media.truncation import missing_bytes
from tests.support.media import ClipSpec, tone, write_clip, write_sound

KINDS = {
    "clip.mp4": ClipSpec(),
    "fast.mp4": ClipSpec(container_options={"movflags": "+faststart"}),
    "fragments.mp4": ClipSpec(container_options={"movflags": "+frag_keyframe+empty_moov"}),
    "clip.mov": ClipSpec(),
    "clip.mkv": ClipSpec(),
    "clip.webm": ClipSpec(codec="libvpx-vp9", options={}),
    "clip.avi": ClipSpec(codec="mpeg4", options={}),
}


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_miss_nothing_and_cut_ones_tell_how_much(name: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / name, KINDS[name])
    assert missing_bytes(path) == 0
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    index_bytes = 67 if name == "fragments.mp4" else 0  # the last box, which is not needed
    assert missing_bytes(path) == 100 - index_bytes
    path.write_bytes(data + b"\0" * 50)
    assert missing_bytes(path) == 0


def test_a_cut_wav_tells(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "sound.wav", tone(0.1), 48_000)
    path.write_bytes(path.read_bytes()[:-1000])
    assert missing_bytes(path) == 1000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        b"hello, this is text",
        b"\x00\x00\x00\x00ftyp rest of the file is the box",
        b"\x00\x00\x00\x04ftypbad length",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x00",
        b"\x1a\x45\xdf\xa3\x80",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff live recordings have no size",
        b"RIFF\xff\xff\xff\xffWAVE",
    ],
)
def test_what_cannot_be_judged_passes(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert missing_bytes(path) == 0


def test_large_boxes_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    path.write_bytes(
        b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x01mdat" + (1 << 33).to_bytes(8, "big") + b"x" * 84
    )
    assert missing_bytes(path) == (1 << 33) - 100
