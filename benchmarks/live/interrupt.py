"""How long a viewer goes on hearing a voice that was interrupted.

    python -m benchmarks.live.interrupt --video CLIP --actor NAME.actor

A tone is pushed over the WebSocket, far ahead of what plays, and interrupted again and again; a browser
hears when it ends. The time is from asking for the interruption until the last sample that is loud is heard,
by the browser's account of what its output adds.
"""

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.common import summarise
from benchmarks.live.browser import browser
from benchmarks.live.driver import viewer_page
from benchmarks.live.endurance_rig import Rig, rig
from benchmarks.live.programme import RATE, load, make_programme, save
from benchmarks.machine import describe_machine
from benchmarks.runner import table
from benchmarks.schema import Report, Result, encode_report
from clients.peer import EncodedVideo, Pace, publish
from clients.sdk import connect
from engine.arrays import F32
from engine.errors import LivedubError

SUITE, BAR_MS = "interrupt", 150.0
ROUNDS, SPOKEN_S, QUIET_S, SETTLE_S = 20, 1.2, 0.8, 6.0
TONE_HZ, TONE_RATE_HZ, TONE_S = 440.0, 24_000, 4.0
SETTINGS = "[sessions]\nmeasure = false\noverride_consent = true\n"


def _tone() -> F32:
    at_s = np.arange(int(TONE_S * TONE_RATE_HZ)) / TONE_RATE_HZ
    return (0.5 * np.sin(2 * np.pi * TONE_HZ * at_s)).astype(np.float32)


async def measure(server: Rig, programme: Path, rounds: int) -> list[float]:
    """Latencies in ms, one for each interruption that was heard.

    Raises:
        LivedubError: the server refused, or the browser heard nothing.
    """
    session = await server.ask("post", "/v1/sessions", {"actor": "actor", "idle": "closed"})
    made = load(programme)
    link = await publish(
        server.http, f"{server.url}{session['whip']}", [EncodedVideo(made.pictures, RATE, Pace())]
    )
    seconds = SETTLE_S + rounds * (SPOKEN_S + QUIET_S) + 2
    asked_ms: list[float] = []
    async with viewer_page(server.http, f"{server.url}{session['whep']}") as (url, posted):
        with browser(f"{url}/?seconds={seconds}"):
            await asyncio.sleep(SETTLE_S)
            async with connect(server.url, session["id"]) as dub:
                for _ in range(rounds):
                    saying = asyncio.create_task(dub.say(_tone(), TONE_RATE_HZ))
                    await asyncio.sleep(SPOKEN_S)
                    asked_ms.append(time.time() * 1000)
                    await dub.interrupt()
                    await saying
                    await asyncio.sleep(QUIET_S)
            async with asyncio.timeout(seconds):
                seen = await posted
    await link.close()
    ends = np.array(seen.ends) + seen.output_ms
    heard = [float(after[0] - asked) for asked in asked_ms if (after := ends[ends > asked]).size]
    heard = [ms for ms in heard if ms < 1000 * (SPOKEN_S + QUIET_S)]
    if not heard:
        raise LivedubError(f"the browser heard no end of a tone ({seen.error or seen.state})")
    return heard


def results(heard_ms: list[float], rounds: int) -> list[Result]:
    """Rows of the report."""
    return [
        summarise(
            SUITE,
            "interrupt to silence",
            heard_ms,
            clock="wall",
            deadline_ms=BAR_MS,
            parameters={"asked": rounds, "heard": len(heard_ms)},
        )
    ]


async def _run(video: Path, actor: Path, rounds: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_programme(video, video, seconds=10, clip_s=10.0)
        save(made, folder / "programme.safetensors")
        async with rig(actor, folder, SETTINGS) as server:
            return results(await measure(server, folder / "programme.safetensors", rounds), rounds)


def main(
    video: Annotated[Path, typer.Option(help="Of the actor, with sound.")],
    actor: Annotated[Path, typer.Option(help="Made by `livedub adapt`.")],
    rounds: Annotated[int, typer.Option(help="Interruptions.")] = ROUNDS,
    json_out: Annotated[Path | None, typer.Option("--json", help="Where the report goes.")] = None,
) -> None:
    """Measure with your own clip."""
    described = describe_machine(datetime.now(UTC))
    report = Report(described, asyncio.run(_run(video, actor, rounds)))
    if json_out:
        json_out.write_bytes(encode_report(report))
    print(table(report))


if __name__ == "__main__":
    typer.run(main)
