"""Every suite that `livedub bench` runs, as quick as it goes: numbers mean nothing, rows do."""

from datetime import UTC, datetime

import pytest

from benchmarks.bench_audio import measured_on_device
from benchmarks.common import Settings
from benchmarks.runner import report_of
from benchmarks.schema import Report
from engine.backends import load_network
from engine.expression.audio import shipped_model
from tests.support.fake_cuda import FakeDriver
from tests.support.fake_network import on_cpu

STEPS = {
    "log-mel", "voice detector", "audio network", "fit", "read the crop", "watch for cover", "how to bend",
    "bend the frame", "bend the crop", "mesh", "soft mask", "raster", "sample the texture",
    "split the picture", "match colour", "paste",
}  # fmt: skip


def quick(suite: str, backend: str | None = "openvino") -> Report:
    told: list[str] = []
    settings = Settings(backend, 2, 1, quick=True, on_progress=lambda stage, *_: told.append(stage))
    report = report_of(suite, settings, datetime.now(UTC))
    assert told
    assert all(stage.startswith(suite) for stage in told)
    assert {result.suite for result in report.results} == {suite}
    return report


def test_stages_knows_every_step_and_the_whole() -> None:
    report = quick("stages")
    names = {result.name for result in report.results}
    assert names >= STEPS
    for precision in ("f32", "bf16", "int8"):
        for what in ("network", "painting", "whole frame and its sound"):
            assert f"openvino {precision}: {what}" in names
    order = [
        result.parameters["order"] for result in report.results if result.parameters.get("backend") == "any"
    ]
    assert order == sorted(order, key=float)


def test_render_paints_at_the_sizes_of_a_face() -> None:
    report = quick("render")
    assert [result.name for result in report.results if result.clock == "wall"] == [
        f"openvino {precision}: a face of 182 px" for precision in ("f32", "bf16", "int8")
    ]


def test_audio_counts_streams_and_all_backends_are_told_of() -> None:
    report = quick("audio", None)
    names = {result.name for result in report.results}
    assert {"onnxruntime f32: 40 ms of 1 stream", "openvino f32: 40 ms of 1 stream"} <= names
    assert {skipped.name for skipped in report.skipped} >= {"reference"}


def test_sound_on_a_device_is_one_stream_and_leaves_nothing_behind() -> None:
    driver = FakeDriver()
    network = load_network(shipped_model(), backend="onnxruntime", precision="f32")
    settings = Settings("cuda-torch", 2, 1, quick=True, on_progress=lambda *_: None)
    wall, cpu = measured_on_device("cuda-torch", settings, driver, lambda *_: on_cpu(driver, network))
    assert (wall.name, wall.deadline_ms) == ("cuda-torch f32: 40 ms of 1 stream", 40.0)
    assert (cpu.clock, wall.p50 > 0) == ("process_cpu", True)
    assert (driver.violations, driver.open) == ([], [])


def test_pipeline_has_the_frames_arrivals() -> None:
    latency, cpu = quick("pipeline").results
    assert (latency.deadline_ms, latency.n, latency.at_s) == (40.0, 4, [0.0, 0.04, 0.08, 0.12])
    assert cpu.clock == "process_cpu"


def test_capacity_counts_sessions() -> None:
    report = quick("capacity")
    sessions, bound, one = report.results
    assert sessions.unit == "1"
    assert sessions.better == "higher"
    assert sessions.p50 in {0.0, 1.0}
    assert bound.p50 > 0
    assert one.parameters["streams"] == 1


def test_startup_has_its_phases() -> None:
    report = quick("startup")
    names = [result.name.partition(": ")[2] for result in report.results if result.clock == "wall"]
    assert names == [
        "import", "open the actor", "first frame", "from nothing to the first frame", "a frame from then on",
    ]  # fmt: skip


@pytest.mark.parametrize("suite", ["stages", "render", "audio", "pipeline", "capacity", "startup"])
def test_an_unknown_backend_is_refused(suite: str) -> None:
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        report_of(suite, Settings("tpu", quick=True), datetime.now(UTC))
