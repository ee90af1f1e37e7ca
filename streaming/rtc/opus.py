"""Opus by libopus itself: FFmpeg's wrapper neither conceals a loss nor uses the next packet's copy of it.

The library is the one that PyAV's wheel brings, else the system's.
"""

import ctypes
import ctypes.util
import functools
from pathlib import Path

import av
import numpy as np

from engine.errors import BackendUnavailable, MediaError
from streaming.types import MEDIA_RATE_HZ, PCM

PACKET_MAX_SAMPLES = 5760  # 120 ms at 48 kHz, RFC 6716 §2.1.4
PACKET_MAX_BYTES = 1500


def _candidates() -> list[str]:
    package = Path(av.__file__).parent
    found = [
        str(path)
        for folder in (package.parent / "av.libs", package / ".dylibs")
        for path in sorted(folder.glob("*opus*"))
        if "opusfile" not in path.name
    ]
    system = ctypes.util.find_library("opus")
    return [*found, *([system] if system else [])]


@functools.cache
def library() -> ctypes.CDLL:
    """Load libopus once.

    Raises:
        BackendUnavailable: it is neither in PyAV's wheel nor on the system.
    """
    for name in _candidates():
        try:
            opus = ctypes.CDLL(name)
        except OSError:
            continue
        if hasattr(opus, "opus_decode"):
            return _typed(opus)
    raise BackendUnavailable("libopus was not found: install PyAV from its wheel, or the system's libopus0")


def _typed(opus: ctypes.CDLL) -> ctypes.CDLL:
    int_p, short_p = ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int16)
    opus.opus_decoder_create.argtypes = [ctypes.c_int32, ctypes.c_int, int_p]
    opus.opus_decoder_create.restype = ctypes.c_void_p
    opus.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
    opus.opus_decoder_destroy.restype = None
    opus.opus_decode.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        short_p,
        ctypes.c_int,
        ctypes.c_int,
    ]
    opus.opus_decode.restype = ctypes.c_int
    opus.opus_packet_get_nb_samples.argtypes = [ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32]
    opus.opus_packet_get_nb_samples.restype = ctypes.c_int
    opus.opus_strerror.argtypes = [ctypes.c_int]
    opus.opus_strerror.restype = ctypes.c_char_p
    return opus


def packet_samples(packet: bytes) -> int:
    """Return how many samples at 48 kHz a packet holds; 0 if it is damaged."""
    return max(0, int(library().opus_packet_get_nb_samples(packet, len(packet), MEDIA_RATE_HZ)))


class OpusDecoder:
    """Decodes one stream to 48 kHz mono; stereo is mixed down.

    Raises:
        BackendUnavailable: there is no libopus.
    """

    def __init__(self) -> None:
        self._opus = library()
        error = ctypes.c_int()
        self._state: int | None = self._opus.opus_decoder_create(MEDIA_RATE_HZ, 1, ctypes.byref(error))
        if not self._state:
            raise BackendUnavailable(f"libopus has no decoder: {self._message(error.value)}")

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self.close()

    @property
    def is_open(self) -> bool:
        """Whether it can decode."""
        return self._state is not None

    def close(self) -> None:
        """Give its memory back; may be called again."""
        state, self._state = self._state, None
        if state:
            self._opus.opus_decoder_destroy(state)

    def decode(self, packet: bytes) -> PCM:
        """Decode a packet.

        Returns:
            int16 [T], T as the packet says.

        Raises:
            MediaError: the packet is damaged, or the decoder is closed.
        """
        return self._decode(packet, PACKET_MAX_SAMPLES, fec=False)

    def conceal(self, samples: int) -> PCM:
        """Continue the sound where a packet is missing: int16 [samples], fading out over a few calls.

        Args:
            samples: a multiple of 120 (2.5 ms), at most 5,760.
        """
        return self._decode(None, samples, fec=False)

    def recover(self, following: bytes, samples: int) -> PCM:
        """Decode the copy of the missing packet that the packet after it may carry; conceals without one.

        Args:
            following: the packet after the gap; decode it next.
            samples: of the gap, a multiple of 120.

        Raises:
            MediaError: `following` is damaged.
        """
        return self._decode(following, samples, fec=True)

    def _decode(self, packet: bytes | None, samples: int, *, fec: bool) -> PCM:
        if self._state is None:
            raise MediaError("the decoder is closed")
        if packet is not None and not 0 < len(packet) <= PACKET_MAX_BYTES:
            raise MediaError(f"an Opus packet has 1 to {PACKET_MAX_BYTES} bytes, got {len(packet)}")
        pcm = np.empty(samples, np.int16)
        target = pcm.ctypes.data_as(ctypes.POINTER(ctypes.c_int16))
        size = 0 if packet is None else len(packet)
        got = self._opus.opus_decode(self._state, packet, size, target, samples, int(fec))
        if got < 0:
            raise MediaError(f"an Opus packet cannot be decoded: {self._message(got)}")
        return pcm[:got]

    def _message(self, code: int) -> str:
        return str(self._opus.opus_strerror(code).decode())
