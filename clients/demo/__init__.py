"""The product running on this machine from nothing: a portrait speaks, live, what you type in the browser."""

import asyncio
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputError

if TYPE_CHECKING:
    from clients.demo.job import DemoProgress, DemoRequest, Progress

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
        serve: show the live page; otherwise write the files and return.
        out: folder for the files; only without the page. None: `livedub-demo` here.
        open_browser: open the page.
        steps: of learning the face; None takes as many as look good.
    """

    text: str | None = None
    voice: str | None = None
    video: Path | None = None
    audio: Path | None = None
    port: int = 0
    serve: bool = True
    out: Path | None = None
    open_browser: bool = False
    steps: int | None = None


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
    from clients.demo.job import DEFAULT_VOICE, STEPS, DemoRequest, run_demo

    if options.audio is not None and options.text is not None:
        raise InputError("give either --text or --audio, not both")
    if options.out is not None and options.serve:
        raise InputError("-o is for the files that --no-serve writes; the page keeps none")
    for given in (options.video, options.audio):
        if given is not None and not given.is_file():
            raise InputError(f"there is no file {given}")
    request = DemoRequest(
        out_dir=options.out or Path("livedub-demo"),
        text=options.text,
        voice=options.voice or DEFAULT_VOICE,
        video=options.video.resolve() if options.video else None,
        audio=options.audio.resolve() if options.audio else None,
        steps=STEPS if options.steps is None else options.steps,
    )
    tell = say or _to_stderr
    show = _told(tell)
    if options.serve:
        from clients.serve import run

        with suppress(KeyboardInterrupt):
            run(_serve(request, options, show, tell))
        return 0
    result = run_demo(request, show)
    tell(f"{result.report['render_fps']:.0f} frames per second; original: {result.source}")
    tell(f"dubbed: {result.dubbed}")
    return 0


async def _serve(request: "DemoRequest", options: DemoOptions, show: "Progress", say: Say) -> None:
    from clients.demo.live import demo_server

    with tempfile.TemporaryDirectory(prefix="livedub-demo-") as folder:
        request = replace(request, out_dir=Path(folder), keep_dir=Path(folder) if request.video else None)
        async with demo_server(request, options.port, show, say) as url:
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):  # both must also remove the user's videos
                with suppress(NotImplementedError):  # Windows has no such handlers
                    asyncio.get_running_loop().add_signal_handler(number, stop.set)
            say(f"The demonstration is at {url}")
            say("It answers only to this machine. End it with Ctrl-C.")
            if options.open_browser:
                await asyncio.to_thread(webbrowser.open, url)
            await stop.wait()


def _told(tell: Say) -> "Progress":
    """Progress as lines for a person, one each tenth."""
    last = ""

    def show(progress: "DemoProgress") -> None:
        nonlocal last
        share = "" if progress.fraction is None else f" {10 * int(10 * progress.fraction)} %"
        line = progress.text + share
        if line != last:
            last = line
            tell(line)

    return show


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


__all__ = ["DemoOptions", "main"]
