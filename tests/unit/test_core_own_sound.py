import numpy as np
import pytest

from streaming.core.clock import QUANTUM_NS, QUANTUM_SAMPLES, MediaClock
from streaming.core.own_sound import AWAY_S, BACK_S, HOLD_S, OwnSound
from streaming.core.session_core import SessionCore
from streaming.types import MEDIA_RATE_HZ, AudioIn, SessionOptions, VoiceSource

CLOCK = MediaClock(0)
LATE_NS = 30_000_000
SILENCE = np.zeros(QUANTUM_SAMPLES, np.int16)


def _played(speaking: list[bool], *, delay_ns: int = 0, level: int = 8000) -> np.ndarray:
    """What leaves while a constant level comes with the picture, and the dub speaks silence."""
    own, left = OwnSound(delay_ns), []
    for k, speaks in enumerate(speaking):
        piece = AudioIn(np.full(QUANTUM_SAMPLES, level, np.int16), MEDIA_RATE_HZ, k * QUANTUM_NS)
        own.push(CLOCK, (k + 1) * QUANTUM_NS + LATE_NS, piece)
        if k >= 10:
            left.append(own.under(SILENCE, (k - 10) * QUANTUM_SAMPLES, speaking=speaks))
    return np.concatenate(left)


def test_it_is_heard_as_it_is_while_nobody_speaks_over_it() -> None:
    sound = _played([False] * 60)
    assert sound[QUANTUM_SAMPLES:] == pytest.approx(np.full(len(sound) - QUANTUM_SAMPLES, 8000), abs=2)


def test_it_steps_back_for_the_dub_and_returns_without_a_click() -> None:
    sound = _played([False] * 30 + [True] * 40 + [False] * 120)
    quanta = sound.reshape(-1, QUANTUM_SAMPLES)
    away = 20 + round(AWAY_S * 50)
    assert (quanta[away : 60 + round(HOLD_S * 50)] == 0).all()
    assert quanta[60 + round((HOLD_S + BACK_S) * 50) + 1 :].min() > 7990
    assert np.abs(np.diff(sound[QUANTUM_SAMPLES:].astype(int))).max() < 20


def test_it_is_held_with_the_picture() -> None:
    sound = _played([False] * 80, delay_ns=20 * QUANTUM_NS)
    assert (sound[: 19 * QUANTUM_SAMPLES] == 0).all()
    assert sound[21 * QUANTUM_SAMPLES :].min() > 7990


def test_loud_over_loud_is_clipped_and_does_not_wrap() -> None:
    own = OwnSound(0)
    own.push(CLOCK, QUANTUM_NS * 20, AudioIn(np.full(9600, 30_000, np.int16), MEDIA_RATE_HZ, 0))
    loud = np.full(QUANTUM_SAMPLES, 30_000, np.int16)
    own.under(loud, 0, speaking=False)
    assert own.under(loud, QUANTUM_SAMPLES, speaking=False).max() == 32_767
    assert loud.max() == 30_000


@pytest.mark.parametrize(
    ("idle", "voice", "heard"),
    [("source", "socket", True), ("closed", "socket", False), ("source", "publisher", False)],
)
def test_only_a_session_that_shows_the_source_lets_it_be_heard(
    idle: str, voice: VoiceSource, heard: bool, tmp_path: object
) -> None:
    options = SessionOptions(actor=None, idle=idle, voice=voice)  # type: ignore[arg-type]
    core, left = SessionCore(options, 0), []
    core.video(0, 0, 0)
    for k in range(100):
        now_ns = (k + 1) * QUANTUM_NS
        core.own(now_ns, AudioIn(np.full(QUANTUM_SAMPLES, 9000, np.int16), MEDIA_RATE_HZ, k * QUANTUM_NS))
        left += [action.samples for action in core.tick(now_ns) if hasattr(action, "samples")]
    loudest = max(int(np.abs(samples).max()) for samples in left if samples.dtype == np.int16)
    assert (loudest > 8000) is heard
