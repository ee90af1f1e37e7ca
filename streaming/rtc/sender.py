"""Sends a rendition to one viewer: RTP, sender reports, retransmission, pace and bitrate.

Stands where aiortc has its own sender, which encodes for every viewer anew, reports the time of sending as if
it were the time of the picture, bursts, and answers every request for a lost packet.

RTP timestamps are media positions in the stream's clock rate plus a random number. Sender reports map them to
one wall clock for picture and sound, so that a receiver plays together what belongs together, however late
either was sent.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiortc import MediaStreamTrack, clock, rtp
from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.stats import RTCOutboundRtpStreamStats, RTCStatsReport
from aiortc.utils import uint16_add, uint32_add

from streaming.rtc.encoder import EncodedFrame
from streaming.rtc.history import Congestion, PacketHistory
from streaming.rtc.keyframes import KeyframeUnderWay
from streaming.rtc.media_clock import MediaClock, rtp_ticks
from streaming.rtc.rendition import Rendition, VideoRendition
from streaming.rtc.subscription import Subscription, SubscriptionClosed
from streaming.types import NS_PER_S

LOG = logging.getLogger(__name__)

_REPORTS_KEPT = 16
_RTT_WEIGHT = 0.15
_SEQUENCE_HALF = 1 << 15


@dataclass(frozen=True)
class SenderStats:
    """Counters of one viewer's picture or sound.

    Attributes:
        frames: sent.
        dropped: not sent, because this viewer fell behind or had to wait for a keyframe.
        packets: sent, without retransmissions.
        bytes: in them.
        retransmitted_bytes: sent again.
        refused: lost packets not sent again: too soon, too old, or over budget.
        rtt_ms: None until known.
        loss: share of packets lost, as last reported.
        target_bps: what the link is thought to carry; None for sound.
    """

    frames: int
    dropped: int
    packets: int
    bytes: int
    retransmitted_bytes: int
    refused: int
    rtt_ms: float | None
    loss: float
    target_bps: int | None


class RtpSender:
    """Sends one rendition over one transport; has the members that aiortc asks of a sender.

    Args:
        rendition: the source.
        media_clock: shared by the senders of one viewer.
        transport: from aiortc; it may replace it before sending starts.
        on_end: called when sending ends by itself: the transport or the rendition closed (with false), or the
            viewer's link is hopeless (with true, and perhaps again).
        now_ns: the monotonic clock.
    """

    def __init__(
        self,
        rendition: Rendition,
        media_clock: MediaClock,
        transport: RTCDtlsTransport,
        *,
        on_end: Callable[[bool], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._ssrc = secrets.randbits(32)
        self._rtx_ssrc = secrets.randbits(32)
        self._stream_id = secrets.token_hex(8)
        self._track_id = secrets.token_hex(8)
        self._enabled = True
        self.rtt_ns: int | None = None
        self._rendition = rendition
        self._clock = media_clock
        self._transport = transport
        self._on_end = on_end
        self._now_ns = now_ns
        self._paused = False
        self._origin = secrets.randbits(32)
        self._sequence = secrets.randbits(15)
        self._reported = self._sequence - 1  # by the receiver, as the last that came
        self._rtx_sequence = secrets.randbits(15)
        self._history = PacketHistory()
        self._keyframe = KeyframeUnderWay()
        self._reports_ns: dict[int, int] = {}
        self._extensions = rtp.HeaderExtensionsMap()
        self._cname: str | None = None
        self._mid = ""
        self._payload_type = 0
        self._rtx_payload_type: int | None = None
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sent_position: int | None = None
        self._begun = asyncio.Event()
        self._frames = self._packets = self._bytes = 0
        self._loss = 0.0
        self._congestion: Congestion | None = None
        if isinstance(rendition, VideoRendition):
            self._congestion = Congestion.fresh(rendition.rates, now_ns())

    @property
    def kind(self) -> str:
        """Of the medium, "audio" or "video"."""
        return self._rendition.kind

    @property
    def begun(self) -> bool:
        """Whether aiortc told it to send."""
        return bool(self._tasks)

    @property
    def track(self) -> None:
        """There is none: frames come from a rendition."""
        return

    @property
    def transport(self) -> RTCDtlsTransport:
        """What it sends over."""
        return self._transport

    def setTransport(self, transport: RTCDtlsTransport) -> None:
        """Use another transport, before sending starts."""
        self._transport = transport

    def replaceTrack(self, track: MediaStreamTrack | None) -> None:
        """Refuse: the source is a rendition."""
        raise ValueError("this sender's source is a rendition, not a track")

    async def getStats(self) -> RTCStatsReport:
        """Return what aiortc's statistics show of a sender; `stats` tells more."""
        report = RTCStatsReport()
        report.add(
            RTCOutboundRtpStreamStats(
                timestamp=clock.current_datetime(),
                type="outbound-rtp",
                id=f"outbound-rtp_{id(self)}",
                ssrc=self._ssrc,
                kind=self.kind,
                transportId=self._transport._stats_id,
                packetsSent=self._packets,
                bytesSent=self._bytes,
                trackId=self._track_id,
            )
        )
        return report

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Begin to send; aiortc calls it when the transport is connected."""
        if self._tasks:
            return
        codec = parameters.codecs[0]
        self._payload_type = codec.payloadType or 0
        self._cname = parameters.rtcp.cname
        self._mid = parameters.muxId
        self._extensions.configure(parameters)
        rtx = (c for c in parameters.codecs if is_rtx(c) and c.parameters.get("apt") == codec.payloadType)
        self._rtx_payload_type = next((c.payloadType for c in rtx), None)
        self._transport._register_rtp_sender(self, parameters)
        self._tasks = [asyncio.ensure_future(self._run_rtp()), asyncio.ensure_future(self._run_rtcp())]
        for task in self._tasks:
            task.add_done_callback(self._check)

    async def stop(self) -> None:
        """Stop sending for good; may be called again."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self._transport._unregister_rtp_sender(self)
            await asyncio.wait(self._tasks)
            await self._send_rtcp([rtp.RtcpByePacket(sources=[self._ssrc])])
        self._tasks = []

    def pause(self, paused: bool) -> None:
        """Send nothing while the viewer is silent, and go on with a keyframe afterwards."""
        self._paused = paused
        if self._subscription is not None:
            self._subscription.pause(paused)

    def stats(self) -> SenderStats:
        """Return the counters now."""
        used = self._congestion
        return SenderStats(
            frames=self._frames,
            dropped=self._subscription.dropped if self._subscription else 0,
            packets=self._packets,
            bytes=self._bytes,
            retransmitted_bytes=used.retransmits.sent_bytes if used else 0,
            refused=used.retransmits.refused if used else 0,
            rtt_ms=None if self.rtt_ns is None else self.rtt_ns / 1e6,
            loss=self._loss,
            target_bps=used.rate.estimate_bps if used else None,
        )

    async def _run_rtp(self) -> None:
        subscription = self._subscription = self._rendition.subscribe()
        subscription.pause(self._paused)
        self._follow()
        try:
            while True:
                await self._send_frame(await subscription.get())
        except (ConnectionError, SubscriptionClosed):
            self._on_end(False)
        finally:
            subscription.close()

    def _check(self, task: asyncio.Task[None]) -> None:
        """End visibly if one of the tasks failed for a reason nobody thought of."""
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("sending %s to a viewer failed", self.kind, exc_info=error)
            self._on_end(False)

    async def _send_frame(self, frame: EncodedFrame) -> None:
        self._clock.start(frame.position, clock.current_ntp_time())
        timestamp = uint32_add(self._origin, rtp_ticks(frame.position, self._rendition.clock_rate_hz))
        last = len(frame.payloads) - 1
        if frame.keyframe:
            self._keyframe.begins()
        for index, payload in enumerate(frame.payloads):
            await self._pace(len(payload))
            packet = self._packet(payload, timestamp, marker=index == last)
            if frame.level_dbov is not None:
                packet.extensions.audio_level = (False, -frame.level_dbov)
            await self._transport._send_rtp(self._stamped(packet))
            if index == 0:
                self._rendition.left(frame, self._now_ns())
            self._history.add(packet, self._now_ns())
            self._packets += 1
            self._bytes += len(payload)
        if frame.keyframe:
            self._keyframe.ends(self._now_ns())
        self._frames += 1
        self._sent_position = frame.position
        self._begun.set()

    async def _pace(self, payload_bytes: int) -> None:
        used = self._congestion
        if used is None:
            return
        used.rate.sent(self._now_ns(), payload_bytes)
        wait_ns = used.pacer.wait_ns(self._now_ns(), payload_bytes, used.rate.target_bps)
        if wait_ns:
            await asyncio.sleep(wait_ns / NS_PER_S)

    def _packet(self, payload: bytes, timestamp: int, *, marker: bool) -> rtp.RtpPacket:
        packet = rtp.RtpPacket(
            payload_type=self._payload_type,
            marker=int(marker),
            sequence_number=self._sequence,
            timestamp=timestamp,
            ssrc=self._ssrc,
            payload=payload,
        )
        packet.extensions.mid = self._mid
        self._sequence = uint16_add(self._sequence, 1)
        return packet

    def _stamped(self, packet: rtp.RtpPacket) -> bytes:
        """Serialise with the time of sending, from which receivers estimate the link."""
        packet.extensions.abs_send_time = (clock.current_ntp_time() >> 14) & 0xFFFFFF
        return packet.serialize(self._extensions)

    async def _handle_rtcp_packet(self, packet: rtp.AnyRtcpPacket) -> None:
        if isinstance(packet, (rtp.RtcpRrPacket, rtp.RtcpSrPacket)):
            for report in packet.reports:
                if report.ssrc == self._ssrc:
                    self._take_report(report)
        elif isinstance(packet, rtp.RtcpRtpfbPacket) and packet.fmt == rtp.RTCP_RTPFB_NACK:
            for sequence in packet.lost:
                await self._retransmit(sequence)
        elif isinstance(packet, rtp.RtcpPsfbPacket):
            self._take_feedback(packet)

    def _take_report(self, report: rtp.RtcpReceiverInfo) -> None:
        now_ns = self._now_ns()
        sent_ns = self._reports_ns.get(report.lsr)
        if sent_ns is not None and report.dlsr:
            rtt_ns = max(0, now_ns - sent_ns - report.dlsr * NS_PER_S // 65536)
            old_ns = rtt_ns if self.rtt_ns is None else self.rtt_ns
            self.rtt_ns = round(old_ns + _RTT_WEIGHT * (rtt_ns - old_ns))
        self._loss = report.fraction_lost / 256
        expected = uint16_add(report.highest_sequence, -self._reported)
        if expected < _SEQUENCE_HALF and self._congestion is not None:
            self._reported = report.highest_sequence & 0xFFFF
            self._congestion.rate.report(now_ns, round(self._loss * expected), expected)
            self._follow()

    def _take_feedback(self, packet: rtp.RtcpPsfbPacket) -> None:
        if not isinstance(self._rendition, VideoRendition):
            return
        if packet.fmt in (rtp.RTCP_PSFB_PLI, rtp.RTCP_PSFB_FIR):
            self._picture_lost()
        elif packet.fmt == rtp.RTCP_PSFB_APP and self._congestion is not None:
            try:
                bps, ssrcs = rtp.unpack_remb_fci(packet.fci)
            except ValueError:
                return  # application feedback of another kind
            if self._ssrc in ssrcs:
                self._congestion.rate.remb(self._now_ns(), bps)
                self._follow()

    def _picture_lost(self) -> None:
        subscription = self._subscription
        if subscription is None or subscription.keyframe_waits:
            return
        if not self._keyframe.answers(self._now_ns(), self.rtt_ns):
            subscription.lost()

    def _follow(self) -> None:
        """Tell the rendition what this viewer's link carries, or give the viewer up."""
        if self._congestion is None or self._subscription is None:
            return
        self._subscription.target_bps = self._congestion.rate.estimate_bps
        if self._congestion.rate.hopeless(self._now_ns()):
            self._on_end(True)

    async def _retransmit(self, sequence: int) -> None:
        used, now_ns = self._congestion, self._now_ns()
        if used is None:
            return
        target_bps = used.rate.target_bps
        packet = self._history.again(now_ns, sequence, used.retransmits, self.rtt_ns, target_bps)
        if packet is not None:
            used.pacer.charge(now_ns, len(packet.payload), target_bps)
            await self._transport._send_rtp(self._stamped(self._again(packet)))

    def _again(self, packet: rtp.RtpPacket) -> rtp.RtpPacket:
        if self._rtx_payload_type is None:
            return packet
        again = rtp.wrap_rtx(packet, self._rtx_payload_type, self._rtx_sequence, self._rtx_ssrc)
        self._rtx_sequence = uint16_add(self._rtx_sequence, 1)
        return again

    async def _run_rtcp(self) -> None:
        await self._begun.wait()
        while True:
            await self._send_rtcp(self._report())
            await asyncio.sleep(0.5 + random.random())  # RFC 3550 §6.2: never in step

    def _report(self) -> list[Any]:
        position = self._sent_position or 0
        ntp = self._clock.ntp(position)
        while len(self._reports_ns) >= _REPORTS_KEPT:
            del self._reports_ns[next(iter(self._reports_ns))]
        self._reports_ns[(ntp >> 16) & 0xFFFFFFFF] = self._now_ns()
        info = rtp.RtcpSenderInfo(
            ntp_timestamp=ntp,
            rtp_timestamp=uint32_add(self._origin, rtp_ticks(position, self._rendition.clock_rate_hz)),
            packet_count=self._packets & 0xFFFFFFFF,
            octet_count=self._bytes & 0xFFFFFFFF,
        )
        packets: list[Any] = [rtp.RtcpSrPacket(ssrc=self._ssrc, sender_info=info)]
        if self._cname is not None:
            source = rtp.RtcpSourceInfo(ssrc=self._ssrc, items=[(1, self._cname.encode())])
            packets.append(rtp.RtcpSdesPacket(chunks=[source]))
        return packets

    async def _send_rtcp(self, packets: list[Any]) -> None:
        try:
            await self._transport._send_rtp(b"".join(bytes(packet) for packet in packets))
        except ConnectionError:
            LOG.debug("a report could not be sent: the transport is closed")
