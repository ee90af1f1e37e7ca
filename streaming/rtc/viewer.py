"""A person who watches: one WHEP connection that a session's picture and sound are sent over."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from aiortc import MediaStreamTrack
from aiortc.codecs import get_capabilities
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from engine.errors import OfferError
from streaming.rtc.media_clock import MediaClock
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
from streaming.rtc.rendition import AudioRendition, VideoRendition
from streaming.rtc.sdp import OfferLimits, check_offer
from streaming.rtc.sender import RtpSender, SenderStats
from streaming.types import Answer

LOG = logging.getLogger(__name__)

_LIMITS = OfferLimits()
_OPTIONS = PeerOptions()
_CODECS: dict[str, tuple[str, ...]] = {"video": ("video/H264", "video/rtx"), "audio": ("audio/opus",)}

ClosedWhy = Literal["asked", "gone", "ended", "hopeless"]
"""By the session; the peer is gone; the picture or sound ended; its link cannot carry a picture."""


@dataclass(frozen=True)
class ViewerStats:
    """One viewer now.

    Attributes:
        state: of the connection.
        video: None if the viewer did not ask for it.
        audio: None likewise.
    """

    state: PeerState
    video: SenderStats | None
    audio: SenderStats | None


class Viewer:
    """A connection that sends, watches its peer, and closes by itself when that is gone.

    Attributes:
        resource: random name of the connection.
        closed: set once everything is released.
        why: it closed; None before.
    """

    def __init__(self, resource: str, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.resource = resource
        self.closed = asyncio.Event()
        self.why: ClosedWhy | None = None
        self._now_ns = now_ns
        self._clock = MediaClock()
        self._peer: Peer | None = None
        self._watch: Watch | None = None
        self._senders: list[RtpSender] = []
        self._closing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Close the connection; may be called again, and by several at once."""
        self._begin_closing("asked")
        await self.closed.wait()

    async def trickle(self, fragment: str, limits: OfferLimits) -> None:
        """Take more candidates; raises as `add_candidates`."""
        if self._peer is not None:
            await add_candidates(self._peer, fragment, limits)

    @property
    def state(self) -> PeerState:
        """Of the connection."""
        return self._watch.state if self._watch is not None else "waiting"

    def stats(self) -> ViewerStats:
        """Return the counters now."""
        by_kind = {sender.kind: sender.stats() for sender in self._senders if sender.begun}
        return ViewerStats(self.state, by_kind.get("video"), by_kind.get("audio"))

    async def _answer(
        self,
        offer_sdp: str,
        renditions: dict[str, VideoRendition | AudioRendition],
        options: PeerOptions,
    ) -> str:
        """Connect, and return the answer; raises OfferError with everything closed."""
        asked = {kind: r for kind, r in renditions.items() if f"\nm={kind} " in offer_sdp}
        peer = self._open(renditions, asked, options)
        try:
            answer = await negotiate(peer, offer_sdp)
            if not self._sends():
                raise OfferError("the offer must ask to receive video or audio (recvonly)")
        except BaseException:
            await self._give_up()
            raise
        self._watch = Watch(peer, self._changed, self._now_ns)
        return answer

    def _open(
        self,
        renditions: Mapping[str, VideoRendition | AudioRendition],
        kinds: Iterable[str],
        options: PeerOptions,
    ) -> Peer:
        """Return the connection, with a sender for each of the kinds."""

        def make_sender(source: MediaStreamTrack | str, transport: RTCDtlsTransport) -> RtpSender:
            kind = source if isinstance(source, str) else source.kind
            sender = RtpSender(
                renditions[kind], self._clock, transport, on_end=self._ended, now_ns=self._now_ns
            )
            self._senders.append(sender)
            return sender

        peer = self._peer = open_peer(options, make_sender=make_sender)
        for kind in kinds:
            transceiver = peer.addTransceiver(kind, direction="sendonly")
            transceiver.setCodecPreferences(_codecs(kind))
        return peer

    def _sends(self) -> bool:
        """Whether anything was agreed on that is sent."""
        agreed = self._peer.getTransceivers() if self._peer is not None else []
        return any(transceiver.currentDirection == "sendonly" for transceiver in agreed)

    async def _give_up(self) -> None:
        if self._peer is not None:
            await close_peer(self._peer)
        self.closed.set()

    def _changed(self, state: PeerState) -> None:
        for sender in self._senders:
            sender.pause(state == "stalled")
        if state == "gone":
            self._begin_closing("gone")

    def _ended(self, hopeless: bool) -> None:
        self._begin_closing("hopeless" if hopeless else "ended")

    def _begin_closing(self, why: ClosedWhy) -> None:
        if self._closing is None and not self.closed.is_set():
            self.why = why
            LOG.info("viewer %s closes: %s", self.resource[:6], why)
            self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        try:
            if self._watch is not None:
                await self._watch.stop()
            if self._peer is not None:
                await close_peer(self._peer)
        finally:
            self.closed.set()


async def answer_viewer(
    offer_sdp: str,
    video: VideoRendition,
    audio: AudioRendition,
    limits: OfferLimits = _LIMITS,
    *,
    options: PeerOptions = _OPTIONS,
    now_ns: Callable[[], int] = time.monotonic_ns,
) -> tuple[Viewer, Answer]:
    """Answer a WHEP offer and begin to connect.

    The viewer gets the picture as H.264 and the sound as Opus, what of them it asks for.

    Args:
        offer_sdp: from a stranger.
        video: the session's picture.
        audio: its sound.
        limits: of the offer.
        options: of the connection.
        now_ns: the monotonic clock.

    Raises:
        OfferError: the offer is not acceptable; nothing is left open.
    """
    checked = check_offer(offer_sdp, limits)
    for kind, (mime, *_) in _CODECS.items():
        if f"\nm={kind} " in checked and f" {mime.partition('/')[2]}/".lower() not in checked.lower():
            name = mime.partition("/")[2].replace("H264", "H.264")
            raise OfferError(f"the {kind} is sent as {name}, which the offer does not have")
    viewer = Viewer(secrets.token_urlsafe(16), now_ns)
    sdp = await viewer._answer(checked, {"video": video, "audio": audio}, options)
    return viewer, Answer(viewer.resource, sdp, secrets.token_urlsafe(8))


def _codecs(kind: str) -> list[RTCRtpCodecCapability]:
    return [codec for codec in get_capabilities(kind).codecs if codec.mimeType in _CODECS[kind]]
