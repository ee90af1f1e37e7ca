"""Which precision really is the fastest on a machine: a decision from measured times, and where these are.

Flags say what a CPU claims. A hypervisor may mask or emulate instructions, and a library may lack kernels for
them; then bfloat16 takes five times as long as float32, or an int8 that flags do not promise takes a third.
Nothing here reads a clock: `clients.measure_cpu` measures, once per machine, and stores what it found.

A measurement lies at `precision/<first digits of the machine's hash>.json` in the cache folder: with the
machine it holds for, in full, and CPU milliseconds a frame by precision. Another CPU, library or network is
another machine: nothing that was measured there counts here.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import get_args

from engine.backends.cpu import fastest_precision
from engine.backends.network import Precision
from engine.models import cache_dir

FORMAT = 1
NETWORK_ASSET = "prior_cpu.onnx"  # the renderer's network is nearly all that is computed in floats or less
WORTH = 1.15  # a coarser precision must be faster by this factor to be taken for a finer one
_FOLDER, _DIGITS = "precision", 16
_MOST_BYTES = 65536
_FINEST_FIRST: tuple[Precision, ...] = ("f32", "bf16", "int8")


@dataclass(frozen=True)
class Machine:
    """What a measurement holds for.

    Attributes:
        cpu: the CPU's model name.
        flags: its instruction sets.
        backend: name of the backend.
        version: of its library.
        network: sha256 of the network that is run, hex.
    """

    cpu: str
    flags: frozenset[str]
    backend: str
    version: str
    network: str

    @property
    def path(self) -> Path:
        """Where its measurement lies, whether or not there is one."""
        text = json.dumps(self._fields(), sort_keys=True)
        return cache_dir() / _FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}.json"

    def _fields(self) -> dict[str, object]:
        return {
            "cpu": self.cpu,
            "flags": sorted(self.flags),
            "backend": self.backend,
            "version": self.version,
            "network": self.network,
        }

    def encode(self, ms: Mapping[Precision, float]) -> bytes:
        """A measurement as it is kept."""
        kept = {"format": FORMAT, "machine": self._fields(), "cpu_ms_per_frame": dict(ms)}
        return json.dumps(kept, indent=2).encode() + b"\n"

    def decode(self, data: bytes) -> dict[Precision, float] | None:
        """Milliseconds by precision; None unless `data` is a measurement of this very machine."""
        try:
            kept = json.loads(data)
        except (ValueError, RecursionError):
            return None
        if not isinstance(kept, dict) or (kept.get("format"), kept.get("machine")) != (
            FORMAT,
            self._fields(),
        ):
            return None
        ms = kept.get("cpu_ms_per_frame")
        if not isinstance(ms, dict) or not all(_is_time(name, value) for name, value in ms.items()):
            return None
        return ms


def machine_of(cpu: tuple[str, frozenset[str]], backend: str, version: str) -> Machine:
    """A machine, as `cpu_info` and a backend describe it, running the shipped renderer's network."""
    return Machine(*cpu, backend, version, _network_sha256())


def load(machine: Machine) -> dict[Precision, float] | None:
    """What was measured on this machine, in CPU milliseconds a frame; None if nothing usable is kept."""
    try:
        with machine.path.open("rb") as file:
            return machine.decode(file.read(_MOST_BYTES))
    except OSError:
        return None


def store(machine: Machine, ms: Mapping[Precision, float]) -> Path:
    """Keep a measurement; it appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path = machine.path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(machine.encode(ms))
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            Path(part).unlink()
        raise
    return path


def decide(
    flags: frozenset[str], offered: Collection[Precision], ms: Mapping[Precision, float] | None
) -> Precision:
    """The precision to compute in.

    Args:
        flags: of the CPU; they decide alone where nothing was measured.
        offered: what backend and graph have.
        ms: measured CPU milliseconds a frame; a precision that could not be run is not in it.

    Returns:
        The finest of the measured precisions that takes at most `WORTH` times as long as the fastest.
    """
    known = {name: ms[name] for name in _FINEST_FIRST if name in offered and name in ms} if ms else {}
    if not known:
        return fastest_precision(flags, offered)
    limit_ms = WORTH * min(known.values())
    return next(name for name, value in known.items() if value <= limit_ms)


def _is_time(name: object, value: object) -> bool:
    return name in get_args(Precision) and isinstance(value, float) and math.isfinite(value) and value > 0


@cache
def _network_sha256() -> str:
    try:
        data = resources.files("engine.assets").joinpath(NETWORK_ASSET).read_bytes()
    except OSError:  # an incomplete installation; who opens the network says so
        return ""
    return hashlib.sha256(data).hexdigest()
