"""The live page in a real Chromium on the real server: a programme, a camera, words, what goes wrong."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from clients.serve import live_server, mint
from streaming.server.config import Access, Actors, Listen, Programmes, ServerConfig, Sessions
from tests.integration.test_live_session import folder  # noqa: F401  the film and the toy actor
from tests.support.chromium import Page, needs_chromium, opened

pytestmark = [needs_chromium, pytest.mark.slow]
FAKE_CAMERA = "--use-fake-device-for-media-stream"
LIVE = "document.getElementById('state').textContent === 'live'"
DECODED = "document.getElementById('dub').getVideoPlaybackQuality().totalVideoFrames"
ERROR = "document.getElementById('error').textContent"
README = Path(__file__).resolve().parents[2] / "README.md"
Visit = Callable[[Page, str], Awaitable[None]]


def settings(folder: Path) -> ServerConfig:  # noqa: F811
    """Of a server with the toy actor and the film."""
    return ServerConfig(
        server=Listen(port=0),
        sessions=Sessions(most=1, idle="closed", measure=False, override_consent=True),
        actors=Actors(folder=folder),
        programmes=Programmes(folders=(folder,)),
    )


def visit(folder: Path, scene: Visit, *flags: str, secret: str = "") -> None:  # noqa: F811
    """Run a scene on the page of a server with the toy actor and the film; with a secret, by a token."""
    config = replace(settings(folder), access=Access(secret))
    token = f"#token={mint(config, ['admin'], None, 5.0)}" if secret else ""

    async def whole() -> None:
        async with (
            asyncio.timeout(200),
            live_server(config) as url,
            opened(f"{url}/{token}", *flags) as page,
        ):
            await page.until("document.getElementById('actor')?.options.length > 0")
            await scene(page, url)
            assert page.complaints == []

    asyncio.run(whole())


async def choose(page: Page, field: str, value: str) -> None:
    await page.ask(f"document.getElementById('{field}').value = '{value}'")


async def begin(page: Page) -> None:
    await page.ask("document.getElementById('start').click()")
    await page.until(f"{LIVE} || {ERROR}", 90)
    assert await page.ask(ERROR) == ""


async def playing(page: Page) -> None:
    before: Any = await page.ask(DECODED)
    await page.until(f"{DECODED} > {before + 15}", 60)


def test_a_programme_speaks_what_is_typed(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    async def scene(page: Page, url: str) -> None:
        await choose(page, "picture", "film.mp4")
        await begin(page)
        await playing(page)
        await page.ask("document.getElementById('speak').click()")
        await page.until("/s of speech/.test(document.getElementById('said').textContent)")
        # A busy machine may leave the mouth out, so what is waited for is told in any case.
        for value in ("skew", "fps", "bitrate", "ladder"):
            await page.until(f"document.querySelector('[data-value={value}]').textContent.length > 1", 60)
        await page.ask("document.getElementById('interrupt').click()")
        await page.until("/Interrupted/.test(document.getElementById('said').textContent)")
        for name, width, height, dark in (("wide", 1280, 1000, False), ("phone", 360, 740, True)):
            await page.size(width, height, dark=dark)
            await asyncio.sleep(0.5)
            assert await page.ask("document.documentElement.scrollWidth") <= width
            await page.picture(tmp_path / f"{name}.png")
        await page.ask("document.getElementById('start').click()")
        await page.until("document.getElementById('state').textContent === 'not running'")

    visit(folder, scene)
    wide, phone = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("wide", "phone"))
    assert wide is not None
    assert phone is not None
    assert wide[80:380, 660:1220].std() > 20  # the dub shows a picture
    assert np.median(wide) > 200  # light
    assert np.median(phone) < 60  # dark


def test_with_a_token_the_original_is_shown_too(folder: Path) -> None:  # noqa: F811
    async def scene(page: Page, url: str) -> None:
        await choose(page, "picture", "film.mp4")
        await begin(page)
        await playing(page)
        source = "document.getElementById('source').src"
        assert await page.ask(source) == f"{url}/v1/programmes/film.mp4"
        assert await page.ask(f"fetch({source}).then(answer => answer.status)") == 200
        assert await page.ask("document.cookie") == ""

    visit(folder, scene, secret="s" * 32)


def test_a_camera_and_a_microphone_go_live_and_are_let_go(folder: Path) -> None:  # noqa: F811
    async def scene(page: Page, url: str) -> None:
        await choose(page, "picture", "camera")
        await page.ask("document.querySelector('[value=microphone]').click()")
        await begin(page)
        await playing(page)
        assert await page.ask("document.getElementById('source').srcObject.getTracks().length") == 2
        await page.ask("document.getElementById('start').click()")
        await page.until("document.getElementById('state').textContent === 'not running'")
        assert await page.ask("document.getElementById('source').srcObject") is None
        left = await page.ask("fetch('/v1/sessions').then(a => a.json()).then(a => a.sessions.length)")
        assert left == 0

    visit(folder, scene, FAKE_CAMERA)


def test_without_a_camera_it_says_so_and_a_full_server_too(folder: Path) -> None:  # noqa: F811
    async def scene(page: Page, url: str) -> None:
        await choose(page, "picture", "camera")
        await page.ask("document.getElementById('start').click()")
        assert "camera" in await page.until(ERROR)
        await page.ask(
            "fetch('/v1/sessions', {method: 'POST', headers: {'Content-Type': 'application/json'}, "
            "body: JSON.stringify({actor: 'toy'})}).then(a => a.status)"
        )
        await choose(page, "picture", "film.mp4")
        await page.ask("document.getElementById('start').click()")
        await page.until(f"/full/.test({ERROR})")

    visit(folder, scene)


def test_the_readme_s_client_speaks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    block = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)[0]
    code = block.rsplit("asyncio.run(", 1)[0].replace('"anna"', '"toy"')
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)

    async def whole() -> None:
        async with asyncio.timeout(100), live_server(settings(folder)) as url:
            running = asyncio.ensure_future(names["main"](url, "film.mp4"))
            said = ""
            while "latency" not in said and not running.done():
                await asyncio.sleep(0.1)
                said += capsys.readouterr().out
            assert not running.done(), running.exception()
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(whole())
