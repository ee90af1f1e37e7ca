import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.rtc.reception import (
    NACK_MISSING_MAX,
    NACK_TRIES_MAX,
    Budget,
    NackList,
    ReceptionStats,
    Unwrapper,
    WindowMinimum,
)
from streaming.types import NS_PER_S

MS = 1_000_000


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 65_535), st.lists(st.integers(-2000, 2000), max_size=100))
def test_unwrapped_numbers_differ_as_the_true_ones(first: int, steps: list[int]) -> None:
    unwrap, true = Unwrapper(16), [first]
    for step in steps:
        true.append(max(true[0], max(true) + step))
    got = [unwrap(value & 0xFFFF) for value in true]
    assert [value - got[0] for value in got] == [value - first for value in true]
    assert min(got) >= 0


def test_near_does_not_move_the_unwrapper() -> None:
    unwrap = Unwrapper(32)
    assert unwrap.near(5) == (1 << 32) + 5
    first = unwrap(10)
    assert unwrap.near(10 + 1_000_000) == first + 1_000_000
    assert unwrap.near(0xFFFFFFFF) == first - 11
    assert unwrap(11) == first + 1


def test_loss_is_counted_since_the_last_report() -> None:
    stats = ReceptionStats(90_000)
    for number in (100, 101, 103):
        stats.add(number, number * 3000, number * 33 * MS)
    block = stats.report(7, 0)
    assert (block.packets_lost, block.fraction_lost, block.highest_sequence) == (1, 256 // 4, 103)
    for number in (104, 105):
        stats.add(number, number * 3000, number * 33 * MS)
    block = stats.report(7, 0)
    assert (block.packets_lost, block.fraction_lost) == (1, 0)
    stats.add(102, 102 * 3000, 106 * 33 * MS)
    assert (stats.lost, stats.expected) == (0, 6)


def test_reports_name_the_highest_number_as_the_sender_counts_it() -> None:
    stats, unwrap = ReceptionStats(90_000), Unwrapper(16)
    for wire in (65_534, 65_535):
        stats.add(unwrap(wire), 0, 0)
    assert stats.report(7, 0).highest_sequence == 65_535
    stats.add(unwrap(1), 0, 0)
    assert stats.report(7, 0).highest_sequence == 65_536 + 1


def test_everything_lost_is_a_share_that_fits_its_byte() -> None:
    stats = ReceptionStats(90_000)
    stats.add(1, 0, 0)
    stats.report(7, 0)
    stats.add(5_000, 1, 1)
    assert stats.report(7, 0).fraction_lost == 255


def test_before_the_first_packet_nothing_is_lost() -> None:
    block = ReceptionStats(90_000).report(7, 0)
    assert (block.packets_lost, block.fraction_lost, block.lsr, block.dlsr) == (0, 0, 0, 0)


def test_jitter_is_that_of_the_spacing() -> None:
    even, uneven = ReceptionStats(48_000), ReceptionStats(48_000)
    for number in range(200):
        even.add(number, number * 960, number * 20 * MS)
        uneven.add(number, number * 960, (number * 20 + 8 * (number % 2)) * MS)
    assert even.jitter_ms == 0
    assert uneven.jitter_ms == pytest.approx(8, abs=0.5)


def test_a_report_tells_how_long_ago_the_senders_came() -> None:
    stats = ReceptionStats(90_000)
    stats.sender_report(0x0123456789ABCDEF, 1 * NS_PER_S)
    block = stats.report(7, 3 * NS_PER_S)
    assert (block.lsr, block.dlsr) == (0x456789AB, 2 * 65_536)


def test_a_missing_packet_is_asked_for_at_once_then_every_30_ms_ten_times() -> None:
    nack = NackList()
    nack.add(10, 0)
    nack.add(13, 0)
    asked = [(at_ms, nack.due(at_ms * MS)) for at_ms in range(0, 1000, 5)]
    times = [at_ms for at_ms, numbers in asked if numbers]
    assert times == [30 * i for i in range(NACK_TRIES_MAX)]
    assert {tuple(numbers) for _, numbers in asked if numbers} == {(11, 12)}


def test_with_a_long_round_trip_packets_are_asked_for_less_often() -> None:
    nack = NackList()
    nack.every_ns = 100 * MS
    nack.add(10, 0)
    nack.add(12, 0)
    assert [at_ms for at_ms in range(0, 500, 5) if nack.due(at_ms * MS)] == [0, 100, 200, 300, 400]


def test_what_came_or_is_of_no_use_is_not_asked_for() -> None:
    nack = NackList()
    nack.add(10, 0)
    nack.add(14, 0)
    nack.add(12, 0)
    nack.forget_before(12)
    assert nack.due(0) == [13]


def test_a_gap_that_is_too_wide_is_given_up() -> None:
    nack = NackList()
    assert nack.add(10, 0)
    assert not nack.add(10 + NACK_MISSING_MAX + 2, 0)
    assert nack.due(0) == []
    assert nack.add(10 + NACK_MISSING_MAX + 3, 0)


def test_a_budget_lets_a_second_through_at_once_and_then_its_rate() -> None:
    budget = Budget(8_000)
    assert budget.spend(1000, 0)
    assert not budget.spend(1, 0)
    assert budget.spend(500, NS_PER_S // 2)
    assert not budget.spend(1, NS_PER_S // 2)
    assert not budget.spend(1001, 100 * NS_PER_S)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(-100, 100)), min_size=1, max_size=60))
def test_the_window_minimum_is_that_of_the_window(steps: list[tuple[int, int]]) -> None:
    window, seen, now = WindowMinimum(100), [], 0
    assert window.least is None
    for pause, value in steps:
        now += pause
        seen.append((now, value))
        assert window.add(now, value) == min(v for at, v in seen if at >= now - 100)
        assert window.least == min(v for at, v in seen if at >= now - 100)
