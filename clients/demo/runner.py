"""Runs of the demonstration as child processes, one at a time, with a short queue."""

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from clients.demo.job import DemoRequest, request_to_json
from engine.errors import BackendError, InputError, LivedubError

Take = Callable[[dict[str, Any]], None]

MAX_WAITING = 2
_LINE_LIMIT_BYTES = 1 << 22
_STDERR_LINES = 30


async def run_child(request: DemoRequest, on_progress: Take, on_preview: Take) -> dict[str, Any]:
    """Run one request in a process of its own; cancelling this ends that process.

    Args:
        request: what to make.
        on_progress: called with the fields of `DemoProgress`.
        on_preview: called with a first result, of the same form as what is returned, if there is one.

    Returns:
        The result: `report`, and `source`, `dubbed`, `actor` as paths.

    Raises:
        InputError: what the user gave cannot be used.
        BackendError: anything else went wrong.
    """
    command = [sys.executable, "-m", "clients.demo.job"]
    pipe = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=_LINE_LIMIT_BYTES
        )
    except OSError as error:
        raise BackendError(f"cannot start the job's process: {error}") from error
    try:
        return await _converse(child, request, on_progress, on_preview)
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _converse(
    child: asyncio.subprocess.Process, request: DemoRequest, on_progress: Take, on_preview: Take
) -> dict[str, Any]:
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise BackendError("the job has no pipes")
    last_words: deque[str] = deque(maxlen=_STDERR_LINES)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_drain(child.stderr, last_words))
        child.stdin.write((json.dumps(request_to_json(request)) + "\n").encode())
        answer: dict[str, Any] | None = None
        # The input stays open: the child takes its end for ours.
        async for line in child.stdout:
            event = json.loads(line)
            match event.pop("event"):
                case "progress":
                    on_progress(event)
                case "preview":
                    on_preview(event)
                case _:
                    answer = event
        status = await child.wait()
    return _answer(answer, status, last_words)


async def _drain(stream: asyncio.StreamReader, into: deque[str]) -> None:
    async for line in stream:
        into.append(line.decode("utf-8", "replace").rstrip())


def _answer(answer: dict[str, Any] | None, status: int, last_words: deque[str]) -> dict[str, Any]:
    if answer is None:
        said = next((line for line in reversed(last_words) if line.strip()), "it said nothing")
        raise BackendError(f"the job ended with status {status}: {said.strip()[:300]}")
    if "message" in answer:
        raise (InputError if answer["kind"] == "input" else BackendError)(answer["message"])
    return answer


class Board:
    """What the page shows, with a version that waiting pages can ask to be past."""

    def __init__(self) -> None:
        self.version = 0
        self.content: dict[str, Any] = {"job": None, "waiting": 0, "result": None, "error": None}
        self._changed = asyncio.Event()

    def update(self, **fields: Any) -> None:
        """Change fields and wake whoever waits."""
        self.content = self.content | fields
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, version: int, limit_s: float) -> dict[str, Any]:
        """Return the content once it is newer than `version`, or as it is after `limit_s`."""
        if self.version <= version:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._changed.wait()
        return {"version": self.version} | self.content


class Jobs:
    """The queue before the one worker; its state is on the board.

    Attributes:
        board: what happens, for the page.
    """

    def __init__(
        self,
        board: Board,
        on_result: Callable[[DemoRequest, dict[str, Any]], dict[str, Any]],
        run: Callable[..., Any] = run_child,
    ) -> None:
        self.board = board
        self._on_result, self._run = on_result, run
        self._queue: asyncio.Queue[DemoRequest] = asyncio.Queue(MAX_WAITING)
        self._current: asyncio.Task[dict[str, Any]] | None = None

    def submit(self, request: DemoRequest) -> None:
        """Put a request into the queue.

        Raises:
            InputError: too many wait already.
        """
        try:
            self._queue.put_nowait(request)
        except asyncio.QueueFull:
            raise InputError(f"{MAX_WAITING} more are waiting already; try again when one is done") from None
        self.board.update(waiting=self._queue.qsize(), error=None)

    async def stop(self, *, waiting_too: bool = False) -> None:
        """End the running job, if any, and return once its process is gone."""
        while waiting_too and not self._queue.empty():
            self._queue.get_nowait()
        if self._current is not None:
            self._current.cancel()
            await asyncio.wait([self._current])
        self.board.update(waiting=self._queue.qsize())

    async def work(self) -> None:
        """Run jobs until cancelled."""
        while True:
            request = await self._queue.get()
            started: dict[str, Any] = {"step": "speech", "text": "Starting", "fraction": None}
            self.board.update(job=started, waiting=self._queue.qsize(), error=None)
            await self._one(request)

    async def _one(self, request: DemoRequest) -> None:
        async with asyncio.TaskGroup() as tasks:
            current = tasks.create_task(self._guarded(request))
            self._current = current
            await asyncio.wait([current])
            self._current = None

    async def _guarded(self, request: DemoRequest) -> dict[str, Any]:
        done: dict[str, Any] = {"job": None}
        try:
            result = await self._run(
                request,
                lambda progress: self.board.update(job=progress),
                lambda preview: self.board.update(result=self._on_result(request, preview)),
            )
            done["result"] = self._on_result(request, result)
        except LivedubError as error:
            done["error"] = str(error)
        except asyncio.CancelledError:
            done["error"] = "Stopped."
            raise
        finally:
            self.board.update(**done)
        return done
