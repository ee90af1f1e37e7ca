"""The order of calls with an imagined TensorRT; what it computes only where there is a GPU."""

import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from clients.doctor import gpu_names
from engine.arrays import Array
from engine.backends import load_network, tensorrt_gpu
from engine.backends.cuda.driver import Driver, GraphNetwork
from engine.backends.engine_cache import (
    EngineTensor,
    StoredEngine,
    engine_header,
    engine_key,
    store_engine,
)
from engine.backends.graph import describe
from engine.backends.tensorrt_gpu import TensorRtEngine, TensorRtNetwork, open_graph_network
from engine.backends.tensorrt_module import Refused, load_tensorrt
from engine.errors import BackendError, BackendUnavailable
from engine.render.renderer import INPUT, OUTPUT, renderer_graph
from tests.support import networks
from tests.support.fake_cuda import FakeDriver, failing_at
from tests.support.fake_tensorrt import SCRATCH_BYTES, DataType, FakeTensorRt, TensorIOMode
from tests.support.toy_actor import toy_actor

IN, OUT = EngineTensor("x", "float16", (2, 3)), EngineTensor("y", "float16", (2, 3))


def double() -> bytes:
    """A float32 graph, `y` = `x` + `x`, whose engine the imagined TensorRT has."""
    builder = networks.GraphBuilder(0)
    builder.node("Add", ["x", "x"], "y")
    return builder.finish({"x": ("B", 3)}, {"y": ("B", 3)})


GRAPH = double()


def stored_for(driver: FakeDriver) -> StoredEngine:
    trt = FakeTensorRt([])
    key = engine_key(GRAPH, "f16", trt.library, driver.info)
    return StoredEngine(engine_header(key, [IN.spec], [OUT.spec], b"plan"), b"plan")


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def stored(driver: FakeDriver) -> StoredEngine:
    return stored_for(driver)


@pytest.fixture
def trt(stored: StoredEngine) -> FakeTensorRt:
    return FakeTensorRt.of(stored)


@pytest.fixture
def cached(
    stored: StoredEngine, trt: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FakeTensorRt:
    """The engine is in the cache, and the imagined library installed."""
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    monkeypatch.setattr(tensorrt_gpu, "load_tensorrt", lambda: trt.library)
    store_engine(stored.header, stored.plan)
    return trt


def engine_of(stored: StoredEngine, driver: FakeDriver, trt: FakeTensorRt) -> TensorRtEngine:
    return TensorRtEngine(stored, cast(Driver, driver), trt.library)


def test_an_engine_is_opened_bound_once_and_run(
    stored: StoredEngine, driver: FakeDriver, trt: FakeTensorRt
) -> None:
    network: GraphNetwork = engine_of(stored, driver, trt).network()
    assert (network.name, network.precision) == ("tensorrt", "f16")
    assert (dict(network.inputs), dict(network.outputs)) == ({"x": IN.spec}, {"y": OUT.spec})
    stream, buffers = driver.stream(), [driver.buffer(12), driver.buffer(12)]
    network.bind({"x": buffers[0].address, "y": buffers[1].address})
    made = len(driver.made)
    for _ in range(3):
        network.enqueue(stream.handle)
    assert trt.calls == [
        "deserialize",
        "context USER_MANAGED",
        f"scratch {SCRATCH_BYTES}",
        "address x",
        "address y",
        *["execute"] * 3,
    ]
    assert len(driver.made) == made


def test_networks_of_one_engine_have_contexts_and_scratch_of_their_own(
    stored: StoredEngine, driver: FakeDriver, trt: FakeTensorRt
) -> None:
    engine = engine_of(stored, driver, trt)
    one, other = engine.network(), engine.network()
    assert trt.calls.count("deserialize") == 1
    assert [thing.size_bytes for thing in driver.open] == [SCRATCH_BYTES] * 2
    one.close()
    one.close()
    other.close()
    engine.close()
    engine.close()
    assert driver.open == []


@pytest.mark.parametrize("names", [{"x"}, {"x", "y", "z"}, set()])
def test_addresses_are_for_the_tensors_that_there_are(
    stored: StoredEngine, driver: FakeDriver, trt: FakeTensorRt, names: set[str]
) -> None:
    network = engine_of(stored, driver, trt).network()
    with pytest.raises(ValueError, match=r"the network wants addresses of \['x', 'y'\]"):
        network.bind(dict.fromkeys(names, 256))


@pytest.mark.parametrize(
    ("call", "doing"),
    [
        ("deserialize", "loading an engine"),
        ("context", "making an execution context"),
        ("scratch", "taking its memory"),
        ("address", "taking the addresses"),
        ("execute", "running"),
    ],
)
def test_a_refusal_is_told_in_the_librarys_first_words_and_leaves_nothing(
    cached: FakeTensorRt, driver: FakeDriver, call: str, doing: str
) -> None:
    cached.refuse[call] = "Error Code 1: unsupported\n compute capability 9.0"

    def all_of_it() -> None:
        network = open_graph_network(GRAPH, "f16", cast(Driver, driver))
        try:
            network.bind({"x": driver.buffer(12).address, "y": driver.buffer(12).address})
            network.enqueue(driver.stream().handle)
        finally:
            network.close()

    wanted = rf"tensorrt_rtx 1\.7\.1 failed while {doing}: Error Code 1: unsupported compute capability 9\.0"
    with pytest.raises(BackendError, match=wanted):
        all_of_it()
    assert [thing for thing in driver.open if thing.size_bytes == SCRATCH_BYTES] == []


def test_no_memory_for_the_scratch(cached: FakeTensorRt) -> None:
    failing = FakeDriver(fail=failing_at(1))
    with pytest.raises(BackendError, match="CUDA: "):
        open_graph_network(GRAPH, "f16", cast(Driver, failing))
    assert failing.open == []


@pytest.mark.parametrize(
    "tensors",
    [
        [(IN, TensorIOMode.INPUT)],
        [(IN, TensorIOMode.OUTPUT), (OUT, TensorIOMode.INPUT)],
        [(EngineTensor("x", "float16", (2, 4)), TensorIOMode.INPUT), (OUT, TensorIOMode.OUTPUT)],
        [(EngineTensor("x", "float32", (2, 3)), TensorIOMode.INPUT), (OUT, TensorIOMode.OUTPUT)],
        [(IN, TensorIOMode.INPUT), (EngineTensor("z", "float16", (2, 3)), TensorIOMode.OUTPUT)],
    ],
)
def test_an_engine_that_is_not_what_its_file_says(
    stored: StoredEngine, driver: FakeDriver, tensors: list[tuple[EngineTensor, TensorIOMode]]
) -> None:
    with pytest.raises(BackendError, match=r"loading an engine: its tensor.* its file says otherwise"):
        engine_of(stored, driver, FakeTensorRt(tensors))
    assert DataType(IN.dtype) is DataType.HALF


def test_a_host_network_is_float32_outside(cached: FakeTensorRt, driver: FakeDriver) -> None:
    network = TensorRtNetwork(describe(GRAPH), 1, "f16", driver=cast(Driver, driver))
    assert (network.name, network.precision) == ("tensorrt", "f16")
    assert [(str(s.dtype), s.shape) for s in (network.inputs["x"], network.outputs["y"])] == [
        ("float32", (2, 3))
    ] * 2
    x = np.arange(6, dtype=np.float32).reshape(2, 3) / 3
    for scale in (1, 5):
        made = len(driver.made)
        y = network.run({"x": x * scale})["y"]
        np.testing.assert_allclose(y, 2 * x * scale, rtol=2e-3)
        assert y.dtype == np.float32
        assert len(driver.made) == made
    with pytest.raises(ValueError, match=r"'x' must have shape \[2, 3\]"):
        network.run({"x": x[:1]})


def test_an_engine_of_another_graph_is_not_found(cached: FakeTensorRt, driver: FakeDriver) -> None:
    with pytest.raises(BackendError, match=r"no TensorRT engine for .*run: livedub export NAME\.actor"):
        TensorRtNetwork(describe(networks.gru()), 1, "f16", driver=cast(Driver, driver))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for flavour in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, flavour, None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'livedub\[gpu-rtx\]'"):
        load_tensorrt()


def test_the_library_is_one_object_with_one_logger() -> None:
    library = load_tensorrt()
    assert library is load_tensorrt()
    assert library.flavour in {"tensorrt", "tensorrt_rtx"}
    assert library.version[0].isdigit()
    library.complaints.clear()  # of the tests before: it is one logger
    library.logger.log(library.trt.ILogger.ERROR, "first")
    library.logger.log(library.trt.ILogger.WARNING, "never mind")
    assert list(library.complaints) == ["first"]
    with (
        pytest.raises(BackendError, match="failed while trying: it does not say why"),
        library.refusing("trying"),
    ):
        raise Refused
    with pytest.raises(BackendError, match="failed while trying: no such thing"), library.refusing("trying"):
        raise AttributeError("no such thing")


@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(BackendUnavailable, match="need an NVIDIA GPU and its driver"):
        tensorrt_gpu.version()


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "worst"), [("f16", 5e-3), ("bf16", 6e-2), ("f32", 1e-4)])
def test_the_renderer_draws_on_the_gpu_what_it_draws_on_the_cpu(
    precision: str, worst: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.onnx_parity import example_frame
    from export.tensorrt_build import build_actor

    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    pack = toy_actor("random")
    build_actor(pack, precision, None, lambda stage, done, total: None)  # type: ignore[arg-type]
    feeds: dict[str, Array] = {INPUT: example_frame(pack).canvas}
    graph = renderer_graph(pack)
    want = load_network(graph, backend="onnxruntime", precision="f32").run(feeds)[OUTPUT]
    have = load_network(graph, backend="tensorrt", precision=precision).run(feeds)[OUTPUT]  # type: ignore[arg-type]
    np.testing.assert_allclose(have, want, atol=worst)
