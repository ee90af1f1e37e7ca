import numpy as np
import pytest

from engine.errors import ProtocolError
from streaming.core.clock import MediaClock
from streaming.core.convert import SILENCE
from streaming.core.intake import Quantum, SoundIntake
from streaming.types import AudioIn
from tests.support.live_sim import MS, SECOND, cut, tone


def _started(longest_delay_ms: int = 200) -> SoundIntake:
    intake = SoundIntake(longest_delay_ms * MS)
    intake.start(MediaClock(0))
    return intake


def _close(intake: SoundIntake, quanta: int) -> list[Quantum]:
    return [intake.close(intake.next_close_ns or 0) for _ in range(quanta)]


def test_nothing_is_due_before_the_zero_is_known_and_sound_waits() -> None:
    intake = SoundIntake(0)
    assert intake.next_close_ns is None
    intake.push(0, AudioIn(tone(4800), 48_000), 1)
    intake.start(MediaClock(5 * SECOND))
    assert intake.next_close_ns == 5 * SECOND + 20 * MS
    assert intake.queued_samples == 4800


def test_quanta_follow_on_each_other_at_both_rates() -> None:
    intake = _started()
    intake.push(0, AudioIn(tone(2000, 16_000), 16_000), 3)
    quanta = _close(intake, 10)
    assert [quantum.position for quantum in quanta] == list(range(0, 9600, 960))
    assert {quantum.samples.shape for quantum in quanta} == {(960,)}
    assert {quantum.heard.shape for quantum in quanta} == {(320,)}
    assert intake.position == 9600
    assert quanta[0].spans[0].utterance == 3
    assert quanta[-1].samples is SILENCE
    assert sum(span.samples for quantum in quanta for span in quantum.spans) == 6000


def test_a_microphone_is_waited_for_as_long_as_its_network_needs() -> None:
    intake = _started()
    sound = cut(tone(2 * 48_000), 960)
    now_ns = 0
    for n, piece in enumerate(sound):
        now_ns = (n + 1) * 20 * MS + 50 * MS
        intake.push(now_ns, AudioIn(piece, 48_000, n * 20 * MS), None)
        while (intake.next_close_ns or 0) <= now_ns:
            intake.close(now_ns)
    assert 50 * MS <= intake.delay_ns <= 80 * MS
    for _ in range(400):
        intake.close(now_ns + 10 * SECOND)
    assert intake.delay_ns == 0


def test_two_voices_are_added() -> None:
    intake = _started()
    intake.push(0, AudioIn(tone(4800, hz=300.0), 48_000), 1)
    intake.push(100 * MS, AudioIn(tone(4800, hz=500.0), 48_000, 0), None)
    sent = np.concatenate([quantum.samples for quantum in _close(intake, 4)]) * 32_768
    wanted = tone(4800, hz=300.0).astype(np.int32)
    moved = intake.moved_ns * 48 // 1_000_000
    assert abs(moved) <= 480
    second = tone(4800, hz=500.0)[300 - moved : 3500 - moved]
    np.testing.assert_allclose(sent[300:3500], wanted[99:3299] + second, atol=0.1)


def test_an_interrupted_utterance_stays_away_and_the_next_plays() -> None:
    intake = _started()
    intake.push(0, AudioIn(tone(9600), 48_000), 1)
    _close(intake, 2)
    assert intake.clear(fade=False) == 9600 - 1920
    intake.push(0, AudioIn(tone(9600), 48_000), 1)
    intake.end(1)
    assert intake.queued_samples == 0
    intake.push(0, AudioIn(tone(960), 48_000), 2)
    assert intake.playing == 2
    assert any(quantum.samples.any() for quantum in _close(intake, 2))


def test_an_utterance_leaves_nothing_behind_for_the_next() -> None:
    intake = _started()
    intake.push(0, AudioIn(tone(1001, 8_000), 8_000), 1)
    intake.push(0, AudioIn(tone(1001, 8_000), 8_000), 2)
    intake.end(2)
    spans = [span for quantum in _close(intake, 20) for span in quantum.spans]
    assert sum(span.samples for span in spans if span.utterance == 1) == 6006
    assert sum(span.samples for span in spans if span.utterance == 2) == 6006


def test_credit_is_what_there_is_room_for() -> None:
    intake = _started()
    credit = intake.credit
    assert intake.push(0, AudioIn(tone(24_000), 48_000), 1) == credit - 24_000
    with pytest.raises(ProtocolError, match="at most 5 s"):
        intake.push(0, AudioIn(tone(240_001), 48_000), 1)
    assert intake.credit == credit - 24_000


def test_a_microphone_before_the_zero_is_left_out() -> None:
    intake = SoundIntake(200 * MS)
    intake.push(20 * MS, AudioIn(tone(960), 48_000, 0), None)
    assert intake.queued_samples == 0
