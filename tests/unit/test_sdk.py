import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from clients import sdk
from clients.sdk import Dub, connect, create_session
from engine.errors import AccessError, BackendError, CapacityError, InputError, ProtocolError
from streaming.server import messages
from streaming.server.config import Access, ServerConfig, Sessions
from streaming.server.rest import NewSession
from streaming.types import Event, Playback
from tests.support.live_sessions import QUEUE_SAMPLES, Running, scene

SECRET = "s" * 32


def heard(session: Any) -> Any:
    return np.concatenate([piece.samples for piece, _ in session.pieces])


def test_ten_lines_make_an_actor_speak(tmp_path: Path) -> None:
    pcm = np.arange(-3000, 3000, dtype=np.int16)

    async def scenario(server: Running) -> None:
        made = await create_session(server.url, "ann", id="show", latency_budget_ms=300)
        assert made["latency_budget_ms"] == 300
        async with connect(server.url, made["id"]) as dub:
            assert dub.options["session"] == "show"
            assert await dub.say(pcm, rate_hz=24_000) == 1
            assert await dub.say(pcm[:1], rate_hz=24_000) == 2
            while server.made[0].ended != [1, 2]:
                await dub.ping()
            server.made[0].tell(Event("state", {"is": "live"}))
            async for event in dub.events():
                assert event == Event("state", {"is": "live"})
                break
        np.testing.assert_array_equal(heard(server.made[0]), np.append(pcm, pcm[:1]))
        assert [utterance for _, utterance in server.made[0].pieces] == [1, 1, 1, 2]
        assert all(piece.rate_hz == 24_000 for piece, _ in server.made[0].pieces)

    scene(tmp_path, scenario)


def test_more_than_there_is_room_for_waits(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        sound = np.zeros(3 * QUEUE_SAMPLES, np.float32)
        async with connect(server.url, "show") as dub, asyncio.TaskGroup() as tasks:
            saying = tasks.create_task(dub.say(sound, 48_000))
            while not saying.done():
                session.play(QUEUE_SAMPLES // 4)
                await dub.ping()
        assert heard(session).size == sound.size

    scene(tmp_path, scenario)


def test_an_interrupt_stops_what_still_waits_here(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        async with connect(server.url, "show") as dub, asyncio.TaskGroup() as tasks:
            saying = tasks.create_task(dub.say(np.zeros(3 * QUEUE_SAMPLES, np.int16), 48_000))
            while session.room:
                await dub.ping()
            assert await dub.interrupt() == Playback(1, 40, 2000)
            assert await saying == 1
        assert session.ended == []
        assert heard(session).size == QUEUE_SAMPLES

    scene(tmp_path, scenario)


def test_the_client_calls_things_as_the_protocol_does() -> None:
    kinds = {str(kind.__struct_config__.tag) for kind in get_args(messages.Message)}
    methods = {name for name in vars(sdk.Stream) if not name.startswith("_")}
    assert kinds - methods == {
        "hello",
        "audio",
        "begin",
        "flush",
    }  # headers, `send`, and every sound is named
    said = create_session.__doc__ or ""
    assert [name for name in NewSession.__struct_fields__[1:] if f"`{name}`" not in said] == []


def test_floats_become_samples_without_wrapping() -> None:
    loud = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
    np.testing.assert_array_equal(sdk._as_pcm(loud), [-32768, -32767, 0, 16384, 32767, 32767])
    np.testing.assert_array_equal(sdk._as_pcm(loud.astype(np.float32)), sdk._as_pcm(loud))
    for wrong in (np.zeros((2, 2), np.int16), np.zeros(2, np.int32)):
        with pytest.raises(ValueError, match="samples must be"):
            sdk._as_pcm(wrong)  # type: ignore[arg-type]


def test_what_the_server_refuses_is_one_of_our_errors(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        admin = server.server.gate.mint(["admin"], "*", 60)[0]
        with pytest.raises(AccessError, match="token"):
            await create_session(server.url, "ann")
        with pytest.raises(InputError, match="no actor 'bob'"):
            await create_session(server.url, "bob", token=admin)
        made = await create_session(server.url, "ann", token=admin)
        with pytest.raises(CapacityError) as full:
            await create_session(server.url, "ann", token=admin)
        assert full.value.retry_after_s > 0
        for name, token, kind in ((made["id"], "x", AccessError), ("none", admin, InputError)):
            with pytest.raises(kind):
                async with connect(server.url, name, token=token):
                    pass
        watcher = server.server.gate.mint(["view"], made["id"], 60)[0]
        async with connect(server.url, made["id"], token=watcher) as dub:
            with pytest.raises(InputError, match="no right to control"):
                await dub.interrupt()

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET), sessions=Sessions(most=1)))


def test_a_server_that_is_not_there() -> None:
    async def ask() -> None:
        with pytest.raises(BackendError, match="cannot be reached"):
            await create_session("http://127.0.0.1:9", "ann")
        with pytest.raises(BackendError, match="cannot be reached"):
            async with connect("http://127.0.0.1:9", "show"):
                pass

    asyncio.run(ask())


def test_the_end_of_the_session_is_told(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        async with connect(server.url, "show") as dub:
            await dub.ping()
            await session.close("over")
            assert [event async for event in dub.events()] == []
            with pytest.raises(ProtocolError, match="1001"):
                await dub.say(np.zeros(5, np.int16), 48_000)

    scene(tmp_path, scenario)


def test_without_asyncio(tmp_path: Path) -> None:
    def talk(url: str) -> Playback:
        with Dub(url, "show") as dub:
            assert dub.say(np.ones(4800, np.int16), rate_hz=48_000) == 1
            played = dub.interrupt()
            events: Iterator[Event] = iter(dub)
            assert next(events) == Event("state", {"is": "live"})
            return played

    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        talking = asyncio.create_task(asyncio.to_thread(talk, server.url))
        while not talking.done():
            session.tell(Event("state", {"is": "live"}))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(talking), 0.02)
        assert talking.result() == Playback(1, 40, 100)
        with pytest.raises(InputError):
            await asyncio.to_thread(Dub(server.url, "none").__enter__)

    scene(tmp_path, scenario)
