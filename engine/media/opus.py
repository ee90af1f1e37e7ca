"""Speech through Opus, as the far end of a call hears it."""

from collections.abc import Collection, Iterator
from fractions import Fraction

import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.codec import CodecContext
from av.packet import Packet

from engine.arrays import F32, check_array
from engine.errors import MediaError
from engine.media.audio import DubAudio, audio_frame, fitted, resampled
from engine.media.source import reason
from engine.timing import AUDIO_RATE_HZ

PACKET_MS = 20
PACKET_SAMPLES = AUDIO_RATE_HZ * PACKET_MS // 1000
LOWEST_BPS, HIGHEST_BPS = 6_000, 128_000
_DECODED_HZ = 48_000
_FULL_SCALE = 32768.0
_OPTIONS = {"application": "voip", "frame_duration": str(PACKET_MS), "vbr": "on"}


def through_opus(samples: F32, bit_rate_bps: int, *, lost: Collection[int] = ()) -> F32:
    """Encode and decode one channel, in packets of 20 ms, without the codec's delay.

    Args:
        samples: float32 [T] at 16 kHz, nominally -1..1.
        bit_rate_bps: 6,000 to 128,000; speech over WebRTC takes 16,000 to 32,000.
        lost: packets that do not arrive; the decoder conceals them.

    Returns:
        float32 [T], -1..1.

    Raises:
        MediaError: libopus is not in this build of FFmpeg, or fails.
    """
    check_array("samples", samples, (None,), np.float32)
    if not LOWEST_BPS <= bit_rate_bps <= HIGHEST_BPS:
        raise ValueError(f"{bit_rate_bps = } must be {LOWEST_BPS} to {HIGHEST_BPS}")
    if not len(samples):
        return samples
    try:
        encoder = _encoder(bit_rate_bps)
        packets = list(_encoded(encoder, samples))
        delay = _delay_samples(encoder)
        heard = _decoded(packets, lost)
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"Opus: {reason(error)}") from error
    at_16_khz = resampled(DubAudio(heard[None], _DECODED_HZ), AUDIO_RATE_HZ).samples[:, delay:]
    return np.asarray(np.clip(fitted(at_16_khz, len(samples))[0], -1.0, 1.0), np.float32)


def _encoder(bit_rate_bps: int) -> AudioCodecContext:
    encoder = CodecContext.create("libopus", "w")
    if not isinstance(encoder, AudioCodecContext):
        raise MediaError("Opus: libopus is no sound codec in this build of FFmpeg")
    encoder.sample_rate, encoder.layout, encoder.format = AUDIO_RATE_HZ, "mono", "flt"
    encoder.bit_rate, encoder.options = bit_rate_bps, dict(_OPTIONS)
    return encoder


def _encoded(encoder: AudioCodecContext, samples: F32) -> Iterator[bytes]:
    """Packets, the last of them behind the end, so that the delay can be cut away."""
    padded = np.pad(samples, (0, PACKET_SAMPLES + -len(samples) % PACKET_SAMPLES))
    for start in range(0, len(padded), PACKET_SAMPLES):
        frame = audio_frame(padded[None, start : start + PACKET_SAMPLES], AUDIO_RATE_HZ)
        frame.pts, frame.time_base = start, Fraction(1, AUDIO_RATE_HZ)
        yield from map(bytes, encoder.encode(frame))
    yield from map(bytes, encoder.encode(None))


def _delay_samples(encoder: AudioCodecContext) -> int:
    """At 16 kHz; the header counts at 48 kHz (RFC 7845, section 5.1)."""
    header = encoder.extradata or b""
    return int.from_bytes(header[10:12], "little") * AUDIO_RATE_HZ // _DECODED_HZ


def _decoded(packets: list[bytes], lost: Collection[int]) -> F32:
    """Samples at 48 kHz. A packet cut to its first byte has libopus conceal it (RFC 6716, section 3.2.1)."""
    decoder = CodecContext.create("libopus", "r")
    if not isinstance(decoder, AudioCodecContext):
        raise MediaError("Opus: libopus is no sound codec in this build of FFmpeg")
    decoder.sample_rate, decoder.layout = _DECODED_HZ, "mono"
    arrived = (Packet(one[:1] if index in lost else one) for index, one in enumerate(packets))
    parts = [frame.to_ndarray().ravel() for packet in arrived for frame in decoder.decode(packet)]
    return np.concatenate(parts).astype(np.float32) / np.float32(_FULL_SCALE)
