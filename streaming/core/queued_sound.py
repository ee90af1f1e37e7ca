"""Dub sound that nobody captured: a speech service's utterances, played one after the other from now."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from engine.arrays import F32
from streaming.core.clock import QUANTUM_SAMPLES
from streaming.core.convert import SILENCE
from streaming.core.fades import INTERRUPT_FADE_SAMPLES, Seam, ramp_down
from streaming.types import MEDIA_RATE_HZ

CAPACITY_SAMPLES = 20 * MEDIA_RATE_HZ
_CUSHION_STEP = QUANTUM_SAMPLES
_LARGEST_CUSHION = 6 * QUANTUM_SAMPLES
_LONGEST_STALL_SAMPLES = MEDIA_RATE_HZ  # after a longer gap, nobody expected more
_FORGIVEN_SAMPLES = 10 * MEDIA_RATE_HZ  # played without a stall, for one step less


@dataclass(frozen=True, slots=True)
class Span:
    """Part of an utterance within a quantum.

    Attributes:
        utterance: its number, None if it has none.
        samples: how many, 0 or more.
        ends: whether it is the utterance's last part.
    """

    utterance: int | None
    samples: int
    ends: bool = False


@dataclass(slots=True)
class _Piece:
    samples: F32
    utterance: int | None
    ends: bool


class QueuedSound:
    """A bounded queue at 48 kHz that is emptied in real time.

    After an utterance that came in real time has stalled in the middle, some sound has to be there before any
    plays: 20 ms more for each stall, at most 120 ms, less again after 10 s without one.
    """

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._size = 0
        self._seam = Seam()
        self._last = 0.0  # sample that played
        self._running = False
        self._open = False  # the utterance that plays has not ended
        self._utterance: int | None = None  # that plays, or played last
        self._cushion = self._waited = self._since_stall = self._gap = 0
        self.stalls = 0

    @property
    def size(self) -> int:
        """Samples waiting, at 48 kHz."""
        return self._size

    @property
    def credit(self) -> int:
        """Samples that there is room for."""
        return max(0, CAPACITY_SAMPLES - self._size)

    @property
    def next_utterance(self) -> int | None:
        """Of the sound that plays next."""
        return self._pieces[0].utterance if self._pieces else None

    def push(self, samples: F32, utterance: int | None) -> None:
        """Append float32 [N]."""
        if samples.size:
            self._pieces.append(_Piece(samples, utterance, ends=False))
            self._size += samples.size

    def end(self, utterance: int | None) -> None:
        """No more comes of the utterance."""
        self._pieces.append(_Piece(SILENCE[:0], utterance, ends=True))

    def close(self) -> tuple[F32, list[Span]]:
        """The next 20 ms: float32 [960], silence where nothing came, and whose it is."""
        if not self._running and not self._starts():
            return self._idle(), []
        self._running = True
        parts, spans = self._take(QUANTUM_SAMPLES)
        count = sum(part.size for part in parts)
        self._since_stall += count
        if self._since_stall > _FORGIVEN_SAMPLES:
            self._cushion, self._since_stall = max(0, self._cushion - _CUSHION_STEP), 0
        samples = self._seam.rise(parts[0] if len(parts) == 1 else np.concatenate([SILENCE[:0], *parts]))
        self._last = float(samples[-1]) if count else self._last
        return (samples if count == QUANTUM_SAMPLES else self._run_out(samples)), spans

    def clear(self, *, fade: bool) -> int:
        """Drop what waits, with `fade` all but the next 10 ms, which die away; how many samples."""
        size = self._size
        kept, _ = self._take(INTERRUPT_FADE_SAMPLES) if fade and self._running else ([], [])
        self._pieces.clear()
        self._size, self._open = 0, False
        if kept:
            tail = np.concatenate(kept)
            self.push(tail * ramp_down(tail.size), None)
        else:
            self._running = False
        return size - self._size

    def _starts(self) -> bool:
        if not self._pieces:
            return False
        if self._waited == 0 and self._open:
            self._note_gap(self._pieces[0].utterance)
        if self._size >= self._cushion or self._waited >= self._cushion or self._pieces[-1].ends:
            self._waited = 0
            return True
        self._waited += QUANTUM_SAMPLES
        return False

    def _idle(self) -> F32:
        self._since_stall += QUANTUM_SAMPLES
        self._gap += QUANTUM_SAMPLES
        if self._seam.silent:
            return SILENCE
        block = np.zeros(QUANTUM_SAMPLES, np.float32)
        self._seam.fill(block, 0)
        return block

    def _run_out(self, samples: F32) -> F32:
        """The queue is empty: a stall, if the utterance goes on soon."""
        self._running, self._gap = False, 0
        block = np.zeros(QUANTUM_SAMPLES, np.float32)
        block[: samples.size] = samples
        self._seam.stop(self._last, rises=self._open)
        self._seam.fill(block, samples.size)
        return block

    def _note_gap(self, utterance: int | None) -> None:
        self._open = False
        if self._gap <= _LONGEST_STALL_SAMPLES and utterance == self._utterance:
            self.stalls += 1
            self._cushion = min(self._cushion + _CUSHION_STEP, _LARGEST_CUSHION)
            self._since_stall = 0

    def _take(self, wanted: int) -> tuple[list[F32], list[Span]]:
        parts: list[F32] = []
        spans: list[Span] = []
        while self._pieces and (wanted or self._pieces[0].ends):
            piece = self._pieces[0]
            taken, rest = piece.samples[:wanted], piece.samples[wanted:]
            spans.append(Span(piece.utterance, taken.size, piece.ends))
            self._open, self._utterance = not piece.ends, piece.utterance
            wanted, self._size = wanted - taken.size, self._size - taken.size
            if taken.size:
                parts.append(taken)
            if rest.size:
                piece.samples = rest
            else:
                self._pieces.popleft()
        return parts, spans
