"""Every backend and precision against the reference evaluator, on graphs with our own operators."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

from engine.arrays import Array
from engine.backends import (
    Network,
    Precision,
    backend_names,
    cpu,
    load_network,
    quantised,
    rounded_tensors,
    with_outputs,
)
from engine.backends.onnxruntime_cpu import adds_integers_exactly
from tests.support import networks


class Tolerance(NamedTuple):
    max_abs: float
    rms: float


# Outputs are of order 1; one grey level is 3.9e-3. Beside each bound: worst of 12 seeds, 1 and 2 threads, on
# a CPU with amx_bf16 (onnxruntime 1.31.1, openvino 2026.4.1).
TOLERANCES: dict[tuple[str, Precision, str], Tolerance] = {
    ("onnxruntime", "f32", "picture"): Tolerance(1e-5, 2e-6),  # 2.0e-6, 3.4e-7
    ("onnxruntime", "f32", "recurrent"): Tolerance(2e-6, 1e-6),  # 2.7e-7, 2.2e-7
    ("openvino", "f32", "picture"): Tolerance(1e-5, 2e-6),  # 3.0e-6, 4.8e-7
    ("openvino", "f32", "recurrent"): Tolerance(2e-6, 1e-6),  # 2.4e-7, 1.7e-7
    ("openvino", "bf16", "picture"): Tolerance(4e-2, 3.2e-3),  # 2.3e-2, 2.6e-3 (52 dB)
    ("openvino", "bf16", "recurrent"): Tolerance(2e-2, 7e-3),  # 8.1e-3, 4.3e-3
    # Against the same integers in the reference. A sum on the edge of two steps falls to either side, and
    # after some layers that is as much as rounding itself: compare ROUNDED. One alone is exact, see below.
    ("onnxruntime", "int8", "picture"): Tolerance(1.5e-1, 2e-2),  # 7.5e-2, 1.4e-2
    ("openvino", "int8", "picture"): Tolerance(1.5e-1, 2e-2),  # 8.7e-2, 1.4e-2
}
# int8 against f32: deep networks of random weights, on noise, are the worst case; test_renderer has pictures.
ROUNDED = Tolerance(1.5e-1, 2e-2)  # 1.2e-1, 1.5e-2
CALIBRATION_SEEDS = range(100, 104)  # never those of a test
FLOATS: list[tuple[str, Precision]] = [("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16")]
RUNS: list[tuple[str, Precision]] = [*FLOATS, ("onnxruntime", "int8"), ("openvino", "int8")]
PICTURE: dict[str, tuple[int, ...]] = {"x": (1, 23, 48, 48)}
STEP: dict[str, tuple[int, ...]] = {"x": (1, 12), "state": (1, 16)}
CASES: dict[str, tuple[str, bytes, dict[str, tuple[int, ...]]]] = {
    "unet": ("picture", networks.unet(size_px=48), PICTURE),
    "unet narrow": (
        "picture",
        networks.unet(size_px=32, widths=(16, 24, 32), seed=5),
        {"x": (1, 23, 32, 32)},
    ),
    "toolbox": ("picture", networks.toolbox(), {"a": (1, 4, 16, 16), "b": (1, 4, 16, 16)}),
    "gru": ("recurrent", networks.gru(), STEP),
    "gru fused": ("recurrent", networks.gru(fused=True), STEP),
}
IDS = ["-".join(run) for run in RUNS]
SMALL = networks.unet(size_px=32, widths=(8, 16), batch="B")


@pytest.fixture(params=RUNS, ids=IDS)
def run(request: pytest.FixtureRequest) -> tuple[str, Precision]:
    chosen: tuple[str, Precision] = request.param
    if chosen == ("onnxruntime", "int8") and not adds_integers_exactly(cpu.cpu_info()[1]):
        pytest.skip("this CPU has no VNNI")
    return chosen


@cache
def integers(model: bytes, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> bytes:
    """A graph in integers, calibrated on noise."""
    names = rounded_tensors(model)
    network = load_network(with_outputs(model, names), backend="onnxruntime", precision="f32")
    feeds = [networks.feeds_for(dict(shapes), seed) for seed in CALIBRATION_SEEDS]
    found = [list(network.run(one).values()) for one in feeds]
    low = [min(tensor.min() for tensor in tensors) for tensors in zip(*found, strict=True)]
    high = [max(tensor.max() for tensor in tensors) for tensors in zip(*found, strict=True)]
    return quantised(model, np.stack([low, high], axis=1).astype(np.float32))


@cache
def oracle(case: str, precision: Precision) -> dict[str, Array]:
    """What the reference gives for one of the cases."""
    _, model, shapes = CASES[case]
    return load_network(prepared(model, precision, shapes), backend="reference").run(feeds_of(case))


def feeds_of(case: str) -> dict[str, Array]:
    return networks.feeds_for(CASES[case][2], seed=7)


def prepared(model: bytes, precision: Precision, shapes: dict[str, tuple[int, ...]]) -> bytes:
    return integers(model, tuple(shapes.items())) if precision == "int8" else model


def test_every_backend_but_the_oracle_is_compared() -> None:
    on_a_gpu = {"tensorrt", "cuda-torch"}  # compared where there is one: test_tensorrt_gpu, test_cuda_torch
    assert {"reference", *(name for name, _ in RUNS)} == set(backend_names()) - on_a_gpu


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_agrees_with_the_reference(run: tuple[str, Precision], case: str, threads: int) -> None:
    backend, precision = run
    kind, model, shapes = CASES[case]
    if precision == "int8" and kind != "picture":
        assert rounded_tensors(model) == ()  # nothing to make integers of
        return
    graph = prepared(model, precision, shapes)
    got = load_network(graph, backend=backend, precision=precision, threads=threads).run(feeds_of(case))
    want = oracle(case, "int8" if precision == "int8" else "f32")
    assert_near(got, want, TOLERANCES[backend, precision, kind])


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] == "picture"])
@pytest.mark.parametrize("backend", ["reference", "onnxruntime", "openvino"])
def test_integers_are_near_what_they_round(backend: str, case: str) -> None:
    if backend == "onnxruntime" and not adds_integers_exactly(cpu.cpu_info()[1]):
        pytest.skip("this CPU has no VNNI")
    _, model, shapes = CASES[case]
    graph = prepared(model, "int8", shapes)
    got = load_network(graph, backend=backend, precision="int8").run(feeds_of(case))
    want = oracle(case, "f32")
    assert any((got[name] != want[name]).any() for name in want)
    assert_near(got, want, ROUNDED)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_one_convolution_in_integers_is_exact(backend: str) -> None:
    if backend == "onnxruntime" and not adds_integers_exactly(cpu.cpu_info()[1]):
        pytest.skip("this CPU has no VNNI")
    _, model, shapes = CASES["toolbox"]
    graph = prepared(model, "int8", shapes)
    got = load_network(graph, backend=backend, precision="int8").run(feeds_of("toolbox"))
    assert_near(got, oracle("toolbox", "int8"), Tolerance(1e-6, 1e-7))  # 1.8e-7, 2.5e-8


def assert_near(got: dict[str, Array], want: dict[str, Array], bound: Tolerance) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        error = np.abs(got[name] - array)
        assert got[name].dtype == array.dtype
        assert error.max() <= bound.max_abs, name
        assert np.sqrt(np.mean(error**2)) <= bound.rms, name


def test_two_forms_of_the_recurrent_step_are_one_function() -> None:
    feeds = networks.feeds_for(STEP)
    plain = load_network(networks.gru(), backend="reference").run(feeds)
    fused = load_network(networks.gru(fused=True), backend="reference").run(feeds)
    np.testing.assert_allclose(fused["next"], plain["next"], atol=1e-6)


@pytest.mark.parametrize(("backend", "precision"), FLOATS)
def test_fed_back_state_does_not_drift(backend: str, precision: Precision) -> None:
    exact = load_network(networks.gru(), backend="reference")
    network = load_network(networks.gru(), backend=backend, precision=precision)
    want, got = (list(_unrolled(n, steps=100)) for n in (exact, network))
    bound = 2e-6 if precision == "f32" else 3e-2  # worst of 12 seeds: 3.0e-7 and 9.4e-3
    assert max(np.abs(a - b).max() for a, b in zip(want, got, strict=True)) <= bound


def _unrolled(network: Network, steps: int) -> Iterator[Array]:
    state = np.zeros((1, 16), np.float32)
    for step in range(steps):
        results = network.run({"x": networks.feeds_for({"x": (1, 12)}, seed=step)["x"], "state": state})
        state = results["next"]
        yield results["y"]


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_are_bit_equal(run: tuple[str, Precision], threads: int) -> None:
    backend, precision = run
    model, shapes = CASES["unet"][1:]
    feeds = networks.feeds_for(shapes)
    model = prepared(model, precision, shapes)
    network = load_network(model, backend=backend, precision=precision, threads=threads)
    first = network.run(feeds)["y"]
    network.run(networks.feeds_for(shapes, seed=1))
    np.testing.assert_array_equal(network.run(feeds)["y"], first)
    again = load_network(model, backend=backend, precision=precision, threads=threads)
    np.testing.assert_array_equal(again.run(feeds)["y"], first)


def test_batch_rows_are_strangers(run: tuple[str, Precision]) -> None:
    backend, precision = run
    shape = (3, 23, 32, 32)
    network = load_network(prepared(SMALL, precision, {"x": shape}), backend=backend, precision=precision)
    x = networks.feeds_for({"x": shape})["x"]
    beside = x.copy()
    beside[[0, 2]] = np.nan
    np.testing.assert_array_equal(network.run({"x": beside})["y"][1], network.run({"x": x})["y"][1])


def test_batch_length_may_change_between_calls(run: tuple[str, Precision]) -> None:
    backend, precision = run
    shape = (3, 23, 32, 32)
    network = load_network(prepared(SMALL, precision, {"x": shape}), backend=backend, precision=precision)
    x = networks.feeds_for({"x": shape})["x"]
    whole = network.run({"x": x})["y"]
    bound = TOLERANCES[backend, precision, "picture"].max_abs
    for row in range(3):
        np.testing.assert_allclose(
            network.run({"x": x[row : row + 1]})["y"][0], whole[row], rtol=0, atol=bound
        )


def test_results_belong_to_the_caller_and_feeds_stay_as_they_were(run: tuple[str, Precision]) -> None:
    backend, precision = run
    model, shapes = CASES["unet narrow"][1:]
    network = load_network(prepared(model, precision, shapes), backend=backend, precision=precision)
    feeds = networks.feeds_for(shapes)
    before = feeds["x"].copy()
    first = network.run(feeds)["y"]
    kept = first.copy()
    network.run(networks.feeds_for(shapes, seed=1))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(feeds["x"], before)
    first[:] = 7.0
    np.testing.assert_array_equal(network.run(feeds)["y"], kept)


@pytest.mark.parametrize(("backend", "precision"), FLOATS)
def test_an_input_passed_through_is_not_the_callers_array(backend: str, precision: Precision) -> None:
    builder = networks.GraphBuilder(0)
    builder.node("Identity", ["x"], "y")
    model = builder.finish({"x": (1, 4)}, {"y": (1, 4)})
    network = load_network(model, backend=backend, precision=precision)
    x = np.arange(4, dtype=np.float32)[None]
    result = network.run({"x": x})["y"]
    np.testing.assert_array_equal(result, x)
    assert not np.shares_memory(result, x)


@pytest.mark.parametrize("view", ["channels last", "read only", "odd address"])
def test_any_memory_layout_is_read_right(run: tuple[str, Precision], view: str) -> None:
    backend, precision = run
    model, shapes = CASES["unet narrow"][1:]
    x = networks.feeds_for(shapes)["x"]
    network = load_network(prepared(model, precision, shapes), backend=backend, precision=precision)
    want = network.run({"x": x})["y"]
    if view == "channels last":
        given = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    elif view == "read only":
        given = x.copy()
        given.flags.writeable = False
    else:
        given = np.frombuffer(b"\0" * 4 + x.tobytes(), np.float32, offset=4).reshape(x.shape)
    np.testing.assert_array_equal(network.run({"x": given})["y"], want)


@pytest.mark.parametrize(("backend", "precision"), FLOATS)
def test_run_into_writes_the_same_values(backend: str, precision: Precision) -> None:
    network = load_network(networks.gru(), backend=backend, precision=precision)
    feeds = networks.feeds_for(STEP)
    want = network.run(feeds)
    network.run_into(feeds, {"next": feeds["state"]})
    np.testing.assert_array_equal(feeds["state"], want["next"])
