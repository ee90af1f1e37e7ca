import numpy as np
import pytest

from streaming.core.clock import MediaClock
from streaming.core.frames import FrameQueue, Stage
from tests.support.live_sim import MS, SECOND

CLOCK = MediaClock(0)


def _add(queue: FrameQueue, captured_ns: int, ref: int) -> list[int]:
    """Refs that were given up."""
    _, surplus = queue.add(CLOCK, captured_ns, ref, Stage.WAITING)
    return [frame.ref for frame in surplus]


def test_frames_stay_in_order_with_their_delay() -> None:
    queue = FrameQueue(8, 500 * MS)
    for n in range(3):
        assert _add(queue, n * 40 * MS, 10 + n) == []
    assert [frame.position for frame in queue] == [24_000, 25_920, 27_840]
    assert [frame.index for frame in queue] == [0, 1, 2]
    assert queue.head is next(iter(queue))
    assert queue.pop().ref == 10
    assert len(queue) == 2


@pytest.mark.parametrize("captured_ns", [-SECOND, 0, 39 * MS, 40 * MS])
def test_a_frame_before_another_is_not_taken(captured_ns: int) -> None:
    queue = FrameQueue(8, 0)
    _add(queue, 40 * MS, 0)
    assert queue.add(CLOCK, captured_ns, 1, Stage.WAITING) == (None, [])
    assert len(queue) == 1


def test_beyond_capacity_the_rate_falls_evenly() -> None:
    queue = FrameQueue(10, 0)
    kept = set(range(40))
    for n in range(40):
        kept -= set(_add(queue, n * 20 * MS, n))
    assert len(queue) == 10
    assert kept == {frame.ref for frame in queue}
    assert {0, 39} <= kept
    gaps = np.diff(sorted(kept))
    assert gaps.max() <= 12


def test_what_a_worker_has_is_not_given_up() -> None:
    queue = FrameQueue(3, 0)
    for n in range(3):
        frame, _ = queue.add(CLOCK, n * 20 * MS, n, Stage.GIVEN)
        assert frame is not None
        frame.given = True
    assert _add(queue, SECOND, 3) == [3]
    assert [frame.ref for frame in queue] == [0, 1, 2]


def test_a_capacity_of_one_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="capacity = 1"):
        FrameQueue(1, 0)
