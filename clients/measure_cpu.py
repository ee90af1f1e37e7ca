"""How long the renderer's network takes in each precision on this machine's CPU: measured once, then kept.

What counts is CPU time, not time on the wall: it hardly depends on what else the machine does.
"""

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.backends import (
    Network,
    Precision,
    WantedPrecision,
    available,
    default_backend,
    load_network,
    quantised,
    rounded_tensors,
    selfbench,
)
from engine.backends.cpu import cpu_info
from engine.errors import BackendError, BackendUnavailable
from engine.render.renderer import EXACT, prior_graph

FRAMES = 20
MOST_CPU_S = 2.0  # per precision: an emulated one takes half a second a frame
QUICK = ("openvino", "onnxruntime")  # the backends on the CPU that have precisions to choose from
_WARM_FRAMES = 2
_TIER = "cpu"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What is known of a backend on this machine.

    Attributes:
        machine: what it holds for.
        ms: CPU milliseconds a frame by precision, one thread.
        kept: whether the next start finds it.
    """

    machine: selfbench.Machine
    ms: dict[Precision, float]
    kept: bool

    def fastest(self, *, integers: bool) -> Precision:
        """What `auto` takes; with and without the ranges that int8 needs."""
        return selfbench.decide(self.machine.flags, [p for p in self.ms if integers or p != "int8"], self.ms)


def measured(backend: str, cpu_clock: Callable[[], float] = time.process_time) -> Measured:
    """What was measured on this machine before; measured now, and kept, if it was not.

    Args:
        backend: name of the backend.
        cpu_clock: seconds of CPU that this process has used.

    Raises:
        BackendUnavailable: the backend is not there, or measuring says nothing about it.
        BackendError: it cannot run the network in any precision.
    """
    status = next((status for status in available() if status.name == backend), None)
    if status is None or not status.available:
        raise BackendUnavailable(status.detail if status else f"unknown backend '{backend}'")
    machine = selfbench.machine_of(cpu_info(), backend, status.version)
    ms = selfbench.load(machine)
    if ms:
        return Measured(machine, ms, kept=True)
    ms = measure(backend, status.precisions, cpu_clock)
    try:
        selfbench.store(machine, ms)
    except OSError as error:
        log.info("the measured precisions cannot be kept: %s", error)
        return Measured(machine, ms, kept=False)
    return Measured(machine, ms, kept=True)


def confirm(backend: str | None, precision: WantedPrecision = "auto") -> None:
    """Before networks are opened: see to it that `auto` is decided by measured times where it can be.

    Args:
        backend: of the renderer; None takes the best one installed.
        precision: anything but `auto` needs no measurement.
    """
    if precision != "auto" or backend not in (None, *QUICK):
        return
    try:
        found = measured(backend or default_backend())
    except BackendError as error:
        log.info("precisions were not measured: %s", error)
        return
    times = ", ".join(f"{name} {value:.1f}" for name, value in found.ms.items())
    log.info("%s, ms of CPU a frame: %s", found.machine.backend, times)


def measure(
    backend: str, precisions: tuple[Precision, ...], cpu_clock: Callable[[], float]
) -> dict[Precision, float]:
    """Run the shipped network in each precision, and return the median frame's CPU milliseconds.

    Those that this machine cannot run are left out.

    Raises:
        BackendError: it can run none.
    """
    graph = prior_graph(_TIER)
    ms: dict[Precision, float] = {}
    failures = []
    for precision in precisions:
        model = _integers(graph) if precision == "int8" else graph
        try:
            network = load_network(model, backend=backend, precision=precision)
            ms[precision] = _median_ms(network, cpu_clock)
        except BackendError as error:
            failures.append(str(error))
    if not ms:
        raise BackendError(f"backend '{backend}' cannot run the renderer's network: {'; '.join(failures)}")
    return ms


def _integers(graph: bytes) -> bytes:
    """The network in int8; any ranges do for its time."""
    ranges = np.tile(np.array([-4, 4], np.float32), (len(rounded_tensors(graph, EXACT)), 1))
    return quantised(graph, ranges, EXACT)


def _median_ms(network: Network, cpu_clock: Callable[[], float]) -> float:
    noise = np.random.default_rng(0)
    feeds = {
        spec.name: noise.random([length or 1 for length in spec.shape], np.float32)
        for spec in network.inputs.values()
    }
    out = network.run(feeds)
    for _ in range(_WARM_FRAMES - 1):
        network.run_into(feeds, out)
    times: list[float] = []
    while len(times) < FRAMES and sum(times) < MOST_CPU_S:
        began = cpu_clock()
        network.run_into(feeds, out)
        times.append(cpu_clock() - began)
    return max(1000 * statistics.median(times), 1e-3)
