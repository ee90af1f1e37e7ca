"""Where else a session goes, besides its viewers: files, RTMP servers, and other servers by WHIP.

All take what the viewers get, encoded once. One that fails or is slow costs the others nothing.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from engine.errors import CapacityError, InputError, LivedubError, OutputError
from streaming.media.sink import Sink
from streaming.rtc.peer import PeerOptions
from streaming.rtc.push import Endpoint, WhipPush
from streaming.rtc.rendition import AudioRendition, VideoRendition
from streaming.rtc.subscription import Subscription, SubscriptionClosed
from streaming.session.resources import Resources
from streaming.session.targets import Target, allowed_target, is_loopback, may_ask
from streaming.types import PCM, Event

MOST_RUNNING = 4
MOST_ENDED = 16
CLOSE_S = 8.0  # less than a session may take to close
LOOPBACK = ("127.0.0.1",)

log = logging.getLogger(__name__)


class _Way(Protocol):
    """How one output gets out."""

    @property
    def running(self) -> bool:
        """Whether it may still send or write."""

    def start(self) -> None:
        """Begin."""

    def sound(self, samples: PCM, position: int) -> None:
        """20 ms of sound left the session."""

    def shown(self) -> dict[str, object]:
        """State and counters, plain values."""

    async def close(self) -> None:
        """End it; a file is whole afterwards."""


class Outputs:
    """The outputs of a session, by their ids. Belongs to the event loop.

    Args:
        video, audio: what goes out.
        resources: where outputs may go.
        tell: told errors, as events.
        seal: given each finished file, which it may sign.
    """

    def __init__(
        self,
        video: VideoRendition,
        audio: AudioRendition,
        resources: Resources,
        tell: Callable[[Event], None],
        seal: Callable[[Path], None] | None = None,
    ) -> None:
        self._video, self._audio, self._resources, self._tell = video, audio, resources, tell
        self._seal = seal
        self._ways: dict[str, tuple[Target, _Way]] = {}

    def __len__(self) -> int:
        """How many run."""
        return sum(way.running for _, way in self._ways.values())

    def add(self, to: str, token: str | None = None) -> str:
        """Send or write the session there, too, from the next keyframe on; see `allowed_target`.

        Args:
            to: a file's name, or an address.
            token: for WHIP, sent as Bearer.

        Returns:
            The output's id.

        Raises:
            OutputError: it may not go there.
            InputError: a token where none is sent.
            CapacityError: the session has as many outputs as it may have.
        """
        resources = self._resources
        target = allowed_target(to, folder=resources.output_folder, hosts=resources.output_hosts)
        if token is not None and target.kind != "whip":
            raise InputError("only WHIP, http:// or https://, takes a token")
        if len(self) >= MOST_RUNNING:
            raise CapacityError(f"a session has {MOST_RUNNING} outputs at most: end another one first")
        name = secrets.token_hex(8)
        way = self._made(target, token, lambda error: self._failed(name, target, error))
        self._forget_oldest()
        self._ways[name] = target, way
        way.start()
        log.info("output %s goes to %s", name, target.shown)
        return name

    def shown(self) -> list[dict[str, object]]:
        """All that run, and the latest that ended by themselves, in the order in which they began."""
        return [
            {"id": name, "kind": target.kind, "to": target.shown, **way.shown()}
            for name, (target, way) in self._ways.items()
        ]

    async def end(self, name: str) -> bool:
        """End an output and forget it; a file is whole afterwards. False if there is none."""
        _, way = self._ways.pop(name, (None, None))
        if way is None:
            return False
        await way.close()
        return True

    def sound(self, samples: PCM, position: int) -> None:
        """20 ms of sound left the session."""
        for _, way in self._ways.values():
            way.sound(samples, position)

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(way.close() for _, way in self._ways.values()))

    def _made(self, target: Target, token: str | None, failed: Callable[[LivedubError], None]) -> _Way:
        resources = self._resources
        if target.kind != "whip":
            return _Written(target, self._video, resources.writing, failed, self._seal)
        hosts = resources.output_hosts
        endpoint = Endpoint(target.address, target.shown, token, lambda url: may_ask(url, hosts))
        push = WhipPush(
            endpoint,
            self._video,
            self._audio,
            failed,
            peers=replace(resources.peers, addresses=_addresses(target.host, resources.peers)),
            answers=replace(resources.offers, allow_private=True),  # the operator named that host
        )
        return _Pushed(push)

    def _forget_oldest(self) -> None:
        ended = [name for name, (_, way) in self._ways.items() if not way.running]
        for name in ended[: max(0, len(ended) - MOST_ENDED + 1)]:
            del self._ways[name]

    def _failed(self, name: str, target: Target, error: LivedubError) -> None:
        log.warning("output %s to %s: %s", name, target.shown, error)
        self._tell(Event("error", {"message": f"an output is in trouble: {error}", "output": name}))


class _Written:
    """A file, or an RTMP server, that a sink writes.

    Args:
        target: of it.
        video: pictures; sound comes by `sound`.
        writing: files that are being written by any session.
        on_failed: called if it ends by an error.
        seal: see `Outputs`.

    Raises:
        OutputError: that file is being written.
    """

    def __init__(
        self,
        target: Target,
        video: VideoRendition,
        writing: set[Path],
        on_failed: Callable[[LivedubError], None],
        seal: Callable[[Path], None] | None,
    ) -> None:
        self._path = Path(target.address) if target.kind == "file" else None
        if self._path in writing:
            raise OutputError(f"{target.shown!r} is being written already: give another name")
        self._video, self._writing, self._on_failed = video, writing, on_failed
        self._sink = Sink(self._path or target.address, self._ended, seal)
        self._error: LivedubError | None = None
        self._over = asyncio.Event()
        self._subscription: Subscription | None = None
        self._feeding: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the sink's thread works."""
        return not self._over.is_set()

    def start(self) -> None:
        """Begin."""
        if self._path is not None:
            self._writing.add(self._path)
        self._sink.start()
        self._subscription = self._video.subscribe()
        self._feeding = asyncio.create_task(self._feed(self._subscription))

    def sound(self, samples: PCM, position: int) -> None:
        """Write it, too."""
        if self.running:
            self._sink.audio(samples, position)

    def shown(self) -> dict[str, object]:
        """State and counters."""
        begun = "live" if self._sink.begun else "waiting"
        over = "failed" if self._error else "ended"
        return {
            "state": begun if self.running else over,
            "error": str(self._error) if self._error else None,
            "packets": self._sink.written,
            "dropped": self._sink.dropped,
        }

    async def close(self) -> None:
        """Write what waits."""
        self._stop_feeding()
        if self._feeding is not None:
            await asyncio.wait({self._feeding})
        with suppress(TimeoutError):  # a server that takes nothing: the thread ends when the system gives up
            async with asyncio.timeout(CLOSE_S):
                await self._sink.close()
                await self._over.wait()

    def _ended(self, error: LivedubError | None) -> None:
        self._error = error
        self._over.set()
        if self._path is not None:
            self._writing.discard(self._path)
        self._stop_feeding()
        if error is not None:
            self._on_failed(error)

    def _stop_feeding(self) -> None:
        if self._subscription is not None and self._feeding is not None:
            self._subscription.close()
            self._feeding.cancel()

    async def _feed(self, subscription: Subscription) -> None:
        with suppress(SubscriptionClosed):
            while True:
                frame = await subscription.get()
                self._sink.video(frame.data, frame.position, keyframe=frame.keyframe)


class _Pushed:
    """Another server, by WHIP."""

    def __init__(self, push: WhipPush) -> None:
        self._push = push

    @property
    def running(self) -> bool:
        """Until it is closed: a connection that ends is made again."""
        return self._push.state != "ended"

    def start(self) -> None:
        """Begin."""
        self._push.start()

    def sound(self, samples: PCM, position: int) -> None:
        """Nothing: it takes the session's rendition."""

    def shown(self) -> dict[str, object]:
        """State and counters."""
        stats: dict[str, Any] = asdict(found) if (found := self._push.stats()) else {}
        return {
            "state": self._push.state,
            "error": self._push.trouble or None,
            "connects": self._push.connects,
            "video": stats.get("video"),
            "audio": stats.get("audio"),
        }

    async def close(self) -> None:
        """End it, and tell the other server."""
        await self._push.close()


def _addresses(host: str, peers: PeerOptions) -> tuple[str, ...] | None:
    """Of this machine, that media to a host goes over; that viewers come by loopback does not bind it."""
    if is_loopback(host):
        return LOOPBACK
    usable = tuple(address for address in peers.addresses or () if not is_loopback(address))
    return usable or None
