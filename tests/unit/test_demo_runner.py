import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.demo.job import DemoRequest
from clients.demo.runner import MAX_WAITING, Board, Jobs, Take, run_child
from engine.errors import BackendError, InputError

Run = Callable[[DemoRequest, Take, Take], Any]


def nothing(progress: dict[str, Any]) -> None:
    """Take no note."""


async def with_worker(jobs: Jobs, work: Callable[[], Any]) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        worker = tasks.create_task(jobs.work())
        await work()
        worker.cancel()


async def until(board: Board, right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    state = await board.after(-1, 0.0)
    while not right(state):
        state = await board.after(state["version"], 10.0)
    return state


def jobs_of(run: Run) -> Jobs:
    return Jobs(Board(), lambda request, result: {"id": request.out_dir.name, **result}, run)


def test_a_child_says_what_is_wrong_with_the_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to say"):
        asyncio.run(run_child(DemoRequest(tmp_path / "out", text="..."), nothing, nothing))


def test_a_child_that_breaks_is_reported_by_its_last_words(tmp_path: Path) -> None:
    broken = DemoRequest(tmp_path / "out", text="Hello.", voice=7)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="status 1: TypeError"):
        asyncio.run(run_child(broken, nothing, nothing))


def test_a_cancelled_child_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        begun = asyncio.Event()
        request = DemoRequest(tmp_path / "out", text="Hello.")
        task = asyncio.create_task(run_child(request, lambda _: begun.set(), nothing))
        async with asyncio.timeout(20):
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    assert not (tmp_path / "out" / "dubbed.mp4").exists()


def test_the_board_wakes_who_waits_and_lets_go_after_the_limit() -> None:
    async def scenario() -> None:
        board = Board()
        waiting = asyncio.create_task(board.after(0, 10.0))
        await asyncio.sleep(0)
        board.update(error="x")
        assert (await waiting) == {"version": 1, "job": None, "waiting": 0, "result": None, "error": "x"}
        assert (await board.after(1, 0.001))["version"] == 1

    asyncio.run(scenario())


def test_jobs_run_one_at_a_time_in_order(tmp_path: Path) -> None:
    running: list[str] = []

    async def run(request: DemoRequest, on_progress: Take, on_preview: Take) -> dict[str, Any]:
        running.append(request.out_dir.name)
        assert len(running) == 1
        on_progress({"text": "half", "fraction": 0.5})
        await asyncio.sleep(0)
        running.clear()
        return {"name": request.out_dir.name}

    jobs = jobs_of(run)

    async def scenario() -> None:
        jobs.submit(DemoRequest(tmp_path / "1"))
        jobs.submit(DemoRequest(tmp_path / "2"))
        state = await until(jobs.board, lambda state: (state["result"] or {}).get("id") == "2")
        assert state["job"] is None
        assert state["error"] is None

    asyncio.run(with_worker(jobs, scenario))


def test_a_failure_is_shown_and_the_next_job_runs(tmp_path: Path) -> None:
    async def run(request: DemoRequest, on_progress: Take, on_preview: Take) -> dict[str, Any]:
        if request.out_dir.name == "1":
            raise InputError("no face")
        return {}

    jobs = jobs_of(run)

    async def scenario() -> None:
        jobs.submit(DemoRequest(tmp_path / "1"))
        await until(jobs.board, lambda state: state["error"] == "no face")
        jobs.submit(DemoRequest(tmp_path / "2"))
        state = await until(jobs.board, lambda state: state["result"] is not None)
        assert state["error"] is None

    asyncio.run(with_worker(jobs, scenario))


def test_a_preview_shows_while_the_job_goes_on(tmp_path: Path) -> None:
    seen = asyncio.Event()

    async def run(request: DemoRequest, on_progress: Take, on_preview: Take) -> dict[str, Any]:
        on_preview({"pass": 1})
        await seen.wait()
        return {"pass": 2}

    jobs = jobs_of(run)

    async def scenario() -> None:
        jobs.submit(DemoRequest(tmp_path / "1"))
        state = await until(jobs.board, lambda state: state["result"] is not None)
        assert state["result"]["pass"] == 1
        assert state["job"] is not None
        seen.set()
        state = await until(jobs.board, lambda state: state["job"] is None)
        assert state["result"]["pass"] == 2

    asyncio.run(with_worker(jobs, scenario))


def test_a_full_queue_refuses_in_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        jobs = jobs_of(run_child)
        for index in range(MAX_WAITING):
            jobs.submit(DemoRequest(tmp_path / str(index)))
        with pytest.raises(InputError, match="waiting already"):
            jobs.submit(DemoRequest(tmp_path / "more"))

    asyncio.run(scenario())


def test_stopping_ends_the_job_and_what_waits_if_asked(tmp_path: Path) -> None:
    async def run(request: DemoRequest, on_progress: Take, on_preview: Take) -> dict[str, Any]:
        on_progress({"text": request.out_dir.name})
        await asyncio.Event().wait()
        return {}

    jobs = jobs_of(run)

    async def scenario() -> None:
        for name in ("1", "2"):
            jobs.submit(DemoRequest(tmp_path / name))
        await until(jobs.board, lambda state: (state["job"] or {}).get("text") == "1")
        await jobs.stop()
        await until(jobs.board, lambda state: (state["job"] or {}).get("text") == "2")
        jobs.submit(DemoRequest(tmp_path / "3"))
        await jobs.stop(waiting_too=True)
        assert (jobs.board.content["job"], jobs.board.content["waiting"]) == (None, 0)

    asyncio.run(with_worker(jobs, scenario))
