"""The sender's protocol on a wire that a test reads, and canaries for what it uses of aiortc's inside."""

import ast
import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from aiortc import rtcdtlstransport, rtcpeerconnection, rtcrtpsender, rtcrtptransceiver, rtp
from aiortc.codecs import CODECS, HEADER_EXTENSIONS
from aiortc.codecs.h264 import H264Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters

from engine.image.yuv import I420, Colour
from streaming.rtc.media_clock import MediaClock
from streaming.rtc.rendition import AudioRendition, Rendition, VideoRendition
from streaming.rtc.sender import RtpSender

BT709 = Colour("bt709", full_range=False)
MS = 1_000_000
NS = 1_000_000_000


class Wire:
    """Takes what a DTLS transport would encrypt."""

    def __init__(self) -> None:
        self.rtp: list[rtp.RtpPacket] = []
        self.rtcp: list[Any] = []
        self.open = True
        self.senders: list[object] = []
        self._extensions = rtp.HeaderExtensionsMap()

    def _register_rtp_sender(self, sender: object, parameters: RTCRtpSendParameters) -> None:
        self._extensions.configure(parameters)
        self.senders.append(sender)

    def _unregister_rtp_sender(self, sender: object) -> None:
        self.senders.remove(sender)

    async def _send_rtp(self, data: bytes) -> None:
        if not self.open:
            raise ConnectionError
        if rtp.is_rtcp(data):
            self.rtcp += rtp.RtcpPacket.parse(data)
        else:
            self.rtp.append(rtp.RtpPacket.parse(data, self._extensions))

    def reports(self) -> list[rtp.RtcpSrPacket]:
        return [packet for packet in self.rtcp if isinstance(packet, rtp.RtcpSrPacket)]


class Bench:
    """A sender of one rendition in virtual time."""

    def __init__(self, kind: str, pool: ThreadPoolExecutor) -> None:
        self.now_ns = NS
        self.wire = Wire()
        self.ended: list[bool] = []
        self.clock = MediaClock()
        self.rendition: Rendition = (
            VideoRendition(pool, now_ns=self.time) if kind == "video" else AudioRendition(pool)
        )
        self.sender = RtpSender(
            self.rendition,
            self.clock,
            self.wire,  # type: ignore[arg-type]
            on_end=self.ended.append,
            now_ns=self.time,
        )

    def time(self) -> int:
        return self.now_ns

    async def start(self) -> None:
        kind = self.rendition.kind
        name = "video/H264" if kind == "video" else "audio/opus"
        chosen = [c for c in CODECS[kind] if c.mimeType == name][:1]
        rtx = [c for c in CODECS[kind] if c.parameters.get("apt") == chosen[0].payloadType]
        parameters = RTCRtpSendParameters(
            codecs=[*chosen, *rtx], headerExtensions=HEADER_EXTENSIONS[kind], muxId="7"
        )
        parameters.rtcp.cname = "somebody"
        await self.sender.send(parameters)
        await self.sender.send(parameters)
        await settled()

    async def push(self, position: int) -> None:
        if isinstance(self.rendition, VideoRendition):
            image = I420.blank(96, 64)
            image.y[...] = np.random.default_rng(position).integers(0, 255, (64, 96), dtype=np.uint8)
            frame = await self.rendition.push(image, BT709, position)
        else:
            frame = await self.rendition.push(np.full(960, 5000, np.int16), position)
        assert frame is not None
        await until(lambda: self.sender.stats().frames == self.rendition.stats().frames)
        await settled()

    async def receive(self, packet: rtp.AnyRtcpPacket) -> None:
        await self.sender._handle_rtcp_packet(packet)

    async def report(self, *, loss: float = 0.0, delay_ms: int | None = None, packets: int = 0) -> None:
        """Send a receiver report up to `packets` after the last; with a delay, answers a sender report."""
        last = self.wire.reports()[-1].sender_info.ntp_timestamp if delay_ms is not None else 0
        info = rtp.RtcpReceiverInfo(
            ssrc=self.sender._ssrc,
            fraction_lost=round(loss * 256),
            packets_lost=0,
            highest_sequence=(self.wire.rtp[-1].sequence_number + packets) % 65_536,
            jitter=0,
            lsr=(last >> 16) & 0xFFFFFFFF,
            dlsr=(delay_ms or 0) * 65536 // 1000,
        )
        await self.receive(rtp.RtcpRrPacket(ssrc=9, reports=[info]))

    async def nack(self, *sequences: int) -> None:
        packet = rtp.RtcpRtpfbPacket(fmt=rtp.RTCP_RTPFB_NACK, ssrc=9, media_ssrc=self.sender._ssrc)
        packet.lost = list(sequences)
        await self.receive(packet)


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not ready():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def on_bench(kind: str, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def work() -> None:
        with ThreadPoolExecutor(1) as pool:
            bench = Bench(kind, pool)
            await bench.start()
            await test(bench)
            await bench.sender.stop()
            await bench.sender.stop()
            assert bench.wire.senders == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())


def test_positions_become_timestamps_and_the_first_report_comes_with_the_first_frame() -> None:
    async def test(bench: Bench) -> None:
        assert bench.wire.reports() == []
        for position in (1920, 3840, 5441):
            await bench.push(position)
        stamps = list(dict.fromkeys(packet.timestamp for packet in bench.wire.rtp))
        first = stamps[0]
        assert [(stamp - first) % (1 << 32) for stamp in stamps] == [0, 3600, 6602]
        report = bench.wire.reports()[0]
        assert report.sender_info.rtp_timestamp == first
        assert report.sender_info.ntp_timestamp == bench.clock.ntp(1920)
        sequences = [packet.sequence_number for packet in bench.wire.rtp]
        assert np.diff(sequences).tolist() == [1] * (len(sequences) - 1)

    on_bench("video", test)


def test_packets_say_what_they_are() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        packets = bench.wire.rtp
        assert [packet.marker for packet in packets] == [0] * (len(packets) - 1) + [1]
        assert {packet.ssrc for packet in packets} == {bench.sender._ssrc}
        assert {packet.extensions.mid for packet in packets} == {"7"}
        assert all(packet.extensions.abs_send_time is not None for packet in packets)

    on_bench("video", test)


def test_sound_carries_its_level_and_takes_no_feedback() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        (packet,) = bench.wire.rtp
        assert packet.extensions.audio_level == (False, 16)
        await bench.nack(packet.sequence_number)
        await bench.receive(rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_PLI, ssrc=9, media_ssrc=bench.sender._ssrc))
        await bench.report(loss=0.5)
        assert len(bench.wire.rtp) == 1
        assert bench.sender.stats().target_bps is None
        assert bench.sender.stats().loss == 0.5

    on_bench("audio", test)


def test_a_lost_packet_is_sent_again_on_the_other_stream() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        lost, sent = bench.wire.rtp[0], len(bench.wire.rtp)
        bench.now_ns += 60 * MS
        await bench.nack(lost.sequence_number, (lost.sequence_number + 500) % 65536)
        (again,) = bench.wire.rtp[sent:]
        assert again.ssrc == bench.sender._rtx_ssrc
        assert again.payload == lost.sequence_number.to_bytes(2, "big") + lost.payload
        assert (again.timestamp, again.marker) == (lost.timestamp, lost.marker)
        await bench.nack(lost.sequence_number)
        assert len(bench.wire.rtp) == sent + 1
        assert bench.sender.stats().refused == 2

    on_bench("video", test)


def test_round_trips_are_taken_from_reports() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        bench.now_ns += 130 * MS
        await bench.report(delay_ms=50)
        assert bench.sender.stats().rtt_ms == pytest.approx(80, abs=0.1)
        bench.now_ns += 100 * MS
        await bench.report(delay_ms=50)
        assert bench.sender.stats().rtt_ms == pytest.approx(80 * 0.85 + 180 * 0.15, abs=0.1)

    on_bench("video", test)


def test_a_keyframe_that_is_just_leaving_answers_a_lost_picture() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        lost = rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_PLI, ssrc=9, media_ssrc=bench.sender._ssrc)
        for after_ms, keyframes in ((20, 0), (2000, 1)):
            bench.now_ns += after_ms * MS
            await bench.receive(lost)
            await bench.push(bench.now_ns // MS * 48)
            assert isinstance(bench.rendition, VideoRendition)
            assert bench.rendition.stats().keyframes.get("lost", 0) == keyframes

    on_bench("video", test)


def test_a_hopeless_viewer_is_given_up() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        for second in range(40):
            bench.now_ns += NS
            await bench.report(loss=0.9, packets=30 * (second + 1))
            if bench.ended:
                break
        assert bench.ended == [True]
        assert second >= 11

    on_bench("video", test)


def test_it_ends_with_its_transport() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        bench.wire.open = False
        assert isinstance(bench.rendition, VideoRendition)
        await bench.rendition.push(I420.blank(96, 64), BT709, 1920)
        await until(lambda: bool(bench.ended))
        assert bench.ended == [False]
        assert bench.rendition.viewers == 0

    on_bench("video", test)


def test_feedback_of_another_kind_is_ignored() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        before = bench.sender.stats().target_bps
        for fci in (b"ABCD1234", b"", rtp.pack_remb_fci(1000, [7])):
            ssrc = bench.sender._ssrc
            await bench.receive(rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_APP, ssrc=9, media_ssrc=ssrc, fci=fci))
        assert bench.sender.stats().target_bps == before

    on_bench("video", test)


def test_a_failure_nobody_thought_of_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        bench.clock.ntp = lambda position: position // 0  # type: ignore[method-assign]
        bench.sender._tasks[1].cancel()
        again = asyncio.ensure_future(bench.sender._run_rtcp())
        again.add_done_callback(bench.sender._check)
        await until(lambda: bool(bench.ended))
        assert "failed" in caplog.text

    on_bench("video", test)


def test_while_paused_nothing_is_sent_or_encoded() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        bench.sender.pause(True)
        sent = len(bench.wire.rtp)
        assert isinstance(bench.rendition, VideoRendition)
        assert await bench.rendition.push(I420.blank(96, 64), BT709, 1920) is None
        bench.sender.pause(False)
        bench.now_ns += NS
        await bench.push(48_000)
        assert len(bench.wire.rtp) > sent
        assert bench.rendition.stats().keyframes["viewer"] >= 1

    on_bench("video", test)


def test_stopping_says_goodbye() -> None:
    async def test(bench: Bench) -> None:
        await bench.push(0)
        await bench.sender.stop()
        assert isinstance(bench.wire.rtcp[-1], rtp.RtcpByePacket)

    on_bench("video", test)


def test_its_source_cannot_be_replaced() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(ValueError, match="rendition"):
            bench.sender.replaceTrack(None)
        assert bench.sender.track is None

    on_bench("audio", test)


# -- canaries: each fails when a release of aiortc changes what the sender stands on -------------


def test_canary_the_pinned_release() -> None:
    assert version("aiortc").startswith("1.16.")


def asked_of_senders(module: ModuleType) -> set[str]:
    """Names of members that a module of aiortc uses of a sender."""
    tree = ast.parse(Path(module.__file__ or "").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of = node.value
            name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
            if name in ("sender", "__sender"):
                found.add(node.attr)
    return found


def test_canary_aiortc_asks_nothing_of_a_sender_that_ours_lacks() -> None:
    modules = (rtcpeerconnection, rtcrtptransceiver, rtcdtlstransport)
    asked = set[str]().union(*map(asked_of_senders, modules))
    assert {"_ssrc", "_rtx_ssrc", "_stream_id", "_track_id", "_enabled", "send", "stop"} <= asked
    with ThreadPoolExecutor(1) as pool:

        async def missing() -> set[str]:
            sender = Bench("video", pool).sender
            return {name for name in asked | {"_handle_rtcp_packet", "getStats"} if not hasattr(sender, name)}

        assert asyncio.run(missing()) == set()


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (rtcdtlstransport.RTCDtlsTransport._send_rtp, ["self", "data"]),
        (rtcdtlstransport.RTCDtlsTransport._register_rtp_sender, ["self", "sender", "parameters"]),
        (rtcdtlstransport.RTCDtlsTransport._unregister_rtp_sender, ["self", "sender"]),
        (rtcrtpsender.RTCRtpSender._handle_rtcp_packet, ["self", "packet"]),
        (rtcrtpsender.RTCRtpSender.send, ["self", "parameters"]),
        (rtp.wrap_rtx, ["packet", "payload_type", "sequence_number", "ssrc"]),
        (rtp.RtpPacket.serialize, ["self", "extensions_map"]),
        (rtp.unpack_remb_fci, ["data"]),
    ],
)
def test_canary_signatures(function: Callable[..., object], parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_canary_why_the_sender_is_ours() -> None:
    """When one of these is mended upstream, less of ours is needed."""
    source = inspect.getsource(rtcrtpsender.RTCRtpSender)
    assert "self.__ntp_timestamp = clock.current_ntp_time()" in source  # reports the time of sending
    assert rtp.RTP_HISTORY_SIZE == 128
    assert "await self._retransmit(seq)" in source  # answers every request for a lost packet
    assert "sleep" not in inspect.getsource(rtcrtpsender.RTCRtpSender._next_encoded_frame)
    assert "self.codec = None" in inspect.getsource(H264Encoder._encode_frame)


def test_canary_codecs_on_offer() -> None:
    offered: list[RTCRtpCodecParameters] = CODECS["video"]
    profiles = [c.parameters["profile-level-id"] for c in offered if c.mimeType == "video/H264"]
    assert {"42001f", "42e01f"} <= set(profiles)
