"""The sessions of a server: how many there may be, which one has which name, and when they end.

create ──► CapacityError (full, or draining) | SessionExistsError | a started session
ends when: deleted | it closed itself | nobody is there for idle_s | older than longest_s | the server ends
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from engine.errors import CapacityError, InputError, LivedubError
from streaming.types import Answer, AudioIn, Event, Playback, SessionOptions

SWEEP_S = 1.0
CLOSE_LIMIT_S = 10.0
RETRY_AFTER_S = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LOG = logging.getLogger(__name__)


class UnknownSessionError(InputError):
    """There is no session of that name."""


class UnknownOutputError(InputError):
    """The session has no output of that id."""


class SessionExistsError(InputError):
    """There is one already."""


class SessionLike(Protocol):
    """What the server needs of a live session.

    Attributes:
        id: its name.
        options: as asked.
        closed: set once it has ended, whoever ended it.
        peers: WebRTC connections that are open now.
        room: dub sound there is room for, in samples at 48 kHz.
    """

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def options(self) -> SessionOptions:
        """As asked, or as changed since."""

    @property
    def closed(self) -> asyncio.Event:
        """Set once it has ended."""

    @property
    def peers(self) -> int:
        """Publishers and viewers that are connected now, and outputs."""

    @property
    def room(self) -> int:
        """Samples at 48 kHz that `dub` would take now; events of kind "credit" tell that it grew."""

    async def start(self) -> None:
        """Get the worker ready.

        Raises:
            InputError: the actor cannot be used.
            WorkerError: no worker came up.
        """

    async def close(self, reason: str) -> None:
        """End everything; a second call does nothing."""

    async def publish(self, sdp: str) -> Answer:
        """Accept the offer of a publisher.

        Raises:
            OfferError: it cannot be accepted.
            CapacityError: somebody publishes already.
        """

    async def view(self, sdp: str) -> Answer:
        """Accept the offer of a viewer; raises as `publish`."""

    async def trickle(self, resource: str, fragment: str) -> bool:
        """Give a connection more of its peer's candidates; False if it is not there, raises as `view`."""

    async def end(self, resource: str) -> bool:
        """Close a connection; False if it is not there (any more)."""

    async def dub(self, piece: AudioIn, utterance: int | None) -> int:
        """Queue dub sound; returns how many more samples at 48 kHz there is room for.

        Raises:
            ProtocolError: there was no room for it, or it is no sound that can be used.
        """

    async def end_utterance(self, utterance: int | None) -> None:
        """No more sound of this utterance comes; None: of the one that is open."""

    async def interrupt(self) -> Playback:
        """Drop dub sound that has not been heard yet."""

    async def add_output(self, to: str, token: str | None = None) -> str:
        """Send or write it somewhere else, too; returns the output's id.

        Raises:
            InputError: it may not go there.
            CapacityError: it goes to as many places as it may.
        """

    async def end_output(self, name: str) -> bool:
        """End an output, of which a file is whole then; False if there is none."""

    def outputs(self) -> Sequence[Mapping[str, object]]:
        """The outputs, each with "id", "kind", "to" and "state", as plain values."""

    def events(self) -> AsyncIterator[Event]:
        """What happens from now on; every call is a watcher of its own. Ends with the session."""

    def snapshot(self) -> Mapping[str, object]:
        """How it is now, as plain values; `Collector` reads some of them."""


Factory = Callable[[str, SessionOptions], SessionLike]
"""Makes a session that is not started yet, of that name."""


@dataclass
class _Entry:
    session: SessionLike
    created_s: float
    used_s: float
    holders: int = 0


class SessionManager:
    """All sessions of a server.

    Args:
        make_session: makes one, not started.
        most: how many the operator allows at a time.
        measured: how many this machine was measured to carry; asked at every admission.
        idle_s: a session with nobody connected ends after so long.
        longest_s: any session ends after so long.
        clock_s: monotonic.
    """

    def __init__(
        self,
        make_session: Factory,
        *,
        most: int = 16,
        measured: Callable[[], int] | None = None,
        idle_s: float = 60.0,
        longest_s: float = 4 * 3600.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._most, self._measured = make_session, most, measured
        self._idle_s, self._longest_s, self._clock_s = idle_s, longest_s, clock_s
        self._entries: dict[str, _Entry] = {}
        self._starting: set[str] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._entries) + len(self._starting)

    @property
    def capacity(self) -> int:
        """How many sessions there may be at a time."""
        return self._most if self._measured is None else max(0, min(self._most, self._measured()))

    @property
    def has_room(self) -> bool:
        """Whether another session would be let in now."""
        return not self._draining and len(self) < self.capacity

    async def create(self, options: SessionOptions, name: str | None = None) -> SessionLike:
        """Start a session.

        Args:
            options: of it.
            name: which it shall have; None takes a random one.

        Raises:
            CapacityError: the server is full, or ends.
            SessionExistsError: that name is taken.
            InputError: the name or the actor cannot be used.
            WorkerError: no worker came up.
        """
        name = secrets.token_urlsafe(12).lstrip("_-") if name is None else checked_name(name)
        if name in self._entries or name in self._starting:
            raise SessionExistsError(f"there is a session {name!r} already")
        if not self.has_room:
            why = "ending" if self._draining else f"full with {len(self)} sessions"
            raise CapacityError(f"the server is {why}; try again later", RETRY_AFTER_S)
        session = self._make(name, options)
        self._starting.add(name)
        try:
            await session.start()
        except BaseException:
            await asyncio.shield(session.close("could not start"))
            raise
        finally:
            self._starting.discard(name)
        if self._draining:
            await session.close("the server ends")
            raise CapacityError("the server is ending; try again later", RETRY_AFTER_S)
        now_s = self._clock_s()
        self._entries[name] = _Entry(session, now_s, now_s)
        _LOG.info("session %s begins: %d of %d", name, len(self), self.capacity)
        return session

    def get(self, name: str) -> SessionLike:
        """The session of that name; this counts as use.

        Raises:
            UnknownSessionError: there is none.
        """
        entry = self._entry(name)
        entry.used_s = self._clock_s()
        return entry.session

    def __iter__(self) -> Iterator[SessionLike]:
        return iter([entry.session for entry in self._entries.values()])

    @contextmanager
    def hold(self, name: str) -> Iterator[SessionLike]:
        """The session of that name, which is not idle meanwhile.

        Raises:
            UnknownSessionError: there is none.
        """
        entry = self._entry(name)
        entry.holders += 1
        try:
            yield entry.session
        finally:
            entry.holders -= 1
            entry.used_s = self._clock_s()

    async def delete(self, name: str, reason: str = "deleted") -> bool:
        """End a session; False if there is none."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
        await _close(entry.session, reason)
        return True

    async def sweep(self) -> None:
        """End what is idle, too old, or has ended itself."""
        now_s = self._clock_s()
        for name, entry in list(self._entries.items()):
            reason = self._over(entry, now_s)
            if reason is not None:
                await self.delete(name, reason)

    async def watch(self) -> None:
        """Sweep every second until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def close(self) -> None:
        """Let nobody in any more, and end every session."""
        self._draining = True
        names = list(self._entries)
        await asyncio.gather(*(self.delete(name, "the server ends") for name in names))

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None or entry.session.closed.is_set():
            raise UnknownSessionError(f"there is no session {name[:64]!r}")
        return entry

    def _over(self, entry: _Entry, now_s: float) -> str | None:
        if entry.session.closed.is_set():
            return "ended"
        if now_s - entry.created_s >= self._longest_s:
            return f"sessions last {self._longest_s:.0f} s at most"
        if entry.holders or entry.session.peers:
            entry.used_s = now_s
        elif now_s - entry.used_s >= self._idle_s:
            return f"nobody was connected for {self._idle_s:.0f} s"
        return None


def checked_name(name: str) -> str:
    """Return a session's or an actor's name if it can be one: it becomes part of addresses and files.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError("a name has 1 to 64 letters, digits, - and _, and begins with a letter or digit")
    return name


async def _close(session: SessionLike, reason: str) -> None:
    """One session's trouble must not keep the others from ending."""
    try:
        async with asyncio.timeout(CLOSE_LIMIT_S):
            await session.close(reason)
    except TimeoutError:
        _LOG.warning("session %s did not close within %.0f s", session.id, CLOSE_LIMIT_S)
    except (LivedubError, OSError) as error:
        _LOG.warning("session %s closed badly: %s", session.id, type(error).__name__)
    else:
        _LOG.info("session %s is over: %s", session.id, reason)
