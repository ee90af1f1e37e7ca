"""The live suite: a real server, a publisher and Chromium, over the networks of `network.CASES`.

    python -m benchmarks.live.run --video CLIP --voice SOUND --actor NAME.actor --seconds 600 --case clean

Glass to glass is from a frame's capture to its presentation in the browser (`requestVideoFrameCallback`);
headless Chromium has no screen, and camera and screen are not in it. Flash against beep is between picture
and sound as they came in; a microphone's sound is moved by up to 10 ms together with its lips, and lips
against sound is without that. Both count what the browser says its output adds to the sound. Mouth latency
is the server's own, from the dub's sound coming in to the first packet of the picture with its mouth.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import typer

from benchmarks.common import Settings
from benchmarks.live import driver, histogram
from benchmarks.live.analysis import Viewed, analyse
from benchmarks.live.network import CASES, SERVER_ADDRESS, Case, Link, can_emulate
from benchmarks.live.programme import RATE, make_programme, save
from benchmarks.machine import describe_machine
from benchmarks.schema import Clock, Report, Result, encode_report
from engine.arrays import F64
from engine.errors import LivedubError

SUITE = "live"
SECONDS, QUICK_SECONDS, WARM_UP_S = 30, 6, 4.0
ROUND_S = 60
START_S, END_S = 120.0, 15.0
LOOK_AHEAD_MS = 120
MOUTH_BAR_MS = 200.0


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        programme: prepared file.
        actor: pack.
        seconds: that a browser watches in each case.
        cases: networks.
        keep: folder for what came out in full; None: nowhere.
        lipsync: whether the viewer lines lips and sound up as our page does, or leaves that to the browser.
    """

    programme: Path
    actor: Path
    seconds: float
    cases: Sequence[Case]
    keep: Path | None = None
    lipsync: bool = True


def run(settings: Settings) -> list[Result]:
    """The suite as `livedub bench` runs it: the packaged portrait, and the networks that can be had here."""
    from clients.demo.job import DemoRequest, prepared_actor
    from clients.demo.speech import speak, write_wav

    with tempfile.TemporaryDirectory() as folder:
        request = DemoRequest(out_dir=Path(folder))
        clip, actor = prepared_actor(request, lambda progress: None)
        voice, programme = Path(folder) / "voice.wav", Path(folder) / "programme.safetensors"
        spoken = speak(_SENTENCES, "en-us+f3")
        write_wav(voice, spoken.samples, spoken.rate_hz)
        seconds = QUICK_SECONDS if settings.quick else SECONDS
        save(make_programme(clip, voice, seconds=min(ROUND_S, seconds + 10)), programme)
        cases = CASES if can_emulate() and not settings.quick else CASES[:1]
        return measure(Setting(programme, actor, seconds, cases))


_SENTENCES = (
    "A live picture speaks another voice. My lips follow sounds that come in while you watch. Peter bought "
    "some blue plums from Pamela, and both of them moved to Bamberg in May. Where would you like to go next?"
)


def measure(setting: Setting) -> list[Result]:
    """Every case in turn.

    Raises:
        LivedubError: a server or a network did not start, or the browser saw nothing.
    """
    results: list[Result] = []
    for case in setting.cases:
        outcome = _measured(case, setting)
        if setting.keep:
            name = "".join(letter if letter.isalnum() else "_" for letter in case.name)
            (setting.keep / f"live_{name}.json").write_bytes(msgspec.json.encode(outcome))
        viewed = analyse(outcome.seen, outcome.sent, warm_up_ms=1000 * WARM_UP_S, per_second=int(RATE))
        results += _results(case, viewed, outcome)
    return results


def _measured(case: Case, setting: Setting) -> driver.Outcome:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        link = None
        if case != CASES[0]:
            link = stack.enter_context(Link(case).up())
        near, far = (link.server, link.viewer) if link else (None, None)
        actors = folder / "actors"
        actors.mkdir()
        shutil.copyfile(setting.actor, actors / "actor.actor")
        config = folder / "livedub.toml"
        config.write_text(f'[ice]\naddresses = ["{SERVER_ADDRESS}"]\n' if link else "")
        server, port = stack.enter_context(_server(near, actors, config))
        socket = folder / "http"
        relay = [sys.executable, "-m", "benchmarks.live.relay", str(socket), str(port)]
        stack.enter_context(_process(_inside(near, relay)))
        order = driver.Order(
            socket=str(socket),
            programme=str(setting.programme),
            session={
                "actor": "actor",
                "voice": "publisher",
                "look_ahead_ms": LOOK_AHEAD_MS,
                "idle": "closed",
            },
            seconds=setting.seconds,
            lipsync=setting.lipsync,
            server_pid=server.pid,
        )
        (folder / "order.json").write_bytes(msgspec.json.encode(order))
        _wait_for(socket.exists, START_S, "the relay")
        command = [
            sys.executable,
            "-m",
            "benchmarks.live.driver",
            folder / "order.json",
            folder / "outcome.json",
        ]
        done = subprocess.run(_inside(far, [str(part) for part in command]), check=False, capture_output=True)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
            raise LivedubError(f"the run over '{case.name}' failed: {said[-1][:300]}")
        return msgspec.json.decode((folder / "outcome.json").read_bytes(), type=driver.Outcome)


@contextlib.contextmanager
def _server(
    namespace: str | None, actors: Path, config: Path
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`livedub serve` on a free port of its own loopback."""
    command = [sys.executable, "-c", "from clients.cli import main; main()", "serve", "--port", "0"]
    command += ["--actors", str(actors), "--config", str(config)]
    with _process(_inside(namespace, command), stderr=subprocess.PIPE) as server:
        yield server, _port_of(server)


def _port_of(server: "subprocess.Popen[bytes]") -> int:
    """From the line in which it tells its address; what follows is read on, so that it never blocks."""
    if server.stderr is None:
        raise LivedubError("the server has no stderr")
    for line in server.stderr:
        for word in line.decode(errors="replace").split():
            port = urlsplit(word).port if word.startswith("http://") else None
            if port:
                _drain(server.stderr)
                return port
    raise LivedubError(f"the server did not start: status {server.wait()}")


def _drain(pipe: Any) -> None:
    import threading

    threading.Thread(target=lambda: [None for _ in pipe], daemon=True).start()


@contextlib.contextmanager
def _process(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _inside(namespace: str | None, command: Sequence[str]) -> list[str]:
    return Link.inside(namespace, command) if namespace else list(command)


def _wait_for(ready: Any, limit_s: float, what: str) -> None:
    end = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > end:
            raise LivedubError(f"{what} did not come up within {limit_s:.0f} s")
        time.sleep(0.05)


def _results(case: Case, viewed: Viewed, outcome: driver.Outcome) -> list[Result]:
    """Rows of the report."""
    parameters: dict[str, str | int | float] = {"network": case.name}
    facts: dict[str, str | int | float] = {
        **parameters,
        "frames_shown": viewed.shown,
        "frames_expected": viewed.expected,
        "freezes": viewed.freezes,
        "frozen_ms": round(viewed.frozen_ms),
        "first_frame_ms": round(viewed.first_frame_ms),
        "kbit_s": round(viewed.kbit_s),
        "height_px": max(viewed.heights),
        "server_cores": round(outcome.server_cpu, 3),
        "viewer_cores": round(outcome.viewer_cpu, 3),
        "frames": json.dumps(outcome.snapshot.get("now", {}).get("frames", {})),
        "misses": json.dumps(outcome.snapshot.get("now", {}).get("misses", {})),
    }
    rows = [_row(f"{case.name}: glass to glass", viewed.glass_ms, facts)]
    mouth = histogram.quantiles(outcome.metrics, "dub_mouth_latency_seconds")
    if mouth is not None:
        rows.append(_of_histogram(f"{case.name}: mouth latency", mouth, parameters))
    moved_ms = float(outcome.snapshot.get("now", {}).get("moved_ms", 0.0))
    for name, skew in (("lips", viewed.skew_ms + moved_ms), ("flash", viewed.skew_ms)):
        if len(skew):
            signed = {f"skew_p{p}_ms": round(float(np.percentile(skew, p)), 1) for p in (5, 50, 95)}
            rows.append(_row(f"{case.name}: {_SKEWS[name]}", np.abs(skew), {**parameters, **signed}))
    rows.append(_row(f"{case.name}: between frames", viewed.gaps_ms, parameters))
    return rows


def _row(name: str, values: F64, parameters: dict[str, str | int | float]) -> Result:
    p25, p50, p75, p95, p99 = (
        float(value) for value in np.percentile(np.maximum(values, 0), [25, 50, 75, 95, 99])
    )
    return Result(
        suite=SUITE,
        name=name,
        unit="ms",
        clock=_CLOCK,
        p50=p50,
        p95=p95,
        p99=p99,
        max=max(float(values.max()), p99),
        iqr=p75 - p25,
        n=len(values),
        warmup=0,
        parameters=parameters,
    )


_CLOCK: Clock = "wall"
_SKEWS = {"lips": "lips against sound, either way", "flash": "flash against beep, either way"}


def _of_histogram(name: str, found: histogram.Quantiles, parameters: dict[str, str | int | float]) -> Result:
    return Result(
        suite=SUITE,
        name=name,
        unit="ms",
        clock=_CLOCK,
        p50=1000 * found.p50,
        p95=1000 * found.p95,
        p99=1000 * found.p99,
        max=1000 * found.most,
        iqr=1000 * (found.p75 - found.p25),
        n=found.count,
        warmup=0,
        deadline_ms=MOUTH_BAR_MS,
        missed=found.above(MOUTH_BAR_MS / 1000),
        parameters=parameters,
    )


def main(
    video: Annotated[Path, typer.Option(help="Of the actor.")],
    voice: Annotated[Path, typer.Option(help="What shall be said.")],
    actor: Annotated[Path, typer.Option(help="Made by `livedub adapt`.")],
    seconds: Annotated[float, typer.Option(help="That the browser watches.")] = SECONDS,
    lipsync: Annotated[bool, typer.Option(help="Line lips and sound up as our page does.")] = True,
    case: Annotated[list[str] | None, typer.Option(help="Only these networks.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for all that came out.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Where the report goes.")] = None,
) -> None:
    """Measure with your own clip."""
    from benchmarks.runner import table

    chosen = [known for known in CASES if not case or known.name in case]
    for folder_out in (keep, json_out.parent if json_out else None):
        if folder_out is not None:
            folder_out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        programme = Path(folder) / "programme.safetensors"
        save(make_programme(video, voice, seconds=ROUND_S), programme)
        described = describe_machine(datetime.now(UTC))
        report = Report(described, measure(Setting(programme, actor, seconds, chosen, keep, lipsync)))
    if json_out:
        json_out.write_bytes(encode_report(report))
    print(table(report))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
