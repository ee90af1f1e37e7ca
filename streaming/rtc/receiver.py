"""One incoming stream: what takes the place of aiortc's RTCRtpReceiver, with feedback of our own.

It picks the stream out of what arrives, unwraps retransmissions, reports loss, asks for missing packets every
30 ms, for key frames, and tells a bitrate. Decoding and buffering is the inlet's. Everything happens on the
event loop; `tick` is to be called about every 10 ms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiortc.codecs import depayload, is_rtx
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
    unwrap_rtx,
)
from aiortc.stats import RTCStatsReport

from streaming.rtc.reception import NACK_EVERY_NS, Budget, NackList, ReceptionStats, Unwrapper
from streaming.rtc.remb import Remb
from streaming.types import NS_PER_S

REPORT_EVERY_NS = NS_PER_S
SWITCH_AFTER_NS = NS_PER_S // 2
"""A new source is believed once the one before it has been silent for so long."""


@dataclass(frozen=True)
class RateLimits:
    """Of one incoming stream.

    Attributes:
        floor_bps: bitrate that the sender is told until the link was seen overused.
        ceiling_bps: bitrate that it is told at most; packets beyond twice that are dropped.
    """

    floor_bps: int = 3_000_000
    ceiling_bps: int = 8_000_000


@dataclass(frozen=True, slots=True)
class Incoming:
    """A media packet of the stream.

    Attributes:
        codec: "H264", "VP8" or "opus".
        number: unwrapped sequence number.
        timestamp: unwrapped.
        last: the marker bit.
        data: payload without the payload format's header; empty for padding.
        now_ns: when it came.
    """

    codec: str
    number: int
    timestamp: int
    last: bool
    data: bytes
    now_ns: int


class Inlet(Protocol):
    """What a receiver feeds."""

    def packet(self, packet: Incoming) -> None:
        """Take a packet."""

    def report(self, ntp: int, timestamp: int, now_ns: int) -> None:
        """Take a sender report: `timestamp`, unwrapped, is `ntp`."""

    def restart(self) -> None:
        """Forget everything: another source begins."""

    def skip(self) -> None:
        """Give up what is buffered: too much is missing to be mended."""

    def tick(self, now_ns: int, round_trip_ns: int) -> None:
        """Do what time demands."""

    def wants_key(self, now_ns: int) -> bool:
        """Whether to ask for a key frame now."""

    def next_number(self) -> int:
        """Packets before it are no longer of use."""

    def end(self) -> None:
        """Nothing will come any more."""


class Receiver:
    """Receives one stream for an inlet.

    Args:
        kind: "audio" or "video".
        transport: that it comes over.
        inlet: takes the packets.
        now_ns: the monotonic clock.
        limits: of the bitrate.

    Attributes:
        stats: of the stream that is received; None before its first packet.
        dropped: counts packets that were refused.
        keys_asked: counts requests for key frames.
        nacks: counts packets that were asked for again, each time.
    """

    def __init__(
        self,
        kind: str,
        transport: RTCDtlsTransport,
        inlet: Inlet,
        now_ns: Callable[[], int],
        limits: RateLimits,
    ) -> None:
        self.kind = kind
        self.transport = transport
        self.inlet = inlet
        self.stats: ReceptionStats | None = None
        self.dropped = 0
        self.keys_asked = 0
        self.nacks = 0
        self._track: Any = None  # aiortc puts its track here
        self._enabled = True
        self._now_ns = now_ns
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._own_ssrc = 0
        self._ssrc: int | None = None
        self._heard_ns = 0
        self._reported_ns = 0
        self._is_video = kind == "video"
        self._remb = Remb(limits.floor_bps, limits.ceiling_bps)
        self._budget = Budget(2 * limits.ceiling_bps)
        self._numbers, self._timestamps = Unwrapper(16), Unwrapper(32)
        self._nack = NackList()
        self._started = False

    @property
    def track(self) -> Any:
        """The track that aiortc made, None if the peer sends none; nothing ever comes out of it."""
        return self._track

    def setTransport(self, transport: RTCDtlsTransport) -> None:
        """Move to another transport (bundling)."""
        self.transport = transport

    async def getStats(self) -> RTCStatsReport:
        """Return the transport's counters."""
        report = RTCStatsReport()
        report.update(self.transport._get_stats())
        return report

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Begin."""
        if not self._started:
            self._started = True
            self._codecs = {c.payloadType: c for c in parameters.codecs if c.payloadType is not None}
            self.transport._register_rtp_receiver(self, parameters)

    async def stop(self) -> None:
        """End; may be called more than once."""
        if self._started:
            self.transport._unregister_rtp_receiver(self)
        self.inlet.end()

    async def tick(self, now_ns: int, round_trip_ns: int) -> None:
        """Do what time demands: reports, repeats, holes that are given up."""
        self.inlet.tick(now_ns, round_trip_ns)
        self._nack.every_ns = max(NACK_EVERY_NS, round_trip_ns)
        await self._ask(now_ns)
        if (
            self.stats is not None
            and self._ssrc is not None
            and now_ns - self._reported_ns >= REPORT_EVERY_NS
        ):
            self._reported_ns = now_ns
            block = self.stats.report(self._ssrc, now_ns)
            await self._send(RtcpRrPacket(ssrc=self._own_ssrc, reports=[block]))

    def paused(self, now_ns: int) -> None:
        """Note that this process was late, so that it is not taken for the link's fault."""
        self._remb.paused(now_ns)

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        self._own_ssrc = ssrc

    def _handle_disconnect(self) -> None:
        self.inlet.end()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpSrPacket) and packet.ssrc == self._ssrc and self.stats is not None:
            now_ns, info = self._now_ns(), packet.sender_info
            self.stats.sender_report(info.ntp_timestamp, now_ns)
            timestamp = self._timestamps.near(info.rtp_timestamp)
            self.inlet.report(info.ntp_timestamp, timestamp, now_ns)

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        now_ns = self._now_ns()
        codec = self._codecs.get(packet.payload_type)
        if codec is None or not self._enabled:
            return
        if not self._budget.spend(len(packet.payload), now_ns):
            self.dropped += 1
            return
        if self._is_video:
            await self._tell_rate(packet, now_ns)
        if is_rtx(codec):
            await self._take_repeat(packet, codec, now_ns)
        elif self._is_ours(packet.ssrc, codec, now_ns):
            self._heard_ns = now_ns
            number, timestamp = self._numbers(packet.sequence_number), self._timestamps(packet.timestamp)
            if self.stats is not None:
                self.stats.add(number, timestamp, now_ns)
            await self._take(packet, codec, (number, timestamp), now_ns)

    async def _take_repeat(self, packet: RtpPacket, codec: RTCRtpCodecParameters, now_ns: int) -> None:
        """Unwrap a retransmission (RFC 4588 §4); ones without content only probe the link."""
        apt = codec.parameters.get("apt")
        if (
            self._ssrc is None
            or len(packet.payload) < 2
            or not isinstance(apt, int)
            or apt not in self._codecs
        ):
            return
        original = unwrap_rtx(packet, payload_type=apt, ssrc=self._ssrc)
        place = self._numbers.near(original.sequence_number), self._timestamps.near(original.timestamp)
        await self._take(original, self._codecs[apt], place, now_ns)

    async def _take(
        self, packet: RtpPacket, codec: RTCRtpCodecParameters, place: tuple[int, int], now_ns: int
    ) -> None:
        """Give a packet with its unwrapped number and timestamp to the inlet."""
        number, timestamp = place
        try:
            data = depayload(codec, packet.payload) if packet.payload else b""
        except ValueError:
            self.dropped += 1
            data = b""
        if self._is_video and not self._nack.add(number, now_ns):
            self.inlet.skip()
        self.inlet.packet(Incoming(codec.name, number, timestamp, bool(packet.marker), data, now_ns))
        await self._ask(now_ns)

    def _is_ours(self, ssrc: int, codec: RTCRtpCodecParameters, now_ns: int) -> bool:
        """Whether a packet is of the stream; the first source is, and another after it fell silent."""
        if ssrc == self._ssrc:
            return True
        if self._ssrc is not None:
            if now_ns - self._heard_ns < SWITCH_AFTER_NS:
                self.dropped += 1
                return False
            self.inlet.restart()
        self._ssrc = ssrc
        self.stats = ReceptionStats(codec.clockRate)
        self._numbers, self._timestamps = Unwrapper(16), Unwrapper(32)
        self._nack = NackList()
        return True

    async def _tell_rate(self, packet: RtpPacket, now_ns: int) -> None:
        size = len(packet.payload) + packet.padding_size
        rate_bps = self._remb.packet(packet.extensions.abs_send_time, size, packet.ssrc, now_ns)
        if rate_bps is not None:
            fci = pack_remb_fci(rate_bps, [packet.ssrc])
            await self._send(RtcpPsfbPacket(RTCP_PSFB_APP, self._own_ssrc, 0, fci))

    async def _ask(self, now_ns: int) -> None:
        """Ask for missing packets and key frames that are due."""
        if not self._is_video or self._ssrc is None:
            return
        self._nack.forget_before(self.inlet.next_number())
        if missing := self._nack.due(now_ns):
            packet = RtcpRtpfbPacket(RTCP_RTPFB_NACK, self._own_ssrc, self._ssrc)
            packet.lost = [number & 0xFFFF for number in missing]
            self.nacks += len(missing)
            await self._send(packet)
        if self.inlet.wants_key(now_ns):
            self.keys_asked += 1
            await self._send(RtcpPsfbPacket(RTCP_PSFB_PLI, self._own_ssrc, self._ssrc))

    async def _send(self, packet: AnyRtcpPacket) -> None:
        try:
            await self.transport._send_rtp(bytes(packet))
        except OSError:  # not connected: nothing to report to
            self.dropped += 1
