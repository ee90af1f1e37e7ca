import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.errors import CapacityError, InputError, WorkerError
from streaming.server.manager import SessionExistsError, SessionManager, UnknownSessionError, checked_name
from streaming.types import SessionOptions
from tests.support.live_sessions import OFFER, MemorySession

OPTIONS = SessionOptions(Path("ann.actor"))


class World:
    """Time, and all sessions that were made."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.carries = 3
        self.made: list[MemorySession] = []
        self.broken = False

    def make(self, name: str, options: SessionOptions) -> MemorySession:
        self.made.append(MemorySession(name, options))
        if self.broken:
            self.made[-1].fail_start = WorkerError("no worker")
        return self.made[-1]


def play(story: Callable[[World, SessionManager], Awaitable[None]], most: int = 2) -> None:
    async def scene() -> None:
        world = World()
        manager = SessionManager(
            world.make,
            most=most,
            measured=lambda: world.carries,
            idle_s=10,
            longest_s=100,
            clock_s=lambda: world.now_s,
        )
        await story(world, manager)
        await manager.close()
        assert all(session.closed.is_set() for session in world.made)

    asyncio.run(scene())


def test_a_session_is_found_by_its_name_until_it_is_deleted() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        session = await manager.create(OPTIONS)
        named = await manager.create(OPTIONS, "show")
        assert manager.get(session.id) is session
        assert list(manager) == [session, named]
        assert len(session.id) >= 12
        with pytest.raises(SessionExistsError):
            await manager.create(OPTIONS, "show")
        assert await manager.delete("show")
        assert not await manager.delete("show")
        assert world.made[1].reason == "deleted"
        with pytest.raises(UnknownSessionError):
            manager.get("show")

    play(story)


def test_admission_follows_the_operator_and_the_machine() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        assert manager.capacity == 2
        await manager.create(OPTIONS)
        assert manager.has_room
        await manager.create(OPTIONS, "second")
        with pytest.raises(CapacityError, match="full with 2") as refused:
            await manager.create(OPTIONS)
        assert refused.value.retry_after_s > 0
        await manager.delete("second")
        world.carries = 1
        assert not manager.has_room
        with pytest.raises(CapacityError):
            await manager.create(OPTIONS)
        assert len(world.made) == 2

    play(story)


def test_sessions_that_are_starting_count() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        results = await asyncio.gather(*(manager.create(OPTIONS) for _ in range(4)), return_exceptions=True)
        assert sum(isinstance(result, CapacityError) for result in results) == 2
        assert len(manager) == 2

    play(story)


def test_a_start_that_fails_leaves_nothing() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        world.broken = True
        with pytest.raises(WorkerError):
            await manager.create(OPTIONS, "show")
        assert len(manager) == 0
        assert world.made[0].reason == "could not start"
        world.broken = False
        await manager.create(OPTIONS, "show")

    play(story)


def test_nobody_there_ends_a_session_and_anybody_there_keeps_it() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        await manager.create(OPTIONS, "idle")
        seen = await manager.create(OPTIONS, "seen")
        await seen.view(OFFER)
        world.now_s = 9.0
        await manager.sweep()
        assert len(manager) == 2
        world.now_s = 10.0
        await manager.sweep()
        assert [session.id for session in manager] == ["seen"]
        assert "nobody" in str(world.made[0].reason)
        with manager.hold("seen") as session:
            await session.end("viewer-0")
            world.now_s = 25.0
            await manager.sweep()
            assert len(manager) == 1
        world.now_s = 36.0
        await manager.sweep()
        assert len(manager) == 0

    play(story)


def test_asking_for_a_session_is_use_of_it() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        await manager.create(OPTIONS, "show")
        world.now_s = 8.0
        manager.get("show")
        world.now_s = 15.0
        await manager.sweep()
        assert len(manager) == 1

    play(story)


def test_no_session_lasts_for_ever() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        await manager.create(OPTIONS, "show")
        with manager.hold("show"):
            world.now_s = 100.0
            await manager.sweep()
        assert len(manager) == 0

    play(story)


def test_a_session_that_ended_itself_is_forgotten() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        session = await manager.create(OPTIONS, "show")
        await session.close("the worker is beyond repair")
        with pytest.raises(UnknownSessionError):
            manager.get("show")
        await manager.sweep()
        assert len(manager) == 0

    play(story)


def test_a_server_that_ends_lets_nobody_in() -> None:
    async def story(world: World, manager: SessionManager) -> None:
        await manager.create(OPTIONS)
        await manager.close()
        assert world.made[0].reason == "the server ends"
        with pytest.raises(CapacityError, match="ending"):
            await manager.create(OPTIONS)

    play(story)


@pytest.mark.parametrize("name", ["", "-a", "a/b", "..", "a.b", "a" * 65, "ä", "a\n"])
def test_names_that_cannot_be_part_of_a_path(name: str) -> None:
    with pytest.raises(InputError, match="a name has"):
        checked_name(name)
