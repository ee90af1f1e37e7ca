"""Who goes first on a machine with few cores: what only forwards, before what computes.

The event loop needs a millisecond here and there, but at once: a packet that waits for it looks late, and
what is late now and then is waited for always. Behind threads that compute, a thread that wakes up waits for
8 to 14 ms (measured, two cores, Linux 6.18), which cost 50 ms from glass to glass.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_LOOP_PRIORITY = 1


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
