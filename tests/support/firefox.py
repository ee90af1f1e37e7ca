"""A real headless Firefox, driven by WebDriver BiDi: open a page, ask it, take its picture."""

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

START_S = 60.0
NAMES = ("firefox-esr", "firefox")
Preferences = Mapping[str, bool | int | str]
FAKE_CAMERA: Preferences = {"media.navigator.streams.fake": True}
"""A picture that changes its colour, and a tone."""

DARK: Preferences = {"layout.css.prefers-color-scheme.content-override": 0}
LIGHT: Preferences = {"layout.css.prefers-color-scheme.content-override": 1}
SHOWS_H264: Preferences = {"media.navigator.mediadatadecoder_h264_enabled": True}
"""What `PLUGIN` promises is kept by FFmpeg's decoder; nothing encodes H.264 then."""

PLUGIN = """Name: gmpopenh264
Description: a name and nothing else
Version: 1.0
APIs: encode-video[h264], decode-video[h264]
"""
"""Firefox offers H.264 where it has OpenH264, a plugin that it fetches from its maker."""

PREFERENCES: Preferences = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": False,
    "media.navigator.permission.disabled": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.prefs.recommended": True,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.server": "",
}
"""It goes to no other server, and asks nobody for leave to use the camera."""


def find_firefox() -> str | None:
    """The browser, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


needs_firefox = pytest.mark.skipif(find_firefox() is None, reason="no Firefox here")


class NotReadyError(Exception):
    """The page cannot do that now; it may be loading."""


class FoxPage:
    """An open page.

    Attributes:
        complaints: errors that the page's code ended with, or wrote to the console.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._context = ""
        self.complaints: list[str] = []

    async def read(self) -> None:
        """Take what the browser says; runs beside everything else."""
        async for frame in self._socket:
            message = frame.json()
            if message.get("id") in self._answers:
                self._answers.pop(message["id"]).set_result(message)
            elif message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.complaints.append(str(message["params"]["text"]))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        message = await asyncio.wait_for(answer, 60)
        if message["type"] == "error":
            raise NotReadyError(f"{message['error']}: {message['message']}")
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, url: str) -> None:
        """Show a page, and wait until it is loaded."""
        await self.call("session.new", capabilities={})
        await self.call("session.subscribe", events=["log.entryAdded"])
        tree = await self.call("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]
        await self.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def ask(self, expression: str) -> Any:
        """The value of some JavaScript, awaited if it is a promise."""
        result = await self.call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})) ?? 'null')()",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert result["type"] == "success", result["exceptionDetails"]["text"]
        return json.loads(result["result"]["value"])

    async def until(self, expression: str, within_s: float = 60) -> Any:
        """Wait until some JavaScript is true; its value."""
        for _ in range(int(within_s / 0.2)):
            with suppress(NotReadyError):
                if value := await self.ask(expression):
                    return value
            await asyncio.sleep(0.2)
        raise AssertionError(f"{expression} did not become true; the page said {self.complaints}")

    async def picture(self, path: Path) -> None:
        """Write what it looks like, as PNG."""
        shot = await self.call("browsingContext.captureScreenshot", context=self._context, origin="document")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    async def size(self, width: int, height: int) -> None:
        """Give it another size, px."""
        viewport = {"width": width, "height": height}
        await self.call(
            "browsingContext.setViewport", context=self._context, viewport=viewport, devicePixelRatio=1
        )


@asynccontextmanager
async def opened(url: str, preferences: Preferences) -> AsyncIterator[FoxPage]:
    """Show a page until the end of the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        chosen = {**PREFERENCES, **preferences}
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in chosen.items()]
        (folder / "user.js").write_text("\n".join(lines), encoding="utf-8")
        if chosen.get(next(iter(SHOWS_H264))):
            _promise_h264(folder / "gmp-gmpopenh264" / "1.0")
        process = _started(folder)
        try:
            address = await asyncio.to_thread(_address, folder / "log", process)
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(f"{address}/session", max_msg_size=1 << 26) as socket,
            ):
                page = FoxPage(socket)
                reading = asyncio.ensure_future(page.read())
                try:
                    await page.open(url)
                    yield page
                finally:
                    reading.cancel()
                    await asyncio.wait({reading})
        finally:
            await asyncio.to_thread(_stopped, process)


def _promise_h264(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "gmpopenh264.info").write_text(PLUGIN, encoding="utf-8")
    (folder / "libgmpopenh264.so").touch()


def _started(folder: Path) -> "subprocess.Popen[bytes]":
    program = find_firefox()
    assert program is not None
    command = [program, "--headless", "--remote-debugging-port", "0", "--profile", str(folder), "about:blank"]
    plugin = str(folder / "gmp-gmpopenh264" / "1.0")
    home = os.environ | {"HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_GMP_PATH": plugin}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=home, start_new_session=True)


def _address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """From the line in which it tells where it listens."""
    for _ in range(int(START_S / 0.1)):
        text = log.read_text(errors="replace")
        if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", text):
            return found[1]
        assert process.poll() is None, text[-800:]
        time.sleep(0.1)
    raise AssertionError("Firefox did not start")


def _stopped(process: "subprocess.Popen[bytes]") -> None:
    for number, wait_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
