"""Still pictures as videos of one frame, for who asks for them."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.arrays import U8
from engine.errors import MediaError
from engine.face.track import to_rgb
from engine.media import open_video
from tests.support.data import astronaut

ORIENTATION_TAG, SHORT = 0x112, 3
TURNS = {1: 0, 3: 2, 6: -1, 8: 1}  # EXIF's number: anticlockwise quarter turns that make the picture upright


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG file that says how the camera was held, as a phone writes it."""
    entry = struct.pack("<HHIHH", ORIENTATION_TAG, SHORT, 1, orientation, 0)
    body = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def read(path: Path) -> list[U8]:
    with open_video(path, stills=True) as reader:
        return [to_rgb(frame.image, reader.info.colour) for frame in reader]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
def test_a_picture_is_one_frame(name: str, tmp_path: Path) -> None:
    picture = astronaut()
    cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    frames = read(tmp_path / name)
    assert len(frames) == 1
    assert frames[0].shape == picture.shape
    assert np.abs(frames[0].astype(int) - picture).mean() < 3


@pytest.mark.parametrize("orientation", TURNS)
def test_a_photo_is_made_upright(orientation: int, tmp_path: Path) -> None:
    picture = astronaut()[:300]
    jpeg = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg, orientation))
    (frame,) = read(tmp_path / "a.jpg")
    upright = np.rot90(picture, TURNS[orientation])
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 3


def test_who_asks_for_a_video_gets_no_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), astronaut())
    with pytest.raises(MediaError, match="is a still picture"):
        open_video(tmp_path / "a.png")
