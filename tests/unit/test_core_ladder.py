from itertools import pairwise

from streaming.core.ladder import Ladder, Rung
from tests.support.live_sim import MS, SECOND


def _run(ladder: Ladder, start_ns: int, end_ns: int, *, misses_every_ns: int = 0) -> list[tuple[int, Rung]]:
    """Steps taken, with a look each 20 ms."""
    steps: list[tuple[int, Rung]] = []
    for now_ns in range(start_ns, end_ns, 20 * MS):
        if misses_every_ns and (now_ns - start_ns) % misses_every_ns == 0:
            ladder.miss(now_ns)
        if (rung := ladder.step(now_ns)) is not None:
            steps.append((now_ns, rung))
    return steps


def test_two_misses_a_second_change_nothing() -> None:
    ladder = Ladder(0)
    assert _run(ladder, 0, 30 * SECOND, misses_every_ns=520 * MS) == []
    assert ladder.rung is Rung.FULL


def test_three_misses_within_a_second_go_down_once() -> None:
    ladder = Ladder(0)
    for at_ns in (0, 400 * MS, 900 * MS):
        assert ladder.step(at_ns) is None
        ladder.miss(at_ns)
    assert ladder.step(900 * MS) is Rung.HALF_RATE_MOUTH
    assert ladder.step(920 * MS) is None


def test_what_was_under_way_does_not_go_down_twice() -> None:
    ladder = Ladder(0)
    for _ in range(3):
        ladder.miss(0)
    assert ladder.step(0) is Rung.HALF_RATE_MOUTH
    for at_ns in range(20 * MS, 480 * MS, 20 * MS):
        ladder.miss(at_ns)
        assert ladder.step(at_ns) is None


def test_it_ends_at_passthrough_and_comes_back_one_rung_each_ten_seconds() -> None:
    ladder = Ladder(0)
    down = _run(ladder, 0, 6 * SECOND, misses_every_ns=40 * MS)
    assert [rung for _, rung in down] == [Rung.HALF_RATE_MOUTH, Rung.LOW_BITRATE, Rung.PASSTHROUGH]
    up = _run(ladder, 6 * SECOND, 60 * SECOND)
    assert [rung for _, rung in up] == [Rung.LOW_BITRATE, Rung.HALF_RATE_MOUTH, Rung.FULL]
    assert up[0][0] - 6 * SECOND >= 10 * SECOND - 40 * MS
    assert all(after - before >= 10 * SECOND for (before, _), (after, _) in pairwise(up))


def test_a_rung_that_fails_again_is_tried_less_often() -> None:
    ladder = Ladder(0)
    _run(ladder, 0, 400 * MS, misses_every_ns=40 * MS)
    tries: list[int] = []
    now_ns = 400 * MS
    while now_ns < 300 * SECOND:
        if ladder.rung is Rung.FULL:
            tries.append(now_ns)
            _run(ladder, now_ns, now_ns + 200 * MS, misses_every_ns=40 * MS)
            now_ns += 200 * MS
        ladder.step(now_ns)
        now_ns += 20 * MS
    waits = [after - before for before, after in pairwise(tries)]
    assert waits[0] >= 19 * SECOND
    assert waits[1] >= 39 * SECOND
    assert max(waits) <= 82 * SECOND


def test_a_long_clean_time_at_full_forgets_what_failed() -> None:
    ladder = Ladder(0)
    _run(ladder, 0, 400 * MS, misses_every_ns=40 * MS)
    _run(ladder, 400 * MS, 11 * SECOND)
    assert _run(ladder, 11 * SECOND, 11200 * MS, misses_every_ns=40 * MS)
    _run(ladder, 11200 * MS, 80 * SECOND)
    assert ladder.rung is Rung.FULL
    assert _run(ladder, 80 * SECOND, 80200 * MS, misses_every_ns=40 * MS)
    up = _run(ladder, 80200 * MS, 95 * SECOND)
    assert [rung for _, rung in up] == [Rung.FULL]
