"""The ladder's rules, and how a session fares on it with workers of changing speed, in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.ladder import LONGEST_WAIT_NS, WAIT_NS, Ladder, Rung
from tests.support.live_sim import MS, SECOND, Simulation, regular

LOOK_NS = 20 * MS


def _run(
    ladder: Ladder, start_ns: int, end_ns: int, *, misses_every_ns: int = 0, until: Rung | None = None
) -> list[tuple[int, Rung]]:
    """Steps taken, with a look each 20 ms; ends early on a rung."""
    steps: list[tuple[int, Rung]] = []
    for now_ns in range(start_ns, end_ns, LOOK_NS):
        if misses_every_ns and (now_ns - start_ns) % misses_every_ns == 0:
            ladder.miss(now_ns)
        if (rung := ladder.step(now_ns)) is not None:
            steps.append((now_ns, rung))
            if rung is until:
                break
    return steps


def test_what_is_missed_now_and_then_changes_nothing() -> None:
    ladder = Ladder(0)
    assert _run(ladder, 0, 60 * SECOND, misses_every_ns=1500 * MS) == []
    assert ladder.rung is Rung.FULL


def test_three_moments_within_a_second_go_down_once() -> None:
    ladder = Ladder(0)
    for at_ns in (0, 400 * MS, 900 * MS):
        assert ladder.step(at_ns) is None
        ladder.miss(at_ns)
    assert ladder.step(900 * MS) is Rung.HALF_RATE_MOUTH
    assert ladder.step(920 * MS) is None


def test_a_miss_each_second_goes_down_but_never_gives_the_dub_up() -> None:
    ladder = Ladder(0)
    steps = _run(ladder, 0, 120 * SECOND, misses_every_ns=SECOND)
    assert [rung for _, rung in steps] == [Rung.HALF_RATE_MOUTH, Rung.LOW_BITRATE]
    assert steps[0][0] == 7 * SECOND


@pytest.mark.parametrize("stall_ms", [100, 300, 380])
def test_one_stall_is_no_load_however_many_frames_it_costs(stall_ms: int) -> None:
    ladder = Ladder(0)
    for start_s in range(0, 120, 10):
        start_ns = start_s * SECOND
        assert _run(ladder, start_ns, start_ns + stall_ms * MS, misses_every_ns=LOOK_NS) == []
        assert _run(ladder, start_ns + stall_ms * MS, start_ns + 10 * SECOND) == []


def test_what_was_under_way_does_not_go_down_twice() -> None:
    ladder = Ladder(0)
    assert _run(ladder, 0, SECOND, misses_every_ns=40 * MS, until=Rung.HALF_RATE_MOUTH)
    for at_ns in range(420 * MS, 880 * MS, 20 * MS):
        ladder.miss(at_ns)
        assert ladder.step(at_ns) is None


def test_it_ends_at_passthrough_and_comes_back_one_rung_each_ten_seconds() -> None:
    ladder = Ladder(0)
    down = _run(ladder, 0, 6 * SECOND, misses_every_ns=40 * MS)
    assert [rung for _, rung in down] == [Rung.HALF_RATE_MOUTH, Rung.LOW_BITRATE, Rung.PASSTHROUGH]
    assert down[-1][0] < 4 * SECOND
    up = _run(ladder, 6 * SECOND, 60 * SECOND)
    assert [rung for _, rung in up] == [Rung.LOW_BITRATE, Rung.HALF_RATE_MOUTH, Rung.FULL]
    assert up[0][0] - down[-1][0] == pytest.approx(10 * SECOND, abs=40 * MS)
    assert all(after - before >= 10 * SECOND for (before, _), (after, _) in pairwise(up))


def test_passing_through_is_tried_again_whatever_else_is_missed() -> None:
    """The encoder may be behind for ever; the worker has nothing to miss."""
    ladder = Ladder(0)
    steps = _run(ladder, 0, 320 * SECOND, misses_every_ns=40 * MS)
    tries_ns = [at_ns for at_ns, rung in steps if rung is Rung.LOW_BITRATE][1:]
    begins_ns = [at_ns for at_ns, rung in steps if rung is Rung.PASSTHROUGH]
    waits_s = [(tried - began) / SECOND for began, tried in zip(begins_ns, tries_ns, strict=False)]
    assert waits_s == pytest.approx([10, 20, 40, 80, 80, 80], abs=0.05)


def test_a_rung_that_fails_again_is_tried_less_often_until_it_holds() -> None:
    ladder, now_ns, waits_s = Ladder(0), 0, []
    for holds_s in (0, 0, 0, 0, 0, 60, 60, 60, 60):
        now_ns += holds_s * SECOND
        down = _run(ladder, now_ns, now_ns + SECOND, misses_every_ns=40 * MS, until=Rung.HALF_RATE_MOUTH)
        ((up_ns, rung),) = _run(ladder, down[0][0], down[0][0] + 100 * SECOND, until=Rung.FULL)
        assert rung is Rung.FULL
        waits_s.append((up_ns - down[0][0]) / SECOND)
        now_ns = up_ns
    assert waits_s == pytest.approx([10, 20, 40, 80, 80, 40, 20, 10, 10], abs=0.05)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 2000).map(lambda n: n * 10 * MS), max_size=150))
def test_it_comes_back_after_any_past(gaps_ns: list[int]) -> None:
    ladder, now_ns, before = Ladder(0), 0, Rung.FULL
    for gap_ns in gaps_ns:
        for _ in range(max(1, gap_ns // SECOND)):
            now_ns += min(gap_ns, SECOND)
            rung = ladder.step(now_ns)
            assert rung is None or abs(rung - before) == 1
            before = ladder.rung
        ladder.miss(now_ns)
    _run(ladder, now_ns, now_ns + len(Rung) * LONGEST_WAIT_NS, until=Rung.FULL)
    assert ladder.rung is Rung.FULL


@dataclass
class Fared:
    """What became of a session: seconds on each rung, changes, and the share of frames by result."""

    on_s: list[float]
    steps: list[tuple[float, Rung]]
    frames: dict[str, float]


def _fare(cost_ms: Callable[[float], float], length_s: int) -> Fared:
    """A session with a worker whose frame costs so much at a time; at half rate every other one half."""
    simulation = Simulation(keep_sound=False)

    def render_ns(number: int) -> int:
        rung = simulation.rungs[-1][1] if simulation.rungs else 0
        light = rung in {1, 2} and number % 2
        return round(cost_ms(simulation.time_ns / SECOND) * (0.5 if light else 1.0) * MS)

    simulation.worker.render_ns = render_ns
    simulation.camera(regular(25, length_s * SECOND))
    simulation.run(length_s * SECOND)
    steps = [(at_ns / SECOND, Rung(rung)) for at_ns, rung in simulation.rungs]
    on_s = [0.0] * len(Rung)
    for (since_s, rung), (until_s, _) in pairwise([(0.0, Rung.FULL), *steps, (float(length_s), Rung.FULL)]):
        on_s[rung] += until_s - since_s
    frames = simulation.core.stats().frames
    return Fared(on_s, steps, {name: count / sum(frames.values()) for name, count in frames.items()})


def test_overload_that_ends_is_forgotten_soon() -> None:
    fared = _fare(lambda t_s: 90 if 5 < t_s < 50 else 20, 160)
    passing = [at_s for at_s, rung in fared.steps if rung is Rung.PASSTHROUGH]
    assert len(passing) == 3, "and two tries in vain"
    assert passing[0] < 10
    assert fared.steps[-1][0] == pytest.approx(passing[-1] + 60, abs=1)
    assert fared.steps[-1][1] is Rung.FULL
    assert passing[-1] < 50


@pytest.mark.parametrize(("cost_ms", "dubbed"), [(42, 0.98), (44, 0.98), (55, 0.96)])
def test_a_worker_that_is_too_slow_for_ever_goes_at_half_rate(cost_ms: float, dubbed: float) -> None:
    fared = _fare(lambda t_s: cost_ms, 120)
    assert fared.on_s[Rung.PASSTHROUGH] == 0
    assert fared.frames["dubbed"] > dubbed
    assert len(fared.steps) <= 7
    assert cost_ms == 55 or fared.steps[-1][0] > 75, "full rate is tried on"


def test_a_worker_that_is_far_too_slow_for_ever_is_tried_on() -> None:
    fared = _fare(lambda t_s: 120, 170)
    tries_s = [at_s for at_s, rung in fared.steps if rung is Rung.LOW_BITRATE]
    assert [b - a for a, b in pairwise(tries_s)] == pytest.approx([10, 20, 40, 80], abs=2)
    assert fared.frames["source"] > 0.93


@pytest.mark.parametrize(
    ("busy_s", "period_s", "cost_ms", "dubbed", "changes_a_minute"),
    [(12, 27, 60, 0.55, 6), (3, 15, 60, 0.95, 4), (3, 10, 60, 0.95, 1), (5, 105, 90, 0.8, 5)],
)
def test_overload_that_comes_and_goes(
    busy_s: float, period_s: float, cost_ms: float, dubbed: float, changes_a_minute: float
) -> None:
    length_s = 200
    fared = _fare(lambda t_s: cost_ms if t_s % period_s < busy_s else 20, length_s)
    assert fared.frames["dubbed"] > dubbed
    assert len(fared.steps) / (length_s / 60) < changes_a_minute


@pytest.mark.parametrize("stall_ms", [180, 500])
def test_stalls_of_a_quick_worker_change_nothing(stall_ms: float) -> None:
    fared = _fare(lambda t_s: stall_ms if t_s > 1 and t_s % 20 < 0.04 else 20, 70)
    assert fared.steps == []
    assert fared.frames["dubbed"] > 0.96
    assert WAIT_NS == 10 * SECOND
