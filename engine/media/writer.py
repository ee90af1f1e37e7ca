"""Video files out: whole or not at all."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.frame import VideoFrame as AvFrame
from av.video.stream import VideoStream

from engine.errors import OutputError
from engine.media import frames
from engine.media.audio import DubAudio, audio_frame, fitted, resampled
from engine.media.info import VideoInfo
from engine.media.reader import VideoFrame
from engine.media.source import reason
from engine.timing import round_fraction

_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AUDIO_BIT_RATE = 96_000  # per channel, bit/s


@dataclass(frozen=True)
class _Container:
    name: str
    video_codec: str
    audio_codec: str


_CONTAINERS = {
    ".mp4": _Container("mp4", "libx264", "aac"),
    ".m4v": _Container("mp4", "libx264", "aac"),
    ".mov": _Container("mov", "libx264", "aac"),
    ".mkv": _Container("matroska", "libx264", "aac"),
    ".webm": _Container("webm", "libvpx-vp9", "libopus"),
}


class VideoWriter:
    """An output file that appears when its `with` ends without an exception, and not otherwise.

    Frames go to a hidden file beside the target, which takes the target's name at the end; any exception,
    Ctrl-C included, removes it and leaves an older target as it was.

    pts are kept: in MP4 and MOV exactly, in Matroska and WebM to the millisecond, which is all that those
    hold. Sound starts at media time 0 and is cut, or padded with silence, to end with the last frame.
    H.264 in 4:2:0 needs even sizes; a picture of odd size is stored in 4:4:4 (High 4:4:4 Predictive
    profile), which keeps its size and, read back here, its chroma. VP9 stores odd sizes as they are.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        video: VideoInfo,
        *,
        audio: DubAudio | None,
        crf: int,
        preset: str,
        comment: str,
        seal: Callable[[Path], None] | None,
    ) -> None:
        self._path, self._comment, self._seal = Path(path), comment, seal
        self._kind = _container_for(self._path)
        if self._kind.name == "webm" and video.sample_aspect_ratio != 1:
            # VP9 does not carry it, and PyAV cannot hand it to the container.
            raise OutputError(f"{path}: WebM cannot hold pixels that are not square here; use .mp4 or .mkv")
        self._video = video
        self._audio = audio
        self._crf = crf
        self._preset = preset
        self._sink: _Sink | None = None
        self._partial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}.partial")

    def __enter__(self) -> Self:
        try:
            _create(self._partial, self._path)
            self._sink = _Sink(
                self._partial, self._kind, self._video, self._audio, self._crf, self._preset, self._comment
            )
        except BaseException as error:
            self._discard()
            _raise_as_output_error(self._path, error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        try:
            self._open_sink().finish()
            if self._seal is not None:
                self._seal(self._partial)
            _publish(self._partial, self._path)
        except BaseException as failure:
            self._discard()
            _raise_as_output_error(self._path, failure)
            raise

    def write(self, frame: VideoFrame) -> None:
        """Append a frame; only read, and free to be reused after the call.

        Raises:
            ValueError: its size is not that of the video, or its pts is not after the one before.
            OutputError: the disk is full or failing.
        """
        sink = self._open_sink()
        try:
            sink.write(frame)
        except (av.error.FFmpegError, OSError) as error:
            _raise_as_output_error(self._path, error)

    def _open_sink(self) -> "_Sink":
        if self._sink is None:
            raise ValueError("the writer is not open; use it in a `with`")
        return self._sink

    def _discard(self) -> None:
        # Removed first: closing then has nothing to move to the front of the file.
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)
        if self._sink is not None:
            self._sink.abandon()


def open_writer(
    path: str | os.PathLike[str],
    video: VideoInfo,
    *,
    audio: DubAudio | None,
    crf: int = 18,
    preset: str = "veryfast",
    comment: str = "",
    seal: Callable[[Path], None] | None = None,
) -> VideoWriter:
    """Prepare a video file; use the result in a `with`.

    Args:
        path: .mp4, .m4v, .mov, .mkv (H.264 and AAC) or .webm (VP9 and Opus).
        video: size, time base, colour tags and pixel aspect of the frames to come.
        audio: the sound, None for a silent file.
        crf: constant quality, 0 (best) to 51; of VP9 to 63.
        preset: x264's name for speed against size; without meaning for .webm.
        comment: the container's tag of that name, "" for none.
        seal: given the finished file before it takes its name; it may exchange it, or raise.

    Raises:
        OutputError: the name's ending is none of those; from the `with` also: the file cannot be written.
    """
    return VideoWriter(path, video, audio=audio, crf=crf, preset=preset, comment=comment, seal=seal)


class _Sink:
    """The open container with its two encoders."""

    def __init__(
        self,
        path: Path,
        kind: _Container,
        video: VideoInfo,
        audio: DubAudio | None,
        crf: int,
        preset: str,
        comment: str,
    ) -> None:
        self._info = video
        self._pending: AvFrame | None = None
        self._pending_pts = 0
        options = {}
        if kind.name in ("mp4", "mov"):
            # An edit list in the video's own ticks keeps the first pts exact.
            options = {"movflags": "+faststart", "movie_timescale": str(video.time_base.denominator)}
        self._container = av.open("file:" + os.path.abspath(path), "w", format=kind.name, options=options)
        self._video = _video_stream(self._container, kind, video, crf, preset)
        self._audio = None if audio is None else _AudioTrack(self._container, kind, audio)
        if comment:
            self._container.metadata["comment"] = comment
        self._container.start_encoding()

    def write(self, frame: VideoFrame) -> None:
        info, last = self._info, self._pending
        if (frame.image.width, frame.image.height) != (info.width, info.height):
            raise ValueError(
                f"the video is {info.width}x{info.height} px, got {frame.image.width}x{frame.image.height}"
            )
        if last is not None and frame.pts <= self._pending_pts:
            raise ValueError(f"pts {frame.pts} is not after {self._pending_pts}")
        picture = frames.from_i420(frame.image, str(self._video.pix_fmt))
        picture.pts, picture.time_base = frame.pts, info.time_base
        picture.duration = frame.duration or self._default_duration(frame.pts)
        if last is not None:
            last.duration = frame.pts - self._pending_pts
            self._encode(last)
        self._pending, self._pending_pts = picture, frame.pts

    def finish(self) -> None:
        """Write what the encoders still hold and the container's end."""
        last = self._pending
        if last is None:
            raise OutputError("no frame was written")
        self._encode(last)
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._audio.finish((self._pending_pts + last.duration) * self._info.time_base)
        self._container.close()

    def abandon(self) -> None:
        """Close without a care for the file."""
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()

    def _encode(self, picture: AvFrame) -> None:
        self._container.mux(self._video.encode(picture))
        if self._audio is not None:
            self._audio.write_until(self._pending_pts * self._info.time_base)

    def _default_duration(self, pts: int) -> int:
        if self._info.rate:
            return max(1, round_fraction(1 / (self._info.rate * self._info.time_base)))
        return 1 if self._pending is None else pts - self._pending_pts


class _AudioTrack:
    """The sound, encoded in step with the picture."""

    def __init__(self, container: OutputContainer, kind: _Container, audio: DubAudio) -> None:
        if kind.audio_codec == "libopus":
            self._rate_hz, self._block = 48_000, 960
        else:
            self._rate_hz, self._block = _aac_rate_hz(audio.rate_hz), 1024
        self._samples = resampled(audio, self._rate_hz).samples
        channels = self._samples.shape[0]
        self._container = container
        self._stream = cast(AudioStream, container.add_stream(kind.audio_codec, rate=self._rate_hz))
        self._stream.codec_context.layout = "mono" if channels == 1 else "stereo"
        self._stream.codec_context.format = "flt" if kind.audio_codec == "libopus" else "fltp"
        self._stream.bit_rate = _AUDIO_BIT_RATE * channels
        self._position = 0

    def write_until(self, time_s: Fraction) -> None:
        """Encode the blocks that end at or before `time_s`."""
        end = round_fraction(time_s * self._rate_hz)
        while self._position + self._block <= end:
            self._encode(self._block)

    def finish(self, end_s: Fraction) -> None:
        """Encode up to `end_s`, with silence where there is no sound, and flush."""
        end = round_fraction(end_s * self._rate_hz)
        while self._position < end:
            self._encode(min(self._block, end - self._position))
        self._container.mux(self._stream.encode(None))

    def _encode(self, length: int) -> None:
        block = fitted(self._samples[:, self._position : self._position + length], length)
        frame = audio_frame(np.clip(block, -1.0, 1.0), self._rate_hz)
        frame.pts, frame.time_base = self._position, Fraction(1, self._rate_hz)
        self._position += length
        self._container.mux(self._stream.encode(frame))


def _video_stream(
    container: OutputContainer, kind: _Container, video: VideoInfo, crf: int, preset: str
) -> VideoStream:
    odd = bool(video.width % 2 or video.height % 2)
    if kind.video_codec == "libx264":
        options = {"crf": str(crf), "preset": preset}
        pixel_format = "yuv444p" if odd else "yuv420p"
    else:
        options = {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"}
        pixel_format = "yuv420p"
    rate = video.rate or Fraction(25)
    stream = cast(VideoStream, container.add_stream(kind.video_codec, rate=rate, options=options))
    stream.width, stream.height, stream.pix_fmt = video.width, video.height, pixel_format
    stream.time_base = video.time_base
    codec, tags = stream.codec_context, video.tags
    codec.time_base = video.time_base
    codec.flags |= Flags.frame_duration
    codec.sample_aspect_ratio = video.sample_aspect_ratio
    codec.color_range, codec.colorspace = tags.colour_range, tags.matrix
    codec.color_primaries, codec.color_trc = tags.primaries, tags.transfer
    return stream


def _aac_rate_hz(rate_hz: int) -> int:
    """The rate to encode a sound of `rate_hz` with: the same, else the next that AAC has, at most 48 kHz."""
    return next((rate for rate in _AAC_RATES_HZ if rate >= rate_hz), _AAC_RATES_HZ[-1])


def _container_for(path: Path) -> _Container:
    kind = _CONTAINERS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path}: the name must end in one of {', '.join(_CONTAINERS)}")
    return kind


def _create(partial: Path, target: Path) -> None:
    """Make the hidden file, so that a folder that cannot be written shows before any work is done."""
    if target.is_dir():
        raise OutputError(f"{target}: is a directory")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _publish(partial: Path, target: Path) -> None:
    """Give the finished file its name, once its bytes are on the disk."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(target)


def _raise_as_output_error(path: Path, error: BaseException) -> None:
    """Raise errors of FFmpeg and of the system as `OutputError`; leave others to the caller."""
    if isinstance(error, (av.error.FFmpegError, OSError)):
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error
