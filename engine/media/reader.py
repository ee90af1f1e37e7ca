"""Video files as a stream of upright I420 frames."""

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame as AvFrame
from av.video.stream import VideoStream

from engine.errors import MediaError
from engine.image.yuv import I420
from engine.media import frames
from engine.media.info import AudioInfo, MediaInfo, VideoInfo
from engine.media.pts import PtsRepair
from engine.media.source import can_decode, is_still, opened, origin_s, packets, reason
from engine.timing import round_fraction

_MICROSECOND = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class VideoFrame:
    """One picture and the moment it appears.

    Attributes:
        image: upright; writable and owned by whoever receives it.
        pts: ticks of the stream's time base, greater than that of the frame before.
        duration: ticks the picture stays, None if the file does not say.
    """

    image: I420
    pts: int
    duration: int | None = None


class VideoReader:
    """The frames of a video file, decoded one at a time, in presentation order.

    A context manager and an iterator: the file is read once, and only the frames that the codec itself
    keeps are in memory. pts are the file's own, relative to media time 0, repaired where needed by
    `PtsRepair`. Frames in 8-bit 4:2:0 keep their exact bytes; others are converted, matrix and range
    kept. Packets before the first decodable frame (a recording that starts between key frames) are
    skipped; any later error of the decoder ends the stream with `MediaError`, so that half a video never
    passes for a whole one.

    Attributes:
        info: size, rate, colour of what is given out.
    """

    info: VideoInfo

    def __init__(self, path: str | os.PathLike[str], *, stills: bool = False) -> None:
        self._path = Path(path)
        with ExitStack() as stack:
            container = stack.enter_context(opened(path))
            stream = _video_stream(container)
            if is_still(container) and not stills:
                raise MediaError(f"{self._path}: is a still picture, not a video")
            if stream is None:
                raise MediaError(f"{self._path}: has no video stream")
            if not can_decode(stream):
                raise MediaError(f"{self._path}: its video is in a format that cannot be decoded here")
            stream.thread_type = "AUTO"
            decoded = _decoded(self._path, container, stream)
            first = next(decoded)
            self.info = _video_info(container, stream, first)
            self._frames = self._upright(first, decoded, origin_s(container))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file; frames already given out stay valid."""
        self._frames.close()
        self._stack.close()

    def _upright(
        self, first: AvFrame, rest: Iterator[AvFrame], origin: Fraction
    ) -> Generator[VideoFrame, None, None]:
        info = self.info
        turn = frames.orientation(first)
        origin_ticks = origin // info.time_base
        second = round_fraction(1 / info.time_base)
        repair = PtsRepair(round_fraction(second / (info.rate or Fraction(25))), second)
        size = (first.width, first.height)
        count = 0
        frame: AvFrame | None = first
        while frame is not None:
            if (frame.width, frame.height) != size:
                raise MediaError(
                    f"{self._path}: the picture size changes at frame {count}, "
                    f"from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                )
            stamp = frame.pts if frame.pts is not None else frame.dts
            pts = repair.next(None if stamp is None else stamp - origin_ticks)
            image = frames.turned(frames.to_i420(frame, info.colour), turn)
            yield VideoFrame(image, pts, frame.duration or None)
            count += 1
            frame = next(rest, None)


def open_video(path: str | os.PathLike[str], *, stills: bool = False) -> VideoReader:
    """Open a video file of any format that FFmpeg reads.

    Args:
        path: of the file.
        stills: take a still picture (PNG, JPEG, WebP...) as a video of one frame, instead of refusing it.

    Raises:
        MediaError: missing, unreadable, damaged, cut off, a still picture, or without a video stream.
    """
    return VideoReader(path, stills=stills)


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Say what a file holds; decodes the first frame.

    Raises:
        MediaError: missing, unreadable, damaged, or neither video, audio nor a picture.
    """
    with opened(path) as container:
        still = is_still(container)
        stream = _video_stream(container)
        video = None
        if stream is not None and not still and can_decode(stream):
            video = _video_info(container, stream, next(_decoded(Path(path), container, stream)))
        sounds = [sound for sound in container.streams.audio[:1] if can_decode(sound)]
        audio = _audio_info(sounds[0]) if sounds else None
        if video is None and audio is None and not still:
            raise MediaError(f"{path}: has neither video nor audio")
        duration = container.duration
        return MediaInfo(
            container.format.name,
            still,
            video,
            audio,
            None if duration is None else float(duration * _MICROSECOND),
        )


def _video_stream(container: InputContainer) -> VideoStream | None:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _decoded(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[AvFrame]:
    """Yield the decoder's frames, at least one."""
    count = 0
    try:
        for packet in packets(path, container, stream):
            try:
                got = stream.decode(packet)
            except av.error.InvalidDataError:
                if count == 0:
                    continue
                raise
            for frame in got:
                yield frame
                count += 1
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: is damaged: decoding stops at frame {count}: {reason(error)}") from error
    if count == 0:
        raise MediaError(f"{path}: not one frame of its video can be decoded")


def _video_info(container: InputContainer, stream: VideoStream, first: AvFrame) -> VideoInfo:
    turn = frames.orientation(first)
    width, height = (first.height, first.width) if turn.transpose else (first.width, first.height)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    time_base = first.time_base or stream.time_base or Fraction(1, 90_000)
    if stream.duration is not None and stream.time_base:
        duration_s: float | None = float(stream.duration * stream.time_base)
    else:
        duration_s = None if container.duration is None else float(container.duration * _MICROSECOND)
    colour, tags = frames.colour_of(first, height)
    return VideoInfo(
        width=width,
        height=height,
        time_base=time_base,
        rate=stream.average_rate or stream.guessed_rate or None,
        colour=colour,
        tags=tags,
        sample_aspect_ratio=1 / aspect if turn.transpose else aspect,
        rotation_deg=turn.clockwise_deg,
        frame_count=stream.frames or None,
        duration_s=duration_s,
        codec=stream.codec_context.name,
        pixel_format=first.format.name,
    )


def _audio_info(stream: AudioStream) -> AudioInfo:
    duration_s = None
    if stream.duration is not None and stream.time_base:
        duration_s = float(stream.duration * stream.time_base)
    return AudioInfo(stream.rate, stream.channels, stream.codec_context.name, duration_s)
