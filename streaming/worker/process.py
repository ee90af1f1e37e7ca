"""A worker process as the edge's event loop sees it: messages out, messages in, and its end."""

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import streaming
from engine.errors import ProtocolError, WorkerError
from streaming.worker import wire
from streaming.worker.start import SPARE

MODULE = "streaming.worker.start"
REAP_TIMEOUT_S = 5.0
MAX_UNSENT_BYTES = 4 << 20  # a worker that lets so much lie has stopped
READ_BYTES = 1 << 18
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkerProcess:
    """One child and the socket to it; made by `spawn`. Belongs to the event loop that made it.

    It ends by itself when this process does, however that happens.

    Attributes:
        on_message: called with every message, in order; until it is set they are kept.
        on_end: called once, when the process has ended or broke the protocol (it is killed then), with why.
    """

    def __init__(self, process: asyncio.subprocess.Process, edge: socket.socket) -> None:
        self._process, self._edge = process, edge
        self._loop = asyncio.get_running_loop()
        self._inbox, self._unsent = wire.Inbox(), bytearray()
        self._kept: deque[wire.ToEdge] = deque()
        self._on_message: Callable[[wire.ToEdge], None] | None = None
        self.on_end: Callable[[str], None] | None = None
        self._why: str | None = None
        self._open = True
        self._reaped = asyncio.ensure_future(self._wait())
        self._loop.add_reader(edge, self._read)

    @classmethod
    async def spawn(cls, *, spare: bool = False) -> "WorkerProcess":
        """Start a child; it is not warm yet, but can be sent an order.

        Args:
            spare: it shall load after everybody else, until it is sent something.

        Raises:
            WorkerError: the system does not start another process.
        """
        edge, worker = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MODULE, str(worker.fileno()), *([SPARE] if spare else [])),
                pass_fds=(worker.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the edge, which ends its workers
                env=_environment(),
            )
        except BaseException as error:
            edge.close()
            if isinstance(error, OSError):
                raise WorkerError(f"cannot start a worker process: {error}") from error
            raise
        finally:
            worker.close()
        edge.setblocking(False)
        return cls(process, edge)

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child can still be talked to."""
        return self._open

    @property
    def on_message(self) -> Callable[[wire.ToEdge], None] | None:
        """Who takes the messages."""
        return self._on_message

    @on_message.setter
    def on_message(self, take: Callable[[wire.ToEdge], None]) -> None:
        self._on_message = take
        while self._kept:
            take(self._kept.popleft())

    def send(self, message: wire.ToWorker, fds: Sequence[int] = ()) -> bool:
        """Send a message, with descriptors if any; never waits.

        Returns:
            False if it will not go: the child is gone, or descriptors cannot go at once.

        Raises:
            ProtocolError: the message is too long.
        """
        if not self._open or (fds and self._unsent):
            return False
        data = wire.encode(message)
        try:
            sent = 0
            if fds:
                sent = socket.send_fds(self._edge, [data], fds)
            elif not self._unsent:
                sent = self._edge.send(data)
        except BlockingIOError:
            if fds:
                return False
            sent = 0
        except OSError as error:
            self._end(f"it cannot be written to: {error.strerror}")
            return False
        if sent < len(data):
            self._keep(data[sent:])
        return True

    def kill(self, why: str) -> None:
        """End the child at once; `on_end` follows."""
        self._end(why)

    async def close(self) -> None:
        """End the child and wait until it is gone; `on_end` is not called."""
        self.on_end = None
        self._end("closed")
        await asyncio.wait({self._reaped}, timeout=REAP_TIMEOUT_S)

    def _keep(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.add_writer(self._edge, self._write)
        self._unsent += data
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._end("it does not read")

    def _write(self) -> None:
        try:
            del self._unsent[: self._edge.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"it cannot be written to: {error.strerror}")
            return
        if not self._unsent:
            self._loop.remove_writer(self._edge)

    def _read(self) -> None:
        try:
            data = self._edge.recv(READ_BYTES)
            messages = self._inbox.to_edge(data)
        except BlockingIOError:
            return
        except ConnectionResetError:  # it ended with something unread
            self._end("it ended")
            return
        except (OSError, ProtocolError) as error:
            self._end(str(error))
            return
        for message in messages:
            if not self._open:
                return
            if self._on_message is None:
                self._kept.append(message)
            else:
                self._on_message(message)
        if not data:
            self._end("it ended")

    def _end(self, why: str) -> None:
        """Stop talking and kill; the rest follows when the system has taken the process down."""
        if not self._open:
            return
        self._open, self._why = False, why
        self._loop.remove_reader(self._edge)
        self._loop.remove_writer(self._edge)
        self._edge.close()
        if self._process.returncode is None:
            self._process.kill()

    async def _wait(self) -> None:
        status = await self._process.wait()
        if self._open:
            self._read_rest()
            self._end("it ended")
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            on_end(f"{self._why} (exit status {status})")

    def _read_rest(self) -> None:
        """What it said before it ended."""
        while self._open:
            try:
                data = self._edge.recv(READ_BYTES, socket.MSG_PEEK)
            except OSError:
                return
            if not data:
                return
            self._read()


def _environment() -> dict[str, str]:
    """The child's: one thread for every library, and this very package."""
    home = str(Path(streaming.__file__).resolve().parents[1])
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([home, before] if before else [home])
    return os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONPATH": path, "ORT_DISABLE_TELEMETRY": "1"}
