"""Whether a server keeps running: killed workers and clients, many connections, clients that are no good.

    python -m benchmarks.live.endurance --video CLIP --voice SOUND --actor NAME.actor

The server is `livedub serve` in a process of its own; so are its clients. Pictures are 640x360: two sessions
run side by side here, on a machine that also makes and decodes what is sent to them.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import Settings, summarise
from benchmarks.live import endurance_hostile as hostile
from benchmarks.live import endurance_parts as parts
from benchmarks.live.endurance_rig import Rig, rig
from benchmarks.live.programme import make_programme, save
from benchmarks.machine import describe_machine
from benchmarks.schema import Clock, Report, Result, encode_report
from engine.errors import LivedubError

SUITE = "endurance"
SIZE_PX = (640, 360)
ROUND_S, CLIP_S = 10, 10.0
SOURCE_BAR_MS, BACK_BAR_MS, FREE_BAR_MS, STALL_BAR_MS = 200.0, 5000.0, 10_000.0, 50.0
IDLE_S, ADMIT_MOST = 3, 16
SETTINGS = """
[sessions]
measure = false
most = 8
idle_s = 60
override_consent = true
[limits]
requests_per_s = 500
offers_per_s = 20
"""
NEIGHBOUR_SETTINGS = """
[sessions]
measure = false
override_consent = true
"""
ADMISSION_SETTINGS = f"""
[sessions]
most = {ADMIT_MOST}
idle_s = {IDLE_S}
override_consent = true
"""
Parameters = dict[str, str | int | float]


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        kills: of a worker.
        clients: killed, of each kind.
        cycles: connections that come and go; of them `warm_up` do not count.
        unread_s, fuzz_s: how long the bad clients go on.
        plot: where a picture of the memory over the cycles goes.
    """

    kills: int = 5
    clients: int = 2
    cycles: int = 200
    warm_up: int = 20
    unread_s: float = 60.0
    fuzz_s: float = 60.0
    plot: Path | None = None


QUICK = Plan(kills=1, clients=1, cycles=10, warm_up=5, unread_s=6, fuzz_s=5)


@dataclass(frozen=True)
class Stage:
    """A server, what is sent to it, and how much of it."""

    rig: Rig
    programme: Path
    plan: Plan


Part = Callable[[Stage], Awaitable[list[Result]]]


async def worker_killed(stage: Stage) -> list[Result]:
    """SIGKILL to a worker, with another session beside it."""
    seen = await parts.worker_killed(stage.rig, stage.programme, stage.plan.kills)
    facts: Parameters = {
        "pictures_missing": sum(one.missing for one in seen.hurt),
        "pieces_of_sound_missing": sum(one.holes for one in seen.hurt),
        "voice_heard": min(one.loud for one in seen.hurt),
    }
    beside = _facts(seen.beside)
    longest = [one.longest_ms for one in seen.hurt]
    silent = [one.silent_ms for one in seen.hurt]
    return [
        _row("worker killed: longest without a new picture", longest, bar=SOURCE_BAR_MS, facts=facts),
        _row("worker killed: longest without sound", silent, bar=SOURCE_BAR_MS, facts=facts),
        _row("worker killed: dub back", [1000 * s for s in seen.back_s], bar=BACK_BAR_MS),
        _row("worker killed: longest beside it", [seen.beside.longest_ms], bar=SOURCE_BAR_MS, facts=beside),
        _row("worker killed: pictures missing beside it", [seen.beside.missing], unit="frames"),
    ]


async def clients_killed(stage: Stage) -> list[Result]:
    """SIGKILL to publishers and viewers."""
    publishers, viewers = [], []
    for _ in range(stage.plan.clients):
        publishers.append(1000 * await parts.publisher_killed(stage.rig, stage.programme))
        viewers.append(1000 * await parts.viewer_killed(stage.rig, stage.programme))
    return [
        _row("publisher killed: all free", publishers, bar=FREE_BAR_MS),
        _row("viewer killed: all free", viewers, bar=FREE_BAR_MS),
    ]


async def cycled(stage: Stage) -> list[Result]:
    """Connections that come and go."""
    plan = stage.plan
    cycles = await parts.cycled(stage.rig, stage.programme, plan.cycles)
    if plan.plot:
        _plot(cycles, plan)
    facts: Parameters = {"cycles": plan.cycles, "slope_kb_per_cycle": round(cycles.slope_kb(plan.warm_up), 1)}
    rss = [held.rss_kb / 1024 for held in cycles.held[plan.warm_up :]]
    grown = cycles.growth(plan.warm_up)
    return [
        _row("cycles: memory", rss, unit="MB", facts=facts),
        _row("cycles: memory per cycle", [max(0.0, cycles.slope_kb(plan.warm_up))], unit="kB", facts=facts),
        *(
            _row(f"cycles: more {what}", [max(0, count)], unit="", facts={"growth": count})
            for what, count in grown.items()
        ),
    ]


async def unread(stage: Stage) -> list[Result]:
    """Clients that do not read."""
    borne = await hostile.unread(stage.rig, stage.programme, stage.plan.unread_s)
    return _borne("unread", borne)


async def fuzzed(stage: Stage) -> list[Result]:
    """Clients that send rubbish."""
    borne = await hostile.fuzzed(stage.rig, stage.programme, stage.plan.fuzz_s)
    return _borne("rubbish", borne)


async def admitted(stage: Stage) -> list[Result]:
    """One session too many, and a session whose only client was killed; needs `ADMISSION_SETTINGS`."""
    took_ms = 1000 * await parts.session_left(stage.rig, stage.programme)
    capacity = (await stage.rig.ask("get", "/v1/sessions"))["capacity"]
    count, status, after_s = await parts.admitted(stage.rig, ADMIT_MOST)
    facts: Parameters = {"capacity": capacity, "then": status, "retry_after_s": after_s}
    left: Parameters = {"idle_s": IDLE_S}
    return [
        _row("session of a killed client: all free", [took_ms], bar=FREE_BAR_MS, facts=left),
        _row("admitted", [count], unit="sessions", facts=facts),
    ]


SERVERS: tuple[tuple[str, dict[str, Part]], ...] = (
    (SETTINGS, {"worker": worker_killed, "clients": clients_killed, "cycles": cycled}),
    (NEIGHBOUR_SETTINGS, {"unread": unread, "fuzz": fuzzed}),  # as it comes, with its limits
    (ADMISSION_SETTINGS, {"admission": admitted}),
)
"""What is measured on which server, by name."""


def measure(actor: Path, programme: Path, plan: Plan, only: Sequence[str] = ()) -> list[Result]:
    """Every part in turn.

    Args:
        actor: pack of the person in the programme.
        programme: prepared file.
        plan: how much.
        only: names of parts; none: all.

    Raises:
        LivedubError: a server did not start or end, or no part came to its end; one that fails is told.
    """
    results: list[Result] = []
    for settings, chosen in SERVERS:
        wanted = [part for name, part in chosen.items() if not only or name in only]
        if wanted:
            results += asyncio.run(_measured(actor, programme, plan, settings, wanted))
    if not results:
        raise LivedubError("no part of the trial came to its end")
    return results


async def _measured(
    actor: Path, programme: Path, plan: Plan, settings: str, wanted: Sequence[Part]
) -> list[Result]:
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        async with rig(actor, Path(folder), settings) as server:
            for part in wanted:
                try:
                    results += await part(Stage(server, programme, plan))
                except (LivedubError, TimeoutError) as error:  # the others are worth their minutes
                    print(f"{part.__name__}: {error or 'took too long'}", file=sys.stderr)
    return results


def run(settings: Settings) -> list[Result]:
    """The suite as `livedub bench` runs it: with the packaged portrait."""
    from clients.demo.job import DemoRequest, prepared_actor
    from clients.demo.speech import speak, write_wav

    with tempfile.TemporaryDirectory() as folder:
        clip, actor = prepared_actor(DemoRequest(out_dir=Path(folder)), lambda progress: None)
        voice, programme = Path(folder) / "voice.wav", Path(folder) / "programme.safetensors"
        spoken = speak("What goes on and on needs patience, and a friend who never tires.", "en-us+f3")
        write_wav(voice, spoken.samples, spoken.rate_hz)
        save(make_programme(clip, voice, seconds=ROUND_S, clip_s=CLIP_S, size_px=SIZE_PX), programme)
        return measure(actor, programme, QUICK if settings.quick else Plan())


def _borne(name: str, borne: hostile.Borne) -> list[Result]:
    facts = _facts(borne.beside) | {
        "slope_kb_per_s": round(borne.slope_kb_s(), 1),
        "rss_mb": round(borne.rss_kb[-1] / 1024, 1),
        "late_while_waiting_for_a_processor": borne.stalled - borne.computed,
        "before": json.dumps(_facts(borne.before)),
        "frames": json.dumps(borne.frames),
        "counts": json.dumps(borne.counts),
    }
    return [
        _row(f"{name}: loop stalls over {STALL_BAR_MS:.0f} ms", [borne.computed], unit="", facts=facts),
        _row(f"{name}: pictures missing beside it", [borne.beside.missing], unit="frames"),
        _row(f"{name}: longest without a new picture", [borne.beside.longest_ms]),
        _row(f"{name}: more memory", [max(0, borne.grown_kb()) / 1024], unit="MB"),
    ]


def _facts(seen: parts.Watched) -> Parameters:
    return {
        "pictures_missing": seen.missing,
        "pictures_expected": seen.expected,
        "longest_ms": round(seen.longest_ms),
        "silent_ms": round(seen.silent_ms),
        "pieces_of_sound_missing": seen.holes,
    }


def _row(
    name: str,
    values: Sequence[float],
    *,
    unit: str = "ms",
    bar: float | None = None,
    facts: Parameters | None = None,
) -> Result:
    clock: Clock = "wall" if unit == "ms" else "none"
    return summarise(
        SUITE, name, values, unit=unit or "count", clock=clock, deadline_ms=bar, parameters=facts
    )


def _plot(cycles: parts.Cycles, plan: Plan) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="tight")
    axes = figure.subplots()
    axes.plot([held.rss_kb / 1024 for held in cycles.held], label="memory, MB")
    axes.plot([held.descriptors for held in cycles.held], label="descriptors")
    axes.plot([held.threads for held in cycles.held], label="threads")
    axes.plot(cycles.tasks, label="tasks")
    axes.set(xlabel="connections that came and went", ylim=(0, None))
    axes.legend()
    if plan.plot:
        figure.savefig(plan.plot)


def main(
    video: Annotated[Path, typer.Option(help="Of the actor.")],
    voice: Annotated[Path, typer.Option(help="What shall be said.")],
    actor: Annotated[Path, typer.Option(help="Made by `livedub adapt`.")],
    part: Annotated[
        list[str] | None, typer.Option(help="Only these: " + ", ".join(n for _, p in SERVERS for n in p))
    ] = None,
    quick: Annotated[bool, typer.Option(help="Little of everything.")] = False,
    cycles: Annotated[int | None, typer.Option(min=2, help="Connections that come and go.")] = None,
    seconds: Annotated[float | None, typer.Option(help="That bad clients go on.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of the memory over the cycles.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Where the report goes.")] = None,
) -> None:
    """Measure with your own clip."""
    from dataclasses import replace

    from benchmarks.runner import table

    plan = replace(QUICK if quick else Plan(), plot=plot)
    if cycles is not None:
        plan = replace(plan, cycles=cycles, warm_up=min(plan.warm_up, cycles // 2))
    if seconds is not None:
        plan = replace(plan, unread_s=seconds, fuzz_s=seconds)
    with tempfile.TemporaryDirectory() as folder:
        programme = Path(folder) / "programme.safetensors"
        save(make_programme(video, voice, seconds=ROUND_S, clip_s=CLIP_S, size_px=SIZE_PX), programme)
        described = describe_machine(datetime.now(UTC))
        report = Report(described, measure(actor, programme, plan, part or ()))
    if json_out:
        json_out.write_bytes(encode_report(report))
    print(table(report))
    for result in report.results:
        if result.parameters:
            print(f"{result.name}: {json.dumps(result.parameters)}")


if __name__ == "__main__":
    typer.run(main)
