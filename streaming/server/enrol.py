"""New actors from recorded videos: adaptation in a child process, one at a time, with a short queue.

The child reads one JSON line, the request, and writes JSON lines: `{"event": "progress", "step", "text",
"fraction"}`, and at its end `{"event": "result", "report"}` or `{"event": "error", "kind", "message"}`. It
ends when its input is closed. So the server imports nothing of what learns, and a cancelled run is a killed
process. The video is kept, readable by this user only, no longer than the run.
"""

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections import OrderedDict, deque
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.actor.consent import ANY_LANGUAGE, ConsentRecord
from engine.errors import BackendError, CapacityError, InputError, LivedubError
from streaming.server.limits import TooLargeError
from streaming.server.manager import SessionExistsError, UnknownSessionError, checked_name

STATEMENT = (
    "I am the person in this video, or that person has agreed that I make a picture of them "
    "speak words they did not say."
)
MAX_WAITING = 2
MAX_KEPT = 32
MAX_STEPS = 5000
_LINE_LIMIT_BYTES = 1 << 22
_STDERR_LINES = 30
_LOG = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "stopped"]
_OVER: frozenset[State] = frozenset({"done", "failed", "stopped"})


@dataclass(eq=False)
class Enrolment:
    """One actor in the making.

    Attributes:
        id: random.
        name: the actor's.
        state: of `State`.
        step, text, fraction: how far it is, as `livedub adapt` says; fraction is of the step, 0..1 or None.
        error: for people, of a failure.
        report: of adaptation, once it is done.
        version: grows with every change.
    """

    id: str
    name: str
    state: State = "waiting"
    step: str = ""
    text: str = "Waiting"
    fraction: float | None = None
    error: str | None = None
    report: dict[str, Any] | None = None
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def update(self, **fields: Any) -> None:
        """Change it and wake whoever waits."""
        for name, value in fields.items():
            setattr(self, name, value)
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()

    async def after(self, version: int, limit_s: float) -> dict[str, Any]:
        """Return it once it is newer than `version`, or as it is after `limit_s`."""
        if self.version <= version and self.state not in _OVER:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self.changed.wait()
        shown = ("id", "name", "version", "state", "step", "text", "fraction", "error", "report")
        return {name: getattr(self, name) for name in shown}


@dataclass(frozen=True)
class _Job:
    enrolment: Enrolment
    video: Path
    consent: ConsentRecord
    steps: int | None


class Enrolments:
    """The actors in the making, and the folder they end up in.

    Args:
        folder: of the actor packs; made if it is not there.
        command: that starts the child.
        upload_bytes: largest video.
    """

    def __init__(self, folder: Path, command: Sequence[str], upload_bytes: int) -> None:
        self._folder, self._command, self._upload_bytes = folder, list(command), upload_bytes
        self._known: OrderedDict[str, Enrolment] = OrderedDict()
        self._queue: asyncio.Queue[_Job] = asyncio.Queue(MAX_WAITING + 1)
        self._uploading = 0
        self._current: tuple[Enrolment, asyncio.Task[None]] | None = None

    async def begin(
        self, name: str, body: AsyncIterable[bytes], consent: ConsentRecord, steps: int | None = None
    ) -> Enrolment:
        """Take a video and queue its adaptation.

        Args:
            name: of the actor; becomes the file's.
            body: the video, as it arrives.
            consent: of the person in it; kept in the pack.
            steps: of optimisation; None takes as many as usual.

        Raises:
            InputError: a name or a number that cannot be, or an empty video.
            SessionExistsError: there is an actor of that name, or one in the making.
            TooLargeError: the video is larger than it may be.
            CapacityError: too many wait already.
        """
        checked_name(name)
        if steps is not None and not 0 <= steps <= MAX_STEPS:
            raise InputError(f"steps must be 0 to {MAX_STEPS}")
        self._check_free(name)
        if self._queue.qsize() + self._uploading > MAX_WAITING:
            raise CapacityError("other actors are being made; try again when one is done", 30)
        self._uploading += 1
        enrolment = Enrolment(secrets.token_urlsafe(9), name, text="Receiving the video")
        self._remember(enrolment)
        try:
            video = await self._receive(body)
        except BaseException:
            del self._known[enrolment.id]
            raise
        finally:
            self._uploading -= 1
        enrolment.update(text="Waiting")
        self._queue.put_nowait(_Job(enrolment, video, consent, steps))
        return enrolment

    def get(self, name: str) -> Enrolment:
        """The enrolment of that id.

        Raises:
            UnknownSessionError: there is none.
        """
        enrolment = self._known.get(name)
        if enrolment is None:
            raise UnknownSessionError("there is no such enrolment")
        return enrolment

    async def cancel(self, name: str) -> None:
        """Stop it, if it is not over, and return once its process is gone."""
        enrolment = self.get(name)
        if self._current and self._current[0] is enrolment:
            task = self._current[1]
            task.cancel()
            await asyncio.wait([task])
        if enrolment.state not in _OVER:
            enrolment.update(state="stopped", text="Stopped")

    async def forget(self, name: str) -> bool:
        """Remove an actor's pack; False if there is none."""
        path = self._folder / f"{checked_name(name)}.actor"
        try:
            await asyncio.to_thread(path.unlink)
        except FileNotFoundError:
            return False
        return True

    async def work(self) -> None:
        """Make actors until cancelled."""
        try:
            while True:
                job = await self._queue.get()
                if job.enrolment.state == "waiting":
                    await self._one(job)
                await asyncio.to_thread(_remove, job.video)
        finally:
            while not self._queue.empty():
                _remove(self._queue.get_nowait().video)

    async def _one(self, job: _Job) -> None:
        """Run one in a task of its own, so that it can be cancelled without this worker."""
        try:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(self._make(job))
                self._current = job.enrolment, task
                await asyncio.wait([task])
        finally:
            self._current = None
            if job.enrolment.state not in _OVER:
                job.enrolment.update(state="stopped", text="Stopped")
                _remove(job.video)

    async def _make(self, job: _Job) -> None:
        enrolment = job.enrolment
        enrolment.update(state="running", text="Starting")
        out = self._folder / f"{enrolment.name}.actor"
        request = {
            "video": str(job.video),
            "out": str(out),
            "name": enrolment.name,
            "steps": job.steps,
            "consent": asdict(job.consent),
        }
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            report = await _run_child(self._command, request, enrolment)
        except (LivedubError, OSError) as error:
            enrolment.update(state="failed", error=str(error), text="Failed")
            _LOG.warning("an enrolment failed: %s", error)
        else:
            enrolment.update(state="done", text="Done", fraction=1.0, report=report)
            _LOG.info("an actor was enrolled, with consent given on %s", job.consent.granted_at)

    async def _receive(self, body: AsyncIterable[bytes]) -> Path:
        """Write the video to a file that only this user can read."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="livedub-enrol-"))
        video = folder / "video"
        received = 0
        try:
            with video.open("wb") as file:
                async for block in body:
                    received += len(block)
                    if received > self._upload_bytes:
                        limit = f"{self._upload_bytes >> 20} MB"
                        raise TooLargeError(f"the video is larger than {limit}; a shorter piece is enough")
                    await asyncio.to_thread(file.write, block)
            if not received:
                raise InputError("the video is empty")
        except BaseException:
            _remove(video)
            raise
        return video

    def _check_free(self, name: str) -> None:
        making = any(known.name == name and known.state not in _OVER for known in self._known.values())
        if making or (self._folder / f"{name}.actor").exists():
            raise SessionExistsError(f"there is an actor {name!r} already; choose another name")

    def _remember(self, enrolment: Enrolment) -> None:
        self._known[enrolment.id] = enrolment
        over = [name for name, known in self._known.items() if known.state in _OVER]
        for name in over[: max(0, len(self._known) - MAX_KEPT)]:
            del self._known[name]


def consent_of(subject: str, now: datetime | None = None) -> ConsentRecord:
    """The record of who sent a video with `consent=yes`.

    Raises:
        InputError: the person's name cannot be recorded.
    """
    try:
        return ConsentRecord(
            subject=subject.strip()[:200] or "the person in the video (no name given)",
            granted_by="who sent the video to this server, by agreeing to the statement",
            purpose="live dubbing on this server",
            languages=(ANY_LANGUAGE,),
            granted_at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
            expires_at=None,
            statement=STATEMENT,
        )
    except ValueError as error:
        raise InputError(f"the name cannot be recorded: {error}") from None


async def _run_child(command: list[str], request: dict[str, Any], enrolment: Enrolment) -> dict[str, Any]:
    pipe = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=_LINE_LIMIT_BYTES
        )
    except OSError as error:
        raise BackendError(f"cannot start the process that learns: {error}") from error
    try:
        return await _converse(child, request, enrolment)
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _converse(
    child: asyncio.subprocess.Process, request: dict[str, Any], enrolment: Enrolment
) -> dict[str, Any]:
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise BackendError("the process that learns has no pipes")
    last_words: deque[str] = deque(maxlen=_STDERR_LINES)
    answer: dict[str, Any] = {}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_drain(child.stderr, last_words))
        child.stdin.write(msgspec.json.encode(request) + b"\n")
        # The input stays open: the child takes its end for ours.
        async for line in child.stdout:
            event = msgspec.json.decode(line, type=dict[str, Any])
            if event.pop("event", None) == "progress":
                shown = {key: event.get(key) for key in ("step", "text", "fraction")}
                enrolment.update(**shown)
            else:
                answer = event
        status = await child.wait()
    return _result(answer, status, last_words)


def _result(answer: dict[str, Any], status: int, last_words: deque[str]) -> dict[str, Any]:
    if "report" in answer:
        report: dict[str, Any] = answer["report"]
        return report
    if "message" in answer:
        kind = InputError if answer.get("kind") == "input" else BackendError
        raise kind(str(answer["message"]))
    said = next((line for line in reversed(last_words) if line.strip()), "it said nothing")
    raise BackendError(f"learning ended with status {status}: {said.strip()[:300]}")


async def _drain(stream: asyncio.StreamReader, into: deque[str]) -> None:
    async for line in stream:
        into.append(line.decode("utf-8", "replace").rstrip())


def _remove(video: Path) -> None:
    shutil.rmtree(video.parent, ignore_errors=True)
