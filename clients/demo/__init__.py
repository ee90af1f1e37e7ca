"""The product running on this machine from nothing: a portrait, a voice, a dub, and a page to see them."""

import asyncio
import signal
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputError

if TYPE_CHECKING:
    from clients.demo.job import DemoRequest

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoOptions:
    """Options of `livedub demo`.

    Attributes:
        text: what to say; None takes a sentence that introduces the demonstration.
        voice: of espeak-ng, "de" or "en-us+f3"; None takes an American one.
        video: own footage; None takes the packaged portrait.
        audio: a voice from a file in place of `text`.
        port: of the page, 0 for a free one.
        serve: show the page; otherwise write the files and return.
        out: folder for the results; None: `livedub-demo` here without the page, a temporary one with it.
        open_browser: open the page.
    """

    text: str | None = None
    voice: str | None = None
    video: Path | None = None
    audio: Path | None = None
    port: int = 0
    serve: bool = True
    out: Path | None = None
    open_browser: bool = False


def main(options: DemoOptions, say: Say | None = None) -> int:
    """Run the demonstration; with the page, until Ctrl-C or SIGTERM.

    Args:
        options: what to show and where.
        say: takes lines for a person; None writes them to stderr.

    Returns:
        0, the exit status.

    Raises:
        InputError: something given cannot be used, or the results cannot be written.
        BackendError: an inference library or the speech synthesiser is missing or failed.
        AssetError: a model file is missing.
    """
    from clients.demo.job import DEFAULT_VOICE, DemoProgress, DemoRequest, run_demo

    if options.audio is not None and options.text is not None:
        raise InputError("give either --text or --audio, not both")
    for given in (options.video, options.audio):
        if given is not None and not given.is_file():
            raise InputError(f"there is no file {given}")
    request = DemoRequest(
        out_dir=options.out or Path("livedub-demo"),
        text=options.text,
        voice=options.voice or DEFAULT_VOICE,
        video=options.video.resolve() if options.video else None,
        audio=options.audio.resolve() if options.audio else None,
    )
    tell = say or _to_stderr
    if options.serve:
        with suppress(KeyboardInterrupt):
            asyncio.run(_serve(request, options, tell))
        return 0
    last = ""

    def show(progress: DemoProgress) -> None:
        nonlocal last
        share = "" if progress.fraction is None else f" {10 * int(10 * progress.fraction)} %"
        line = progress.text + share
        if line != last:
            last = line
            tell(line)

    result = run_demo(request, show)
    tell(f"{result.report['render_fps']:.0f} frames per second; original: {result.source}")
    tell(f"dubbed: {result.dubbed}")
    return 0


async def _serve(request: "DemoRequest", options: DemoOptions, say: Say) -> None:
    from clients.demo.page_server import ServerOptions, demo_server

    async with demo_server(ServerOptions(request, options.port, options.out)) as url:
        stop = asyncio.Event()
        # A plain `kill` must also remove the user's videos; Windows has no such signal handlers.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        say(f"The demonstration is at {url}")
        say("It answers only to this machine. End it with Ctrl-C.")
        if options.open_browser:
            await asyncio.to_thread(webbrowser.open, url)
        await stop.wait()


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


__all__ = ["DemoOptions", "main"]
