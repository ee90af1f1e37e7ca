"""The demonstration, live: the packaged portrait, or the user's own video, speaks in the browser.

The server of `livedub serve` runs on a free port of this machine with one session, whose picture is the
prepared clip going round and round; whoever opens the page hears it speak, and then types.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.demo import speech
from clients.demo.job import DEFAULT_TEXT, DemoRequest, Progress, prepared_actor
from clients.sdk import connect, create_session
from clients.serve import live_server
from engine.errors import LivedubError
from engine.media import read_audio
from engine.models import cache_dir
from streaming.server.config import Actors, Listen, Programmes, ServerConfig, Sessions
from streaming.types import MEDIA_RATE_HZ, PCM

SESSION, ACTOR = "demo", "portrait"
FOREVER_S = 30 * 24 * 3600.0

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Greeting:
    """What the picture says to who opens the page.

    Attributes:
        samples: int16 [T]; rate_hz: their rate.
    """

    samples: PCM
    rate_hz: int


def greeting(request: DemoRequest) -> Greeting:
    """The words or the sound that were asked for.

    Raises:
        InputError: they cannot be used.
        BackendError: the synthesiser is missing or failed.
    """
    if request.audio is not None:
        samples, rate_hz = read_audio(request.audio, MEDIA_RATE_HZ), MEDIA_RATE_HZ
    else:
        text = speech.checked_text(DEFAULT_TEXT if request.text is None else request.text)
        spoken = speech.speak(text, request.voice)
        samples, rate_hz = spoken.samples, spoken.rate_hz
    return Greeting(np.asarray(np.clip(samples * 32767, -32768, 32767), np.int16), rate_hz)


@contextlib.asynccontextmanager
async def demo_server(
    request: DemoRequest, port: int, on_progress: Progress, say: Say | None = None
) -> AsyncIterator[str]:
    """Prepare the actor, serve until the block ends; gives the page's address.

    Args:
        request: whose face, which words.
        port: of the page, 0 for a free one.
        on_progress: called often while the actor is learnt.
        say: takes lines for a person.

    Raises:
        InputError: something given cannot be used.
        BackendError, AssetError: the machine lacks something.
    """
    said = await asyncio.to_thread(greeting, request)
    clip, actor = await asyncio.to_thread(prepared_actor, request, on_progress)
    with tempfile.TemporaryDirectory(prefix="livedub-demo-") as folder:
        name = ACTOR if request.video is None else "you"
        programmes, actors = Path(folder) / "programmes", _actors_folder(request, Path(folder))
        programmes.mkdir()
        shown = programmes / f"{name}{clip.suffix}"
        _place(clip, shown)
        _place(actor, actors / f"{name}.actor")
        config = ServerConfig(
            server=Listen(port=port),
            sessions=Sessions(most=1, idle="closed", longest_s=FOREVER_S, measure=False),
            actors=Actors(folder=actors),
            programmes=Programmes(folders=(programmes,)),
        )
        async with live_server(config, say=say) as url:
            await create_session(url, name, id=SESSION, programme=shown.name, idle="closed")
            greeter = asyncio.create_task(_greet(url, said))
            try:
                yield f"{url}/#session={SESSION}"
            finally:
                greeter.cancel()
                await asyncio.wait({greeter})


def _actors_folder(request: DemoRequest, temporary: Path) -> Path:
    """Faces that are learnt in the page stay for the next time; those of a test do not."""
    folder = temporary / "actors" if request.keep_dir else cache_dir() / "demo" / "actors"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _place(file: Path, where: Path) -> None:
    where.unlink(missing_ok=True)
    try:
        os.link(file, where)
    except OSError:  # another file system
        shutil.copyfile(file, where)


async def _greet(url: str, said: Greeting) -> None:
    """Speak whenever somebody begins to watch; end with the session, which the page may end."""
    with contextlib.suppress(LivedubError):
        async with connect(url, SESSION) as stream:
            watched = False
            async for event in stream.events():
                before = watched
                watched = bool(event.data.get("viewers")) if event.kind == "viewers" else before
                if watched and not before:
                    await stream.say(said.samples, said.rate_hz)


__all__ = ["ACTOR", "SESSION", "Greeting", "demo_server", "greeting"]
