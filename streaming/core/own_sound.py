"""The picture's own sound, heard while no dub speaks: it steps back for the dub and returns after it."""

import numpy as np

from engine.arrays import F32
from streaming.core.clock import QUANTUM_SAMPLES, CaptureClock, MediaClock
from streaming.core.convert import SILENCE, ToMediaRate
from streaming.core.live_sound import LiveSound
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, PCM, AudioIn

AWAY_S, BACK_S, HOLD_S = 0.2, 0.4, 0.6  # to step back; to return; after the dub's last sound, before that
_FULL = 32_767


class OwnSound:
    """Holds what comes with the picture and mixes it under what leaves.

    Args:
        original_delay_ns: by which the picture is held, and its sound with it.
    """

    def __init__(self, original_delay_ns: int) -> None:
        self._delay_ns = original_delay_ns
        self._captures, self._rate, self._sound = CaptureClock(), ToMediaRate(), LiveSound()
        self._gain = 1.0
        self._held = 0  # quanta since the dub's last sound, up to the hold

    def push(self, clock: MediaClock, now_ns: int, piece: AudioIn) -> None:
        """Take a piece with its capture time; one without is not heard.

        Raises:
            ProtocolError: a rate outside 8 to 48 kHz.
        """
        if piece.captured_ns is None or not piece.samples.size:
            return
        length_ns = piece.samples.size * NS_PER_S // piece.rate_hz
        captured_ns = self._captures.correct(piece.captured_ns + length_ns, now_ns) - length_ns
        first = clock.position(captured_ns + self._delay_ns) - self._rate.behind_samples
        self._sound.push(self._rate.push(piece.samples, piece.rate_hz), first)

    def under(self, samples: PCM, position: int, *, speaking: bool) -> PCM:
        """The next quantum that leaves, with this sound under it.

        Args:
            samples: int16 [960] of the dub; not written.
            position: of the first; quanta come without a gap.
            speaking: whether the dub speaks in it.
        """
        before = self._gain
        self._step(speaking=speaking)
        own = self._sound.close(position)
        if own is SILENCE or (before == 0 and self._gain == 0):
            return samples
        gains: F32 = np.linspace(before, self._gain, QUANTUM_SAMPLES, dtype=np.float32)
        mixed = samples + np.rint(own * gains * np.float32(_FULL + 1))
        clipped: PCM = np.clip(mixed, -_FULL - 1, _FULL).astype(np.int16)
        return clipped

    def _step(self, *, speaking: bool) -> None:
        quantum_s = QUANTUM_SAMPLES / MEDIA_RATE_HZ
        if speaking:
            self._held = round(HOLD_S / quantum_s)
            self._gain = max(0.0, self._gain - quantum_s / AWAY_S)
        elif self._held:
            self._held -= 1
        else:
            self._gain = min(1.0, self._gain + quantum_s / BACK_S)
