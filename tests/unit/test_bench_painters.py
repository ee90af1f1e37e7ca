from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import painters
from benchmarks.bench_capacity import _search
from benchmarks.bench_stages import Frame
from benchmarks.bodies import bench_actor
from benchmarks.common import Settings
from benchmarks.device import painting_results
from benchmarks.device_capacity import DeviceStreams
from benchmarks.painters import Variant, backend_rows, opened, variants
from engine.backends import available, backend_names, load_network
from engine.backends.cuda.driver import Driver
from engine.errors import BackendError, BackendUnavailable
from engine.painting import GPU_BACKENDS
from engine.painting.gpu import GpuPainter
from engine.render.renderer import renderer_graph
from tests.support.fake_cuda import FakeDriver
from tests.support.fake_network import on_cpu

QUICK = Settings(runs=4, warmup=1, quick=True)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = [
        replace(one, available=False, version="", detail="no GPU was found")
        if one.name in GPU_BACKENDS
        else one
        for one in available()
    ]
    monkeypatch.setattr(painters, "available", lambda: statuses)


def test_every_backend_has_a_row() -> None:
    rows = {row.name: row for row in backend_rows()}
    assert set(rows) == set(backend_names()) >= {"reference", "onnxruntime", "openvino", *GPU_BACKENDS}
    for name in GPU_BACKENDS:
        assert not rows[name].available
        assert rows[name].detail == "no GPU was found"


def test_none_is_left_out_in_silence() -> None:
    settings = Settings()
    chosen = {variant.backend for variant in variants(settings, "s")}
    told = {skipped.name: skipped.reason for skipped in settings.skipped}
    assert chosen | set(told) == set(backend_names())
    assert "--backend reference" in told["reference"]
    assert told["tensorrt"] == "no GPU was found"


def test_every_precision_of_one_backend() -> None:
    settings = Settings(backend="onnxruntime")
    labels = [variant.label for variant in variants(settings, "s", every_precision=True)]
    assert labels == ["onnxruntime f32", "onnxruntime int8"]
    assert settings.skipped == []
    assert len(list(variants(settings, "s"))) == 1


def test_the_oracle_runs_when_it_is_named() -> None:
    assert [variant.label for variant in variants(Settings(backend="reference"), "s")] == ["reference f32"]


def test_a_gpu_that_is_there_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = [replace(one, available=one.name == "tensorrt") for one in available()]
    monkeypatch.setattr(painters, "available", lambda: statuses)
    (variant,) = variants(Settings(backend="tensorrt"), "s")
    assert (variant.label, variant.on_device) == ("tensorrt f16", True)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'tpu'; known: .*tensorrt"):
        list(variants(Settings(backend="tpu"), "s"))


def gpu_painter(driver: FakeDriver, seed: int = 0) -> GpuPainter:
    """Everything but the kernels, which do nothing."""
    actor = bench_actor(seed)
    network = load_network(renderer_graph(actor), backend="onnxruntime", precision="f32")
    return GpuPainter(actor, driver, on_cpu(driver, network))


@pytest.fixture
def on_gpu() -> Iterator[GpuPainter]:
    driver = FakeDriver()
    painter = gpu_painter(driver)
    yield painter
    painter.close()
    assert driver.violations == []


def test_streams_on_a_device_are_drawn_as_one_batch_and_all_let_go() -> None:
    driver = FakeDriver()

    def open_stream(number: int, shared: Driver) -> GpuPainter:
        assert shared is driver
        return gpu_painter(driver, number)

    variant = Variant("tensorrt", "f16", "tensorrt f16")
    with DeviceStreams(variant, QUICK, lambda: driver, open_stream) as streams:
        results = _search(streams)
    sessions = results[0]
    assert sessions.name.startswith("tensorrt f16: sessions")
    assert {(row.name, row.clock) for row in results[1:]} >= {
        ("tensorrt f16: 1 stream", clock) for clock in ("wall", "device", "enqueue")
    }
    assert driver.violations == []
    assert driver.open == []


def test_a_missing_engine_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(*_: object, **__: object) -> None:
        asked.append("open")
        raise BackendError("there is no engine")

    monkeypatch.setattr(painters, "open_painter", refuse)
    monkeypatch.setattr(painters, "_build", lambda actor, precision: asked.append(f"build {precision}"))
    with pytest.raises(BackendError, match="no engine"):
        opened(bench_actor(), "tensorrt", "f16")
    assert asked == ["open", "build f16", "open"]


def test_nothing_is_built_for_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BackendUnavailable("no GPU")

    monkeypatch.setattr(painters, "open_painter", refuse)
    with pytest.raises(BackendUnavailable, match="no GPU"):
        opened(bench_actor(), "tensorrt", "f16")


def test_a_device_has_its_own_times_and_the_graph_stands_beside_its_steps(on_gpu: GpuPainter) -> None:
    frame = Frame(bench_actor())
    results = painting_results("s", "painting", on_gpu, (frame.image, frame.head()), QUICK, {})
    assert [(result.name, result.clock) for result in results] == [
        (name, clock)
        for name in ("painting", "painting, step by step")
        for clock in ("wall", "process_cpu", "device", "enqueue")
    ]
    by_clock = {result.clock: result for result in results[:4]}
    assert by_clock["enqueue"].max <= by_clock["wall"].max
    assert {result.n for result in results} == {2}


def test_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Frame(bench_actor())
    painted = []

    class Paints:
        def paint(self, image: object, head: object) -> None:
            painted.append(np.asarray(0))

    results = painting_results("s", "p", Paints(), (frame.image, frame.head()), QUICK, {})  # type: ignore[arg-type]
    assert [result.clock for result in results] == ["wall", "process_cpu"]
    assert len(painted) == 3
