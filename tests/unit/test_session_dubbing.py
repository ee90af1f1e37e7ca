"""A session's worker that dies, again and again: how soon the next one is there. In virtual time."""

import asyncio
import selectors
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.errors import WorkerError
from streaming.session.dubbing import HEALTHY_S, LONG_LIFE_S, RETRY_S, Dubbing, Patience
from streaming.types import SessionOptions
from streaming.worker.link import FrameDone

OPEN_S, FRAME_S = 0.5, 0.04


class VirtualTime(selectors.DefaultSelector):
    """Lets a loop's time pass as soon as nothing is to be done."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "nothing would ever happen"
            self.now_s += timeout
        return events


def virtual_loop() -> asyncio.AbstractEventLoop:
    selector = VirtualTime()
    loop = asyncio.SelectorEventLoop(selector)
    vars(loop)["time"] = lambda: selector.now_s
    return loop


@dataclass
class Worker:
    """Answers frames as long as it lives."""

    name: str = "worker"
    pid: int = 1

    def set_rung(self, rung: str) -> None:
        return


@dataclass
class Life:
    """What the next worker does: it lives so long, and draws so much of that; None: it does not open."""

    lives_s: float | None
    draws_s: float = 0.0


@dataclass
class Pool:
    """Opens workers as a script says."""

    script: list[Life]
    tries_s: list[float] = field(default_factory=list)

    async def start(
        self,
        options: object,
        slots: object,
        *,
        on_done: Callable[[FrameDone], None],
        on_death: Callable[[WorkerError], None],
    ) -> Worker:
        loop = asyncio.get_running_loop()
        self.tries_s.append(loop.time())
        life = self.script.pop(0) if self.script else Life(1e6)
        await asyncio.sleep(OPEN_S)
        if life.lives_s is None:
            raise WorkerError("it did not open")
        for number in range(round(life.draws_s / FRAME_S) + (life.draws_s > 0)):
            done = FrameDone(number, 0, "dubbed", 1.0, 1.0, False, {})
            loop.call_later(FRAME_S * number, on_done, done)
        loop.call_later(life.lives_s, on_death, WorkerError("killed"))
        return Worker()


def waits_s(script: list[Life]) -> list[float]:
    """From each death, or failure to open, to the next try."""
    lives = list(script)
    tries: list[float] = []

    async def play() -> None:
        pool: Any = Pool(script)
        nothing: Any = None
        dubbing = Dubbing(
            pool,
            SessionOptions(Path("toy.actor")),
            nothing,
            on_done=lambda done: None,
            on_up=lambda name: None,
            on_down=lambda why: None,
        )
        await dubbing.start()
        await asyncio.sleep(1000)
        tries.extend(pool.tries_s)
        dubbing._link = None
        await dubbing.close()

    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        runner.run(play())
    ends = [at + OPEN_S + (life.lives_s or 0) for at, life in zip(tries, lives, strict=False)]
    return [round(again - end, 6) for end, again in zip(ends, tries[1:], strict=True)]


def test_a_healthy_worker_that_is_killed_again_and_again_is_replaced_at_once() -> None:
    assert waits_s([Life(8.0, draws_s=7.0)] * 5) == [0.0] * 5


def test_a_device_that_fails_every_time_is_given_more_and_more_time() -> None:
    soon = [Life(0.1, draws_s=0.08)] * 6
    assert waits_s(soon) == [0.0, 1.0, 2.0, 5.0, 5.0, 5.0]
    assert waits_s([Life(0.1), Life(None), Life(None), Life(0.0), Life(None)]) == [0.0, 1.0, 2.0, 5.0, 5.0]


def test_a_healthy_life_forgets_what_failed_before() -> None:
    script = [Life(0.1), Life(0.1), Life(3.0, draws_s=2.5), Life(0.1), Life(0.1)]
    assert waits_s(script) == [0.0, 1.0, 0.0, 1.0, 2.0]


def test_a_worker_that_was_alive_but_drew_nothing_proves_nothing_for_half_a_minute() -> None:
    assert waits_s([Life(10.0), Life(10.0), Life(31.0), Life(10.0)]) == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("drew_s", "lived_s", "wait_s"),
    [
        (HEALTHY_S, HEALTHY_S, 0.0),
        (HEALTHY_S - 0.01, 10.0, RETRY_S[1]),
        (0.0, LONG_LIFE_S, 0.0),
        (0.0, LONG_LIFE_S - 0.01, RETRY_S[1]),
    ],
)
def test_what_counts_as_healthy(drew_s: float, lived_s: float, wait_s: float) -> None:
    now_s = 100.0
    patience = Patience(lambda: now_s)
    assert patience.failed() == RETRY_S[0]
    patience.up()
    patience.drawn()
    now_s += drew_s
    patience.drawn()
    now_s += lived_s - drew_s
    assert patience.failed() == wait_s
