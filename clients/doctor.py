"""What this machine can run, what is missing, and how to get it: `livedub doctor`."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.table import Table

from engine.errors import LivedubError

if TYPE_CHECKING:
    from clients.measure_cpu import Measured

State = Literal["ok", "missing", "optional"]

MIN_FREE_GB = 1.0
NVIDIA_LIMIT_S = 10
FRAME_MS = 40.0
REST_MS = 20.0  # of CPU, 720p: tracking 6, all around the network 14 (`livedub bench`, a Xeon with AMX)
PACED = 1.3  # what a network costs more between other work than by itself: the caches are cold
_THREADS = (
    "one for the network: a second costs up to 20 % more CPU, makes both wait when anything else runs,"
    " and is needed by decoder, encoder and sound"
)
_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_SIGNS: dict[State, str] = {"ok": "[green]ok[/green]", "missing": "[red]missing[/red]", "optional": "-"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: ok; missing: nothing can be dubbed without it; optional: only some commands need it.
        detail: what was found.
        advice: how to get it, one line; empty if it is there.
        numbers: what was measured for it, for programs.
    """

    what: str
    state: State
    detail: str
    advice: str = ""
    numbers: Mapping[str, float] | None = None


def examine() -> list[Finding]:
    """Look at everything; never raises for what is missing."""
    return [
        Finding("python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Finding("platform", "ok", f"{platform.platform()}, {os.cpu_count()} processors"),
        *_cpu(),
        *_backends(),
        _media(),
        *_models(),
        _tracker(),
        *_assets(),
        _torch(),
        _gpu(),
        _disk(),
    ]


def can_dub(findings: Sequence[Finding]) -> bool:
    """Whether nothing is missing that a dub needs."""
    return all(finding.state != "missing" for finding in findings)


def verdict(findings: Sequence[Finding]) -> str:
    """One line."""
    if can_dub(findings):
        return "This machine can dub."
    missing = [finding.what for finding in findings if finding.state == "missing"]
    return f"This machine cannot dub yet: {', '.join(missing)}."


def as_table(findings: Sequence[Finding]) -> Table:
    """The findings for a person."""
    table = Table("what", "state", "found", "what to do")
    for finding in findings:
        table.add_row(finding.what, _SIGNS[finding.state], finding.detail, finding.advice)
    return table


def as_report(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings for a program."""
    return {"can_dub": can_dub(findings), "findings": list(findings)}


def gpu_names() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU, as the driver says, without loading a library of CUDA."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query,
            capture_output=True,
            text=True,
            timeout=NVIDIA_LIMIT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _cpu() -> list[Finding]:
    from engine.backends.cpu import cpu_info

    model, flags = cpu_info()
    known = " ".join(flag for flag in _FLAGS if flag in flags)
    cpu = Finding("cpu", "ok", f"{model or platform.machine()}: {known or 'no instruction sets known'}")
    return [cpu, *_speed(), Finding("threads", "ok", _THREADS)]


def _speed() -> list[Finding]:
    """The network's times, measured now if they never were."""
    from clients.measure_cpu import measured
    from engine.backends import default_backend
    from engine.errors import BackendError

    try:
        found = measured(default_backend())
    except (BackendError, OSError) as error:
        why = f"not measured: {error}"
        return [Finding("precision", "optional", why, "get a backend that works, then run this again")]
    return [
        Finding(
            "precision",
            "ok",
            precision_in_words(found),
            numbers={str(name): ms for name, ms in found.ms.items()},
        ),
        Finding("25 fps", *fit_in_words(found)),
    ]


def precision_in_words(found: "Measured") -> str:
    """What flags promise, what was measured, and what follows."""
    from engine.backends.cpu import fastest_precision

    promised = fastest_precision(found.machine.flags, tuple(found.ms))
    used, other = found.fastest(integers=True), found.fastest(integers=False)
    times = ", ".join(f"{name} {value:.1f}" for name, value in found.ms.items())
    without = "" if used == other else f" ({other} for an actor pack without its ranges)"
    surprise = "" if used == promised else "; the measurement counts"
    kept = "" if found.kept else "; cannot be kept, so every start measures anew"
    return (
        f"flags promise {promised}{surprise}; measured, ms of CPU a frame on one thread of"
        f" {found.machine.backend}: {times}; used: {used}{without}{kept}"
    )


def fit_in_words(found: "Measured") -> tuple[State, str, str]:
    """Whether one live face fits a core at 25 frames per second, and what to do if not."""
    used = found.fastest(integers=True)
    left_ms = FRAME_MS - REST_MS
    need_ms = PACED * found.ms[used]
    text = (
        f"a frame has {FRAME_MS:.0f} ms; face, sound and picture take about {REST_MS:.0f} of them,"
        f" the network in {used} about {need_ms:.0f} when frames come one at a time"
    )
    if need_ms <= left_ms:
        larger = f"; a network {left_ms / need_ms:.1f} times as large would, too" if need_ms < left_ms else ""
        return "ok", f"one live face fits a core: {text}{larger}", ""
    advice = "files dub all the same; for live use a CPU with AVX-VNNI, AVX-512 VNNI or AMX"
    return "optional", f"a live face does not fit a core: {text}", advice


def _backends() -> list[Finding]:
    from engine.backends import available

    statuses = available()
    some = any(status.available for status in statuses if status.name != "reference")
    absent: State = "optional" if some else "missing"
    return [
        Finding(f"backend {status.name}", "ok", f"{status.version}, {status.detail}")
        if status.available
        else Finding(f"backend {status.name}", absent, "not installed", status.detail)
        for status in statuses
    ]


def _media() -> Finding:
    try:
        libraries = importlib.import_module("av").library_versions
    except ImportError as error:
        return Finding("media (PyAV)", "missing", str(error), "pip install 'av>=18,<19'")
    named = ", ".join(f"{name} {'.'.join(map(str, numbers))}" for name, numbers in sorted(libraries.items()))
    return Finding("media (PyAV)", "ok", f"{_version('av')}: {named}")


def _models() -> list[Finding]:
    from engine.models import statuses

    findings = []
    for status in statuses():
        model = status.model
        if status.state == "there":
            findings.append(Finding(f"model {model.name}", "ok", str(status.path)))
        else:
            state: State = "optional" if model.optional else "missing"
            findings.append(Finding(f"model {model.name}", state, status.state, status.advice))
    return findings


def _tracker() -> Finding:
    """Opens the networks and looks at one grey picture, which proves the library and the file together."""

    def look() -> str:
        import numpy as np

        from engine.face.tracker import FaceTracker

        FaceTracker().step(np.full((64, 64, 3), 128, np.uint8))
        return f"works, LiteRT {_version('ai-edge-litert')}"

    return _tried("face tracking", look)


def _assets() -> list[Finding]:
    from engine.expression import audio
    from engine.face.model import load_face_model
    from engine.render import renderer

    def shipped(name: str) -> Callable[[], str]:
        return lambda: f"{len(resources.files('engine.assets').joinpath(name).read_bytes()) / 1e6:.1f} MB"

    def model() -> str:
        return f"{load_face_model().expressions} expressions"

    return [
        _tried("face model", model),
        *(_tried(f"renderer prior {tier}", shipped(name)) for tier, name in renderer.PRIOR_ASSETS.items()),
        _tried("audio to expression", shipped(audio.ASSET)),
    ]


def _torch() -> Finding:
    found = _version("torch")
    if not found:
        advice = "for adapt and train: pip install 'livedub[train]'"
        return Finding("torch", "optional", "not installed", advice)
    return Finding("torch", "ok", found)


def _gpu() -> Finding:
    names = gpu_names()
    if not names:
        return Finding("gpu", "optional", "none that an NVIDIA driver knows", "only GPU commands need one")
    return Finding("gpu", "ok", "; ".join(names))


def _disk() -> Finding:
    from engine.models import cache_dir

    folder = cache_dir()
    place: Path = next((p for p in (folder, *folder.parents) if p.is_dir()), Path("/"))
    free_gb = shutil.disk_usage(place).free / 1e9
    found = f"{free_gb:.1f} GB free for the cache in {folder}"
    if free_gb < MIN_FREE_GB:
        return Finding("disk", "missing", found, "free some, or set LIVEDUB_CACHE to a folder with more room")
    if not os.access(place, os.W_OK):
        return Finding(
            "disk", "missing", f"no permission to write in {place}", "set LIVEDUB_CACHE to a folder of yours"
        )
    return Finding("disk", "ok", found)


def _tried(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", attempt())
    except LivedubError as error:
        return Finding(what, "missing", "does not work", str(error))
    except OSError as error:
        advice = "reinstall livedub: this file should have come with it"
        return Finding(what, "missing", f"{error.strerror or error}", advice)
    except ImportError as error:
        return Finding(what, "missing", str(error), "pip install livedub")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
