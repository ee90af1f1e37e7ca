import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from clients import measure_cpu
from clients.measure_cpu import FRAMES, MOST_CPU_S, confirm, measure, measured
from engine.arrays import Array
from engine.backends import Precision, choose_precision, load_network, selfbench
from engine.backends.network import Network
from engine.errors import BackendError, BackendUnavailable

BACKEND = "openvino"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class PretendedCpu:
    """Networks run; the clock says what this CPU would have needed for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[Precision, float]) -> None:
        self.used_s, self.frames, self._seconds = 0.0, dict.fromkeys(seconds, 0), seconds
        monkeypatch.setattr(measure_cpu, "load_network", self._load)

    def clock(self) -> float:
        return self.used_s

    def _load(self, model: bytes, *, backend: str, precision: Precision) -> Network:
        if precision not in self._seconds:
            raise BackendUnavailable(f"no {precision} here")
        network = load_network(model, backend=backend, precision=precision)
        run_into = network.run_into

        def counted(feeds: Mapping[str, Array], out: Mapping[str, Array]) -> None:
            if not self.frames[precision]:
                run_into(feeds, out)
            self.frames[precision] += 1
            self.used_s += self._seconds[precision]

        network.run_into = counted  # type: ignore[method-assign]
        return network


def test_flags_that_lie_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = PretendedCpu(monkeypatch, {"f32": 0.04, "bf16": 0.2, "int8": 0.018})
    found = measured(BACKEND, cpu.clock)
    assert found.ms == pytest.approx({"f32": 40, "bf16": 200, "int8": 18})
    assert (found.fastest(integers=True), found.fastest(integers=False)) == ("int8", "f32")
    assert found.kept
    assert choose_precision(BACKEND, integers=True) == "int8"
    assert choose_precision(BACKEND, integers=False) == "f32"


def test_a_slow_precision_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = PretendedCpu(monkeypatch, {"f32": 0.05, "bf16": 0.9})
    ms = measure(BACKEND, ("f32", "bf16", "int8"), cpu.clock)
    assert list(ms) == ["f32", "bf16"]
    assert FRAMES < cpu.frames["f32"] <= FRAMES + 2
    assert 0.9 * cpu.frames["bf16"] < MOST_CPU_S + 2 * 0.9


def test_a_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = measured(BACKEND, PretendedCpu(monkeypatch, {"f32": 0.04}).clock)
    again = measured(BACKEND, PretendedCpu(monkeypatch, {"f32": 0.01}).clock)
    assert again == first


def test_without_a_place_to_keep_it_it_still_counts(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    cache.write_text("a file")
    found = measured(BACKEND, PretendedCpu(monkeypatch, {"f32": 0.04}).clock)
    assert not found.kept
    assert found.ms == pytest.approx({"f32": 40})


def test_a_clock_that_is_too_coarse_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    PretendedCpu(monkeypatch, {"f32": 0.0})
    found = measured(BACKEND, itertools.repeat(1.0).__next__)
    assert found.ms["f32"] > 0
    assert selfbench.load(found.machine) == found.ms


def test_a_backend_that_runs_nothing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = PretendedCpu(monkeypatch, {})
    with pytest.raises(BackendError, match="cannot run the renderer's network: no f32 here"):
        measured(BACKEND, cpu.clock)
    with pytest.raises(BackendUnavailable, match="unknown backend 'tpu'"):
        measured("tpu", cpu.clock)


@pytest.mark.parametrize(
    ("backend", "precision", "asked"),
    [
        (None, "auto", [BACKEND]),
        ("onnxruntime", "auto", ["onnxruntime"]),
        ("reference", "auto", []),
        ("tpu", "auto", []),
        (None, "f32", []),
    ],
)
def test_only_a_choice_is_confirmed(
    monkeypatch: pytest.MonkeyPatch, backend: str | None, precision: Precision, asked: list[str]
) -> None:
    seen: list[str] = []

    def ask(name: str) -> measure_cpu.Measured:
        seen.append(name)
        raise BackendUnavailable("not here")

    monkeypatch.setattr(measure_cpu, "measured", ask)
    confirm(backend, precision)
    assert seen == asked


def test_this_machine_for_real(cache: Path) -> None:
    confirm(None)
    found = measured(BACKEND)
    assert set(found.ms) >= {"f32", "bf16"}
    assert len(list((cache / "precision").iterdir())) == 1
    assert choose_precision(BACKEND, integers=True) == found.fastest(integers=True)
