"""Which packets may be sent again."""

from aiortc.rtp import RtpPacket

from streaming.rtc.history import HISTORY_PACKETS, RETRANSMIT_WITHIN_NS, Congestion, PacketHistory
from streaming.rtc.pacer import RetransmitBudget
from streaming.rtc.rate_control import RateOptions
from streaming.types import NS_PER_S

MS = 1_000_000
TARGET_BPS = 4_000_000


def filled(count: int, first: int = 65_000) -> PacketHistory:
    history = PacketHistory()
    for index in range(count):
        sequence = (first + index) % 65_536
        history.add(RtpPacket(sequence_number=sequence, payload=bytes(100)), NS_PER_S)
    return history


def again(history: PacketHistory, now_ns: int, sequence: int, budget: RetransmitBudget) -> RtpPacket | None:
    return history.again(now_ns, sequence, budget, 50 * MS, TARGET_BPS)


def test_the_last_1024_are_kept_across_the_wrap_of_sequence_numbers() -> None:
    history, budget = filled(2000), RetransmitBudget(share=1000.0)
    kept = [s for s in range(65_536) if again(history, NS_PER_S + 60 * MS, s, budget)]
    assert kept == [(65_000 + index) % 65_536 for index in range(2000 - HISTORY_PACKETS, 2000)]


def test_a_packet_is_sent_again_no_sooner_than_a_round_trip_later() -> None:
    history, budget = filled(10), RetransmitBudget()
    first = again(history, NS_PER_S + 1 * MS, 65_003, budget)
    assert first is not None
    assert first.sequence_number == 65_003
    assert again(history, NS_PER_S + 50 * MS, 65_003, budget) is None
    assert again(history, NS_PER_S + 51 * MS, 65_003, budget) is not None
    assert budget.refused == 1


def test_what_a_receiver_no_longer_waits_for_is_not_sent() -> None:
    history, budget = filled(10), RetransmitBudget()
    assert again(history, NS_PER_S + RETRANSMIT_WITHIN_NS + 1, 65_003, budget) is None
    assert again(history, NS_PER_S + 60 * MS, 17, budget) is None
    assert budget.refused == 2


def test_a_viewer_begins_at_the_start_rate() -> None:
    used = Congestion.fresh(RateOptions(start_bps=1_000_000), 0)
    assert used.rate.target_bps == 1_000_000
    assert used.retransmits.sent_bytes == used.pacer.free_ns == 0
