"""A headless WebRTC client: publishes a programme by WHIP, views a session by WHEP. For tests and benchmarks.

What is published was encoded before, so that publishing costs next to nothing, and waits for nothing, beside
the server that is measured.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from urllib.parse import urljoin

from aiohttp import ClientSession
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import Packet
from av.audio.frame import AudioFrame
from av.stream import Stream
from av.video.frame import VideoFrame

from engine.errors import InputError
from streaming.types import MEDIA_RATE_HZ, NS_PER_S

VIDEO_CLOCK_HZ = 90_000
BLOCK = 960  # samples: 20 ms
SDP = {"Content-Type": "application/sdp"}

OnVideo = Callable[[VideoFrame, int], None]
OnAudio = Callable[[AudioFrame, int], None]


class Pace:
    """When the n-th piece of something regular is due; both tracks of a programme share the start.

    Args:
        now_ns, sleep: time, for tests their own.
    """

    def __init__(
        self,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now_ns, self._sleep = now_ns, sleep
        self.start_ns: int | None = None

    async def until(self, offset: Fraction) -> int:
        """Wait until `offset` seconds after the start, which is the first call; returns that instant, ns."""
        if self.start_ns is None:
            self.start_ns = self._now_ns()
        due_ns = self.start_ns + int(offset * NS_PER_S)
        wait_ns = due_ns - self._now_ns()
        if wait_ns > 0:
            await self._sleep(wait_ns / NS_PER_S)
        return due_ns


class EncodedVideo(MediaStreamTrack):
    """H.264 pictures, one after the other and round again.

    Args:
        pictures: Annex B, the first one a key picture.
        rate: per second.
        pace: shared with the sound.
    """

    kind = "video"

    def __init__(self, pictures: Sequence[bytes], rate: Fraction, pace: Pace) -> None:
        super().__init__()
        self._pictures, self._rate, self._pace = pictures, rate, pace
        self.sent = 0

    async def recv(self) -> "Packet[Stream]":
        """The next picture, when it is due."""
        offset = self.sent / self._rate
        await self._pace.until(offset)
        packet = Packet(self._pictures[self.sent % len(self._pictures)])
        packet.pts, packet.time_base = int(offset * VIDEO_CLOCK_HZ), Fraction(1, VIDEO_CLOCK_HZ)
        self.sent += 1
        return packet


class EncodedSound(MediaStreamTrack):
    """Opus packets of 20 ms, one after the other and round again; each leaves when its last sample exists."""

    kind = "audio"

    def __init__(self, packets: Sequence[bytes], pace: Pace) -> None:
        super().__init__()
        self._packets, self._pace, self._sent = packets, pace, 0

    async def recv(self) -> "Packet[Stream]":
        """The next packet, when it is due."""
        await self._pace.until(Fraction((self._sent + 1) * BLOCK, MEDIA_RATE_HZ))
        packet = Packet(self._packets[self._sent % len(self._packets)])
        packet.pts, packet.time_base = self._sent * BLOCK, Fraction(1, MEDIA_RATE_HZ)
        self._sent += 1
        return packet


class Refused(InputError):
    """The server said no.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"the server answered {status}: {said[:200]}")
        self.status = status


class Link:
    """One connection with the server, until `close`.

    Attributes:
        peer: aiortc's.
        address: of the connection at the server.
    """

    def __init__(
        self, http: ClientSession, peer: RTCPeerConnection, address: str, headers: dict[str, str]
    ) -> None:
        self._http, self._headers, self._tasks = http, headers, set[asyncio.Task[None]]()
        self.peer, self.address = peer, address

    def run(self, task: Awaitable[None]) -> None:
        """Keep a task that ends with the connection."""
        self._tasks.add(asyncio.ensure_future(task))

    async def close(self) -> None:
        """Say goodbye and end everything."""
        async with self._http.delete(self.address, headers=self._headers):
            pass
        await self.vanish()

    async def vanish(self) -> None:
        """End without a word, as a client does that loses its network."""
        await self.peer.close()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def publish(
    http: ClientSession, url: str, tracks: Sequence[MediaStreamTrack], *, token: str | None = None
) -> Link:
    """Send tracks to a WHIP endpoint.

    Raises:
        Refused: by the server.
    """
    peer = _peer()
    for track in tracks:
        sender = peer.addTrack(track)
        if track.kind == "video":
            _only_h264(peer, sender)
    return await _connected(http, url, peer, token)


async def view(
    http: ClientSession, url: str, on_video: OnVideo, on_audio: OnAudio, *, token: str | None = None
) -> Link:
    """Receive a session from a WHEP endpoint; frames are told with the monotonic ns at which they came.

    Raises:
        Refused: by the server.
    """
    peer = _peer()
    received: list[tuple[MediaStreamTrack, OnVideo | OnAudio]] = []
    peer.on("track", lambda track: received.append((track, on_video if track.kind == "video" else on_audio)))
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, direction="recvonly")
    link = await _connected(http, url, peer, token)
    for track, callback in received:
        link.run(_drain(track, callback))
    return link


async def _drain(track: MediaStreamTrack, callback: Callable[..., None]) -> None:
    with suppress(MediaStreamError):
        while True:
            frame = await track.recv()
            callback(frame, time.monotonic_ns())


def _peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def _only_h264(peer: RTCPeerConnection, sender: RTCRtpSender) -> None:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    wanted = [codec for codec in codecs if codec.mimeType in ("video/H264", "video/rtx")]
    for transceiver in peer.getTransceivers():
        if transceiver.sender is sender:
            transceiver.setCodecPreferences(wanted)


async def _connected(http: ClientSession, url: str, peer: RTCPeerConnection, token: str | None) -> Link:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    await peer.setLocalDescription(await peer.createOffer())
    async with http.post(url, data=peer.localDescription.sdp, headers=SDP | headers) as response:
        body = await response.text()
        if response.status != 201:
            await peer.close()
            raise Refused(response.status, body)
        address = urljoin(url, response.headers["Location"])
    await peer.setRemoteDescription(RTCSessionDescription(body, "answer"))
    return Link(http, peer, address, headers)
