"""A publisher: a browser or an encoder that sends its camera and microphone (WHIP)."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiortc.codecs import CODECS, get_capabilities
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecParameters

from engine.errors import OfferError
from streaming.rtc.capture_clock import SenderClock
from streaming.rtc.inlets import AudioInlet, VideoInlet, VideoLimits
from streaming.rtc.peer import (
    Peer,
    PeerOptions,
    PeerState,
    Watch,
    add_candidates,
    close_peer,
    negotiate,
    open_peer,
)
from streaming.rtc.receiver import RateLimits, Receiver
from streaming.rtc.sdp import OfferLimits, check_offer, encourage
from streaming.types import NS_PER_S, Answer, AudioIn, VideoIn

LOG = logging.getLogger(__name__)

TICK_S = 0.01
PAUSE_S = 0.05
"""A tick so late means that the process was held up."""

PING_EVERY_TICKS = 200
RECEIVED_PROFILES = ("4d001f", "64001f", "640c1f")
"""H.264 profiles that are decoded beyond aiortc's two baseline ones: Main, High (OBS), Constrained High."""


@dataclass(frozen=True)
class PublishLimits:
    """What a publisher may send.

    Attributes:
        offer: bounds of the offer.
        peer: how the connection is opened and given up.
        video: bounds of the picture.
        rate: bounds of the video's bitrate.
    """

    offer: OfferLimits = field(default_factory=OfferLimits)
    peer: PeerOptions = field(default_factory=PeerOptions)
    video: VideoLimits = field(default_factory=VideoLimits)
    rate: RateLimits = field(default_factory=RateLimits)


class Publisher:
    """An accepted publisher. Made by `answer_publisher`.

    Attributes:
        resource: random name of the connection.
        closed: set when everything is released.
        reason: why it was closed, in plain words; empty before.
        state: as the liveness watch sees it.
        on_state: told the changes of `state`, on the event loop; may be set.
    """

    def __init__(self, peer: Peer, receivers: list[Receiver], now_ns: Callable[[], int]) -> None:
        self.resource = secrets.token_urlsafe(16)
        self.closed = asyncio.Event()
        self.reason = ""
        self.state: PeerState = "waiting"
        self.on_state: Callable[[PeerState], None] | None = None
        self._peer = peer
        self._receivers = receivers
        self._now_ns = now_ns
        self._closing: asyncio.Task[None] | None = None
        self._watch = Watch(peer, self._changed, now_ns)
        self._ticking = asyncio.ensure_future(self._tick())
        self._ticking.add_done_callback(self._failed)

    async def close(self, reason: str = "closed") -> None:
        """Stop receiving and release everything; never raises, may be called again."""
        self.refuse(reason)
        await self.closed.wait()

    async def trickle(self, fragment: str, limits: OfferLimits) -> None:
        """Take more candidates; raises as `add_candidates`."""
        await add_candidates(self._peer, fragment, limits)

    def refuse(self, reason: str) -> None:
        """Begin to close, because of what the publisher sends; `reason` is a plain sentence."""
        if self._closing is None:
            self.reason = reason
            self._closing = asyncio.ensure_future(self._close())

    def stats(self) -> dict[str, Any]:
        """Return counters as plain values, by stream."""
        found: dict[str, Any] = {"state": self.state, "heard": self._peer.heard}
        found["refused_datagrams"] = sum(agent.dropped for agent in self._peer.connections())
        return found | {receiver.kind: _stream_stats(receiver) for receiver in self._receivers}

    async def _close(self) -> None:
        self._ticking.cancel()
        await asyncio.wait({self._ticking})
        await self._watch.stop()
        await close_peer(self._peer)
        for receiver in self._receivers:
            await receiver.stop()
            if isinstance(receiver.inlet, VideoInlet):
                await receiver.inlet.ended()
        self.closed.set()

    def _failed(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a publisher could not be served", exc_info=error)
            self.refuse("the publisher could not be served: an error of ours")

    def _changed(self, state: PeerState) -> None:
        self.state = state
        if self.on_state is not None:
            self.on_state(state)
        if state == "gone":
            self.refuse("the publisher is gone")

    async def _tick(self) -> None:
        ticks = 0
        pinging: asyncio.Task[bool] | None = None
        try:
            while True:
                asked_ns = self._now_ns()
                await asyncio.sleep(TICK_S)
                if self._now_ns() - asked_ns > int((TICK_S + PAUSE_S) * NS_PER_S):
                    for receiver in self._receivers:
                        receiver.paused(self._now_ns())
                ticks += 1
                if ticks % PING_EVERY_TICKS == 1 and (pinging is None or pinging.done()):
                    pinging = asyncio.ensure_future(self._peer.ping())
                round_trip_ns = max((agent.round_trip_ns for agent in self._peer.connections()), default=0)
                for receiver in self._receivers:
                    await receiver.tick(self._now_ns(), round_trip_ns)
        finally:
            if pinging is not None:
                pinging.cancel()


async def answer_publisher(
    offer_sdp: str,
    on_video: Callable[[VideoIn], None],
    on_audio: Callable[[AudioIn], None],
    limits: PublishLimits | None = None,
    now_ns: Callable[[], int] = time.monotonic_ns,
) -> tuple[Publisher, Answer]:
    """Accept a publisher's offer.

    Args:
        offer_sdp: at most one video (H.264, VP8) and one audio (Opus) section.
        on_video: called on the event loop for each picture, which is borrowed for the call and only read.
        on_audio: called on the event loop for each piece of sound: 48 kHz, mono, with its capture time.
        limits: what it may send.
        now_ns: the monotonic clock.

    Returns:
        The publisher, connecting, and the answer.

    Raises:
        OfferError: the offer is malformed, too large, or has nothing for us; nothing is left open then.
    """
    limits = limits or PublishLimits()
    offer = check_offer(offer_sdp, limits.offer)
    kinds = re.findall(r"^m=(audio|video) ", offer, re.MULTILINE)
    if len(kinds) != len(set(kinds)):
        raise OfferError("offer at most one video and one audio track")
    _register_profiles()
    sender = SenderClock()
    receivers: list[Receiver] = []
    publishers: list[Publisher] = []

    def refuse(reason: str) -> None:
        publishers[0].refuse(reason)

    def make_receiver(kind: str, transport: RTCDtlsTransport) -> Receiver:
        inlet = (
            VideoInlet(on_video, refuse, sender, limits.video, now_ns)
            if kind == "video"
            else AudioInlet(on_audio, sender)
        )
        receivers.append(Receiver(kind, transport, inlet, now_ns, limits.rate))
        return receivers[-1]

    peer = open_peer(limits.peer, make_receiver=make_receiver)
    for kind in kinds:
        transceiver = peer.addTransceiver(kind, direction="recvonly")
        if kind == "audio":
            opus = [codec for codec in get_capabilities("audio").codecs if codec.name.lower() == "opus"]
            transceiver.setCodecPreferences(opus)
    answer = await negotiate(peer, offer)
    if not any(receiver.track for receiver in receivers):
        await close_peer(peer)
        raise OfferError("the offer sends nothing: its media sections must be sendonly or sendrecv")
    publishers.append(Publisher(peer, receivers, now_ns))
    sdp = encourage(answer, limits.rate.floor_bps)
    return publishers[0], Answer(publishers[0].resource, sdp, secrets.token_urlsafe(8))


def _register_profiles() -> None:
    """Let aiortc's negotiation accept the H.264 profiles that FFmpeg decodes; once per process."""
    known = {codec.parameters.get("profile-level-id") for codec in CODECS["video"]}
    payload_type = max(codec.payloadType or 0 for codec in CODECS["video"]) + 1
    feedback = [("nack", None), ("nack", "pli"), ("goog-remb", None)]
    for profile in RECEIVED_PROFILES:
        if profile in known:
            continue
        media = RTCRtpCodecParameters(
            mimeType="video/H264",
            clockRate=90_000,
            payloadType=payload_type,
            rtcpFeedback=[RTCRtcpFeedback(type=kind, parameter=what) for kind, what in feedback],
            parameters={
                "level-asymmetry-allowed": "1",
                "packetization-mode": "1",
                "profile-level-id": profile,
            },
        )
        repeats = RTCRtpCodecParameters(
            mimeType="video/rtx",
            clockRate=90_000,
            payloadType=payload_type + 1,
            parameters={"apt": payload_type},
        )
        CODECS["video"] += [media, repeats]
        payload_type += 2


def _stream_stats(receiver: Receiver) -> dict[str, Any]:
    inlet, stats = receiver.inlet, receiver.stats
    found: dict[str, Any] = {
        "packets": 0 if stats is None else stats.received,
        "lost": 0 if stats is None else stats.lost,
        "jitter_ms": 0.0 if stats is None else stats.jitter_ms,
        "dropped": receiver.dropped,
    }
    if isinstance(inlet, VideoInlet):
        found |= {
            "codec": inlet.codec,
            "size": inlet.size,
            "decoded": inlet.decoded,
            "damaged": inlet.damaged,
        }
        found |= {"overrun": inlet.overrun, "keys_asked": receiver.keys_asked, "nacks": receiver.nacks}
    elif isinstance(inlet, AudioInlet):
        buffer = inlet.buffer
        found |= {"wait_ms": buffer.wait_ms, "concealed": buffer.concealed}
        found |= {"recovered": buffer.recovered, "late": buffer.late}
    return found
