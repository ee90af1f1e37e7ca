"""Times of programmes: what is late, what jumps, what comes in bursts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.media.playout import LATE_NS, ArrivalClock, Burst, Pace
from streaming.types import NS_PER_S

MS = NS_PER_S // 1000
FRAME = 40 * MS


@settings(deadline=None, max_examples=50)
@given(st.integers(-90_000, 90_000).filter(lambda by_s: not -1 < by_s < 12), st.integers(5, 60))
def test_a_jump_moves_neither_pushed_nor_pulled_programmes(by_s: int, at: int) -> None:
    arrivals, pace = ArrivalClock(), Pace(0)
    for index in range(100):
        for track, jumps_at in ((0, at), (1, at + 3)):  # sound jumps a little later than its picture
            stream_ns = index * FRAME + (by_s * NS_PER_S if index >= jumps_at else 0)
            now_ns = NS_PER_S + index * FRAME
            assert arrivals.local_ns(stream_ns, now_ns, track) == now_ns
            due_ns = pace.due_ns(stream_ns, FRAME, index * FRAME, track)
            assert abs(due_ns - index * FRAME) <= 3 * FRAME
    # In the end both are where the other is.
    end_ns = by_s * NS_PER_S + 100 * FRAME
    both = [pace.due_ns(end_ns, FRAME, 100 * FRAME, track) for track in (0, 1)]
    assert both[0] == both[1]


def test_a_single_wrong_time_leaves_the_rest_alone() -> None:
    clock = ArrivalClock()
    for index in range(20):
        wrong = 50 * NS_PER_S if index == 9 else 0
        local_ns = clock.local_ns(index * FRAME + wrong, index * FRAME)
        assert local_ns == index * FRAME


def test_a_pause_of_the_source_is_no_jump() -> None:
    clock = ArrivalClock()
    clock.local_ns(0, 0)
    assert clock.local_ns(30 * NS_PER_S, 30 * NS_PER_S + 200 * MS) < 30 * NS_PER_S + 20 * MS


def test_late_packets_after_a_stall_are_late() -> None:
    clock = ArrivalClock()
    clock.local_ns(0, 0)
    assert [clock.local_ns(index * FRAME, 3 * NS_PER_S) // MS for index in (1, 2)] == [41, 81]


def test_segments_that_come_at_once_are_due_one_after_the_other() -> None:
    pace = Pace(7 * NS_PER_S)
    assert [pace.due_ns(NS_PER_S + index * FRAME, FRAME, 7 * NS_PER_S) for index in range(3)] == [
        7 * NS_PER_S + index * FRAME for index in range(3)
    ]


def test_after_a_stall_the_pace_goes_on_from_there() -> None:
    pace = Pace(0)
    pace.due_ns(0, FRAME, 0)
    late_ns = FRAME + LATE_NS + 1
    assert pace.due_ns(FRAME, FRAME, late_ns) == late_ns
    assert pace.due_ns(2 * FRAME, FRAME, late_ns) == late_ns + FRAME


def test_a_gap_of_the_picture_alone_is_waited_for() -> None:
    pace = Pace(0)
    pace.due_ns(0, FRAME, 0, 0)
    for second in range(20):
        pace.due_ns(second * NS_PER_S, NS_PER_S, second * NS_PER_S, 1)
    assert pace.due_ns(19 * NS_PER_S, FRAME, 19 * NS_PER_S, 0) == 19 * NS_PER_S


def test_a_programme_that_is_opened_again_follows_what_came() -> None:
    pace = Pace(0)
    pace.due_ns(0, FRAME, 0)
    pace.restart()
    assert pace.due_ns(5, FRAME, FRAME) == FRAME
    pace.restart(NS_PER_S)
    assert pace.due_ns(0, FRAME, NS_PER_S) == NS_PER_S


def test_what_is_sent_at_once_to_begin_with_is_past() -> None:
    burst, seen = Burst(), []
    for index, came_ms in enumerate((0, 5, 10, 15, 60, 65, 140)):
        burst.picture(index * FRAME, came_ms * MS)
        seen.append(burst.over)
    assert seen == [False, False, False, False, True, True, True]


def test_a_server_that_is_no_live_one_is_played_all_the_same() -> None:
    burst = Burst()
    for index in range(400):
        burst.picture(index * FRAME, index * 8 * MS)
    assert burst.over
