"""A real worker whose device fails in a frame: the session hears why, and gets another worker."""

import asyncio
from pathlib import Path

import pytest

from streaming.session.dubbing import Dubbing
from streaming.types import SessionOptions
from streaming.worker import process
from streaming.worker.actor import WARM_FRAMES
from streaming.worker.link import FrameDone
from streaming.worker.pool import WorkerPool
from streaming.worker.slots import SlotRing, write
from tests.support import failing_worker
from tests.support.data import model_file
from tests.support.live_worker import BT709, HEIGHT, WIDTH, face_frame, options, same
from tests.support.rtc_peers import until
from tests.support.voice import voice

PATIENCE_S = 60.0
SLOTS, LIVES = 6, 2


class Session:
    """What a session does with its worker, but for the clock."""

    def __init__(self, pool: WorkerPool, actor: Path) -> None:
        self.ring = SlotRing(WIDTH, HEIGHT, SLOTS)
        self.pids: list[int | None] = []
        self.downs: list[str] = []
        self.done: list[FrameDone] = []
        self.given = 0
        self.held: dict[int, int] = {}  # which frame is in a slot
        self.dubbing = Dubbing(
            pool,
            SessionOptions(actor, override_consent=True, idle="closed"),
            self.ring,
            on_done=self._done,
            on_up=self._up,
            on_down=self.downs.append,
        )

    def _up(self, name: str) -> None:
        self.pids.append(self.dubbing.pid)

    def _done(self, done: FrameDone) -> None:
        self.done.append(done)
        self.give_back(done.slot)

    def give_back(self, slot: int) -> None:
        """A frame has left."""
        del self.held[slot]
        self.ring.give_back(slot)

    async def give_until_down(self) -> None:
        """Give frames as fast as they come back, until the worker is gone."""
        downs, self.given = len(self.downs), 0
        self.dubbing.give_sound(voice(4.0))
        while len(self.downs) == downs:
            slot = self.ring.take()
            if slot is None:
                await asyncio.sleep(0.01)
                continue
            write(face_frame(self.given), into=self.ring.view(slot))
            self.held[slot] = self.given
            self.dubbing.give_frame(slot, self.given, self.given / 25, BT709)
            self.given += 1
            await asyncio.sleep(0)


def test_a_device_that_fails_is_told_and_its_worker_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_file("face_landmarker")
    monkeypatch.setattr(process, "MODULE", failing_worker.__name__)
    actor = options(tmp_path).actor

    async def play() -> None:
        async with WorkerPool() as pool:
            session = Session(pool, actor)
            await session.dubbing.start()
            for life in range(LIVES):
                async with asyncio.timeout(PATIENCE_S):
                    await session.give_until_down()
                assert len(session.downs) == life + 1, "it is told once"
                check_a_death(session)
                await until(lambda: len(session.pids) > len(session.downs), PATIENCE_S)
            assert len(set(session.pids)) == LIVES + 1
            await session.dubbing.close()
            session.ring.close()

    asyncio.run(play())


def check_a_death(session: Session) -> None:
    """Why is known, what came before was painted, and what waited is whole and free."""
    assert failing_worker.WHY in session.downs[-1]
    assert session.dubbing.pid is None
    painted = [done for done in session.done if done.level > 0]
    assert failing_worker.PICTURES <= len(painted) <= failing_worker.PICTURES + WARM_FRAMES
    session.done.clear()
    assert session.held
    for slot, index in tuple(session.held.items()):
        assert same(session.ring.view(slot), face_frame(index))
        session.give_back(slot)
    assert session.ring.free == SLOTS, "the worker that is gone has none"
