"""What a viewer may ask for, and that nothing is left open when it cannot have it."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from engine.errors import OfferError
from streaming.rtc.peer import PeerOptions
from streaming.rtc.rendition import AudioRendition, VideoRendition, audio_pool, video_pool
from streaming.rtc.viewer import answer_viewer

Test = Callable[[VideoRendition, AudioRendition], Awaitable[None]]


def with_renditions(test: Test) -> None:
    async def work() -> None:
        with video_pool(1) as pictures, audio_pool() as sounds:
            await test(VideoRendition(pictures), AudioRendition(sounds))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())


async def offering(
    *kinds: str, codec: str | None = None, direction: str = "recvonly"
) -> tuple[RTCPeerConnection, str]:
    """A peer that offers, and its offer."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        transceiver = peer.addTransceiver(kind, direction=direction)
        offered = RTCRtpSender.getCapabilities(kind).codecs
        if codec is not None:
            transceiver.setCodecPreferences([c for c in offered if c.mimeType == codec])
    await peer.setLocalDescription(await peer.createOffer())
    return peer, peer.localDescription.sdp


@pytest.mark.parametrize("kinds", [("video",), ("audio",), ("video", "audio"), ("audio", "video", "video")])
def test_a_viewer_gets_what_it_asks_for(kinds: tuple[str, ...]) -> None:
    async def test(video: VideoRendition, audio: AudioRendition) -> None:
        peer, offer = await offering(*kinds)
        viewer, answer = await answer_viewer(offer, video, audio)
        assert answer.sdp.count("a=sendonly") == len(set(kinds))
        assert answer.sdp.count("a=inactive") == len(kinds) - len(set(kinds))
        assert ("H264/90000" in answer.sdp, "opus/48000" in answer.sdp) == (
            "video" in kinds,
            "audio" in kinds,
        )
        sending = [part for part in answer.sdp.split("m=")[1:] if "a=sendonly" in part]
        assert not any("VP8" in part or "PCMU" in part for part in sending)
        assert answer.resource == viewer.resource
        assert len({answer.resource, answer.etag}) == 2
        await peer.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
        async with asyncio.timeout(5):
            while (viewer.stats().video, viewer.stats().audio) == (None, None):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await viewer.close()
        await peer.close()

    with_renditions(test)


@pytest.mark.parametrize(
    ("kinds", "codec", "direction", "complaint"),
    [
        (("video",), "video/VP8", "recvonly", "H.264"),
        (("audio",), "audio/PCMU", "recvonly", "opus"),
        (("video", "audio"), None, "sendonly", "recvonly"),
    ],
)
def test_an_offer_that_cannot_be_served_is_refused(
    kinds: tuple[str, ...], codec: str | None, direction: str, complaint: str
) -> None:
    async def test(video: VideoRendition, audio: AudioRendition) -> None:
        peer, offer = await offering(*kinds, codec=codec, direction=direction)
        with pytest.raises(OfferError, match=complaint):
            await answer_viewer(offer, video, audio)
        await peer.close()
        assert video.viewers == audio.viewers == 0

    with_renditions(test)


@pytest.mark.parametrize("text", ["", "v=0\r\n", "hello", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"])
def test_what_is_no_offer_is_refused(text: str) -> None:
    async def test(video: VideoRendition, audio: AudioRendition) -> None:
        with pytest.raises(OfferError):
            await answer_viewer(text, video, audio)

    with_renditions(test)


def test_a_peer_that_never_comes_is_given_up() -> None:
    async def test(video: VideoRendition, audio: AudioRendition) -> None:
        peer, offer = await offering("video")
        await peer.close()
        options = PeerOptions(stalled_after_s=0.2, gone_after_s=0.5)
        viewer, _ = await answer_viewer(offer, video, audio, options=options)
        async with asyncio.timeout(5):
            await viewer.closed.wait()
        assert viewer.why == "gone"
        assert viewer.stats().video is None

    with_renditions(test)


def test_closing_twice_and_at_once_is_one_close() -> None:
    async def test(video: VideoRendition, audio: AudioRendition) -> None:
        peer, offer = await offering("video")
        viewer, _ = await answer_viewer(offer, video, audio)
        await asyncio.gather(viewer.close(), viewer.close())
        await viewer.close()
        assert viewer.closed.is_set()
        assert viewer.why == "asked"
        await peer.close()

    with_renditions(test)


def test_viewers_that_come_and_go_leave_nothing() -> None:
    async def test(video: VideoRendition, audio: AudioRendition) -> None:
        async def visit() -> None:
            peer, offer = await offering("video", "audio")
            viewer, answer = await answer_viewer(offer, video, audio)
            await peer.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
            async with asyncio.timeout(5):
                while viewer.stats().video is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await viewer.close()
            await peer.close()

        await visit()
        before = len(asyncio.all_tasks())
        for _ in range(5):
            await visit()
        assert len(asyncio.all_tasks()) == before
        assert video.viewers == audio.viewers == 0
        gc.collect()  # what was not closed complains now

    with_renditions(test)
