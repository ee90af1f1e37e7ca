import numpy as np

from engine.arrays import F32
from streaming.core.convert import SILENCE
from streaming.core.queued_sound import CAPACITY_SAMPLES, QueuedSound, Span


def _ramp(count: int, start: int = 0) -> F32:
    return (np.arange(start, start + count, dtype=np.float32) + 1) / 1e6


def test_pieces_of_any_length_play_back_to_back() -> None:
    queue = QueuedSound()
    for start, stop in ((0, 700), (700, 701), (701, 2000)):
        queue.push(_ramp(stop - start, start), 4)
    assert queue.size == 2000
    assert queue.credit == CAPACITY_SAMPLES - 2000
    blocks = [queue.close() for _ in range(2)]
    np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), _ramp(1920))
    assert blocks[0][1] == [Span(4, 700), Span(4, 1), Span(4, 259)]
    last, spans = queue.close()
    np.testing.assert_array_equal(last[:80], _ramp(80, 1920))
    assert sum(span.samples for span in spans) == 80
    assert queue.close()[0][0] >= 0
    assert queue.close()[0] is SILENCE


def test_the_end_of_an_utterance_is_told_with_its_last_sound() -> None:
    queue = QueuedSound()
    queue.push(_ramp(960), 1)
    queue.end(1)
    queue.push(_ramp(100), 2)
    queue.end(2)
    assert queue.close()[1] == [Span(1, 960), Span(1, 0, ends=True)]
    assert queue.close()[1] == [Span(2, 100), Span(2, 0, ends=True)]
    assert queue.close() == (SILENCE, [])
    assert queue.stalls == 0


def test_a_stall_dies_away_rises_again_and_asks_for_a_cushion() -> None:
    queue = QueuedSound()
    queue.push(np.ones(960, np.float32), 1)
    np.testing.assert_array_equal(queue.close()[0], np.ones(960, np.float32))
    tail = queue.close()[0]
    assert tail[0] > 0.99
    assert not tail[240:].any()
    queue.push(np.ones(500, np.float32), 1)
    assert not queue.close()[0].any()
    queue.push(np.ones(1460, np.float32), 1)
    risen, _ = queue.close()
    assert queue.stalls == 1
    assert risen[0] == 0
    assert risen[240:].all()


def test_the_cushion_does_not_hold_up_the_end_of_an_utterance() -> None:
    queue = QueuedSound()
    queue.push(_ramp(960), 1)
    queue.close()
    queue.close()
    queue.push(_ramp(100), 1)
    queue.end(1)
    assert queue.close()[0].any()


def test_a_pause_is_no_stall() -> None:
    queue = QueuedSound()
    queue.push(_ramp(960), None)
    for _ in range(60):
        queue.close()
    queue.push(_ramp(10), None)
    assert queue.close()[0].any()
    assert queue.stalls == 0


def test_another_utterance_is_no_stall() -> None:
    queue = QueuedSound()
    queue.push(_ramp(960), 1)
    queue.close()
    queue.close()
    queue.push(_ramp(10), 2)
    assert queue.close()[0].any()
    assert queue.stalls == 0


def test_clearing_drops_everything_or_fades() -> None:
    for fade in (False, True):
        queue = QueuedSound()
        queue.push(np.ones(4800, np.float32), 1)
        queue.close()
        assert queue.clear(fade=fade) == 3840 - 480 * fade
        block, _ = queue.close()
        assert (np.flatnonzero(block).size > 400) == fade
        assert not queue.close()[0].any()


def test_what_had_not_begun_is_dropped_without_a_sound() -> None:
    queue = QueuedSound()
    queue.push(np.ones(4800, np.float32), 1)
    assert queue.next_utterance == 1
    assert queue.clear(fade=True) == 4800
    assert queue.next_utterance is None
    assert not queue.close()[0].any()
