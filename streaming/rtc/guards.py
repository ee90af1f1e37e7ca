"""What keeps one hostile datagram, packet or peer from hurting more than its own connection.

aiortc 1.16 and aioice 0.13 trust what arrives: an empty datagram from anywhere ends a session, a malformed
header extension raises in the receive loop, any stranger's bytes enter an unbounded queue. `install` puts
guarded subclasses in the place of their transport classes, for the whole process, once:

    GuardedProtocol     the socket: empty, oversized and strangers' datagrams are dropped
    GuardedConnection   the ICE agent: bounded queue, bounded candidates, chosen addresses
    GuardedDtls         the DTLS transport: malformed RTP and RTCP are dropped, floods give way to other tasks

Private names are overridden, each with a test that fails when a release of these libraries changes them.
"""

import asyncio
import ipaddress
import logging
import struct
import time
from typing import Any

import aioice.ice
import aiortc.rtcdtlstransport
import aiortc.rtcicetransport
import aiortc.rtcpeerconnection
from aioice import Candidate, stun
from aioice.ice import Connection, StunProtocol
from aiortc.rtcdtlstransport import RTCDtlsTransport

LOG = logging.getLogger(__name__)

DATAGRAM_MAX_BYTES = 2048
"""Larger ones are no WebRTC: media packets stay below 1,500 bytes."""

QUEUE_MAX_DATAGRAMS = 512
"""Waiting for the DTLS transport; about half a second of 8 Mbit/s."""

STUN_FIRST_BYTE_MAX = 3
"""RFC 7983 §7: 0..3 is STUN, 20..63 DTLS, 128..191 RTP and RTCP."""

ADDRESSES_MAX = 64
"""Remote addresses that one ICE agent gets to know."""

STREAMS_MAX = 32
"""Synchronisation sources that one peer may send."""

BURST_DATAGRAMS = 16
"""Handled in a row before other tasks get their turn."""

MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What the parsers of both libraries raise for bytes they do not expect."""

Address = tuple[str, int]


class GuardedProtocol(StunProtocol):
    """A UDP socket of an ICE agent that lets through only what a peer may send.

    Checks (STUN) may come from anywhere, their password is verified further on. Everything else must come
    from an address that has passed such a check.
    """

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Take one datagram from `addr`; drops it unless it is plausible."""
        connection = self.receiver
        if not isinstance(connection, GuardedConnection) or not isinstance(data, bytes):
            return
        plausible = 0 < len(data) <= DATAGRAM_MAX_BYTES and connection.hears(addr[0])
        if not plausible or (data[0] > STUN_FIRST_BYTE_MAX and not connection.knows((addr[0], addr[1]))):
            connection.dropped += 1
            return
        try:
            super().datagram_received(data, addr)
        except MALFORMED as error:
            connection.dropped += 1
            LOG.debug("a datagram could not be handled: %s", type(error).__name__)


class GuardedConnection(Connection):
    """An ICE agent with bounds.

    Attributes:
        addresses: local addresses to listen on; None is every one of the machine but loopback.
        beside: listen on one more address of this machine, and hear only this machine on any: some browsers
            (Firefox) meet nobody on loopback, not even a server beside them.
        heard: counts everything authenticated that the peer sent: checks, media, reports.
        dropped: counts datagrams that were refused.
        round_trip_ns: that the last answered `ping` took, 0 before.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.addresses: tuple[str, ...] | None = None
        self.beside = False
        self.heard = 0
        self.dropped = 0
        self.round_trip_ns = 0
        self._proven: set[Address] = set()
        self._own: frozenset[str] | None = None

    def hears(self, host: str) -> bool:
        """Whether datagrams from `host` are read at all."""
        return self._own is None or host in self._own

    def knows(self, address: Address) -> bool:
        """Whether `address` has shown that it has this agent's password."""
        if address in self._proven:
            return True
        done = aioice.ice.CandidatePair.State.SUCCEEDED
        if any(pair.state == done and pair.remote_addr == address for pair in self._check_list):
            self._proven.add(address)
            return True
        return False

    def check_incoming(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """Handle a check whose password was right."""
        known = addr in self._proven or any(
            (c._network_host, c.port) == addr for c in self._remote_candidates
        )
        room = known or len(self._remote_candidates) < ADDRESSES_MAX
        if not room or "PRIORITY" not in message.attributes:
            self.dropped += 1
            return
        self.heard += 1
        self._proven.add(addr)
        super().check_incoming(message, addr, protocol)

    def data_received(self, data: bytes, component: int) -> None:
        """Queue a datagram for the DTLS transport; drops broken checks, and what that has no time for."""
        if not data or data[0] <= STUN_FIRST_BYTE_MAX or self._queue.qsize() >= QUEUE_MAX_DATAGRAMS:
            self.dropped += 1
            return
        super().data_received(data, component)

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109
    ) -> list[Candidate]:
        """Listen on the chosen addresses."""
        chosen = addresses if self.addresses is None else list(self.addresses)
        if self.beside:
            self._own = frozenset([*chosen, *addresses])
            usable = [host for host in addresses if not ipaddress.ip_address(host).is_link_local]
            chosen = chosen + sorted(set(usable) - set(chosen), key=_version)[:1]
        return await super().get_component_candidates(component, chosen, timeout)

    async def ping(self) -> bool:
        """Ask the peer whether it is still there.

        Returns:
            Whether an authenticated answer came before one retransmission time (0.5 s) was over.
        """
        pair = next(iter(self._nominated.values()), None)
        if pair is None or self.remote_password is None:
            return False
        began_ns = time.monotonic_ns()
        try:
            await pair.protocol.request(
                self.build_request(pair, nominate=False),
                pair.remote_addr,
                integrity_key=self.remote_password.encode(),
                retransmissions=0,
            )
        except (stun.TransactionError, OSError, *MALFORMED):
            return False
        self.heard += 1
        self.round_trip_ns = time.monotonic_ns() - began_ns
        return True


class GuardedDtls(RTCDtlsTransport):
    """A DTLS transport that survives malformed packets and does not starve the event loop.

    Attributes:
        malformed: counts packets of the peer that could not be handled.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.malformed = 0
        self._in_a_row = 0

    async def _recv_next(self) -> None:
        self._in_a_row += 1
        if self._in_a_row >= BURST_DATAGRAMS:
            self._in_a_row = 0
            await asyncio.sleep(0)
        await super()._recv_next()

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        self._count()
        table = self._rtp_router.ssrc_table
        if len(data) < 12 or (len(table) >= STREAMS_MAX and int.from_bytes(data[8:12], "big") not in table):
            self.malformed += 1
            return
        try:
            await super()._handle_rtp_data(data, arrival_time_ms)
        except MALFORMED as error:
            self._refuse(error)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        self._count()
        try:
            await super()._handle_rtcp_data(data)
        except MALFORMED as error:
            self._refuse(error)

    def _count(self) -> None:
        connection = self.transport._connection
        if isinstance(connection, GuardedConnection):
            connection.heard += 1

    def _refuse(self, error: BaseException) -> None:
        self.malformed += 1
        if self.malformed == 1:
            LOG.warning("dropped a malformed packet of a peer", exc_info=error)


def _version(host: str) -> int:
    return ipaddress.ip_address(host).version


def install() -> None:
    """Put the guarded classes in place, for every connection of the process made from now on.

    Also keeps both libraries from logging session descriptions, which hold ICE passwords, at debug level.
    """
    aioice.ice.StunProtocol = GuardedProtocol  # type: ignore[misc]
    aiortc.rtcicetransport.Connection = GuardedConnection  # type: ignore[attr-defined]
    aiortc.rtcpeerconnection.RTCDtlsTransport = GuardedDtls  # type: ignore[attr-defined]
    for name in ("aiortc", "aioice"):
        logging.getLogger(name).setLevel(logging.INFO)
