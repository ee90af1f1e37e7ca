"""What is done to a server, and how it bears it: one function for each trouble."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.live.endurance_peer import Seen
from benchmarks.live.endurance_rig import Held, Rig, until
from benchmarks.live.programme import RATE, load
from clients.peer import EncodedSound, EncodedVideo, Pace, publish, view
from clients.sdk import connect
from streaming.types import NS_PER_S

UNDER_WAY_FRAMES = 15  # then a session is under way
AFTER_KILL_S = 2.0
LOUD = 0.05
SETTLE_S = 8.0  # the spare worker is warm again by then, as it is when a worker dies by itself
FREED_LIMIT_S = 30.0
VOICE = {"voice": "publisher", "idle": "closed"}
_STALLS = "dub_event_loop_stalls_total"


@dataclass(frozen=True)
class Watched:
    """How a viewer fared.

    Attributes:
        missing: pictures that never came, of `expected`.
        longest_ms: longest time without a new picture.
        silent_ms: longest time in which no sound came.
        holes: 20 ms pieces of sound that never came.
        loud: share of seconds in which the voice's beep was heard.
    """

    missing: int
    expected: int
    longest_ms: float
    silent_ms: float
    holes: int
    loud: float


def watched(seen: Seen, round_frames: int, from_ns: int, to_ns: int) -> Watched:
    """Judge what came in a stretch of time.

    Args:
        seen: by a viewer.
        round_frames: after so many pictures the programme begins again.
        from_ns: the stretch begins, monotonic.
        to_ns: it ends.
    """
    pictures = [(at, number) for at, number in seen.pictures if from_ns <= at <= to_ns and number >= 0]
    sounds = [piece for piece in seen.sounds if from_ns <= piece[0] <= to_ns]
    steps = [(b - a) % round_frames for (_, a), (_, b) in pairwise(pictures)]
    forward = [step for step in steps if step < round_frames // 2]
    new = [pictures[0][0], *(at for (at, _), step in zip(pictures[1:], steps, strict=True) if step)]
    places = [round(50 * position_s) for _, position_s, _ in sounds]
    beeps = {int((at - from_ns) // NS_PER_S) for at, _, loudest in sounds if loudest > LOUD}
    seconds = max(1, (to_ns - from_ns) // NS_PER_S)
    return Watched(
        missing=sum(step - 1 for step in forward if step > 1),
        expected=sum(forward),
        longest_ms=_longest_ms([from_ns, *new, to_ns]),
        silent_ms=_longest_ms([from_ns, *(at for at, _, _ in sounds), to_ns]),
        holes=sum(max(0, b - a - 1) for a, b in pairwise(places)),
        loud=min(1.0, len(beeps) / seconds),
    )


def _longest_ms(times_ns: Sequence[int]) -> float:
    return max(b - a for a, b in pairwise(times_ns)) / 1e6


@dataclass(frozen=True)
class WorkerKills:
    """A session whose worker was killed some times, and another one beside it.

    Attributes:
        hurt: the viewer in the two seconds after each kill.
        back_s: from each kill until frames were dubbed again.
        beside: the other session's viewer, all the time.
    """

    hurt: list[Watched]
    back_s: list[float]
    beside: Watched


async def worker_killed(rig: Rig, programme: Path, times: int, *, drawn: bool = True) -> WorkerKills:
    """Kill a session's worker again and again.

    Args:
        rig: with the server.
        programme: to publish.
        times: of killing.
        drawn: whether to wait for drawn mouths, which a busy machine leaves out; else for workers only.
    """
    round_frames = len(load(programme).pictures)
    kills: list[int] = []
    back: list[float] = []
    async with (
        rig.session(**VOICE) as one,
        rig.session(**VOICE) as other,
        rig.client(one, programme=programme, view=True) as hurt,
        rig.client(other, programme=programme, view=True) as beside,
    ):
        for session in (one, other):
            await _under_way(rig, session, drawn=drawn)
        began_ns = time.monotonic_ns()
        for number in range(times):
            await asyncio.sleep(SETTLE_S if number or drawn else SETTLE_S / 4)
            kills.append(await _kill_worker(rig, one, drawn=drawn))
            back.append((time.monotonic_ns() - kills[-1]) / NS_PER_S)
            await asyncio.sleep(max(0.0, AFTER_KILL_S - back[-1]))
        ended_ns = time.monotonic_ns()
        seen, seen_beside = await hurt.end(), await beside.end()
    stretch = int(AFTER_KILL_S * NS_PER_S)
    return WorkerKills(
        [watched(seen, round_frames, kill, kill + stretch) for kill in kills],
        back,
        watched(seen_beside, round_frames, began_ns, ended_ns),
    )


async def _under_way(rig: Rig, session: str, *, drawn: bool) -> None:
    async def left() -> bool:
        now = await rig.now(session)
        frames: dict[str, int] = now["frames"]
        count = frames.get("dubbed", 0) if drawn else sum(frames.values())
        return now["worker_pid"] is not None and count >= UNDER_WAY_FRAMES

    await until(left, "a session under way")


async def _kill_worker(rig: Rig, session: str, *, drawn: bool) -> int:
    """Kill it, and wait until another one is there or has drawn; monotonic ns of the kill."""
    pid = int((await rig.now(session))["worker_pid"])
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)

    async def replaced() -> bool:
        return (await rig.now(session))["worker_pid"] not in (None, pid)

    await until(replaced, "another worker")
    before = await rig.dubbed(session)

    async def dubbed() -> bool:
        return not drawn or await rig.dubbed(session) > before

    await until(dubbed, "frames dubbed again")
    return killed_ns


async def publisher_killed(rig: Rig, programme: Path) -> float:
    """Seconds until nothing is left of a publisher that was killed; its session stays."""
    async with rig.session(**VOICE) as session:
        async with rig.client(session, programme=programme, view=True) as first:
            await first.end()  # threads that are made once and kept are there now
        before = await rig.calm()
        async with rig.client(session, programme=programme) as client:
            return await _freed(rig, before, client.send(signal.SIGKILL))


async def viewer_killed(rig: Rig, programme: Path) -> float:
    """Seconds until nothing is left of a viewer that was killed; its session goes on."""
    async with (
        rig.session(**VOICE) as session,
        rig.client(session, programme=programme) as publisher,
    ):
        async with rig.client(session, view=True) as first:
            await first.end()
        before = await rig.calm()
        async with rig.client(session, view=True) as client:
            took_s = await _freed(rig, before, client.send(signal.SIGKILL))
        await publisher.end()
        return took_s


async def _freed(rig: Rig, before: Held, killed_ns: int) -> float:
    async def free() -> bool:
        return before.covers(rig.held())

    await until(free, f"back to {before}, from {rig.held()}", FREED_LIMIT_S)
    return (time.monotonic_ns() - killed_ns) / NS_PER_S


async def session_left(rig: Rig, programme: Path) -> float:
    """Seconds until a session is gone whose only client was killed; the server's `idle_s` is part of it."""
    before = await rig.calm()
    async with rig.session(**VOICE) as session, rig.client(session, programme=programme, view=True) as client:
        await _under_way(rig, session, drawn=False)
        killed_ns = client.send(signal.SIGKILL)

        async def over() -> bool:
            answer = await rig.ask("get", "/v1/sessions")
            gone = all(one["id"] != session for one in answer["sessions"])
            return gone and rig.held().sockets <= before.sockets

        await until(over, "the end of a session without clients", FREED_LIMIT_S)
        return (time.monotonic_ns() - killed_ns) / NS_PER_S


@dataclass
class Cycles:
    """What the server held after each of many connections that came and went.

    Attributes:
        held: after each; tasks: of its event loop.
    """

    held: list[Held] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)

    def slope_kb(self, warm_up: int) -> float:
        """Growth of the memory per cycle, by least squares."""
        rss = [held.rss_kb for held in self.held[warm_up:]]
        return float(np.polyfit(np.arange(len(rss)), rss, 1)[0])

    def growth(self, warm_up: int) -> dict[str, int]:
        """How much more threads, descriptors, sockets and tasks there were at the end than after warm-up."""
        late, early = self.held[-1], self.held[warm_up]
        return {
            "threads": late.threads - early.threads,
            "descriptors": late.descriptors - early.descriptors,
            "sockets": late.sockets - early.sockets,
            "tasks": self.tasks[-1] - self.tasks[warm_up],
        }


async def cycled(rig: Rig, programme: Path, count: int, whole_every: int = 10) -> Cycles:
    """Connect and close viewers; now and then a whole session with publisher, viewer and WebSocket."""
    cycles = Cycles()
    async with rig.session(**VOICE) as session, rig.client(session, programme=programme) as publisher:
        for number in range(count):
            if number % whole_every == whole_every - 1:
                await _whole_session(rig, programme)
            else:
                await _watch(rig, session)
            cycles.held.append(rig.held())
            cycles.tasks.append(int((await rig.metrics())["dub_event_loop_tasks"]))
        await publisher.end()
    return cycles


async def _watch(rig: Rig, session: str) -> None:
    seen = asyncio.Event()
    link = await view(
        rig.http, f"{rig.url}/whep/{session}", lambda frame, now_ns: seen.set(), lambda frame, now_ns: None
    )
    async with asyncio.timeout(FREED_LIMIT_S):
        await seen.wait()
    await link.close()


async def _whole_session(rig: Rig, programme: Path) -> None:
    """From its making to its end; a pause for the spare worker, whose process is begun meanwhile."""
    whole, pace = load(programme), Pace()
    async with rig.session(**VOICE) as session:
        tracks = [EncodedVideo(whole.pictures, RATE, pace), EncodedSound(whole.voice, pace)]
        link = await publish(rig.http, f"{rig.url}/whip/{session}", tracks)
        async with connect(rig.url, session) as stream:
            await _watch(rig, session)
            await anext(stream.events())
        await link.close()
    await rig.calm(0.5)


async def admitted(rig: Rig, most: int) -> tuple[int, int, int]:
    """Begin sessions until the server refuses; how many it took, the status then, and Retry-After in s."""
    async with AsyncExitStack() as stack:
        for count in range(most + 1):
            async with rig.http.post(f"{rig.url}/v1/sessions", json={"actor": "actor"}) as answer:
                if answer.status != 201:
                    return count, answer.status, int(answer.headers.get("Retry-After", 0))
                session = (await answer.json())["id"]
            stack.push_async_callback(rig.over, session)
            await stack.enter_async_context(rig.kept(session))
    return most + 1, 201, 0


async def stalls(rig: Rig) -> tuple[int, int]:
    """How often the server's loop was more than 50 ms late so far: in all, and because it computed."""
    metrics = await rig.metrics()
    by_cause = {cause: int(metrics[f"{_STALLS}{{cause={cause}}}"]) for cause in ("computed", "waited")}
    return sum(by_cause.values()), by_cause["computed"]
