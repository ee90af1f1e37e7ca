"""Opening a file for reading, and saying in one line why it cannot be read."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from engine.errors import MediaError
from engine.media.truncation import missing_bytes

_TS_DISCONT = 0x0200  # AVFMT_TS_DISCONT: the container's clock starts anywhere
_LATE_START_S = Fraction(1, 2)  # a video file where nothing starts earlier was cut out of another
_EARLY_END_S = 1  # a Matroska file may state a duration this much beyond its last packet
_NOT_MEDIA = {"tty", "concat", "hls", "dash", "sdp", "ffmetadata", "webm_dash_manifest", "lavfi"}
_STILL_BRANDS = {"heic", "heix", "mif1", "avif", "heim", "heis"}

av.logging.set_level(None)  # what FFmpeg has to say arrives as exceptions


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open a media file for the length of a `with`.

    Raises:
        MediaError: missing, a directory, unreadable, empty, cut off, or of no known format.
    """
    file = Path(path)
    _check_file(file)
    with translated(file):
        container = av.open(
            "file:" + os.path.abspath(file),
            "r",
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    try:
        if container.format.name in _NOT_MEDIA:
            raise MediaError(f"{file}: not a video or audio file")
        yield container
    finally:
        container.close()


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Turn errors of FFmpeg and of the system into `MediaError`."""
    try:
        yield
    except av.error.InvalidDataError as error:
        raise MediaError(f"{file}: not a video or audio file, or damaged") from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{file}: cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return what an error says, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def origin_s(container: InputContainer) -> Fraction:
    """Media time 0 on the container's clock, in seconds.

    It is the container's own zero, or the first time in the file where that says nothing: in containers whose
    clock starts anywhere; in MP3, where it is the encoder's delay, which the decoder has already cut; in a
    video that was cut out of a longer one with its times left as they were.
    """
    starts = [
        stream.start_time * stream.time_base
        for stream in container.streams
        if stream.type in ("video", "audio") and stream.start_time is not None and stream.time_base
    ]
    first_s = min(starts, default=Fraction(0))
    anywhere = bool(container.format.flags & _TS_DISCONT) or container.format.name == "mp3"
    cut_out = bool(container.streams.video) and first_s > _LATE_START_S
    return first_s if anywhere or cut_out else Fraction(0)


def can_decode(stream: Stream) -> bool:
    """Whether FFmpeg has a decoder for the stream and has found out what it holds."""
    context = stream.codec_context
    if context is None:
        return False
    if isinstance(stream, AudioStream):
        return stream.rate > 0 and stream.channels > 0
    return True


def packets(file: Path, container: InputContainer, stream: Stream) -> "Iterator[Packet[Stream]]":
    """Yield the packets of one stream, the flushing one included.

    FFmpeg passes over what it cannot read in a Matroska file, up to its end if need be; the stated duration
    tells.

    Raises:
        MediaError: a Matroska file ends long before the duration that it states.
    """
    if "matroska" not in container.format.name:
        yield from container.demux(stream)
        return
    end_s = Fraction(0)
    flush = None
    for packet in container.demux():
        if packet.dts is None and packet.size == 0:
            flush = packet if packet.stream_index == stream.index else flush
            continue
        if packet.pts is not None:
            end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if packet.stream_index == stream.index:
            yield packet
    stated_s = Fraction(container.duration or 0, 1_000_000)
    if end_s + _EARLY_END_S < stated_s:
        raise MediaError(f"{file}: is damaged: it ends after {float(end_s):.2f} of {float(stated_s):.2f} s")
    if flush is not None:
        yield flush


def is_still(container: InputContainer) -> bool:
    """Whether the file is one picture rather than a video."""
    name = container.format.name
    if name == "image2" or name.endswith("_pipe"):
        return True
    return container.metadata.get("major_brand", "").strip() in _STILL_BRANDS


def _check_file(file: Path) -> None:
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{file}: is a directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{file}: is not a regular file")
        if status.st_size == 0:
            raise MediaError(f"{file}: is empty")
        missing = missing_bytes(file)
    except FileNotFoundError as error:
        raise MediaError(f"{file}: no such file") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{file}: cannot be read: {reason(error)}") from error
    if missing:
        raise MediaError(f"{file}: is cut off, {missing} bytes are missing at its end")
