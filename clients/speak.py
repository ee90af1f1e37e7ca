"""Type, and the actor speaks: the text-to-speech of this machine, connected to a live session.

`python -m clients.speak http://127.0.0.1:8765 SESSION` reads lines; every line is an utterance. An empty line
interrupts what is being said. The token, if one is needed, comes from the environment: LIVEDUB_TOKEN.
It is also the example of how any service that turns text into sound is connected.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence

from clients.demo import speech
from clients.demo.job import DEFAULT_VOICE
from clients.sdk import Stream, connect
from engine.errors import InputError, LivedubError


async def speak(
    stream: Stream, lines: AsyncIterator[str], voice: str = DEFAULT_VOICE, *, say: Callable[[str], None]
) -> None:
    """Speak every line into a session.

    Args:
        stream: of the session.
        lines: of text; an empty one interrupts.
        voice: of espeak-ng.
        say: takes what a person should know.
    """
    async with asyncio.TaskGroup() as tasks:
        async for line in lines:
            if not line.strip():
                played = await stream.interrupt()
                say(f"interrupted; {played.dropped_ms} ms were not heard")
                continue
            try:
                spoken = await asyncio.to_thread(speech.speak, line, voice)
            except InputError as error:
                say(str(error))
                continue
            tasks.create_task(_say(stream, spoken))


async def _say(stream: Stream, spoken: speech.Speech) -> None:
    await stream.say(spoken.samples, spoken.rate_hz)


async def _typed() -> AsyncIterator[str]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


async def _run(url: str, session: str, voice: str) -> None:
    async with connect(url, session, token=os.environ.get("LIVEDUB_TOKEN")) as stream:
        await speak(stream, _typed(), voice, say=_to_stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the input ends; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clients.speak", description=__doc__)
    parser.add_argument("url", help="of the server")
    parser.add_argument("session", help="its id")
    parser.add_argument("--voice", default=DEFAULT_VOICE, help="of espeak-ng, such as de or en-us+f3")
    asked = parser.parse_args(argv)
    try:
        asyncio.run(_run(asked.url, asked.session, asked.voice))
    except (LivedubError, BaseExceptionGroup) as error:
        first = _first(error)
        if not isinstance(first, LivedubError):
            raise
        _to_stderr(f"livedub: {first}")
        return 2
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
