"""The event loop's place in the machine's queue."""

import os
import threading

import pytest

from streaming.scheduling import go_first

needs_classes = pytest.mark.skipif(
    not hasattr(os, "sched_getscheduler"), reason="needs Linux' scheduling classes"
)


@needs_classes
def test_only_the_thread_that_asks_goes_first() -> None:
    seen: list[tuple[bool, int, int]] = []

    def ask() -> None:
        allowed = go_first()
        inner: list[int] = []
        started = threading.Thread(target=lambda: inner.append(os.sched_getscheduler(0)))
        started.start()
        started.join()
        seen.append((allowed, os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, inner[0]))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    allowed, mine, started = seen[0]
    assert mine == (os.SCHED_RR if allowed else os.SCHED_OTHER)
    assert started == os.SCHED_OTHER
    assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
