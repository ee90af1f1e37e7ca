"""Dub sound in, of any kind; closed quanta of 20 ms out, in real time."""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32
from engine.errors import ProtocolError
from streaming.core.alignment import Alignment
from streaming.core.clock import QUANTUM_SAMPLES, CaptureClock, MediaClock
from streaming.core.convert import SILENCE, ToMediaRate, TwoRates
from streaming.core.jitter import JitterDelay
from streaming.core.live_sound import REACH_SAMPLES, LiveSound
from streaming.core.queued_sound import QueuedSound, Span
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, AudioIn

LONGEST_PIECE_SAMPLES = 5 * MEDIA_RATE_HZ
_GONE_NS = 2 * NS_PER_S


@dataclass(frozen=True, slots=True, eq=False)
class Quantum:
    """20 ms of the media axis.

    Attributes:
        position: of the first sample.
        samples: float32 [960] at 48 kHz, to be sent; not to be written.
        heard: float32 [320] at 16 kHz, the same for the worker; not to be written.
        spans: whose sound is in it.
    """

    position: int
    samples: F32
    heard: F32
    spans: tuple[Span, ...]


class SoundIntake:
    """Takes pieces of dub sound and closes the media axis quantum by quantum.

    Pieces without a capture time queue up and play back to back; pieces with one belong where they were
    captured. A quantum is closed `delay_ns` after its end: at once, unless a microphone's jitter needs more.

    Args:
        longest_delay_ns: the most that may be waited for a microphone.
    """

    def __init__(self, longest_delay_ns: int) -> None:
        self._clock: MediaClock | None = None
        self._captures = CaptureClock()
        self._delay = JitterDelay(longest_delay_ns)
        self._queue_rate, self._live_rate = ToMediaRate(), ToMediaRate()
        self._queue, self._live = QueuedSound(), LiveSound()
        self._rates = TwoRates()
        self._alignment = Alignment()
        self._live_came_ns: int | None = None
        self._live_utterance: int | None = None
        self._latest: int | None = None
        self._cancelled: int | None = None
        self.position = 0  # up to which the axis is closed

    @property
    def delay_ns(self) -> int:
        """How long after its end a quantum is closed."""
        return self._delay.ns

    @property
    def moved_ns(self) -> int:
        """By how much a microphone's sound is placed later than it was captured; negative: earlier."""
        return round(self._alignment.offset * NS_PER_S / MEDIA_RATE_HZ)

    @property
    def next_close_ns(self) -> int | None:
        """When the next quantum is due; None before `start`."""
        if self._clock is None:
            return None
        return self._clock.ns(self.position + QUANTUM_SAMPLES) + self._delay.ns

    @property
    def queued_samples(self) -> int:
        """Sound that waits, at 48 kHz."""
        return self._queue.size + self._live.size

    @property
    def credit(self) -> int:
        """Samples at 48 kHz that the queue has room for."""
        return self._queue.credit

    @property
    def late_samples(self) -> int:
        """Samples of a microphone that came too late to be heard, so far."""
        return self._live.late_samples

    @property
    def stalls(self) -> int:
        """How often sound stopped without an end, so far."""
        return self._queue.stalls + self._live.stalls

    @property
    def playing(self) -> int | None:
        """The utterance whose sound is next to be closed."""
        return self._queue.next_utterance

    def start(self, clock: MediaClock) -> None:
        """The session's zero is known."""
        self._clock = clock

    def push(self, now_ns: int, piece: AudioIn, utterance: int | None) -> int:
        """Take a piece; the credit that is left. Pieces of an utterance that was interrupted are ignored.

        Raises:
            ProtocolError: a rate or length that is not allowed, or more sound than there was credit for.
        """
        if piece.samples.dtype != np.int16 or piece.samples.ndim != 1:
            raise ProtocolError(f"sound is int16 [T], not {piece.samples.dtype} {piece.samples.shape}")
        if piece.samples.size * MEDIA_RATE_HZ > LONGEST_PIECE_SAMPLES * piece.rate_hz:
            raise ProtocolError(f"a piece of sound has at most 5 s, not {piece.samples.size} samples")
        if utterance is not None and utterance == self._cancelled:
            return self.credit
        if piece.captured_ns is None:
            self._push_queued(piece, utterance)
        else:
            self._push_live(now_ns, piece, piece.captured_ns, utterance)
        return self.credit

    def end(self, utterance: int | None) -> None:
        """No more comes of the utterance."""
        if utterance is None or utterance != self._cancelled:
            self._queue.push(self._queue_rate.flush(), utterance)
            self._queue.end(utterance)

    def close(self, now_ns: int) -> Quantum:
        """The next 20 ms; silence where nothing has come."""
        if not self._queue.size and self._queue_rate.behind_samples:
            self._queue.push(self._queue_rate.flush(), self._latest)
        queued, spans = self._queue.close()
        live = self._live.close(self.position)
        if self._live.running:
            spans = [*spans, Span(self._live_utterance, QUANTUM_SAMPLES)]
        block = queued if live is SILENCE else live if queued is SILENCE else queued + live
        samples, heard = self._rates.push(block)
        quantum = Quantum(self.position, samples, heard, tuple(spans))
        self.position += QUANTUM_SAMPLES
        if self._live_came_ns is not None and now_ns - self._live_came_ns > _GONE_NS:
            self._live_came_ns = None
            self._alignment = Alignment()
            self._delay.forget()
        self._delay.step()
        return quantum

    def clear(self, *, fade: bool) -> int:
        """Drop all that is queued and what more comes of its utterance; how many samples at 48 kHz.

        Args:
            fade: play 10 ms more, dying away; else be silent at once.
        """
        self._cancelled = self._latest
        self._queue_rate.flush()
        if not fade:
            self._rates.forget()
        return self._queue.clear(fade=fade) + self._live.clear()

    def _push_queued(self, piece: AudioIn, utterance: int | None) -> None:
        if piece.samples.size * MEDIA_RATE_HZ > self._queue.credit * piece.rate_hz:
            raise ProtocolError(
                f"the dub's queue has room for {self._queue.credit} samples at 48 kHz, fewer than were sent"
            )
        if utterance != self._latest:
            self._queue.push(self._queue_rate.flush(), self._latest)
        self._latest = utterance
        self._queue.push(self._queue_rate.push(piece.samples, piece.rate_hz), utterance)

    def _push_live(self, now_ns: int, piece: AudioIn, captured_ns: int, utterance: int | None) -> None:
        if self._clock is None or not piece.samples.size:
            return
        self._live_came_ns, self._live_utterance, self._latest = now_ns, utterance, utterance
        length_ns = piece.samples.size * NS_PER_S // piece.rate_hz
        captured_ns = self._captures.correct(captured_ns + length_ns, now_ns) - length_ns
        behind = TwoRates.DELAY_SAMPLES + self._live_rate.behind_samples + REACH_SAMPLES
        length = piece.samples.size * MEDIA_RATE_HZ // piece.rate_hz
        needed = self._alignment.place(self._clock.position(captured_ns) - behind, length)
        first, needed = needed + REACH_SAMPLES, int(max(0.0, needed))
        closes = (needed // QUANTUM_SAMPLES + 1) * QUANTUM_SAMPLES
        self._delay.observe(now_ns - self._clock.ns(closes), length_ns)
        self._live.push(self._live_rate.push(piece.samples, piece.rate_hz), first)
