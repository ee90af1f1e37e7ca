"""Who goes first on a machine with few cores: what only forwards, before what computes.

The event loop needs a millisecond here and there, but at once: a packet that waits for it looks late, and
what is late now and then is waited for always. Behind threads that compute, a thread that wakes up waits for
8 to 14 ms (measured, two cores, Linux 6.18), which cost 50 ms from glass to glass.
"""

import os

_LOOP_PRIORITY = 1


def go_first() -> bool:
    """Let this thread, the event loop's, run at once when it wants to; not what it starts from now on.

    Linux' real-time class (sched(7), SCHED_RR); the system keeps 5 % of each second for all others. It takes
    a right: root, CAP_SYS_NICE or RLIMIT_RTPRIO.

    Returns:
        Whether the system allowed it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_LOOP_PRIORITY))
    except (AttributeError, OSError):
        return False
    return True
