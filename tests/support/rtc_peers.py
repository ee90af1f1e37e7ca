"""WebRTC peers on loopback for tests: real sockets, real handshakes, real codecs."""

import asyncio
import fractions
import gc
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCRtpSender, RTCSessionDescription

from streaming.rtc.peer import Peer, PeerOptions, close_peer, negotiate, open_peer
from streaming.rtc.sdp import check_offer

T = TypeVar("T")

LOOPBACK = PeerOptions(addresses=("127.0.0.1",))
WIDTH, HEIGHT, FPS = 320, 192, 25


def run(work: Coroutine[Any, Any, T], within_s: float = 60) -> T:
    """Run `work` on a fresh loop; it must leave no task behind."""

    async def whole() -> T:
        result = await asyncio.wait_for(work, within_s)
        await asyncio.sleep(0.02)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left: {left}"
        return result

    return asyncio.run(whole())


class Steps(MediaStreamTrack):
    """Pictures whose brightness counts 0..63, in steps of 3 from 32 on; keeps its nominal rhythm."""

    kind = "video"

    def __init__(self, width: int = WIDTH, height: int = HEIGHT, fps: int = FPS) -> None:
        super().__init__()
        self.size = (width, height)
        self.fps = fps
        self.number = 0
        self.began_s: float | None = None

    def captured_s(self, number: int) -> float:
        assert self.began_s is not None
        return self.began_s + number / self.fps

    async def recv(self) -> av.VideoFrame:
        if self.began_s is None:
            self.began_s = time.monotonic()
        await asyncio.sleep(max(0.0, self.captured_s(self.number) - time.monotonic()))
        width, height = self.size
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = 32 + 3 * (self.number % 64)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = self.number * 90_000 // self.fps, fractions.Fraction(1, 90_000)
        self.number += 1
        return frame


class Tone(MediaStreamTrack):
    """48 kHz mono: 20 ms pieces of a 440 Hz tone."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.sample = 0
        self.began_s: float | None = None

    async def recv(self) -> av.AudioFrame:
        if self.began_s is None:
            self.began_s = time.monotonic()
        await asyncio.sleep(max(0.0, self.began_s + (self.sample + 960) / 48_000 - time.monotonic()))
        t = np.arange(self.sample, self.sample + 960)
        samples = (8000 * np.sin(2 * np.pi * 440 * t / 48_000)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self.sample, fractions.Fraction(1, 48_000)
        self.sample += 960
        return frame


async def offering(
    *tracks: MediaStreamTrack, codec: str | None = None, options: PeerOptions = LOOPBACK
) -> Peer:
    """Return a peer that has made an offer with `tracks`; its SDP is the local description."""
    peer = open_peer(options)
    for track in tracks:
        peer.addTrack(track)
    if codec is not None:
        wanted = [c for c in RTCRtpSender.getCapabilities("video").codecs if c.name in (codec, "rtx")]
        for transceiver in peer.getTransceivers():
            if transceiver.kind == "video":
                transceiver.setCodecPreferences(wanted)
    await peer.setLocalDescription(await peer.createOffer())
    return peer


async def accept(peer: Peer, answer_sdp: str) -> None:
    """Give `peer` the answer to its offer."""
    await peer.setRemoteDescription(RTCSessionDescription(sdp=answer_sdp, type="answer"))


@asynccontextmanager
async def connected(
    *tracks: MediaStreamTrack, options: PeerOptions = LOOPBACK
) -> AsyncIterator[tuple[Peer, Peer]]:
    """Two connected peers: one that sends `tracks`, one that answered."""
    sender = await offering(*tracks)
    receiver = open_peer(options)
    try:
        await accept(sender, await negotiate(receiver, check_offer(sender.localDescription.sdp)))
        await until(lambda: {sender.connectionState, receiver.connectionState} == {"connected"})
        yield sender, receiver
    finally:
        await close_peer(sender)
        await close_peer(receiver)


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    """Wait for `condition`."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not become true in time"
        await asyncio.sleep(0.005)


def addresses(peer: Peer) -> list[tuple[str, int]]:
    """Where `peer` listens."""
    return [(c.host, c.port) for agent in peer.connections() for c in agent.local_candidates]


def vanish(peer: Peer) -> None:
    """Cut `peer` off, as if its machine were gone."""
    for agent in peer.connections():
        for protocol in agent._protocols:
            protocol.transport.abort()


class Stranger:
    """A socket that no session knows."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))

    def send(self, data: bytes, peer: Peer) -> None:
        for address in addresses(peer):
            self._socket.sendto(data, address)

    def close(self) -> None:
        self._socket.close()


async def worst_stall_ms(stop: asyncio.Event) -> float:
    """Return the most processor time that the loop spent between two turns of this task, until `stop`.

    Processor time of its thread, not time: another process that takes the core is nobody's stall. What is in
    memory already is left out of garbage collection, as a server does after its start.
    """
    gc.collect()
    gc.freeze()
    worst, before = 0.0, time.thread_time()
    try:
        while not stop.is_set():
            await asyncio.sleep(0.001)
            now = time.thread_time()
            worst, before = max(worst, now - before), now
    finally:
        gc.unfreeze()
    return worst * 1000
