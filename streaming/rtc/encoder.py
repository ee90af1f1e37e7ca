"""Pictures to H.264 and sound to Opus, one encoder for all viewers of a session.

Synchronous: an encoder belongs to one thread at a time, its calls come from a pool.

x264 as libavcodec 62 opens it follows a lower bitrate at once and without a keyframe, but only if it was
opened with `maxrate` equal to `bit_rate`, and never above that ceiling. Its buffer keeps its size in bits,
and so decides how large a keyframe may get. Ceilings therefore come in steps; another step is taken together
with a keyframe that is due anyway, or, when more is wanted for long, with one of its own.
"""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from engine.arrays import check_array
from engine.errors import BackendError, BackendUnavailable
from engine.image.yuv import I420, Colour, Matrix
from engine.media.frames import from_i420
from streaming.rtc import h264
from streaming.types import MEDIA_RATE_HZ, PCM

AUDIO_BLOCK_SAMPLES = 960
"""20 ms: one Opus packet."""

_TIME_BASE = Fraction(1, MEDIA_RATE_HZ)
_CEILINGS_BPS = (1_000_000, 2_000_000)
_LONG_FRAMES = 75
_RATES_SEEN = 25
_RATE_OFF = 1.5
_LEAST_FPS, _MOST_FPS = 1.0, 120.0
_H273: dict[Matrix, tuple[int, int, int]] = {  # ITU-T H.273: matrix, primaries, transfer
    "bt601": (6, 6, 6),
    "bt709": (1, 1, 1),
    "bt2020": (9, 9, 14),
}


@dataclass(eq=False)
class EncodedFrame:
    """One picture or 20 ms of sound, as every viewer gets it.

    Attributes:
        data: the access unit, Annex B, or the Opus packet.
        payloads: the same cut for RTP.
        position: media position of the picture, or of the first sample that a decoder makes of it.
        keyframe: a decoder can begin here; true for sound.
        encoded_ns: when encoding was done.
        level_dbov: loudness of sound, 0 is full scale, -127 silence (RFC 6464).
        first_packet_ns: when its first packet left for the first viewer, 0 until then.
    """

    data: bytes
    payloads: tuple[bytes, ...]
    position: int
    keyframe: bool
    encoded_ns: int = 0
    level_dbov: int | None = None
    first_packet_ns: int = 0
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Sum up the payloads."""
        self.size_bytes = sum(map(len, self.payloads))

    def __repr__(self) -> str:
        kind = "keyframe" if self.keyframe else "frame"
        return f"EncodedFrame({kind} at {self.position}, {self.size_bytes} bytes)"


@dataclass(frozen=True)
class VideoSettings:
    """How pictures are encoded.

    Attributes:
        preset: of x264.
        most_bps: highest bitrate ever asked for.
        buffer_s: of the rate control (VBV), at the ceiling; bounds the size of a keyframe.
        fps: frames per second until that is known from the positions.
    """

    preset: str = "veryfast"
    most_bps: int = 4_000_000
    buffer_s: float = 0.2
    fps: Fraction = Fraction(25)


class VideoEncoder:
    """x264, Baseline, no delay, one thread.

    Attributes:
        opened: how often a context was opened; each begins with a keyframe.
    """

    def __init__(self, settings: VideoSettings = VideoSettings()) -> None:
        self.opened = 0
        self._settings = settings
        self._context: VideoCodecContext | None = None
        self._shape: tuple[int, int, Colour] | None = None
        self._ceiling_bps = 0
        self._wanting = 0
        self._last: int | None = None
        self._gaps: deque[int] = deque(maxlen=_RATES_SEEN)

    def encode(
        self, image: I420, colour: Colour, position: int, *, target_bps: int, keyframe: bool
    ) -> EncodedFrame:
        """Encode one picture.

        Args:
            image: only read; an odd last row or column is cut.
            colour: how its bytes are meant, goes into the stream's description.
            position: media position, larger than that of the picture before.
            target_bps: bitrate from here on; limited by the settings.
            keyframe: whether a decoder must be able to begin here.

        Raises:
            ValueError: the position does not grow, or the picture is too small.
            BackendError: x264 failed.
        """
        if self._last is not None and position <= self._last:
            raise ValueError(f"{position = } must be larger than the one before, {self._last}")
        image = _even(image)
        if self._last is not None:
            self._gaps.append(position - self._last)
        self._last = position
        target_bps = min(target_bps, self._settings.most_bps)
        context = self._fitting(image, colour, target_bps, keyframe)
        context.bit_rate = self._bit_rate(context, target_bps)
        frame = from_i420(image, "yuv420p")
        frame.pts, frame.time_base = position, _TIME_BASE
        if keyframe:
            frame.pict_type = PictureType.I
        with _failures():
            packets = context.encode(frame)
        data = b"".join(bytes(packet) for packet in packets)
        return EncodedFrame(data, h264.payloads(data), position, any(p.is_keyframe for p in packets))

    def close(self) -> None:
        """Let FFmpeg's encoder and its threads go; the next picture would open another one."""
        self._context = None

    def _fitting(self, image: I420, colour: Colour, target_bps: int, keyframe: bool) -> VideoCodecContext:
        """Return the open context, or a new one where that does not fit any more."""
        shape = (image.width, image.height, colour)
        ceiling_bps = self._step(target_bps)
        self._wanting = self._wanting + 1 if target_bps > self._ceiling_bps * 1.02 else 0
        stay = self._context is not None and shape == self._shape and not self._rate_is_off()
        if keyframe or self._wanting > _LONG_FRAMES:
            stay = stay and ceiling_bps == self._ceiling_bps
        if not stay or self._context is None:
            self._context = self._open(shape, ceiling_bps)
            self._shape, self._ceiling_bps, self._wanting = shape, ceiling_bps, 0
        return self._context

    def _step(self, target_bps: int) -> int:
        steps = (*(step for step in _CEILINGS_BPS if step < self._settings.most_bps), self._settings.most_bps)
        return next((step for step in steps if step >= target_bps), steps[-1])

    def _fps(self) -> float:
        """Frames per second of the last second or so, as assumed before there were any."""
        if len(self._gaps) < _RATES_SEEN:
            return float(self._settings.fps)
        middle = sorted(self._gaps)[_RATES_SEEN // 2]  # a pause is no rate
        return min(max(MEDIA_RATE_HZ / middle, _LEAST_FPS), _MOST_FPS)

    def _rate_is_off(self) -> bool:
        if self._context is None:
            return False
        ratio = self._fps() / float(self._context.framerate)
        return not 1 / _RATE_OFF < ratio < _RATE_OFF

    def _bit_rate(self, context: VideoCodecContext, target_bps: int) -> int:
        """What x264 must be told so that `target_bps` comes out: it counts frames, not time."""
        wanted = round(target_bps * float(context.framerate) / self._fps())
        return min(wanted, self._ceiling_bps)

    def _open(self, shape: tuple[int, int, Colour], ceiling_bps: int) -> VideoCodecContext:
        width, height, colour = shape
        context = cast(VideoCodecContext, _codec("libx264"))
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate = Fraction(self._fps()).limit_denominator(1001)
        context.time_base = _TIME_BASE
        context.gop_size = 1 << 20  # keyframes come when somebody needs one
        context.thread_count = 1
        context.profile = "Baseline"
        context.bit_rate = ceiling_bps
        context.color_range = 2 if colour.full_range else 1
        context.colorspace, context.color_primaries, context.color_trc = _H273[colour.matrix]
        context.options = {
            "preset": self._settings.preset,
            "tune": "zerolatency",
            "maxrate": str(ceiling_bps),
            "bufsize": str(round(ceiling_bps * self._settings.buffer_s)),
            "forced-idr": "1",
        }
        with _failures():
            context.open()
        self.opened += 1
        return context


@dataclass(frozen=True)
class AudioSettings:
    """How sound is encoded.

    Attributes:
        bit_rate_bps: of Opus.
        expected_loss_percent: so much is carried twice (in-band FEC), as far as Opus thinks it fit.
    """

    bit_rate_bps: int = 64_000
    expected_loss_percent: int = 5


class AudioEncoder:
    """Opus, mono, 20 ms, with in-band error correction."""

    def __init__(self, settings: AudioSettings = AudioSettings()) -> None:
        context = cast(AudioCodecContext, _codec("libopus"))
        context.bit_rate = settings.bit_rate_bps
        context.format = "s16"
        context.layout = "mono"
        context.sample_rate = MEDIA_RATE_HZ
        context.time_base = _TIME_BASE
        context.options = {
            "application": "voip",
            "frame_duration": "20",
            "fec": "1",
            "packet_loss": str(settings.expected_loss_percent),
        }
        context.open()
        self._context: AudioCodecContext | None = context
        self._delay_samples: int | None = None

    def encode(self, samples: PCM, position: int) -> EncodedFrame:
        """Encode int16 [960] at 48 kHz that plays at `position`.

        The position of the result is earlier by the encoder's look-ahead (6.5 ms): what a decoder makes of a
        packet lags behind what went in, and a position without that would make the sound late.

        Raises:
            TypeError, ValueError: another dtype or length.
            BackendError: Opus failed, or was closed.
        """
        if self._context is None:
            raise BackendError("the encoder is closed")
        check_array("samples", samples, (AUDIO_BLOCK_SAMPLES,), np.int16)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = MEDIA_RATE_HZ, position, _TIME_BASE
        with _failures():
            packets = self._context.encode(frame)
        if self._delay_samples is None:
            self._delay_samples = position - (packets[0].pts or 0)
        data = b"".join(bytes(packet) for packet in packets)
        return EncodedFrame(
            data, (data,), position - self._delay_samples, keyframe=True, level_dbov=level_dbov(samples)
        )

    def close(self) -> None:
        """Let FFmpeg's encoder go, and with it the threads of the filter that PyAV puts before it."""
        self._context = None


def level_dbov(samples: PCM) -> int:
    """Loudness of int16 [T], -127..0 dBov (RFC 6465, appendix A.1)."""
    mean_square = float(np.mean(np.square(samples, dtype=np.float64))) / 32767**2
    return max(-127, min(0, round(10 * math.log10(mean_square)))) if mean_square > 0 else -127


def _even(image: I420) -> I420:
    """Cut an odd last row or column; borrowed."""
    height, width = image.height // 2 * 2, image.width // 2 * 2
    if height < 16 or width < 16:
        raise ValueError(f"{image} is too small to encode")
    if (height, width) == (image.height, image.width):
        return image
    half = (slice(height // 2), slice(width // 2))
    return I420(image.y[:height, :width], image.u[half], image.v[half])


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise BackendError(f"the encoder failed: {error}") from error


def _codec(name: str) -> av.CodecContext:
    try:
        return av.CodecContext.create(name, "w")
    except av.codec.codec.UnknownCodecError as error:
        raise BackendUnavailable(f"this build of PyAV has no {name}: pip install 'av>=18,<19'") from error
