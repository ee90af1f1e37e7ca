import random
from collections.abc import Sequence

from streaming.rtc.remb import Remb

MS = 1_000_000
FLOOR, CEILING = 3_000_000, 8_000_000


def told(remb: Remb, packets: Sequence[tuple[int, float, int]]) -> list[tuple[int, int]]:
    """`packets`: sent at, ms; arrives at, ms; bytes. Returns when, ms, and what was told."""
    reports = []
    for sent_ms, arrived_ms, size in packets:
        stamp = (sent_ms * (1 << 18) // 1000) & 0xFFFFFF
        rate = remb.packet(stamp, size, 7, int(arrived_ms * MS))
        if rate is not None:
            reports.append((int(arrived_ms), rate))
    return reports


def test_the_floor_is_told_from_the_first_packet_and_again() -> None:
    remb = Remb(FLOOR, CEILING)
    assert remb.packet(None, 1000, 7, 0) == FLOOR
    assert remb.packet(None, 1000, 7, 100 * MS) is None
    assert remb.packet(None, 1000, 7, 600 * MS) == FLOOR


def test_on_a_good_link_never_less_than_the_floor_is_told() -> None:
    r = random.Random(1)
    packets = [(at, at + 20 + r.random(), 300) for at in range(0, 10_000, 10)]
    reports = told(Remb(FLOOR, CEILING), packets)
    assert len(reports) > 10
    assert min(rate for _, rate in reports) >= FLOOR


def test_more_than_the_ceiling_is_never_told() -> None:
    packets = [(at, at + 20, 1200) for at in range(20_000) for _ in range(2)]
    assert max(rate for _, rate in told(Remb(FLOOR, 4_000_000), packets)) <= 4_000_000


def test_an_overused_link_is_told_what_it_can_carry() -> None:
    """3 Mbit/s into a link of 1 Mbit/s: every packet of 10 ms takes 30 ms to pass."""
    packets, free_ms = [], 0.0
    for at in range(0, 6_000, 10):
        free_ms = max(free_ms, at) + 30
        packets.append((at, free_ms, 3750))
    reports = told(Remb(FLOOR, CEILING), packets)
    assert reports[0][1] == FLOOR
    assert min(rate for _, rate in reports) < 1_500_000


def test_a_sender_is_not_talked_down_to_nothing() -> None:
    """A jam that never ends: every packet is later than the one before."""
    packets = [(at, 1.8 * at + 20, 150) for at in range(0, 20_000, 10)]
    reports = told(Remb(FLOOR, CEILING, least_bps=600_000), packets)
    assert min(rate for _, rate in reports) == 600_000


def test_a_pause_of_this_process_is_not_the_links_fault() -> None:
    """Every 700 ms nothing is read for 300 ms, and then all at once."""
    remb, rates = Remb(FLOOR, CEILING), []
    for at in range(0, 10_000, 10):
        arrived_ms = at + 20 if at % 700 < 400 else at - at % 700 + 720
        if at % 700 == 400:
            remb.paused(arrived_ms * MS)
        rates.append(remb.packet((at * (1 << 18) // 1000) & 0xFFFFFF, 500, 7, arrived_ms * MS))
    assert min(rate for rate in rates if rate is not None) >= FLOOR
