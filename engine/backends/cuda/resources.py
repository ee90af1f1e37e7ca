"""Closing what was made on a device: once, last made first, also when making it broke off half-way."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Protocol, TypeVar

from engine.errors import BackendError


class Closeable(Protocol):
    """Something that is freed."""

    def close(self) -> None:
        """Free it."""


_T = TypeVar("_T", bound=Closeable)


class Resources:
    """What one object has on a device.

    Args:
        owner: whose it is, for messages.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._stack = ExitStack()
        self.closed = False

    def keep(self, thing: _T) -> _T:
        """Close `thing` before everything that was kept before it."""
        self.before_closing(thing.close)
        return thing

    def before_closing(self, act: Callable[[], None]) -> None:
        """Do this before what was kept so far is closed; what it raises of the device is swallowed."""

        def acted() -> None:
            with suppress(BackendError):  # a device that has failed refuses this too
                act()

        self._stack.callback(acted)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Close everything if the body raises anything."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def check_open(self) -> None:
        """Raise unless it is open.

        Raises:
            BackendError: it is closed.
        """
        if self.closed:
            raise BackendError(f"the {self._owner} is closed")

    @contextmanager
    def using(self) -> Iterator[None]:
        """Close everything if the device fails in the body.

        Raises:
            BackendError: it is closed already.
        """
        self.check_open()
        try:
            yield
        except BackendError:
            self.close()
            raise

    def close(self) -> None:
        """Free everything; the second time nothing."""
        self.closed = True
        self._stack.close()
