"""Sound from files: for the model (mono, one rate) and for the programme (as it is, one or two channels)."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from engine.arrays import F32, check_array
from engine.errors import MediaError
from engine.media.source import can_decode, opened, origin_s, packets, reason
from engine.timing import AUDIO_RATE_HZ, round_fraction

_LAYOUTS = {1: "mono", 2: "stereo"}
_GAP_S = Fraction(1, 100)  # containers round pts to 1 ms; a jump beyond this is a hole or an overlap
_CHUNK_SAMPLES = 1 << 16


@dataclass(frozen=True, eq=False, repr=False)
class DubAudio:
    """The sound that goes into the output file, from media time 0 on.

    Attributes:
        samples: float32 [C, T], C 1 or 2, nominally -1..1.
        rate_hz: sample rate.
    """

    samples: F32
    rate_hz: int

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError for another shape, dtype or rate."""
        check_array("samples", self.samples, (None, None), np.float32)
        if self.samples.shape[0] not in _LAYOUTS:
            raise ValueError(f"1 or 2 channels are possible, got {self.samples.shape[0]}")
        if self.rate_hz <= 0:
            raise ValueError(f"{self.rate_hz = } must be positive")

    def __repr__(self) -> str:
        return f"DubAudio(float32 {list(self.samples.shape)}, {self.rate_hz} Hz)"

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return int(self.samples.shape[1]) / self.rate_hz


@dataclass(frozen=True)
class AudioBalance:
    """How the sound's length compares with the picture's.

    Attributes:
        left_over_s: sound beyond the end of the video, which is cut.
        missing_s: silence added until the video ends.
    """

    left_over_s: float
    missing_s: float


def audio_balance(audio_s: float, video_end_s: float) -> AudioBalance:
    """Compare the end of the sound with the end of the video, both in seconds of media time."""
    return AudioBalance(max(0.0, audio_s - video_end_s), max(0.0, video_end_s - audio_s))


def read_audio(path: str | os.PathLike[str], rate_hz: int = AUDIO_RATE_HZ) -> F32:
    """Read the first audio stream as mono.

    Two channels are averaged. More are first mixed to two by swresample's matrix, and turned down as a
    whole if that would leave -1..1. Silence stands where the stream has holes or starts late; what lies
    before media time 0 is cut.

    Args:
        path: any file that FFmpeg reads.
        rate_hz: sample rate of the result.

    Returns:
        float32 [T] in -1..1, starting at media time 0.

    Raises:
        MediaError: the file cannot be read or decoded to its end, or has no sound.
    """
    mono: F32 = _read(path, rate_hz).samples.mean(axis=0, dtype=np.float32)
    np.clip(mono, -1.0, 1.0, out=mono)
    return mono


def read_dub_audio(path: str | os.PathLike[str]) -> DubAudio:
    """Read the first audio stream for the output file, at its own rate; more than two channels are mixed.

    Raises:
        MediaError: the file cannot be read or decoded to its end, or has no sound.
    """
    return _read(path, None)


def resampled(audio: DubAudio, rate_hz: int) -> DubAudio:
    """Return the sound at another rate, by swresample; of the same length within half a sample."""
    if audio.rate_hz == rate_hz:
        return audio
    length = audio.samples.shape[1]
    blocks = (
        audio_frame(audio.samples[:, start : start + _CHUNK_SAMPLES], audio.rate_hz)
        for start in range(0, length, _CHUNK_SAMPLES)
    )
    return _resample(blocks, rate_hz) or DubAudio(audio.samples, rate_hz)


def fitted(samples: F32, length: int) -> F32:
    """Cut or pad float32 [C, T] with silence to `length` samples."""
    have = samples.shape[1]
    if have >= length:
        return samples[:, :length]
    return np.pad(samples, ((0, 0), (0, length - have)))


def audio_frame(samples: F32, rate_hz: int) -> AudioFrame:
    """Copy float32 [C, T] into a frame for an encoder or resampler, without a pts."""
    return _frame(samples, AudioLayout(_LAYOUTS[samples.shape[0]]), rate_hz)


def _read(path: str | os.PathLike[str], rate_hz: int | None) -> DubAudio:
    """Decode, mix to at most two channels, resample unless `rate_hz` is None; from media time 0."""
    file = Path(path)
    with opened(path) as container:
        sound = _resample(_placed(file, container, _stream(file, container)), rate_hz)
    if sound is None:
        raise MediaError(f"{file}: not one block of its sound can be decoded")
    return sound


def _stream(file: Path, container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise MediaError(f"{file}: has no sound")
    stream = container.streams.audio[0]
    if not can_decode(stream):
        raise MediaError(f"{file}: its sound is in a format that cannot be decoded here")
    return stream


def _resample(blocks: Iterable[AudioFrame], rate_hz: int | None) -> DubAudio | None:
    """Mix to at most two channels and resample; of the same length within half a sample.

    The blocks have one rate and layout. More than two channels are turned down as a whole if the mix is
    beyond -1..1. None: there was no block.
    """
    resampler = None
    parts: list[F32] = []
    length = 0
    block = None
    for block in blocks:
        if resampler is None:
            channels = min(2, block.layout.nb_channels)
            rate_hz = rate_hz or block.sample_rate
            resampler = AudioResampler("fltp", _LAYOUTS[channels], rate_hz)
        length += block.samples
        parts += _arrays(resampler.resample(block))
    if block is None or resampler is None or rate_hz is None:
        return None
    # Silence behind the end pushes out what the filter holds; a flush alone loses a sound that is shorter.
    tail = np.zeros((block.layout.nb_channels, block.sample_rate // 10), np.float32)
    parts += _arrays(resampler.resample(_frame(tail, block.layout, block.sample_rate)))
    parts += _arrays(resampler.resample(None))
    wanted = round_fraction(Fraction(length * rate_hz, block.sample_rate))
    samples = fitted(np.concatenate(parts, axis=1), wanted)
    peak = np.abs(samples).max(initial=0.0) if block.layout.nb_channels > 2 else np.float32(0.0)
    return DubAudio(samples / max(np.float32(1.0), peak), rate_hz)


def _placed(file: Path, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Yield the stream's sound from media time 0 on without holes or overlaps, in its own rate and layout."""
    position = 0
    placing = None
    for block, time_s in _blocks(file, container, stream):
        samples, layout, rate_hz = _arrays([block])[0], block.layout, block.sample_rate
        placing = placing or _Placing(origin_s(container), rate_hz)
        start = placing.next(time_s, block.samples)
        gap = 0 if start is None else start - position
        if gap > 0:
            for chunk in range(0, gap, _CHUNK_SAMPLES):
                silence = np.zeros((samples.shape[0], min(_CHUNK_SAMPLES, gap - chunk)), np.float32)
                yield _frame(silence, layout, rate_hz)
        rest = samples[:, max(0, -gap) :]
        if rest.shape[1]:
            yield _frame(rest, layout, rate_hz)
        position += max(0, gap) + rest.shape[1]


def _blocks(
    file: Path, container: InputContainer, stream: AudioStream
) -> Iterator[tuple[AudioFrame, Fraction | None]]:
    """Yield float32 blocks with the rate and layout of the first, and when they start, None if not known."""
    first = None
    kind = None
    to_float = None
    count = 0
    try:
        for packet in packets(file, container, stream):
            for frame in _decoded(stream, packet, skip_damage=count == 0):
                first = first or (frame.layout, frame.sample_rate)
                if to_float is None or kind != (frame.format.name, frame.layout.name, frame.sample_rate):
                    kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                    to_float = AudioResampler("fltp", *first)
                count += 1
                known = frame.pts is not None and frame.time_base is not None
                time_s = (frame.pts or 0) * (frame.time_base or Fraction(0)) if known else None
                for part in to_float.resample(frame):
                    yield part, time_s
                    time_s = None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        text = f"{file}: is damaged: decoding its sound stops at block {count}: {reason(error)}"
        raise MediaError(text) from error


def _decoded(stream: AudioStream, packet: "Packet[Stream]", skip_damage: bool) -> list[AudioFrame]:
    try:
        return stream.decode(packet)
    except av.error.InvalidDataError:
        if skip_damage:
            return []
        raise


class _Placing:
    """Where each block of samples belongs.

    A block that starts within `_GAP_S` of the end of the one before follows it directly. A jump of more
    than an hour is a clock that was reset, and the blocks after it are moved to follow on.
    """

    _RESET_S = 3600

    def __init__(self, origin_s: Fraction, rate_hz: int) -> None:
        self._origin_s = origin_s
        self._rate_hz = rate_hz
        self._end: int | None = None

    def next(self, time_s: Fraction | None, length: int) -> int | None:
        """Return the sample at which a block belongs, None to follow on."""
        known_end = self._end or 0
        if time_s is None:
            self._end = known_end + length
            return None
        start = round_fraction((time_s - self._origin_s) * self._rate_hz)
        if abs(start - known_end) > self._RESET_S * self._rate_hz:
            self._origin_s += Fraction(start - known_end, self._rate_hz)
            start = known_end
        if self._end is not None and abs(start - self._end) <= _GAP_S * self._rate_hz:
            self._end += length
            return None
        self._end = max(known_end, start + length)
        return start


def _arrays(parts: list[AudioFrame]) -> list[F32]:
    return [np.asarray(part.to_ndarray(), np.float32) for part in parts]


def _frame(samples: F32, layout: AudioLayout, rate_hz: int) -> AudioFrame:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
    frame.sample_rate = rate_hz
    return frame
