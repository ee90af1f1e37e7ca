"""What was sent to a viewer lately, for when packets get lost, and what its link is thought to bear. Pure."""

from dataclasses import dataclass

from aiortc.rtp import RtpPacket

from streaming.rtc.pacer import Pacer, RetransmitBudget
from streaming.rtc.rate_control import RateControl, RateOptions
from streaming.types import NS_PER_S

HISTORY_PACKETS = 1024
RETRANSMIT_WITHIN_NS = 2 * NS_PER_S
"""A receiver has given up by then."""


@dataclass(eq=False)
class Congestion:
    """What a link bears and how it is used; one for each viewer's picture."""

    rate: RateControl
    pacer: Pacer
    retransmits: RetransmitBudget

    @classmethod
    def fresh(cls, rates: RateOptions, now_ns: int) -> "Congestion":
        """Return one that knows nothing yet."""
        return cls(RateControl(rates, now_ns), Pacer(), RetransmitBudget())


@dataclass
class _Sent:
    packet: RtpPacket
    sent_ns: int
    again_ns: int | None = None


class PacketHistory:
    """The last packets of one stream."""

    def __init__(self) -> None:
        self._slots: list[_Sent | None] = [None] * HISTORY_PACKETS

    def add(self, packet: RtpPacket, now_ns: int) -> None:
        """Keep a packet that was just sent, in place of one that is 1024 older."""
        self._slots[packet.sequence_number % HISTORY_PACKETS] = _Sent(packet, now_ns)

    def again(
        self, now_ns: int, sequence: int, budget: RetransmitBudget, rtt_ns: int | None, target_bps: int
    ) -> RtpPacket | None:
        """Return a packet that is reported as lost, if it may be sent again now; charges the budget."""
        sent = self._slots[sequence % HISTORY_PACKETS]
        if (
            sent is None
            or sent.packet.sequence_number != sequence
            or now_ns - sent.sent_ns > RETRANSMIT_WITHIN_NS
        ):
            budget.refused += 1
            return None
        if not budget.allow(now_ns, len(sent.packet.payload), sent.again_ns, rtt_ns, target_bps):
            return None
        sent.again_ns = now_ns
        return sent.packet
