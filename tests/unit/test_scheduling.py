"""Who goes first on this machine, and who last."""

import os
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from streaming.scheduling import going_first, patiently

needs_classes = pytest.mark.skipif(
    not hasattr(os, "sched_getscheduler"), reason="needs Linux' scheduling classes"
)


def _class() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def _nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id() if sys.platform == "linux" else 0)


@needs_classes
def test_only_the_thread_that_asks_goes_first_and_only_for_the_time() -> None:
    seen: dict[str, int] = {}

    def ask() -> None:
        seen["before"] = _class()
        with going_first() as allowed:
            seen["wanted"], seen["mine"] = os.SCHED_RR if allowed else seen["before"], _class()
            started = threading.Thread(target=lambda: seen.update(started=_class()))
            started.start()
            started.join()
        seen["after"] = _class()

    others = _class()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen["mine"] == seen["wanted"]
    assert seen["started"] == os.SCHED_OTHER
    assert seen["after"] == seen["before"]
    assert _class() == others


@pytest.fixture
def asking() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Who waits for the work, and where the work hears of it."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_what_can_wait_is_done_in_a_thread_that_gives_way(
    asking: tuple[socket.socket, socket.socket],
) -> None:
    seen: list[tuple[int, int]] = []

    def work() -> Iterator[None]:
        for number in range(3):
            seen.append((number, _nice()))
            yield

    before, mine = threading.active_count(), _nice()
    patiently(work(), asking[1])
    low = 19 if sys.platform == "linux" else mine
    assert seen == [(0, low), (1, low), (2, low)]
    assert _nice() == mine
    assert threading.active_count() == before


def test_what_somebody_waits_for_is_done_at_once_and_once(
    asking: tuple[socket.socket, socket.socket],
) -> None:
    seen: list[tuple[int, bool]] = []
    here = threading.get_ident()

    def work() -> Iterator[None]:
        for number in range(200):
            seen.append((number, threading.get_ident() == here))
            yield

    asking[0].send(b"now")
    pieces = work()
    patiently(pieces, asking[1])
    assert [number for number, _ in seen] == list(range(200))
    assert next(pieces, "over") == "over"
    mine = [own for _, own in seen]
    assert mine == sorted(mine), "who was asked goes on where the other stopped"
    assert asking[1].recv(16) == b"now", "the order itself is left for who serves it"


def test_work_that_fails_says_so(asking: tuple[socket.socket, socket.socket]) -> None:
    def work() -> Iterator[None]:
        yield
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        patiently(work(), asking[1])
