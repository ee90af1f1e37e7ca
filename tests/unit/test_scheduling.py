"""The event loop's place in the machine's queue."""

import os
import threading

import pytest

from streaming.scheduling import going_first

needs_classes = pytest.mark.skipif(
    not hasattr(os, "sched_getscheduler"), reason="needs Linux' scheduling classes"
)


def _class() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


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
