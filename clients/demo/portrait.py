"""A face to show the product with, on a machine that has no footage: a portrait set into slight motion.

The picture comes inside the scikit-image package (`skimage.data.astronaut`): NASA's portrait of Eileen
Collins, in the public domain. NASA asks that its pictures of people are not taken for an endorsement, and
the consent record below claims no consent that nobody gave.
"""

import os
from fractions import Fraction

import cv2
import numpy as np

from engine.actor.consent import ANY_LANGUAGE, ConsentRecord
from engine.arrays import F32, F64, U8
from engine.errors import AssetError
from engine.image.yuv import I420, Colour
from engine.media import ColourTags, VideoFrame, VideoInfo, open_writer

NAME = "Eileen Collins (portrait)"
SIZE_PX = 640
RATE = Fraction(25)
SECONDS = 8.0

_ENLARGED_PX = 1382  # side of the packaged picture, 512 px, made large enough for a face 250 px wide
_FACE_X_PX, _FACE_Y_PX = 608.0, 335.0  # centre of the face in the enlarged picture
_FACE_HEIGHT = 0.46  # where that centre comes to lie, as a share of the height
_NOISE_LEVELS = 1.2  # standard deviation of the luma noise; a camera's picture never repeats exactly

# Amplitude, frequencies in Hz and their phases: slow sways whose sum does not repeat within a clip.
_ROLL_DEG = ((0.7, 0.19, 0.3), (0.3, 0.43, 1.9))
_ZOOM = ((0.008, 0.11, 1.2), (0.002, 0.37, 0.4))
_DRIFT_X_PX = ((3.5, 0.16, 0.0), (1.2, 0.47, 2.2))
_DRIFT_Y_PX = ((2.5, 0.13, 0.9), (1.0, 0.39, 0.1))


def portrait_consent(now_iso: str) -> ConsentRecord:
    """Return what can honestly be recorded about a public-domain portrait.

    Args:
        now_iso: ISO 8601 instant with a UTC offset, from which the record holds.
    """
    return ConsentRecord(
        subject="Eileen M. Collins, as shown in a portrait by NASA",
        granted_by="nobody: the picture is in the public domain (NASA); consent was not asked for",
        purpose="demonstration of livedub on the user's own machine",
        languages=(ANY_LANGUAGE,),
        granted_at=now_iso,
        expires_at=None,
        statement=(
            "Public-domain portrait, used to demonstrate software. The person never said what the result "
            "shows; neither she nor NASA endorses it. Not to be published without saying so."
        ),
    )


def load_portrait() -> U8:
    """Return the enlarged picture, uint8 [1382, 1382, 3], R'G'B'; read from the installed package.

    Raises:
        AssetError: the installed scikit-image does not carry the picture.
    """
    import skimage

    file = os.path.join(os.path.dirname(skimage.__file__), "data", "astronaut.png")
    picture = cv2.imread(file, cv2.IMREAD_COLOR_RGB)
    if picture is None or picture.shape != (512, 512, 3):
        raise AssetError(
            f"scikit-image carries no portrait at {file}; reinstall it: pip install scikit-image"
        )
    enlarged = cv2.resize(picture, (_ENLARGED_PX, _ENLARGED_PX), interpolation=cv2.INTER_LANCZOS4)
    return np.asarray(enlarged, np.uint8)


def transform(time_s: float) -> F64:
    """Return the map from `load_portrait()` to the frame of that time, float64 [2, 3], px to px."""
    turn = np.deg2rad(_sway(_ROLL_DEG, time_s))
    scale = 1.0 + _sway(_ZOOM, time_s)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    drift = (_sway(_DRIFT_X_PX, time_s), _sway(_DRIFT_Y_PX, time_s))
    target = np.array([SIZE_PX / 2, SIZE_PX * _FACE_HEIGHT]) + drift
    offset = target - linear @ np.array([_FACE_X_PX, _FACE_Y_PX])
    return np.hstack([linear, offset[:, None]]).astype(np.float64)


def portrait_frame(picture: U8, index: int) -> I420:
    """Return frame `index` of the clip, BT.601 limited range; the same bytes every time.

    Args:
        picture: as `load_portrait` returns it.
        index: of the frame, from 0.
    """
    matrix = transform(float(index / RATE))
    size = (SIZE_PX, SIZE_PX)
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    planes = cv2.cvtColor(moved, cv2.COLOR_RGB2YUV_I420)
    noise: F32 = np.random.default_rng(index).standard_normal(size, np.float32)
    luma = np.clip(np.round(planes[:SIZE_PX] + _NOISE_LEVELS * noise), 16, 235).astype(np.uint8)
    half = SIZE_PX // 2
    u, v = planes[SIZE_PX:].reshape(2, half, half)
    return I420(luma, np.ascontiguousarray(u, np.uint8), np.ascontiguousarray(v, np.uint8))


def write_portrait(path: str | os.PathLike[str], seconds: float = SECONDS) -> None:
    """Write the moving portrait as a silent clip; a longer clip begins like a shorter one.

    Raises:
        AssetError: the installed scikit-image does not carry the picture.
        OutputError: the file cannot be written.
    """
    picture = load_portrait()
    frames = max(1, round(seconds * RATE))
    info = VideoInfo(
        width=SIZE_PX,
        height=SIZE_PX,
        time_base=1 / RATE,
        rate=RATE,
        colour=Colour("bt601", full_range=False),
        tags=ColourTags(colour_range=1, matrix=6, primaries=6, transfer=6),
        frame_count=frames,
        duration_s=float(frames / RATE),
    )
    with open_writer(path, info, audio=None) as writer:
        for index in range(frames):
            writer.write(VideoFrame(portrait_frame(picture, index), index))


def _sway(parts: tuple[tuple[float, float, float], ...], time_s: float) -> float:
    return float(sum(size * np.sin(2 * np.pi * hz * time_s + phase) for size, hz, phase in parts))
