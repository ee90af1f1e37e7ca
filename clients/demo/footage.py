"""A user's own video made ready: constant rate, moderate size, and as long as the speech."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from engine.arrays import U8
from engine.errors import MediaError
from engine.image.yuv import I420
from engine.media import VideoFrame, VideoInfo, open_video, open_writer, probe, read_dub_audio
from engine.models import cache_dir

RATE = Fraction(25)
MAX_S = 60.0
MIN_S = 2.0
MAX_SIDE_PX = 1280
SWAY_S = 6.0  # a clip that is too short goes on with its last seconds, back and forth


@dataclass(frozen=True)
class Footage:
    """What was made of a video.

    Attributes:
        frames: at 25 per second.
        seconds: their duration.
        cut_short: the video was longer than `MAX_S`; the rest was left out.
    """

    frames: int
    seconds: float
    cut_short: bool


def prepare(video: Path, out: Path, *, on_frame: Callable[[int], None] | None = None) -> Footage:
    """Copy a video to 25 frames per second, square pixels, at most 1280 px and 60 s, with its sound.

    Raises:
        MediaError: it cannot be read, or is shorter than 2 s.
        OutputError: the copy cannot be written.
    """
    info = probe(video)
    sound = read_dub_audio(video) if info.audio is not None else None
    with open_video(video) as reader:
        target = _target(reader.info)
        frames = _on_grid(reader, reader.info.time_base)
        wanted = round(MAX_S * RATE)
        with open_writer(out, target, audio=sound) as writer:
            count = 0
            for image in islice(frames, wanted):
                writer.write(VideoFrame(_scaled(image, target), count))
                count += 1
                if on_frame:
                    on_frame(count)
            seconds = float(count / RATE)
            if seconds < MIN_S:
                raise MediaError(
                    f"the video is only {seconds:.1f} s long; {MIN_S:.0f} s of the face are needed"
                )
        cut_short = next(frames, None) is not None
    return Footage(count, seconds, cut_short)


def fit(video: Path, out: Path, seconds: float) -> None:
    """Write the first `seconds` of a prepared video; a shorter one sways on at its end, in silence.

    Raises:
        MediaError: it cannot be read.
        OutputError: the copy cannot be written.
    """
    wanted = max(1, round(seconds * RATE))
    sound = read_dub_audio(video) if probe(video).audio is not None else None
    with open_video(video) as reader, open_writer(out, reader.info, audio=sound) as writer:
        images = _swaying((frame.image for frame in reader), round(SWAY_S * RATE))
        step = round(1 / (RATE * reader.info.time_base))
        for index, image in enumerate(islice(images, wanted)):
            writer.write(VideoFrame(image, index * step))


def duration_s(path: str | os.PathLike[str]) -> float:
    """Return the length of a prepared video, s."""
    seconds = probe(path).duration_s
    if seconds is None:
        raise MediaError(f"{path} does not say how long it is")
    return seconds


def forget_tracks(folder: Path, max_s: float) -> None:
    """Remove what the tracker keeps, in its cache, of the videos below a folder: where their faces are.

    Args:
        folder: searched for .mp4 files.
        max_s: the limit with which some of them were tracked.
    """
    from engine.face.track import cache_key

    tracks = cache_dir() / "tracks"
    for video in folder.rglob("*.mp4"):
        for limit in (None, max_s):
            with suppress(OSError, MediaError):
                (tracks / f"{cache_key(video, None, limit)}.safetensors").unlink(missing_ok=True)


def _on_grid(reader: Iterable[VideoFrame], time_base: Fraction) -> Iterator[I420]:
    """The frame that is on show at each 25th of a second, from the first frame on."""
    index = 0
    start: Fraction | None = None
    held: I420 | None = None
    for frame in reader:
        time_s = frame.pts * time_base
        start = time_s if start is None else start
        while held is not None and index / RATE < time_s - start:
            yield held
            index += 1
        held = frame.image
    if held is not None:
        yield held


def _swaying(images: Iterable[I420], window: int) -> Iterator[I420]:
    last: deque[I420] = deque(maxlen=window)
    for image in images:
        last.append(image)
        yield image
    if not last:
        raise MediaError("the video has no frames")
    kept, at, step = list(last), len(last) - 1, -1
    while True:
        if not 0 <= at + step < len(kept):
            step = -step
        at = min(max(at + step, 0), len(kept) - 1)
        yield kept[at]


def _target(info: VideoInfo) -> VideoInfo:
    """The same colours at 25 frames per second, even sizes and square pixels."""
    width, height = float(info.width * info.sample_aspect_ratio), float(info.height)
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    even_width, even_height = (max(2, 2 * round(size * scale / 2)) for size in (width, height))
    return replace(
        info,
        width=even_width,
        height=even_height,
        time_base=1 / RATE,
        rate=RATE,
        sample_aspect_ratio=Fraction(1),
        rotation_deg=0,
        frame_count=None,
        duration_s=None,
    )


def _scaled(image: I420, target: VideoInfo) -> I420:
    if (image.width, image.height) == (target.width, target.height):
        return image
    half = (target.width // 2, target.height // 2)
    return I420(
        _resized(image.y, (target.width, target.height)), _resized(image.u, half), _resized(image.v, half)
    )


def _resized(plane: U8, size: tuple[int, int]) -> U8:
    method = cv2.INTER_AREA if size[0] < plane.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, size, interpolation=method), np.uint8)
