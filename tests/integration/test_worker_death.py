"""Workers that are killed, hang, cannot start, or lose their edge."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.actor.pack import write_pack
from engine.errors import ActorPackError, BackendUnavailable, InputError, WorkerError
from streaming.worker import wire
from streaming.worker.link import PING_S, WorkerLink, _order, ask
from streaming.worker.pool import WorkerPool, capacity_of
from streaming.worker.process import WorkerProcess
from streaming.worker.slots import SlotRing
from tests.support.data import model_file
from tests.support.live_worker import HEIGHT, WIDTH, Driver, face_frame, options, same
from tests.support.toy_actor import toy_actor
from tests.support.voice import voice

BACK_S, HANG_S = 5.0, 1.0
PATIENCE = 4.0  # how much slower than its bar a busy machine may be


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_file("face_landmarker")
    return tmp_path_factory.mktemp("actor")


@pytest.fixture(scope="module")
def driver(folder: Path) -> Iterator[Driver]:
    one = Driver(options(folder))
    yield one
    one.close()


@pytest.fixture
def live(driver: Driver) -> Driver:
    """The driver with a worker that lives and has nothing to do."""
    if not driver.link.alive:
        driver.link = driver.start(slots=driver.link.slots)
    driver.restart()
    driver.deaths.clear()
    return driver


def test_killed_in_the_middle_of_a_frame(live: Driver) -> None:
    """The source is whole, the news come once and at once, and the dub is back on the same slots."""
    film = [face_frame(index) for index in range(8)]
    live.link.give_sound(voice(2.0))
    slots = [live.give(image, index) for index, image in enumerate(film)]
    live.settle(4)
    os.kill(live.link.pid, signal.SIGKILL)
    assert live.until_death(PATIENCE) < 0.2 * PATIENCE
    assert not live.link.alive
    assert live.link.waiting == 0
    for slot, image in zip(slots, film, strict=True):
        assert same(live.link.slots.view(slot), image)
        live.link.slots.give_back(slot)
    assert live.link.slots.free == len(live.link.slots)
    began = time.monotonic()
    live.link = live.start(slots=live.link.slots)
    assert len(live.deaths) == 1
    live.deaths.clear()
    live.play(film, voice(2.0))
    assert live.deaths == []
    assert live.done[-1].level == 1
    assert time.monotonic() - began < BACK_S * PATIENCE


def test_a_dead_worker_is_given_nothing(live: Driver) -> None:
    os.kill(live.link.pid, signal.SIGKILL)
    live.until_death(PATIENCE)
    slot = live.give(face_frame(0), 0)
    live.link.give_sound(voice(0.1))
    live.link.set_rung("half")
    live.link.skip(slot)
    live.link.forget()
    assert live.link.waiting == 0
    assert len(live.deaths) == 1
    assert isinstance(live.deaths[0], WorkerError)


def test_a_worker_that_hangs_is_killed(live: Driver) -> None:
    live.wait(live.link.close())
    live.link = live.start(live.link.slots, HANG_S)
    os.kill(live.link.pid, signal.SIGSTOP)
    live.give(face_frame(0), 0)
    took_s = live.until_death(10.0)
    assert HANG_S <= took_s < 3 * HANG_S
    assert "no sign of life" in str(live.deaths[0])
    assert not psutil.pid_exists(live.link.pid)


def test_a_worker_that_waits_for_sound_does_not_hang(live: Driver) -> None:
    live.give(face_frame(0), 0)
    live.wait(asyncio.sleep(2 * PING_S))
    assert live.link.alive
    assert live.deaths == []


def test_closing_is_no_death_and_leaves_the_slots(live: Driver) -> None:
    pid = live.link.pid
    slot = live.give(face_frame(0), 0)
    live.wait(live.link.close())
    live.wait(live.link.close())
    assert not psutil.pid_exists(pid)
    assert live.deaths == []
    assert same(live.link.slots.view(slot), face_frame(0))
    live.link.slots.give_back(slot)
    assert live.link.slots.free == len(live.link.slots)


def test_what_cannot_be_opened_says_why_and_leaves_nothing(
    live: Driver, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.actor").write_bytes(b"no pack")
    write_pack(toy_actor(consent=None), tmp_path / "none.actor")
    ring = SlotRing(WIDTH, HEIGHT, 2)
    children = len(psutil.Process().children())
    process = live.wait(WorkerProcess.spawn())
    for wrong, error, why in (
        (options(folder, actor=tmp_path / "none.actor", override_consent=False), InputError, "no consent"),
        (options(folder, backend="onnxruntime", precision="bf16"), BackendUnavailable, "offers"),
    ):
        with pytest.raises(error, match=why):
            live.wait(ask(process, _order(wrong, ring), wire.Ready, 60, (ring.fd,)))
    bad = options(folder, actor=tmp_path / "bad.actor")
    with pytest.raises(ActorPackError, match="not an actor pack"):
        live.wait(WorkerLink.start(bad, ring, on_done=print, on_death=live.deaths.append, process=process))
    assert len(psutil.Process().children()) == children
    assert live.deaths == []
    ring.close()


def test_a_dead_spare_is_replaced(live: Driver) -> None:
    spare = live.pool._spare
    assert spare is not None

    async def murder() -> None:
        process = await spare
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.wait({process._reaped}, timeout=PATIENCE)
        assert not process.alive

    live.wait(murder())
    live.wait(live.link.close())
    live.link = live.start(slots=live.link.slots)
    assert live.link.alive


def test_a_spare_takes_an_order_while_it_loads() -> None:
    """And goes on like any other process."""

    async def order() -> tuple[float, int, int]:
        process = await WorkerProcess.spawn(spare=True)
        try:
            answer = await ask(process, wire.Measure(None, 320, 240), wire.Measured, 60)
            return answer.frame_s, psutil.Process(process.pid).nice(), _group_nice(process.pid)
        finally:
            await process.close()

    frame_s, nice, group_nice = asyncio.run(order())
    assert 0.001 < frame_s < 5
    assert nice == psutil.Process().nice()
    assert group_nice == 0


def _group_nice(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])
    except OSError:  # this system has none
        return 0


def test_workers_end_with_their_edge(folder: Path) -> None:
    """Also when it is killed, and while they compute."""
    script = """
        import asyncio, sys
        from streaming.worker.process import WorkerProcess

        async def main():
            workers = [await WorkerProcess.spawn() for _ in range(2)]
            print(*(worker.pid for worker in workers), flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """
    edge = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert edge.stdout is not None
    pids = [int(pid) for pid in edge.stdout.readline().split()]
    time.sleep(0.3)  # they are importing now
    edge.kill()
    edge.wait()
    edge.stdout.close()
    limit = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not any(map(runs, pids))


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_processes_that_come_and_go_leave_nothing_behind() -> None:
    async def cycle() -> None:
        process = await WorkerProcess.spawn()
        await process.close()

    with asyncio.Runner() as runner:
        runner.run(cycle())
        gc.collect()
        before = resources()
        for _ in range(20):
            runner.run(cycle())
        gc.collect()
        assert resources() == before
        assert asyncio.all_tasks(runner.get_loop()) == set()


def resources() -> tuple[int, int, int]:
    mine = psutil.Process()
    return mine.num_fds(), threading.active_count(), len(mine.children())


def test_a_worker_that_talks_nonsense_is_ended() -> None:
    async def listen() -> str:
        process = await WorkerProcess.spawn()
        why: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        process.on_end = why.set_result
        process._inbox.to_edge(b"\xff\xff\xff")
        process.send(wire.Ping(1))
        async with asyncio.timeout(60):
            return await why

    why = asyncio.run(listen())
    assert why.endswith(("(exit status -9)", "(exit status 0)")), "killed, or quicker itself"


def test_a_closed_pool_opens_nothing(folder: Path) -> None:
    async def late() -> None:
        async with WorkerPool() as pool:
            pass
        await pool.start(options(folder), SlotRing(WIDTH, HEIGHT, 2), on_done=print, on_death=print)

    with pytest.raises(WorkerError, match="closed"):
        asyncio.run(late())


def test_capacity_is_measured(live: Driver) -> None:
    got = live.wait(live.pool.measure(width=320, height=240))
    assert 0.001 < got.frame_s < 5
    assert got.frames_per_s == pytest.approx(1 / got.frame_s)
    assert got == capacity_of(got.frame_s, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("frame_s", "cores", "sessions"), [(0.02, 2, 1), (0.02, 16, 12), (0.2, 2, 1)])
def test_sessions_that_a_machine_has_room_for(frame_s: float, cores: int, sessions: int) -> None:
    assert capacity_of(frame_s, cores).sessions == sessions
