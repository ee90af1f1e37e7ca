"""Give a live session its voice from Python, and hear what happens there.

    import asyncio
    from clients.sdk import connect, create_session

    async def main():
        session = await create_session("http://127.0.0.1:8765", actor="ann")
        async with connect("http://127.0.0.1:8765", session["id"]) as dub:
            await dub.say(pcm, rate_hz=24_000)      # int16 or float; as fast as you have it
            async for event in dub.events():
                print(event.kind, event.data)

    asyncio.run(main())

Without asyncio: `with Dub("http://127.0.0.1:8765", session_id) as dub: dub.say(pcm, rate_hz=24_000)`.
A server with tokens needs `token="..."`; it travels in a header, never in an address.
`Stream`'s methods are named like the messages of `streaming.server.messages`; `send` makes "audio".
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import numpy as np
from numpy.typing import NDArray

from engine.errors import AccessError, BackendError, CapacityError, InputError, LivedubError, ProtocolError
from streaming.server import messages
from streaming.server.limits import MAX_MESSAGE_BYTES
from streaming.types import MEDIA_RATE_HZ, Event, Playback

PIECE_MS = 100
EVENTS_KEPT = 256
ANSWER_LIMIT_S = 10.0
Samples = NDArray[np.int16] | NDArray[np.float32] | NDArray[np.float64]
_T = TypeVar("_T")


async def create_session(url: str, actor: str, *, token: str | None = None, **options: Any) -> dict[str, Any]:
    """Ask a server for a session.

    Args:
        url: of the server, "http://127.0.0.1:8765".
        actor: one of those the server has.
        token: with the role "admin", where the server asks for tokens.
        **options: what the server's `NewSession` takes: `id`, `voice`, `programme`, `look_ahead_ms`,
            `latency_budget_ms`, `original_delay_ms`, `idle`, `backend`, `precision`, `mark`.

    Returns:
        `id`, the addresses `whip`, `whep` and `stream`, and a `token` to join with where one is needed.

    Raises:
        CapacityError: the server is full.
        AccessError: the token does not do.
        InputError: no such actor or option.
        BackendError: the server cannot be reached, or failed.
    """
    return await _made(url, "/v1/sessions", {"actor": actor, **options}, token)


async def add_output(
    url: str, session: str, to: str, *, token: str | None = None, to_token: str | None = None
) -> dict[str, Any]:
    """Let a session go to a file, or to another server, too, until it ends or the output is deleted.

    Args:
        url: of the server.
        session: its id.
        to: a file's name ending in .mp4, .mkv or .ts, which the server writes into its folder, or an address
            rtmp:// or rtmps://, or for WHIP http:// or https://, of a host that the server may send to.
        token: with the role "control", where the server asks for tokens.
        to_token: for the other server, with WHIP.

    Returns:
        `id`, `kind`, `to`, `state` and counters; `DELETE /v1/sessions/{session}/outputs/{id}` ends it.

    Raises:
        InputError: no such session, or it may not go there.
        CapacityError: it goes to as many places as it may.
        AccessError: the token does not do.
        BackendError: the server cannot be reached, or failed.
    """
    asked = {"to": to} | ({"token": to_token} if to_token is not None else {})
    return await _made(url, f"/v1/sessions/{session}/outputs", asked, token)


@asynccontextmanager
async def connect(url: str, session: str, *, token: str | None = None) -> AsyncIterator["Stream"]:
    """Open a session's stream until the block ends.

    Args:
        url: of the server.
        session: its id.
        token: with the role "control", or "view" to only watch.

    Raises:
        AccessError: the token does not do.
        InputError: there is no such session.
        BackendError: the server cannot be reached.
    """
    address = f"{url.rstrip('/')}/v1/stream/{session}"
    async with aiohttp.ClientSession(headers=_headers(token)) as client:
        try:
            socket = await client.ws_connect(
                address, protocols=(messages.SUBPROTOCOL,), max_msg_size=MAX_MESSAGE_BYTES, heartbeat=10.0
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(error, f"the server refused the stream ({error.status})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise BackendError(f"the server at {url} cannot be reached: {error}") from error
        stream = Stream(socket)
        reader = asyncio.create_task(stream.read())
        try:
            await stream.welcomed()
            yield stream
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
            await socket.close()


class Stream:
    """An open stream of a session; made by `connect`.

    Attributes:
        options: what the server said at the start: `session`, `roles`, `latency_budget_ms` and so on.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.options: dict[str, Any] = {}
        self._socket = socket
        self._sent, self._until = 0, 0  # samples at 48 kHz
        self._numbers, self._utterances = itertools.count(), itertools.count(1)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(EVENTS_KEPT)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed, self._turn = asyncio.Condition(), asyncio.Lock()
        self._over: LivedubError | None = None
        self._interrupts = 0

    async def say(self, samples: Samples, rate_hz: int, *, utterance: int | None = None) -> int:
        """Say a whole utterance; waits while the server has no room.

        Args:
            samples: mono, int16 or float -1..1, any length.
            rate_hz: 8,000 to 48,000.
            utterance: its number; None takes the next one.

        Returns:
            The utterance's number. What an interrupt cut off is not sent any more.

        Raises:
            ProtocolError: the server ended the stream.
        """
        number = next(self._utterances) if utterance is None else utterance
        before = self._interrupts
        async with self._turn:  # utterances do not mix
            if self._interrupts == before:
                await self.send(samples, rate_hz, utterance=number)
            if self._interrupts == before:
                await self.end(number)
        return number

    async def send(self, samples: Samples, rate_hz: int, *, utterance: int | None = None) -> None:
        """Send a piece of an utterance, as it comes from a service; `end` tells that it is over.

        Raises:
            ProtocolError: the server ended the stream.
        """
        whole = _as_pcm(samples)
        step, before = max(1, rate_hz * PIECE_MS // 1000), self._interrupts
        for start in range(0, len(whole), step):
            piece = whole[start : start + step]
            count = -(-len(piece) * MEDIA_RATE_HZ // rate_hz)
            await self._room_for(count, before)
            if self._interrupts != before:
                return
            self._sent += count
            await self._send("audio", data=piece.tobytes(), rate_hz=rate_hz, utterance=utterance)

    async def end(self, utterance: int) -> None:
        """No more of this utterance comes."""
        await self._send("end", utterance=utterance)

    async def interrupt(self) -> Playback:
        """Drop what has not been heard, here and at the server."""
        async with self._changed:
            self._interrupts += 1
            self._changed.notify_all()
        answer = await self._ask("interrupt")
        return Playback(answer["utterance"], answer["played_ms"], answer["dropped_ms"])

    async def ping(self) -> None:
        """Wait until the server has done all that it was sent before.

        Raises:
            ProtocolError: the server ended the stream, or does not answer.
        """
        await self._ask("ping")

    async def events(self) -> AsyncIterator[Event]:
        """What happens in the session, until it ends; the newest 256 are kept for who is slow."""
        while (event := await self._events.get()) is not None:
            yield event

    async def welcomed(self) -> None:
        """Wait until the server has let us in."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.options or self._over)
        self._check()

    async def read(self) -> None:
        """Take what the server sends; `connect` runs this."""
        try:
            async for frame in self._socket:
                if frame.type is not aiohttp.WSMsgType.BINARY:
                    break
                await self._take(messages.unpack(frame.data))
            self._over = ProtocolError(f"the server ended the stream ({self._socket.close_code})")
        except ProtocolError as error:
            self._over = error
        finally:
            self._over = self._over or ProtocolError("the stream is closed")
            async with self._changed:
                self._changed.notify_all()
            for waiting in self._answers.values():
                waiting.cancel()
            self._keep(None)

    async def _take(self, message: dict[str, Any]) -> None:
        match message.get("t"):
            case "welcome" | "credit" as kind:
                async with self._changed:
                    self._until = message["until"]
                    self.options = message if kind == "welcome" else self.options
                    self._changed.notify_all()
            case "event":
                self._keep(Event(message["kind"], message["data"]))
            case "done" | "playback" | "error":
                waiting = self._answers.pop(message.get("re", -1), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
                elif message["t"] == "error":
                    self._keep(Event("error", {"message": message.get("message")}))

    async def _room_for(self, count: int, interrupts: int) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._over or self._sent + count <= self._until or self._interrupts != interrupts
            )
        self._check()

    async def _ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        number = next(self._numbers)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._send(kind, number, **fields)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                answer: dict[str, Any] = await waiting
        except TimeoutError:
            raise ProtocolError(f"the server did not answer to {kind!r}") from None
        finally:
            self._answers.pop(number, None)
        if answer["t"] == "error":
            raise InputError(str(answer["message"]))
        return answer

    async def _send(self, kind: str, number: int | None = None, **fields: Any) -> None:
        self._check()
        try:
            await self._socket.send_bytes(
                messages.encode(kind, next(self._numbers) if number is None else number, fields)
            )
        except (ConnectionError, RuntimeError) as error:
            raise ProtocolError(f"the stream is closed: {error}") from None

    def _check(self) -> None:
        if self._over is not None:
            raise self._over

    def _keep(self, event: Event | None) -> None:
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(event)


class Dub:
    """The same without asyncio: a context manager whose calls wait until they are done.

    Args:
        url: of the server.
        session: its id.
        token: with the role "control".
    """

    def __init__(self, url: str, session: str, *, token: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="livedub-dub", daemon=True)
        self._opening = connect(url, session, token=token)
        self._stream: Stream | None = None

    def __enter__(self) -> "Dub":
        """Connect; raises as `connect`."""
        self._thread.start()
        try:
            self._stream = self._wait(self._opening.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        try:
            self._wait(self._opening.__aexit__(None, None, None))
        finally:
            self._stop()

    def say(self, samples: Samples, rate_hz: int) -> int:
        """As `Stream.say`."""
        return self._wait(self._open.say(samples, rate_hz))

    def interrupt(self) -> Playback:
        """As `Stream.interrupt`."""
        return self._wait(self._open.interrupt())

    def __iter__(self) -> Iterator[Event]:
        """What happens in the session, until it ends."""
        events = self._open.events()
        while (event := self._wait(_next(events))) is not None:
            yield event

    @property
    def _open(self) -> Stream:
        if self._stream is None:
            raise ProtocolError("not connected: use `with Dub(...) as dub`")
        return self._stream

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _made(url: str, path: str, asked: dict[str, Any], token: str | None) -> dict[str, Any]:
    """Ask a server for something new, and return what it says about that."""
    async with aiohttp.ClientSession(headers=_headers(token)) as client:
        try:
            async with client.post(f"{url.rstrip('/')}{path}", json=asked) as answer:
                content: dict[str, Any] = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BackendError(f"the server at {url} cannot be reached: {error}") from error
    if answer.status != 201:
        raise _refused(answer, str(content.get("error", answer.reason)))
    return content


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refused(answer: aiohttp.ClientResponse | aiohttp.WSServerHandshakeError, said: str) -> LivedubError:
    match answer.status:
        case 401 | 403:
            return AccessError(said)
        case 429 | 503:
            after_s = answer.headers.get("Retry-After", "5") if answer.headers else "5"
            return CapacityError(said, int(after_s))
        case status if status >= 500:
            return BackendError(said)
        case _:
            return InputError(said)


def _as_pcm(samples: Samples) -> NDArray[np.int16]:
    """Return int16 [T], little-endian."""
    whole = np.asarray(samples)
    if whole.ndim != 1:
        raise ValueError(f"samples must be mono [T], got {whole.shape}")
    if whole.dtype.kind == "f":
        loud = np.round(np.asarray(whole, np.float64) * 32767.0)
        return np.clip(loud, -32768, 32767).astype("<i2")
    if whole.dtype != np.int16:
        raise ValueError(f"samples must be int16 or float, got {whole.dtype}")
    return np.ascontiguousarray(whole, "<i2")
