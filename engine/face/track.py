"""The face track of a whole video file, computed once and kept in a cache.

A cached track is a safetensors file, `tracks/<key>.safetensors` in the cache folder: the arrays of
`FaceTrack` and, as metadata, `time_base` ("num/den"), `width_px` and `height_px`. The key is a sha256 over
the content of the video, the version of the tracker, the options and the model's hash, so a key never has
two contents. A file that does not read as a track is computed and written anew.
"""

import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from engine import models
from engine.arrays import F32, U8, Array, Bool, check_array
from engine.errors import MediaError
from engine.face.landmarks import COUNT
from engine.face.tracker import VERSION, FaceTracker
from engine.image.yuv import I420, Box, Colour, roi_to_rgb
from engine.media import open_video

DEFAULT_CACHE: Final = "default"  # `tracks` in `engine.models.cache_dir()`

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face over the frames of a video.

    Attributes:
        landmarks: float32 [F, 478, 3], px of the upright frame, see `engine.face.landmarks`; NaN: no face.
        confidence: float32 [F], 0.5..1; 0 without a face.
        pts: int64 [F], ticks of `time_base`, as the frames have them.
        time_base: seconds in a tick.
        width_px: of the upright frames.
        height_px: of the upright frames.
        cut: bool [F], the frame is the first one after a programme cut.
    """

    landmarks: F32
    confidence: F32
    pts: NDArray[np.int64]
    time_base: Fraction
    width_px: int
    height_px: int
    cut: Bool

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError unless the arrays belong together."""
        frames = len(self.landmarks)
        check_array("landmarks", self.landmarks, (None, COUNT, 3), np.float32)
        check_array("confidence", self.confidence, (frames,), np.float32)
        check_array("pts", self.pts, (frames,), np.int64)
        check_array("cut", self.cut, (frames,), np.bool_)
        if self.time_base <= 0 or self.width_px <= 0 or self.height_px <= 0:
            raise ValueError(
                f"{self.time_base = }, {self.width_px = } and {self.height_px = } must be positive"
            )

    @property
    def found(self) -> Bool:
        """Bool [F]: the frame shows the face."""
        return np.asarray(np.isfinite(self.landmarks[:, 0, 0]))

    def __len__(self) -> int:
        return len(self.pts)

    def __repr__(self) -> str:
        faces, size = int(self.found.sum()), f"{self.width_px}x{self.height_px}"
        return f"FaceTrack({len(self)} frames, {faces} with a face, {size}, time_base={self.time_base})"


def track_video(
    path: Path | str,
    *,
    face: int | None = None,
    max_s: float | None = None,
    on_frame: Callable[[int], None] | None = None,
    cache_dir: Path | Literal["default"] | None = DEFAULT_CACHE,
) -> FaceTrack:
    """Track one face through a video file; frames are decoded one by one.

    Args:
        path: of the video.
        face: which one, from the left, 1 = leftmost; by default the largest and most central.
        max_s: stop after so many seconds from the first frame.
        on_frame: called after each frame with the number of frames so far; once for a cached track.
        cache_dir: folder of cached tracks; None neither reads nor writes any.

    Raises:
        MediaError: the video cannot be read or has no frame.
        AssetError: the face models are missing (or another error of `FaceTracker`).
        ValueError: `face` is less than 1 or `max_s` not a positive number.
    """
    if max_s is not None and not (math.isfinite(max_s) and max_s > 0):
        raise ValueError(f"{max_s = } must be positive and finite")
    tracker = FaceTracker(face=face)
    if cache_dir is None:
        return _track(Path(path), tracker, max_s, on_frame)
    folder = models.cache_dir() / "tracks" if cache_dir == DEFAULT_CACHE else Path(cache_dir)
    file = folder / f"{cache_key(Path(path), face, max_s)}.safetensors"
    track = load_track(file)
    if track is not None:
        if on_frame is not None:
            on_frame(len(track))
        return track
    track = _track(Path(path), tracker, max_s, on_frame)
    save_track(track, file)
    return track


def cache_key(path: Path, face: int | None, max_s: float | None) -> str:
    """Hex key of a track: equal only for the same video content, options, tracker and model.

    Raises:
        MediaError: the video cannot be read.
    """
    try:
        content = models.file_sha256(path)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror}") from error
    model = models.pinned("face_landmarker").sha256
    parts = {
        "content": content,
        "version": VERSION,
        "face": face,
        "max_s": None if max_s is None else float(max_s),
        "model": model,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_track(file: Path) -> FaceTrack | None:
    """A cached track; None if there is none or the file is not a whole track."""
    try:
        with safe_open(file, framework="numpy") as content:
            about = content.metadata() or {}
            return FaceTrack(
                landmarks=content.get_tensor("landmarks"),
                confidence=content.get_tensor("confidence"),
                pts=content.get_tensor("pts"),
                time_base=Fraction(about["time_base"]),
                width_px=int(about["width_px"]),
                height_px=int(about["height_px"]),
                cut=content.get_tensor("cut"),
            )
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        log.warning("cached track %s is not usable: %s", file.name, error)
        return None


def save_track(track: FaceTrack, file: Path) -> None:
    """Write a track; the file appears whole or not at all. A cache that cannot be written is only logged."""
    arrays: dict[str, Array] = {
        "landmarks": track.landmarks,
        "confidence": track.confidence,
        "pts": track.pts,
        "cut": track.cut,
    }
    about = {
        "time_base": f"{track.time_base.numerator}/{track.time_base.denominator}",
        "width_px": str(track.width_px),
        "height_px": str(track.height_px),
    }
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=about)
    part = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=".track.")
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        os.replace(part, file)
    except OSError as error:
        log.warning("the track was not cached: %s", error)
        if part is not None:
            Path(part).unlink(missing_ok=True)


def to_rgb(image: I420, colour: Colour) -> U8:
    """The whole picture as uint8 [H, W, 3] R'G'B'."""
    return roi_to_rgb(image, Box(0, 0, image.width, image.height), colour)


def _track(
    path: Path, tracker: FaceTracker, max_s: float | None, on_frame: Callable[[int], None] | None
) -> FaceTrack:
    landmarks: list[F32] = []
    confidence: list[float] = []
    pts: list[int] = []
    cut: list[bool] = []
    limit_s = None if max_s is None else Fraction(max_s).limit_denominator(1_000_000)  # 0.2 means 1/5
    nothing = np.full((COUNT, 3), np.nan, np.float32)
    with open_video(path) as video:
        info = video.info
        for frame in video:
            if limit_s is not None and pts and (frame.pts - pts[0]) * info.time_base >= limit_s:
                break
            found = tracker.step_frame(frame.image, info.colour)
            landmarks.append(nothing if found is None else found.landmarks)
            confidence.append(0.0 if found is None else found.confidence)
            pts.append(frame.pts)
            cut.append(tracker.cut)
            if on_frame is not None:
                on_frame(len(pts))
    if not pts:
        raise MediaError(f"{path} has no video frame")
    return FaceTrack(
        np.stack(landmarks),
        np.array(confidence, np.float32),
        np.array(pts, np.int64),
        info.time_base,
        info.width,
        info.height,
        np.array(cut, np.bool_),
    )
