import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from clients import speak
from clients.demo import speech
from clients.sdk import connect
from tests.support.live_sessions import Running, scene


async def typed(*lines: str) -> AsyncIterator[str]:
    for line in lines:
        yield line


def test_typed_lines_are_heard_in_the_session(tmp_path: Path) -> None:
    said: list[str] = []
    expected = speech.speak("Hello there.", "en-us")

    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        async with connect(server.url, "show") as stream:
            lines = typed("Hello there.\n", "...\n")
            await speak.speak(stream, lines, "en-us", say=said.append)
            while not session.ended:
                await stream.ping()
            await speak.speak(stream, typed("\n"), "en-us", say=said.append)
        heard = np.concatenate([piece.samples for piece, _ in session.pieces])
        np.testing.assert_allclose(heard / 32767.0, expected.samples, atol=1e-4)
        assert {piece.rate_hz for piece, _ in session.pieces} == {expected.rate_hz}

    scene(tmp_path, scenario)
    assert "nothing to say" in said[0]
    assert said[1].startswith("interrupted; ")


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert speak.main(["http://127.0.0.1:9", "show"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("livedub: the server at http://127.0.0.1:9 cannot be reached")


def test_lines_come_from_the_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("one\ntwo\n")

    async def read() -> list[str]:
        with text.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            return [line async for line in speak._typed()]

    assert asyncio.run(read()) == ["one\n", "two\n"]
