"""A real headless Chromium, driven over the DevTools protocol: open a page, ask it, take its picture."""

import asyncio
import base64
import itertools
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from benchmarks.live.browser import browser, find_browser

START_S = 60.0

needs_chromium = pytest.mark.skipif(find_browser() is None, reason="no Chromium here")


class NotReadyError(Exception):
    """The page cannot do that now; it may be loading."""


class Page:
    """An open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []

    async def read(self) -> None:
        """Take what the browser says; runs beside everything else."""
        async for frame in self._socket:
            message = frame.json()
            if message.get("id") in self._answers:
                self._answers.pop(message["id"]).set_result(message)
            elif message.get("method") == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        message = await asyncio.wait_for(answer, 60)
        if "error" in message:
            raise NotReadyError(message["error"]["message"])
        result: dict[str, Any] = message["result"]
        return result

    async def ask(self, expression: str) -> Any:
        """The value of some JavaScript, awaited if it is a promise."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

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
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give it another size, px, and another liking for the dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])


@asynccontextmanager
async def opened(url: str, *flags: str) -> AsyncIterator[Page]:
    """Show a page until the end of the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        with browser("about:blank", flags=["--remote-debugging-port=0", *flags], log=log) as process:
            port = await asyncio.to_thread(_port, log, process)
            async with aiohttp.ClientSession() as http:
                async with http.put(f"http://127.0.0.1:{port}/json/new?{quote(url, safe='')}") as answer:
                    address = (await answer.json())["webSocketDebuggerUrl"]
                async with http.ws_connect(address, max_msg_size=1 << 26) as socket:
                    page = Page(socket)
                    reading = asyncio.ensure_future(page.read())
                    try:
                        await page.call("Runtime.enable")
                        await page.call("Page.enable")
                        yield page
                    finally:
                        reading.cancel()
                        await asyncio.wait({reading})


def _port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    """From the line in which it tells where DevTools listens."""
    for _ in range(int(START_S / 0.1)):
        for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
            if line.startswith("DevTools listening on ws://"):
                return int(line.split(":")[2].split("/")[0])
        assert process.poll() is None, log.read_text(errors="replace")[-800:]
        time.sleep(0.1)
    raise AssertionError("Chromium did not start")
