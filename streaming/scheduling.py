"""Who goes first on a machine with few cores: what only forwards, before what computes, before what can wait.

The event loop needs a millisecond here and there, but at once: a packet that waits for it looks late, and
what is late now and then is waited for always. Behind threads that compute, a thread that wakes up waits for
8 to 14 ms (seen in /proc/*/schedstat, two cores, Linux 6.18).

What can wait is put off without any right: Linux has priorities of threads, which everybody may lower and few
may raise again, so a thread is made for what can wait, and it ends with that.
"""

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_LOOP_PRIORITY = 1
_GROUP = Path("/proc/self/autogroup")
_PATIENT = 19  # nice: a sixtieth of the share of who computes too, and all that nobody takes
_GROUP_TRIES, _GROUP_TRY_S = 50, 0.05


@contextmanager
def going_first() -> Iterator[bool]:
    """Let this thread, the event loop's, run at once when it wants to; not what it starts.

    Linux' real-time class (sched(7), SCHED_RR); the system keeps 5 % of each second for all others. It takes
    a right: root, CAP_SYS_NICE or RLIMIT_RTPRIO. Gives whether the system allowed it.
    """
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_LOOP_PRIORITY))
    except (AttributeError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        policy, parameters = before  # to take the flag back needs more rights than to set it
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, parameters)


def patiently(pieces: Iterator[object], wanted: socket.socket) -> None:
    """Do some work after everybody else, until somebody waits for it.

    Then the piece that is under way comes to its end, faster where the system allows it, and the others are
    done at once. What the work raises is raised here.

    Args:
        pieces: of the work, each a fraction of a second.
        wanted: can be read from as soon as somebody waits.
    """
    over, done = socket.socketpair()
    stopped = False

    def work() -> None:
        for _ in pieces:
            if stopped:
                return

    with over, done, ThreadPoolExecutor(1, "patient", _give_way) as pool:
        with _group_gives_way():
            working = pool.submit(work)
            working.add_done_callback(lambda _: done.send(b"."))
            poll = select.poll()
            poll.register(over, select.POLLIN)
            poll.register(wanted, select.POLLIN)
            poll.poll()
            stopped = True
        if not working.done():
            _go_on()
        working.result()
    for _ in pieces:
        pass


def _give_way() -> None:
    """Let this thread compute after others; where threads have no priority of their own, nothing happens."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PATIENT)


def _go_on() -> None:
    """Let all threads of this process run like this one, if that is allowed."""
    if sys.platform == "linux":
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError):  # it has ended, or may not be raised
                os.setpriority(os.PRIO_PROCESS, int(thread), os.getpriority(os.PRIO_PROCESS, 0))


@contextmanager
def _group_gives_way() -> Iterator[None]:
    """Let this whole process compute after others, if it leads its session.

    Where Linux groups sessions (autogroup, sched(7)) it shares the machine between these first, and a
    thread's priority counts only within one. Everybody may change his own's, ten times a second.
    """
    try:
        if os.getsid(0) != os.getpid():
            raise PermissionError("the session is another's, too")
        before = _GROUP.read_text().split()[-1]
        _GROUP.write_text(str(_PATIENT))
    except (AttributeError, OSError, IndexError):
        yield
        return
    try:
        yield
    finally:
        for _ in range(_GROUP_TRIES):
            with suppress(OSError):
                _GROUP.write_text(before)
                break
            time.sleep(_GROUP_TRY_S)
