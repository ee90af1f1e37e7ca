"""Pace and retransmission budget, in virtual time."""

import pytest

from streaming.rtc.pacer import PACKET_OVERHEAD_BYTES, Pacer, RetransmitBudget
from streaming.types import NS_PER_S

MS = 1_000_000


def send(pacer: Pacer, start_ns: int, packets: int, target_bps: int, size: int = 1140) -> list[int]:
    """When each packet leaves if the sender waits as told."""
    now_ns, left = start_ns, []
    for _ in range(packets):
        now_ns += pacer.wait_ns(now_ns, size, target_bps)
        left.append(now_ns)
    return left


def test_a_keyframe_is_spread_at_two_and_a_half_times_the_target() -> None:
    left = send(Pacer(), 10 * NS_PER_S, 50, 1_000_000)
    sent_bits = 46 * (1140 + PACKET_OVERHEAD_BYTES) * 8
    assert sent_bits / ((left[-1] - left[3]) / NS_PER_S) == pytest.approx(2_500_000, rel=0.05)


def test_a_small_frame_leaves_at_once() -> None:
    assert send(Pacer(), NS_PER_S, 1, 300_000) == [NS_PER_S]
    left = send(Pacer(), NS_PER_S, 4, 4_000_000)
    assert left[-1] - left[0] <= 4 * MS


def test_silence_saves_up_no_more_than_a_short_burst() -> None:
    pacer = Pacer()
    send(pacer, 0, 3, 1_000_000)
    left = send(pacer, 60 * NS_PER_S, 50, 1_000_000)
    assert left[-1] - left[0] > 170 * MS


def test_waits_are_none_that_a_timer_could_not_keep() -> None:
    pacer = Pacer()
    waits = [pacer.wait_ns(NS_PER_S, 100, 4_000_000) for _ in range(40)]
    assert all(wait == 0 or wait >= MS for wait in waits)


def test_what_is_sent_again_delays_what_follows() -> None:
    pacer = Pacer()
    pacer.charge(NS_PER_S, 60_000, 1_000_000)
    assert pacer.wait_ns(NS_PER_S, 100, 1_000_000) > 150 * MS


def test_a_packet_is_sent_again_once_per_round_trip() -> None:
    budget = RetransmitBudget()
    asked = range(0, 400, 10)
    last_ns: int | None = None
    times = []
    for at_ms in asked:
        if budget.allow(NS_PER_S + at_ms * MS, 1000, last_ns, 100 * MS, 4_000_000):
            last_ns = NS_PER_S + at_ms * MS
            times.append(at_ms)
    assert times == [0, 100, 200, 300]
    assert budget.refused == len(asked) - 4


def test_retransmissions_stay_within_their_share() -> None:
    budget = RetransmitBudget()
    seconds = 20
    for at_ms in range(seconds * 1000):
        budget.allow(NS_PER_S + at_ms * MS, 1140, None, 20 * MS, 1_000_000)
    assert budget.sent_bytes * 8 / seconds == pytest.approx(300_000, rel=0.05)


def test_a_loss_burst_after_silence_is_answered_up_to_the_depth() -> None:
    budget = RetransmitBudget()
    answered = sum(budget.allow(9 * NS_PER_S, 1140, None, None, 2_000_000) for _ in range(100))
    assert answered == 2_000_000 * 0.3 * 0.25 // 8 // 1200
