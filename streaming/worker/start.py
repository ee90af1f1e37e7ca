"""A worker process: `python -m streaming.worker.start FD [spare]`, started by `streaming.worker.process`.

It has one socket to the edge and ends when that closes, also in the middle of a computation, so that nothing
is left over when the edge is killed. First it loads all that does not depend on the actor, most of a second
of one core: a spare, for which nobody waits yet, does that after everybody else, until it has an order.
Then it says `Warm`, and serves; see `streaming.worker.main`.

Nothing large may be imported here: that would be loaded before it is known how.
"""

import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator

from streaming.scheduling import patiently

SPARE = "spare"
_SCIPY = "scipy"


def end_with(edge: socket.socket) -> None:
    """End this process as soon as the other end of the socket is closed, whatever it is doing."""
    poll = select.poll()
    poll.register(edge, 0)  # hang-up is always reported
    poll.poll()
    os._exit(0)


def loading() -> Iterator[None]:
    """Load and compile all that does not depend on the actor, in pieces."""
    # numba would load it for what nobody uses
    hidden = sys.modules.setdefault(_SCIPY, None) is None  # type: ignore[arg-type]
    import numba  # noqa: F401  # half of what is imported

    yield
    from streaming.worker.actor import warm_up

    yield
    yield from warm_up()
    if hidden:
        del sys.modules[_SCIPY]


def main() -> None:
    """Run a worker on the descriptor that is named on the command line."""
    logging.basicConfig(level=logging.WARNING, format="worker %(process)d %(levelname)s %(message)s")
    edge = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=end_with, args=(edge,), daemon=True).start()
    pieces = loading()
    if SPARE in sys.argv[2:]:
        patiently(pieces, edge)
    for _ in pieces:
        pass
    from streaming.worker.main import serve

    serve(edge)


if __name__ == "__main__":
    main()
