import numpy as np

from streaming.core.clock import MediaClock
from streaming.core.convert import WORKER_SILENCE
from streaming.core.frames import Frame, FrameQueue, Stage
from streaming.core.gate import Gate
from streaming.core.intake import Quantum
from streaming.core.queued_sound import Span
from tests.support.live_sim import MS, SECOND

CLOCK = MediaClock(0)


def _gate(quanta: int = 0) -> tuple[Gate, FrameQueue]:
    frames = FrameQueue(16, 0)
    gate = Gate(frames, look_ahead_ns=120 * MS, budget_ns=400 * MS)
    gate.start(CLOCK)
    for n in range(quanta):
        samples = np.full(960, 0.5, np.float32)
        gate.push(Quantum(n * 960, samples, WORKER_SILENCE, (Span(5, 960),)), 0)
    return gate, frames


def _frame(frames: FrameQueue, captured_ns: int, stage: Stage = Stage.GIVEN) -> Frame:
    frame, _ = frames.add(CLOCK, captured_ns, 0, stage)
    assert frame is not None
    return frame


def test_sound_without_a_frame_leaves_at_the_usual_pace() -> None:
    gate, _ = _gate(2)
    assert gate.pace_ns == 145 * MS
    assert gate.sound_due_ns() == 145 * MS
    leave, spans = gate.leave_sound(145 * MS)
    assert (leave.position, leave.skew_ms) == (0, None)
    assert spans == (Span(5, 960),)
    np.testing.assert_array_equal(leave.samples, np.full(960, 16_384, np.int16))
    assert gate.sound_due_ns() == 165 * MS


def test_sound_waits_for_its_frame_20_ms_longer_than_usual() -> None:
    gate, frames = _gate(1)
    frame = _frame(frames, 0)
    assert gate.frame_due_ns(frame) == 400 * MS
    assert gate.sound_due_ns() == gate.pace_ns + 20 * MS
    frames.pop()
    frame.stage, frame.shown = Stage.READY, "dubbed"
    assert gate.frame_due_ns(frame) == 0
    left = gate.leave_frame(frame, 200 * MS)
    assert (left.dubbed, left.shown, left.skew_ms) == (True, "dubbed", None)
    assert gate.sound_due_ns() == gate.pace_ns
    assert gate.leave_sound(230 * MS)[0].skew_ms == -30.0


def test_sound_does_not_wait_for_frames_before_or_after_it() -> None:
    gate, frames = _gate(3)
    for _ in range(2):
        gate.leave_sound(150 * MS)
    _frame(frames, 10 * MS)
    _frame(frames, 60 * MS)
    assert gate.sound_due_ns() == 40 * MS + gate.pace_ns


def test_a_frame_after_its_sound_tells_the_skew() -> None:
    gate, frames = _gate(1)
    gate.leave_sound(145 * MS)
    frame = _frame(frames, 5 * MS, Stage.SOURCE)
    assert gate.frame_due_ns(frame) == 150 * MS
    left = gate.leave_frame(frame, 170 * MS)
    assert (left.dubbed, left.shown) == (False, "source")
    assert left.skew_ms == 20.0


def test_the_pace_follows_the_worker_and_stays_within_the_budget() -> None:
    gate, frames = _gate()
    for n in range(200):
        frame = _frame(frames, n * 40 * MS, Stage.READY)
        frames.pop()
        gate.leave_frame(frame, n * 40 * MS + 180 * MS)
    assert abs(gate.pace_ns - 180 * MS) < MS
    for n in range(200, 400):
        frame = _frame(frames, n * 40 * MS, Stage.READY)
        frames.pop()
        gate.leave_frame(frame, n * 40 * MS + 3 * SECOND)
    assert gate.pace_ns == 400 * MS


def test_a_late_frame_is_hopeless_once_its_sound_has_left() -> None:
    gate, _ = _gate(4)
    assert not gate.is_hopeless(0, 100 * MS)
    assert gate.is_hopeless(0, 380 * MS)
    for _ in range(2):
        gate.leave_sound(200 * MS)
    assert gate.is_hopeless(0, 200 * MS)
    assert not gate.is_hopeless(960, 200 * MS)


def test_silencing_fades_ten_ms_and_drops_the_rest() -> None:
    gate, _ = _gate(3)
    assert gate.next_utterance == 5
    assert gate.silence() == 2880
    assert gate.next_utterance is None
    first, spans = gate.leave_sound(150 * MS)
    assert spans == ()
    assert first.samples[0] > 16_000
    assert not first.samples[480:].any()
    assert np.diff(first.samples[:480]).max() <= 0
    assert not gate.leave_sound(170 * MS)[0].samples.any()
    assert not gate.leave_sound(190 * MS)[0].samples.any()
    gate.push(Quantum(2880, np.full(960, 0.5, np.float32), WORKER_SILENCE, ()), 0)
    assert gate.leave_sound(210 * MS)[0].samples.all()
    assert gate.silence() == 0


def test_sound_beyond_full_scale_is_clipped() -> None:
    gate, _ = _gate()
    gate.push(Quantum(0, np.linspace(-3, 3, 960, dtype=np.float32), WORKER_SILENCE, ()), 0)
    samples = gate.leave_sound(0)[0].samples
    assert (samples[0], samples[-1]) == (-32_768, 32_767)
    assert np.diff(samples.astype(np.int32)).min() >= 0
