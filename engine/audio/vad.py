"""Is somebody speaking? WebRTC's voice activity detector behind a gate that does not flutter."""

from fractions import Fraction
from typing import Any

import numpy as np

from engine.arrays import F32, Array, check_array
from engine.audio.blocks import int16_from_float
from engine.errors import BackendUnavailable
from engine.steppable import State, StepSpec, run_steps
from engine.timing import AUDIO_RATE_HZ

STEP_MS = 10
STEP_SAMPLES = AUDIO_RATE_HZ * STEP_MS // 1000


class SpeechDetector:
    """WebRTC's detector on one stream at 16 kHz: 1.0 for each 10 ms that hold speech, else 0.0.

    The library keeps its state to itself, so this is no Steppable: one stream, one detector, in order.

    Args:
        aggressiveness: 0 calls most things speech, 3 the fewest.

    Raises:
        BackendUnavailable: webrtcvad-wheels is not installed.
    """

    def __init__(self, aggressiveness: int = 2) -> None:
        if aggressiveness not in range(4):
            raise ValueError(f"{aggressiveness = } must be 0 to 3")
        try:
            import webrtcvad
        except ImportError as error:
            raise BackendUnavailable("speech detection needs: pip install webrtcvad-wheels") from error
        self._detector: Any = webrtcvad.Vad(aggressiveness)

    def detect(self, samples: F32) -> F32:
        """Flags of the next samples: float32 [n * 160] in -1..1 -> float32 [n], 0 or 1.

        Raises:
            TypeError: `samples` is not float32.
            ValueError: not a whole number of 10 ms.
        """
        check_array("samples", samples, (None,), np.float32)
        count, rest = divmod(samples.size, STEP_SAMPLES)
        if rest:
            raise ValueError(f"{samples.size} samples are not a whole number of {STEP_SAMPLES}")
        pieces = int16_from_float(samples).reshape(count, STEP_SAMPLES)
        flags = [self._detector.is_speech(piece.tobytes(), AUDIO_RATE_HZ) for piece in pieces]
        return np.array(flags, np.float32)


class Hysteresis:
    """Flags that hold still, a Steppable: float32 [B, T] -> float32 [B, T], 0 or 1.

    Opens with the flag that completes `attack_ms` of unbroken speech (input above 0.5), closes with the one
    that completes `release_ms` without speech. Closed at the start.

    Args:
        attack_ms: multiple of 10, at least 10; short clicks do not open.
        release_ms: multiple of 10, at least 10; short pauses do not close.
    """

    def __init__(self, attack_ms: int = 30, release_ms: int = 200) -> None:
        for duration_ms in (attack_ms, release_ms):
            if duration_ms < STEP_MS or duration_ms % STEP_MS:
                raise ValueError(f"{duration_ms = } must be a positive multiple of {STEP_MS}")
        self._attack, self._release = attack_ms // STEP_MS, release_ms // STEP_MS
        self._spec = StepSpec(1, Fraction(1), 0, None)

    @property
    def spec(self) -> StepSpec:
        """Flag by flag; the memory has no end."""
        return self._spec

    def initial_state(self, batch: int) -> State:
        """Closed, and no flag seen."""
        return {"open": np.zeros(batch, np.float32), "against": np.zeros(batch, np.int32)}

    def step(self, x: Array, state: State) -> tuple[F32, State]:
        """Next flags.

        Args:
            x: float32 [B, n].
            state: `open` float32 [B], 0 or 1; `against` int32 [B], flags in a row that speak for changing it.

        Returns:
            float32 [B, n] and the next state.
        """
        check_array("x", x, (None, None), np.float32)
        y = np.empty_like(x)
        is_open, against = state["open"] > 0.5, state["against"]
        for t in range(x.shape[1]):
            against = np.where((x[:, t] > 0.5) != is_open, against + 1, 0).astype(np.int32)
            turn = against >= np.where(is_open, self._release, self._attack)
            is_open, against = is_open ^ turn, np.where(turn, 0, against).astype(np.int32)
            y[:, t] = is_open
        return y, {"open": is_open.astype(np.float32), "against": against.copy()}

    def offline(self, x: Array) -> F32:
        """Flags of a whole recording: float32 [B, n] -> float32 [B, n]."""
        return run_steps(self, x, x.shape[1])


class SpeechGate:
    """Detector and hysteresis in one, for one stream at 16 kHz."""

    def __init__(self, aggressiveness: int = 2, attack_ms: int = 30, release_ms: int = 200) -> None:
        self._detector = SpeechDetector(aggressiveness)
        self._hysteresis = Hysteresis(attack_ms, release_ms)
        self._state = self._hysteresis.initial_state(1)

    def push(self, samples: F32) -> F32:
        """Flags of the next samples: float32 [n * 160] in -1..1 -> float32 [n], 1 while somebody speaks."""
        flags = self._detector.detect(samples)
        y, self._state = self._hysteresis.step(flags[None], self._state)
        gate: F32 = y[0]
        return gate
