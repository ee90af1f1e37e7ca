"""Our sender to aiortc's own receiver, over real sockets of this machine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtp
from aiortc.codecs.h264 import h264_depayload
from aiortc.mediastreams import MediaStreamError

from engine.image.yuv import I420, Colour
from streaming.rtc.h264 import nal_units
from streaming.rtc.rendition import AudioRendition, VideoRendition, audio_pool, video_pool
from streaming.rtc.viewer import Viewer, answer_viewer

BT709 = Colour("bt709", full_range=False)
WIDTH, HEIGHT = 256, 144
IDR = 5
BLOCK = 960
FRAME = 1920


def picture(index: int) -> I420:
    image = I420.blank(WIDTH, HEIGHT)
    noise = np.random.default_rng(7).integers(30, 220, (HEIGHT // 2, WIDTH), dtype=np.uint8)
    texture = noise.repeat(2, 0).repeat(2, 1)
    image.y[...] = texture[:, abs(index % 64 - 32) :][:, :WIDTH]
    return image


class Receiver:
    """aiortc's own receiving side, which notes what passes.

    Attributes:
        packets: RTP packets by kind, as they came in, without those that `lose` says are lost.
        reports: sender reports by kind.
        shown: pts of decoded frames by kind.
        lose: whether the packet with this running number is lost on the way; what is sent again is not, as
            aiortc asks only once.
    """

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.packets: dict[str, list[rtp.RtpPacket]] = {"video": [], "audio": []}
        self.reports: dict[str, list[rtp.RtcpSenderInfo]] = {"video": [], "audio": []}
        self.shown: dict[str, list[int]] = {"video": [], "audio": []}
        self.lose: Callable[[int], bool] = lambda _: False
        self.lost = 0
        self._arrived = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.pc.on("track", self._on_track)
        for kind in ("video", "audio"):
            self.pc.addTransceiver(kind, direction="recvonly")
        self.receivers: dict[str, Any] = {r.kind: r.receiver for r in self.pc.getTransceivers()}
        for kind, receiver in self.receivers.items():
            self._listen(kind, receiver)

    def _listen(self, kind: str, receiver: Any) -> None:
        take_rtp, take_rtcp = receiver._handle_rtp_packet, receiver._handle_rtcp_packet

        async def on_rtp(packet: rtp.RtpPacket, arrival_time_ms: int) -> None:
            self._arrived += 1
            first_time = kind == "video" and (
                not self.packets[kind] or packet.payload_type == self._media_type
            )
            if first_time and self.lose(self._arrived):
                self.lost += 1
                return
            self.packets[kind].append(packet)
            await take_rtp(packet, arrival_time_ms)

        async def on_rtcp(packet: rtp.AnyRtcpPacket) -> None:
            if isinstance(packet, rtp.RtcpSrPacket):
                self.reports[kind].append(packet.sender_info)
            await take_rtcp(packet)

        receiver._handle_rtp_packet, receiver._handle_rtcp_packet = on_rtp, on_rtcp

    def _on_track(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            try:
                while True:
                    self.shown[track.kind].append((await track.recv()).pts or 0)
            except MediaStreamError:
                return

        self._tasks.append(asyncio.ensure_future(read()))

    @property
    def media(self) -> list[rtp.RtpPacket]:
        """Video packets that were not sent again."""
        return [packet for packet in self.packets["video"] if packet.payload_type == self._media_type]

    @property
    def _media_type(self) -> int:
        return self.packets["video"][0].payload_type

    def stamps(self) -> list[int]:
        """RTP timestamps of the pictures, in the order of arrival."""
        again = (p for p in self.packets["video"] if p.payload_type != self._media_type)
        return list(dict.fromkeys(p.timestamp for p in [*self.media, *again]))

    def missing(self) -> int:
        """How many packets up to the last one have neither come at first nor again."""
        again = (p for p in self.packets["video"] if p.payload_type != self._media_type)
        come = {p.sequence_number for p in self.media} | {int.from_bytes(p.payload[:2], "big") for p in again}
        return max(come) - min(come) + 1 - len(come)

    def keyframes(self) -> int:
        """How many pictures so far were keyframes."""
        stamps = set()
        for packet in self.media:
            units = nal_units(h264_depayload(packet.payload))
            if any(unit[0] & 0x1F == IDR for unit in units):
                stamps.add(packet.timestamp)
        return len(stamps)

    async def feed_back(self, fmt: int, fci: bytes = b"", media_ssrc: int = 0) -> None:
        """Send payload-specific feedback."""
        video = self.receivers["video"]
        ssrc = media_ssrc or self.media[-1].ssrc
        await video._send_rtcp(rtp.RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=ssrc, fci=fci))

    async def close(self) -> None:
        await self.pc.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Stage:
    """A session's two renditions and who watches them."""

    def __init__(self, video: VideoRendition, audio: AudioRendition) -> None:
        self.video, self.audio = video, audio
        self.viewers: list[Viewer] = []
        self.receivers: list[Receiver] = []
        self.pushed = 0

    async def join(self) -> tuple[Viewer, Receiver]:
        receiver = Receiver()
        self.receivers.append(receiver)
        await receiver.pc.setLocalDescription(await receiver.pc.createOffer())
        viewer, answer = await answer_viewer(receiver.pc.localDescription.sdp, self.video, self.audio)
        self.viewers.append(viewer)
        await receiver.pc.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
        await until(lambda: None not in (viewer.stats().video, viewer.stats().audio))
        return viewer, receiver

    async def play(self, count: int) -> None:
        """Push `count` pictures at 25 per second and their sound."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for index in range(count):
            await asyncio.sleep(max(0.0, start + index / 25 - loop.time()))
            position = self.pushed * FRAME
            await self.video.push(picture(self.pushed), BT709, position)
            for offset in (0, BLOCK):
                await self.audio.push(np.full(BLOCK, self.pushed * 50 % 999, np.int16), position + offset)
            self.pushed += 1


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    with video_pool(1) as pictures, audio_pool() as sounds:
        made = Stage(VideoRendition(pictures), AudioRendition(sounds))
        try:
            yield made
        finally:
            for viewer in made.viewers:
                await viewer.close()
            for receiver in made.receivers:
                await receiver.close()


def on_stage(test: Callable[[Stage], Awaitable[None]]) -> None:
    async def work() -> None:
        async with stage() as made:
            await test(made)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())


async def until(ready: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not ready():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)


def test_every_frame_arrives_with_exact_timestamps_and_one_clock() -> None:
    async def test(scene: Stage) -> None:
        viewer, receiver = await scene.join()
        await scene.play(40)
        await until(lambda: len(receiver.shown["video"]) >= 39)  # aiortc holds the last one back
        await until(lambda: len(receiver.stamps()) == 40)
        await until(lambda: len(receiver.packets["audio"]) == 80)
        await until(lambda: all(receiver.reports.values()))
        stamps = receiver.stamps()
        assert np.diff(stamps).tolist() == [3600] * 39
        assert [bool(p.marker) for p in receiver.media].count(True) == 40
        sound = [packet.timestamp for packet in receiver.packets["audio"]]
        assert np.diff(sound).tolist() == [960] * 79
        zero_ns = {
            "video": _wall_ns(receiver.reports["video"][-1], stamps[0], 90_000),
            "audio": _wall_ns(receiver.reports["audio"][-1], sound[0] + 312, 48_000),
        }
        assert abs(zero_ns["video"] - zero_ns["audio"]) < 5_000_000
        stats = viewer.stats().video
        assert stats is not None
        assert (stats.frames, stats.dropped, viewer.stats().state) == (40, 0, "live")

    on_stage(test)


def _wall_ns(report: rtp.RtcpSenderInfo, timestamp: int, rate_hz: int) -> float:
    """Wall time that a sender report gives to an RTP timestamp."""
    ticks = (timestamp - report.rtp_timestamp + (1 << 31)) % (1 << 32) - (1 << 31)
    return report.ntp_timestamp / (1 << 32) * 1e9 + ticks / rate_hz * 1e9


def test_lost_packets_are_sent_again() -> None:
    async def test(scene: Stage) -> None:
        viewer, receiver = await scene.join()
        receiver.lose = lambda number: number % 17 == 16
        await scene.play(45)
        receiver.lose = lambda _: False  # aiortc asks for a packet only after a later one came
        await scene.play(5)
        await until(lambda: len(receiver.stamps()) == 50)
        await until(lambda: receiver.missing() == 0)
        assert receiver.lost >= 4
        stats = viewer.stats().video
        assert stats is not None
        assert 0 < stats.retransmitted_bytes < 0.2 * stats.bytes

    on_stage(test)


def test_a_lost_picture_brings_a_keyframe_at_once() -> None:
    async def test(scene: Stage) -> None:
        _, receiver = await scene.join()
        await scene.play(15)
        await until(lambda: receiver.keyframes() == 1)
        await receiver.feed_back(rtp.RTCP_PSFB_PLI)
        await scene.play(3)
        await until(lambda: receiver.keyframes() == 2)
        assert scene.video.stats().keyframes == {"viewer": 1, "lost": 1}

    on_stage(test)


def test_the_receivers_estimate_moves_the_bitrate_without_a_keyframe() -> None:
    async def test(scene: Stage) -> None:
        _, receiver = await scene.join()
        await scene.play(15)
        before = scene.video.target_bps
        ssrc = receiver.media[-1].ssrc
        for _ in range(8):
            await receiver.feed_back(rtp.RTCP_PSFB_APP, rtp.pack_remb_fci(400_000, [ssrc]))
            await scene.play(3)
        assert before >= 1_200_000
        assert scene.video.target_bps < 450_000
        assert receiver.keyframes() == 1

    on_stage(test)


def test_a_viewer_on_a_poor_link_does_not_hold_the_others() -> None:
    async def test(scene: Stage) -> None:
        good, seen = await scene.join()
        poor, poorly_seen = await scene.join()
        await scene.play(5)
        await until(lambda: bool(poorly_seen.packets["video"]))
        ssrc = poorly_seen.media[-1].ssrc
        for _ in range(8):
            await poorly_seen.feed_back(rtp.RTCP_PSFB_APP, rtp.pack_remb_fci(100_000, [ssrc]))
            await scene.play(3)
        await until(lambda: len(seen.stamps()) == 29)
        assert scene.video.target_bps >= 1_000_000
        well, badly = good.stats().video, poor.stats().video
        assert well is not None
        assert badly is not None
        assert well.dropped == 0
        assert (badly.target_bps or 0) < 300_000

    on_stage(test)


@pytest.mark.parametrize("polite", [True, False])
def test_a_viewer_whose_peer_leaves_closes_by_itself(polite: bool) -> None:
    async def test(scene: Stage) -> None:
        leaving, receiver = await scene.join()
        staying, seen = await scene.join()
        await scene.play(5)
        if polite:
            await receiver.close()
            async with asyncio.timeout(5):
                await leaving.closed.wait()
            assert leaving.why in ("gone", "ended")
        else:
            await leaving.close()
            assert leaving.why == "asked"
        before = len(seen.packets["video"])
        await scene.play(5)
        await until(lambda: len(seen.packets["video"]) > before)
        assert not staying.closed.is_set()
        assert scene.video.viewers == scene.audio.viewers == 1

    on_stage(test)
