"""Pushes a session's picture and sound to another server by WHIP (RFC 9725), for as long as it is told to.

The sending side is that of a viewer, except that we offer and the other server answers. A connection that
could not be made, or that ended, is made again after a while.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urljoin

import aiohttp
from aiortc import RTCSessionDescription

from engine.errors import OfferError, OutputError
from streaming.rtc.peer import Peer, PeerOptions, PeerState, Watch, settle
from streaming.rtc.rendition import AudioRendition, VideoRendition
from streaming.rtc.sdp import OfferLimits, check_offer
from streaming.rtc.viewer import Viewer, ViewerStats
from streaming.types import NS_PER_S

LOG = logging.getLogger(__name__)

SDP = "application/sdp"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
PROVEN_S = 10.0  # a connection that lasted so long is no failure: the next try comes soon
REQUEST_S, DELETE_S = 10.0, 2.0
REDIRECTS = 3
_REDIRECTED = (307, 308)

PushState = Literal["connecting", "live", "stalled", "waiting", "ended"]
"""Being set up; sending; the other side is silent; until the next try; for good."""


@dataclass(frozen=True)
class Endpoint:
    """Where to push.

    Attributes:
        url: of the WHIP endpoint; may hold a secret.
        shown: of it, for logs and messages.
        token: that is sent as Bearer.
        may_ask: whether an address may be asked; redirects and the connection's own address are checked, too.
    """

    url: str = field(repr=False)
    shown: str
    token: str | None = field(default=None, repr=False)
    may_ask: Callable[[str], bool] = field(default=lambda _: True, repr=False)


class Backoff:
    """How long to wait before the next try: 0.5 s, 1, 2, 4 and so on to 30. Pure."""

    def __init__(self) -> None:
        self._next_s = FIRST_WAIT_S

    def after(self, lasted_s: float, asked_s: float = 0.0) -> float:
        """The wait after a try.

        Args:
            lasted_s: how long its connection was live.
            asked_s: what the server said, by Retry-After; held to the longest wait.
        """
        if lasted_s >= PROVEN_S:
            self._next_s = FIRST_WAIT_S
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_WAIT_S)
        return max(wait_s, min(asked_s, LONGEST_WAIT_S))


class RefusedError(OutputError):
    """The other server did not take the offer.

    Attributes:
        retry_after_s: what it said about trying again; 0 if nothing.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class WhipPush:
    """One push, from `start` to `close`. Belongs to the event loop.

    Args:
        endpoint: where to.
        video, audio: what is sent.
        on_trouble: told why a connection could not be made or ended; the same reason only once in a row.
        peers: how connections are opened and given up.
        answers: what an answer may be.
        now_ns: the monotonic clock.

    Attributes:
        connects: connections that were made.
        trouble: why there is no connection, "" if there is one or nothing went wrong.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        video: VideoRendition,
        audio: AudioRendition,
        on_trouble: Callable[[OutputError], None],
        *,
        peers: PeerOptions | None = None,
        answers: OfferLimits | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.connects = 0
        self._endpoint, self._on_trouble, self._now_ns = endpoint, on_trouble, now_ns
        self._renditions: dict[str, VideoRendition | AudioRendition] = {"video": video, "audio": audio}
        self._peers, self._answers = peers or PeerOptions(), answers or OfferLimits()
        self._connection: _Pushed | None = None
        self._waiting = self._over = False
        self.trouble = ""
        self._live_ns: int | None = None  # since when this try's connection is live
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> PushState:
        """How it is now."""
        if self._over:
            return "ended"
        if self._waiting:
            return "waiting"
        known = self._connection.stats().state if self._connection is not None else "waiting"
        return known if known in ("live", "stalled") else "connecting"

    def stats(self) -> ViewerStats | None:
        """Counters of the present connection, None where there is none."""
        return self._connection.stats() if self._connection is not None else None

    def start(self) -> None:
        """Begin, and go on until `close`; to be called in the event loop."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._failed)

    async def close(self) -> None:
        """End the connection and tell the other server; takes some seconds at worst, and never raises."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _failed(self, task: "asyncio.Task[None]") -> None:
        """End visibly if it failed for a reason nobody thought of."""
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a push failed", exc_info=error)
            self._tell(OutputError(f"{self._endpoint.shown}: cannot be sent to: an error of ours"))
            self._over = True

    async def _run(self) -> None:
        backoff = Backoff()
        limits = aiohttp.ClientTimeout(total=REQUEST_S)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=limits, cookie_jar=jar, auto_decompress=False) as client:
            while not self._over:
                self._waiting, self._live_ns, asked_s = False, None, 0.0
                try:
                    await self._once(client)
                    self._tell(OutputError(f"{self._endpoint.shown}: the connection ended"))
                except OutputError as error:
                    asked_s = error.retry_after_s if isinstance(error, RefusedError) else 0.0
                    self._tell(error)
                self._waiting = True
                await asyncio.sleep(backoff.after(self._lasted_s(), asked_s))

    async def _once(self, client: aiohttp.ClientSession) -> None:
        """Connect, and wait until that ends."""
        connection, resource = _Pushed(secrets.token_urlsafe(16), self._now_ns), None
        connection.on_live = self._connected
        try:
            offer = await connection.offer(self._renditions, self._peers)
            resource, answer = await self._post(client, offer)
            await connection.take(check_offer(answer, self._answers))
            self._connection = connection
            await connection.closed.wait()
        except OfferError:
            raise OutputError(f"{self._endpoint.shown}: what it answered is no answer to our offer") from None
        finally:
            self._connection = None
            await asyncio.gather(connection.close(), self._delete(client, resource))

    def _lasted_s(self) -> float:
        return 0.0 if self._live_ns is None else (self._now_ns() - self._live_ns) / NS_PER_S

    def _connected(self) -> None:
        self.connects += 1
        self._live_ns, self.trouble = self._now_ns(), ""
        LOG.info("pushing to %s", self._endpoint.shown)

    def _tell(self, error: OutputError) -> None:
        if not self._over and str(error) != self.trouble:
            self.trouble = str(error)
            LOG.info("%s", error)
            self._on_trouble(error)

    async def _post(self, client: aiohttp.ClientSession, offer: str) -> tuple[str | None, str]:
        """Offer; returns the connection's address, if it has one that may be asked, and the answer."""
        url, headers = self._endpoint.url, self._headers() | {"Content-Type": SDP, "Accept": SDP}
        try:
            for _ in range(REDIRECTS + 1):
                async with client.post(url, data=offer, headers=headers, allow_redirects=False) as answer:
                    target = _address(url, answer.headers.get("Location"), self._endpoint.may_ask)
                    if answer.status in _REDIRECTED and target is not None:
                        url = target
                        continue
                    if answer.status != 201:
                        raise self._refused(answer)
                    return target, await _read(answer, self._answers.bytes_max)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            what = _plain(error)
            raise OutputError(f"{self._endpoint.shown}: cannot be reached ({what})") from None
        raise OutputError(f"{self._endpoint.shown}: sends us from one address to the next")

    def _refused(self, answer: aiohttp.ClientResponse) -> RefusedError:
        told = answer.headers.get("Retry-After", "")
        wait_s = float(told) if told.isascii() and told.isdigit() and len(told) < 6 else 0.0
        return RefusedError(f"{self._endpoint.shown}: refused the offer (status {answer.status})", wait_s)

    async def _delete(self, client: aiohttp.ClientSession, resource: str | None) -> None:
        if resource is None:
            return
        limit = aiohttp.ClientTimeout(total=DELETE_S)
        with suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):  # it notices by itself, later
            async with client.delete(
                resource, headers=self._headers(), allow_redirects=False, timeout=limit
            ) as answer:
                LOG.debug("the end of a push was answered with %d", answer.status)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "livedub"}
        if self._endpoint.token is not None:
            headers["Authorization"] = f"Bearer {self._endpoint.token}"
        return headers


class _Pushed(Viewer):
    """One connection of a push: a viewer that we made the offer to."""

    def __init__(self, resource: str, now_ns: Callable[[], int]) -> None:
        super().__init__(resource, now_ns)
        self.on_live: Callable[[], None] | None = None

    async def offer(
        self, renditions: Mapping[str, VideoRendition | AudioRendition], options: PeerOptions
    ) -> str:
        """Return the offer, with every candidate of ours; raises OutputError."""
        peer = self._open(renditions, renditions, options)
        made: list[str] = []

        async def work() -> None:
            await peer.setLocalDescription(await peer.createOffer())
            made.append(peer.localDescription.sdp)

        error = await settle(work(), options.answer_within_s)
        if error is not None or not made:
            raise OutputError(f"no offer could be made ({type(error).__name__})")
        return made[0]

    async def take(self, answer_sdp: str) -> None:
        """Connect as the checked answer says; raises OfferError."""
        peer: Peer | None = self._peer
        if peer is None:
            raise ValueError("an answer needs an offer")
        answer = RTCSessionDescription(sdp=answer_sdp, type="answer")
        error = await settle(peer.setRemoteDescription(answer), peer.options.answer_within_s)
        if error is not None or not self._sends():
            raise OfferError("the answer does not fit the offer")
        self._watch = Watch(peer, self._changed, self._now_ns)

    def _changed(self, state: PeerState) -> None:
        super()._changed(state)
        if state == "live" and self.on_live is not None:
            self.on_live()
            self.on_live = None


def _address(base: str, location: str | None, may_ask: Callable[[str], bool]) -> str | None:
    """Where a `Location` points, None if there is none, or none that may be asked."""
    if location is None or len(location) > 2048:
        return None
    try:
        url = urljoin(base, location)
    except ValueError:
        return None
    if base.startswith("https:") and not url.startswith("https:"):
        return None
    return url if may_ask(url) else None


async def _read(answer: aiohttp.ClientResponse, most_bytes: int) -> str:
    """The body; raises OfferError if it is larger, or is no text."""
    body = bytearray()
    async for part in answer.content.iter_chunked(1 << 14):
        body += part
        if len(body) > most_bytes:
            raise OfferError(f"the answer has more than {most_bytes} bytes")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise OfferError("the answer is no text") from None


def _plain(error: BaseException) -> str:
    """Why, without the address, which may hold a secret."""
    cause = getattr(error, "os_error", error)
    return str(getattr(cause, "strerror", None) or type(error).__name__)
