"""Where tests find footage, model files and pictures of faces; what is absent is skipped with the reason."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from engine.arrays import U8
from engine.errors import AssetError
from engine.models import locate

ROOT = Path(__file__).resolve().parents[2]


def data_file(name: str) -> Path:
    """A file of the development footage: below `LIVEDUB_DATA`, or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("LIVEDUB_DATA") or ROOT.parent / "shared" / "data")
    path = folder / name
    if not path.is_file():
        pytest.skip(f"development footage is not here: {name} (set LIVEDUB_DATA)")
    return path


def model_file(name: str) -> Path:
    """A pinned third-party model."""
    try:
        return locate(name)
    except AssetError as error:
        pytest.skip(str(error))


def astronaut() -> U8:
    """One face, 92 px wide around (225, 124), in a uint8 [512, 512, 3] picture (NASA, public domain)."""
    return np.array(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]


def faces_picture(*faces: tuple[int, int, float, bool], width: int = 1280, height: int = 720) -> U8:
    """A grey picture with astronauts, each: x and y of the face's centre, a scale, whether mirrored."""
    picture = np.full((height, width, 3), 96, np.uint8)
    for x, y, scale, mirrored in faces:
        cut = astronaut()[9:239, 110:340]  # the face's centre is the middle
        cut = cut[:, ::-1] if mirrored else cut
        size = round(230 * scale)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        patch = cv2.resize(cut, (size, size), interpolation=method)
        left, top = x - size // 2, y - size // 2
        picture[top : top + size, left : left + size] = patch
    return picture
