"""A WebRTC connection that can be opened to strangers, always be closed, and notices when nobody is there.

`open_peer` makes one without STUN servers and with the guards in place, `negotiate` answers an offer or
raises OfferError, `Watch` tells when the other side falls silent, `close_peer` leaves nothing open.
"""

import asyncio
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from aiortc import MediaStreamTrack, RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.sdp import candidate_from_sdp

from engine.errors import OfferError
from streaming.rtc import guards
from streaming.rtc.sdp import OfferLimits, check_fragment
from streaming.types import NS_PER_S

LOG = logging.getLogger(__name__)

PeerState = Literal["waiting", "live", "stalled", "gone"]
"""Not heard of yet; heard of lately; silent for a while; silent for too long, failed, or closed."""

_LOOPBACK_CANDIDATE = re.compile(r"^a=candidate:\S+ 1 udp \d+ (127\.|::1 )", re.IGNORECASE | re.MULTILINE)

MakeReceiver = Callable[[str, RTCDtlsTransport], Any]
MakeSender = Callable[[MediaStreamTrack | str, RTCDtlsTransport], Any]


@dataclass(frozen=True)
class PeerOptions:
    """How connections are opened and given up.

    Attributes:
        ice_servers: STUN and TURN servers; none by default, also not aiortc's.
        addresses: local addresses to listen on; None is every one of the machine but loopback.
        stalled_after_s: of silence, then the peer counts as stalled.
        gone_after_s: of silence, or without getting connected at all, then it counts as gone; so that all is
            released within 10 s.
        answer_within_s: for the answer to an offer.
        close_within_s: for closing politely, before every transport is closed by hand.
    """

    ice_servers: tuple[RTCIceServer, ...] = ()
    addresses: tuple[str, ...] | None = None
    stalled_after_s: float = 3.0
    gone_after_s: float = 8.5
    answer_within_s: float = 5.0
    close_within_s: float = 2.0


class Peer(RTCPeerConnection):
    """An aiortc connection that remembers everything it must close, with senders and receivers of our own.

    Attributes:
        options: as opened.
        transports: every DTLS transport ever made, with its ICE transport below.
        shut: whether aiortc's `close` was begun; a second one would wait for ever if the first failed.
        trickled: candidates that came after the offer.
    """

    def __init__(
        self, options: PeerOptions, make_sender: MakeSender | None, make_receiver: MakeReceiver | None
    ) -> None:
        super().__init__(RTCConfiguration(iceServers=list(options.ice_servers)))
        self.options = options
        self.transports: list[RTCDtlsTransport] = []
        self.shut = False
        self.trickled = 0
        self._beside = False
        self._make_sender = make_sender
        self._make_receiver = make_receiver
        self._connecting: set[asyncio.Task[Any]] = set()

    @property
    def heard(self) -> int:
        """Authenticated things received so far, over all transports."""
        return sum(connection.heard for connection in self.connections())

    async def ping(self) -> bool:
        """Ask for a sign of life; whether one came within half a second."""
        return any([await connection.ping() for connection in self.connections()])

    def connections(self) -> list[guards.GuardedConnection]:
        """Return the ICE agents."""
        agents = [dtls.transport._connection for dtls in self.transports]
        return [agent for agent in agents if isinstance(agent, guards.GuardedConnection)]

    def listen_beside(self) -> None:
        """Be met by a peer on this machine that cannot use loopback; to be called before connecting."""
        self._beside = True
        for agent in self.connections():
            agent.beside = True

    def _RTCPeerConnection__createDtlsTransport(self) -> RTCDtlsTransport:
        dtls: RTCDtlsTransport = super()._RTCPeerConnection__createDtlsTransport()  # type: ignore[misc]
        self.transports.append(dtls)
        for agent in self.connections():
            agent.addresses = self.options.addresses
            agent.beside = self._beside
        return dtls

    def _RTCPeerConnection__createTransceiver(
        self, direction: str, kind: str, sender_track: MediaStreamTrack | None = None
    ) -> RTCRtpTransceiver:
        create = super()._RTCPeerConnection__createTransceiver  # type: ignore[misc]
        made: RTCRtpTransceiver = create(direction, kind, sender_track)
        transport = made.receiver.transport
        if self._make_sender is not None:
            sender = self._make_sender(sender_track or kind, transport)
            sender._stream_id = made.sender._stream_id
            made._RTCRtpTransceiver__sender = sender  # type: ignore[attr-defined]
        if self._make_receiver is not None:
            receiver = self._make_receiver(kind, transport)
            made._RTCRtpTransceiver__receiver = receiver  # type: ignore[attr-defined]
        made.receiver._set_rtcp_ssrc(made.sender._ssrc)
        return made

    async def _RTCPeerConnection__connect(self) -> None:
        task = asyncio.current_task()
        if task is not None and task not in self._connecting:
            self._connecting.add(task)
            task.add_done_callback(self._connected)
        await super()._RTCPeerConnection__connect()  # type: ignore[misc]

    def _connected(self, task: "asyncio.Task[Any]") -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.info("a peer could not be connected: %s", type(error).__name__)

    def tasks(self) -> set["asyncio.Future[Any]"]:
        """Return what runs, or ran, on behalf of this connection."""
        loops = [dtls._task for dtls in self.transports]
        closing: asyncio.Task[None] | None = self._RTCPeerConnection__closeTask  # type: ignore[attr-defined]
        streams = [vars(end).get(name) for t in self.getTransceivers() for end, name in _stream_tasks(t)]
        return {task for task in (*self._connecting, *loops, *streams, closing) if task is not None}


def _stream_tasks(transceiver: RTCRtpTransceiver) -> list[tuple[Any, str]]:
    """Where a transceiver's ends keep their tasks; they outlive a close that was cut short."""
    return [
        (transceiver.sender, "_RTCRtpSender__rtp_task"),
        (transceiver.sender, "_RTCRtpSender__rtcp_task"),
        (transceiver.receiver, "_RTCRtpReceiver__rtcp_task"),
    ]


def open_peer(
    options: PeerOptions = PeerOptions(),
    *,
    make_sender: MakeSender | None = None,
    make_receiver: MakeReceiver | None = None,
) -> Peer:
    """Return a new connection with the guards in place. Needs a running event loop.

    Args:
        options: servers, addresses, limits.
        make_sender: called with (track or kind, DTLS transport) for the sender of each transceiver; None is
            aiortc's own.
        make_receiver: called with (kind, DTLS transport) for its receiver; None is aiortc's own.
    """
    guards.install()
    return Peer(options, make_sender, make_receiver)


async def settle(work: Coroutine[Any, Any, Any], within_s: float) -> BaseException | None:
    """Run `work` for at most `within_s`, whatever it raises.

    Returns:
        None if it finished, else what it raised; `TimeoutError` if it was cancelled for taking too long.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=within_s)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=within_s)
        return TimeoutError(f"took longer than {within_s:g} s")
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def negotiate(peer: Peer, offer_sdp: str) -> str:
    """Answer a checked offer and begin to connect.

    Args:
        peer: fresh, with the tracks it is to send.
        offer_sdp: from `sdp.check_offer`.

    Returns:
        The answer's SDP, with every candidate of ours.

    Raises:
        OfferError: the offer cannot be answered, or not in time; the peer is closed then.
    """
    answer: list[str] = []
    if _on_loopback(peer.options.addresses) and not _LOOPBACK_CANDIDATE.search(offer_sdp):
        peer.listen_beside()

    async def work() -> None:
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer_sdp, type="offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        answer.append(peer.localDescription.sdp)

    try:
        error = await settle(work(), peer.options.answer_within_s)
    except asyncio.CancelledError:
        await close_peer(peer)
        raise
    if error is None and answer:
        return answer[0]
    await close_peer(peer)
    raise OfferError(f"the offer cannot be answered ({type(error).__name__}): is it a complete WebRTC offer?")


async def add_candidates(peer: Peer, fragment: str, limits: OfferLimits) -> None:
    """Take candidates that come after the offer (trickle ICE); what cannot be tried is dropped silently.

    Raises:
        OfferError: the fragment is malformed, or there are too many by now.
    """
    found = check_fragment(fragment, limits)
    peer.trickled += len(found)
    if peer.trickled > limits.candidates_max:
        raise OfferError(f"there may be {limits.candidates_max} candidates after the offer")
    for section, line in found:
        if peer.shut:
            return
        try:
            candidate = candidate_from_sdp(line)
        except guards.MALFORMED:
            continue
        candidate.sdpMid = section
        await peer.addIceCandidate(candidate)


def _on_loopback(addresses: tuple[str, ...] | None) -> bool:
    return bool(addresses) and all(ipaddress.ip_address(host).is_loopback for host in addresses or ())


async def close_peer(peer: Peer) -> None:
    """Close a connection and leave nothing open.

    Never raises; takes about three times `close_within_s` at worst. May be called again.
    """
    within_s = peer.options.close_within_s
    tasks = peer.tasks()
    begun, peer.shut = peer.shut, True
    if not begun and (error := await settle(peer.close(), within_s)):
        LOG.debug("a peer did not close by itself: %s", type(error).__name__)
    for dtls in peer.transports:
        await settle(_close_transport(dtls), within_s)
    tasks |= peer.tasks()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=within_s)
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            LOG.debug("a task of a closed peer had failed: %s", type(error).__name__)
    peer.remove_all_listeners()


async def _close_transport(dtls: RTCDtlsTransport) -> None:
    """Stop both layers, whatever the first of them does."""
    try:
        await dtls.stop()
    finally:
        try:
            await dtls.transport.stop()
        finally:
            await dtls.transport._connection.close()


class Liveness:
    """How long a peer has been silent. Pure: time is passed in.

    Args:
        now_ns: when waiting began.
        options: `stalled_after_s` and `gone_after_s`.
    """

    def __init__(self, now_ns: int, options: PeerOptions) -> None:
        self._stalled_ns = int(options.stalled_after_s * NS_PER_S)
        self._gone_ns = int(options.gone_after_s * NS_PER_S)
        self._last_ns = now_ns
        self._met = False

    def heard(self, now_ns: int) -> None:
        """Note a sign of life."""
        self._last_ns = now_ns
        self._met = True

    def silent_ns(self, now_ns: int) -> int:
        """Return the time since the last sign of life, or since the start."""
        return now_ns - self._last_ns

    def state(self, now_ns: int) -> PeerState:
        """Return the peer's state now."""
        silent_ns = self.silent_ns(now_ns)
        if silent_ns >= self._gone_ns:
            return "gone"
        if not self._met:
            return "waiting"
        return "stalled" if silent_ns >= self._stalled_ns else "live"


class Watch:
    """Watches one connection and tells its changes, each once; "gone" is the last.

    It asks a silent peer for a sign of life itself, so that a peer that has nothing to send is not given up.

    Args:
        peer: the connection.
        on_change: called on the event loop with the new state. May start a task that stops this watch. If it
            raises, that is logged and the watch ends.
        now_ns: the monotonic clock.
    """

    def __init__(
        self,
        peer: Peer,
        on_change: Callable[[PeerState], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.state: PeerState = "waiting"
        self._peer = peer
        self._on_change = on_change
        self._now_ns = now_ns
        self._liveness = Liveness(now_ns(), peer.options)
        self._connect_by_ns = now_ns() + int(peer.options.gone_after_s * NS_PER_S)
        self._poll_s = min(0.25, peer.options.stalled_after_s / 8)
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop watching; may be called more than once, not from `on_change`."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        heard = self._peer.heard
        pinging: asyncio.Task[Any] | None = None
        try:
            while self.state != "gone":
                await asyncio.sleep(self._poll_s)
                now_ns = self._now_ns()
                if self._peer.heard != heard:
                    heard = self._peer.heard
                    self._liveness.heard(now_ns)
                elif pinging is None or pinging.done():
                    pinging = asyncio.ensure_future(self._peer.ping())
                self._tell(self._state(now_ns))
        finally:
            if pinging is not None:
                pinging.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a peer is no longer watched", exc_info=error)

    def _state(self, now_ns: int) -> PeerState:
        connection = self._peer.connectionState
        late = connection != "connected" and now_ns >= self._connect_by_ns
        if late or connection in ("failed", "closed"):
            return "gone"
        return self._liveness.state(now_ns)

    def _tell(self, state: PeerState) -> None:
        if state != self.state:
            self.state = state
            self._on_change(state)
