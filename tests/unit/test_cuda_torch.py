"""The graphs on torch, compared on the CPU; what only a GPU can show is the order of what it is asked for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engine.arrays import Array
from engine.backends import load_network
from engine.backends.cuda.driver import Stream
from engine.backends.cuda_torch import (
    CudaTorchGraphNetwork,
    CudaTorchNetwork,
    capturing,
    import_torch,
    open_graph_network,
    version,
)
from engine.backends.graph import describe
from engine.errors import BackendError, BackendUnavailable
from tests.support.fake_cuda import Capture, FakeDriver, FakeGraph

GRAPHS = ("prior_cpu.onnx", "audio_to_expression.onnx")
CLOSE = 1e-4
LOUD = -3.0  # of log-mels


def model(name: str) -> bytes:
    return resources.files("engine.assets").joinpath(name).read_bytes()


def feeds_for(name: str, seed: int) -> dict[str, Array]:
    """Inputs of the kind that the network sees."""
    random = np.random.default_rng(seed)
    feeds = {}
    for spec in describe(model(name)).inputs:
        values = random.uniform(0, 1, [length or 1 for length in spec.shape])
        feeds[spec.name] = (values + LOUD if "mel" in spec.name else values).astype(np.float32)
    return feeds


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_computes_what_onnx_runtime_does(name: str) -> None:
    wanted = load_network(model(name), backend="onnxruntime", precision="f32")
    network = CudaTorchNetwork(describe(model(name)), 1, "f32", device="cpu")
    feeds = feeds_for(name, 1)
    for _ in range(3):
        got, want = network.run(feeds), wanted.run(feeds)
        assert got.keys() == want.keys()
        for tensor, values in want.items():
            assert got[tensor].dtype == np.float32
            np.testing.assert_allclose(got[tensor], values, atol=CLOSE, err_msg=tensor)
        feeds |= {key.removeprefix("next_"): want[key] for key in want if key.startswith("next_")}


def test_a_batch_of_streams_is_what_each_is_alone() -> None:
    name = GRAPHS[1]
    network = CudaTorchNetwork(describe(model(name)), 1, "f32", device="cpu")
    one, other = feeds_for(name, 1), feeds_for(name, 2)
    both = network.run({key: np.concatenate([one[key], other[key]]) for key in one})
    for index, feeds in enumerate((one, other)):
        for key, values in network.run(feeds).items():
            np.testing.assert_allclose(both[key][index : index + 1], values, atol=1e-5)


def test_half_precision_is_close() -> None:
    feeds = feeds_for(GRAPHS[0], 3)
    got, want = (
        CudaTorchNetwork(describe(model(GRAPHS[0])), 1, precision, device="cpu").run(feeds)["picture"]
        for precision in ("f16", "f32")
    )
    assert got.dtype == np.float32
    assert not np.array_equal(got, want)
    assert 10 * np.log10(1 / np.mean((got - want) ** 2)) > 50


class TestBetweenAddresses:
    def test_tensors_lie_where_they_were_said_to_be(self) -> None:
        name = GRAPHS[1]
        network = CudaTorchGraphNetwork(model(name), "f32", device="cpu")
        memory = {
            spec.name: np.zeros([length or 1 for length in spec.shape], np.float32)
            for spec in (*network.inputs.values(), *network.outputs.values())
        }
        network.bind({key: array.ctypes.data for key, array in memory.items()})
        feeds = feeds_for(name, 4)
        for key, values in feeds.items():
            memory[key][:] = values
        network.enqueue(0)
        for key, values in CudaTorchNetwork(describe(model(name)), 1, "f32", device="cpu").run(feeds).items():
            np.testing.assert_array_equal(memory[key], values)
        network.close()
        with pytest.raises(BackendError, match="closed"):
            network.enqueue(0)

    def test_shapes_are_static_and_floats_as_precise_as_the_network(self) -> None:
        network = CudaTorchGraphNetwork(model(GRAPHS[0]), "f16", device="cpu")
        assert (network.name, network.precision) == ("cuda-torch", "f16")
        assert network.inputs["canvas"].shape == (1, 224, 224, 23)
        assert network.inputs["canvas"].dtype == network.outputs["picture"].dtype == np.float16
        audio = CudaTorchGraphNetwork(model(GRAPHS[1]), "f32", device="cpu")
        assert audio.inputs["mels"].shape == (1, 4, 80)
        assert audio.inputs["mels"].symbols == ()

    @pytest.mark.parametrize("names", [{"canvas"}, {"canvas", "picture", "other"}])
    def test_addresses_of_other_names_are_refused(self, names: set[str]) -> None:
        network = CudaTorchGraphNetwork(model(GRAPHS[0]), "f32", device="cpu")
        with pytest.raises(ValueError, match="wants addresses of"):
            network.bind(dict.fromkeys(names, 256))


def tiny(operator: str, *constants: Array, **attributes: Any) -> bytes:
    """A graph of one operator, on x [1, 2, 4, 4]."""
    names = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(operator, ["x", *names], ["y"], **attributes)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    weights = [onnx.numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True)]
    graph = helper.make_graph([node], "tiny", inputs, outputs, weights)
    return bytes(helper.make_model(graph).SerializeToString())


WEIGHT = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "graph",
    [
        tiny("Conv", WEIGHT, kernel_shape=[3, 3], pads=[1, 0, 2, 1]),
        tiny("Conv", WEIGHT, kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1]),
        tiny("Slice", np.array([-3, 0]), np.array([2**63 - 1, 2]), np.array([2, -1]), np.array([2, 1])),
        tiny("Reshape", np.array([0, -1, 8])),
        tiny("Unsqueeze", np.array([-1, 0])),
        tiny("ReduceSum", np.array([1, 3]), keepdims=1),
        tiny("Gather", np.array(-2), axis=-1),
        tiny("Clip", np.array(0.2, np.float32), np.array(0.5, np.float32)),
        tiny("MaxPool", kernel_shape=[2, 2], strides=[2, 1]),
        tiny("Gelu", approximate="tanh"),
    ],
    ids=lambda graph: onnx.load_from_string(graph).graph.node[0].op_type,
)
def test_operators_are_what_the_standard_says(graph: bytes) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (1, 2, 4, 4)).astype(np.float32)
    described = describe(graph)
    network = CudaTorchNetwork(described, 1, "f32", device="cpu")
    (got,) = network._infer({"x": x})
    (want,) = load_network(graph, backend="reference", precision="f32").run({"x": x}).values()
    assert np.asarray(got).shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (tiny("Sin"), "operator Sin is left out"),
        (tiny("bound"), "operator bound is left out"),
        (tiny("Gather", np.array([0, 1]), axis=1), "gather of several"),
        (tiny("MaxPool", kernel_shape=[2, 2], pads=[1, 1, 1, 1]), "pooling with padding"),
        (tiny("Conv", WEIGHT, kernel_shape=[3, 3], auto_pad="SAME_UPPER"), "convolution that pads itself"),
        (tiny("Slice", np.array([3]), np.array([0]), np.array([2]), np.array([-1])), "slice backwards"),
        (tiny("Relu", unheard_of=1), "unheard_of"),
    ],
    ids=["operator", "name", "gather", "pool", "conv", "slice", "attribute"],
)
def test_what_is_left_out_is_refused(graph: bytes, why: str) -> None:
    with pytest.raises(BackendError, match=why):
        CudaTorchNetwork(describe(graph), 1, "f32", device="cpu").run(
            {"x": np.ones((1, 2, 4, 4), np.float32)}
        )


class TestUnavailable:
    def test_without_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(BackendUnavailable, match="needs: pip install torch"):
            version()

    def test_without_a_gpu(self) -> None:
        if import_torch().cuda.is_available():
            pytest.skip("there is a GPU here")
        for attempt in (
            version,
            lambda: CudaTorchNetwork(describe(model(GRAPHS[0])), 1, "f16"),
            lambda: open_graph_network(model(GRAPHS[0]), "f16", FakeDriver()),
        ):
            with pytest.raises(BackendUnavailable, match="needs an NVIDIA GPU"):
                cast(Callable[[], object], attempt)()

    def test_other_precisions_are_not_offered(self) -> None:
        with pytest.raises(BackendUnavailable, match="offers f16 and f32, not int8"):
            CudaTorchNetwork(describe(model(GRAPHS[0])), 1, "int8", device="cpu")


class FakeTorch:
    """What a capture asks of `torch.cuda`, on a `FakeDriver`."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver, self.current, self.cuda = driver, 0, self
        self.modes: list[str] = []

    def ExternalStream(self, handle: int) -> int:
        return handle

    def CUDAGraph(self) -> "FakeCudaGraph":
        return FakeCudaGraph(self)

    @contextmanager
    def stream(self, handle: int) -> Iterator[None]:
        self.current, before = handle, self.current
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: "FakeCudaGraph", *, stream: int, capture_error_mode: str) -> Iterator[None]:
        self.modes.append(capture_error_mode)
        self.driver.call("begin capture", "torch")
        self.driver.capturing = capture = Capture(self.driver.stream_of(stream))
        try:
            with self.stream(stream):
                yield
        except BackendError:
            raise RuntimeError("operation failed due to a previous error during capture") from None
        finally:
            self.driver.capturing = None
        self.driver.call("end capture", "torch")
        graph.made = FakeGraph(self.driver, capture.operations)


class FakeCudaGraph:
    """A `torch.cuda.CUDAGraph`."""

    def __init__(self, torch: FakeTorch) -> None:
        self._torch, self.made = torch, cast(FakeGraph, None)

    def replay(self) -> None:
        self.made.launch(self._torch.driver.stream_of(self._torch.current))

    def reset(self) -> None:
        self.made.close()


class TestCapturing:
    def test_goes_through_torch_and_records_what_is_enqueued(self) -> None:
        driver = FakeDriver()
        torch = FakeTorch(driver)
        mine = capturing(driver, cast(Any, torch))
        stream, source, target = mine.stream(), mine.buffer(64), mine.buffer(64)
        start = len(driver.calls)

        def record() -> None:
            assert torch.current == stream.handle
            mine.copy(stream, target.address, source.address, 64)

        graph = mine.capture(stream, record)
        assert driver.log[start:] == ["begin capture torch", "copy", "end capture torch", "make graph"]
        assert torch.modes == ["thread_local"]
        mine.upload(source, np.arange(64, dtype=np.uint8))
        out = np.zeros(64, np.uint8)
        mine.download(target, out)
        assert not out.any()
        graph.launch(stream)
        mine.download(target, out)
        np.testing.assert_array_equal(out, np.arange(64))
        self.close(graph, source, target, stream)
        assert driver.violations == []
        assert driver.open == []

    def close(self, *things: Any) -> None:
        for thing in (*things, things[0]):
            thing.close()

    def test_a_closed_graph_is_not_launched(self) -> None:
        driver = FakeDriver()
        mine = capturing(driver, cast(Any, FakeTorch(driver)))
        stream = mine.stream()
        graph = mine.capture(stream, lambda: None)
        graph.close()
        with pytest.raises(BackendError, match="closed"):
            graph.launch(stream)

    def test_what_fails_while_recording_comes_out_as_it_is(self) -> None:
        driver = FakeDriver()
        mine = capturing(driver, cast(Any, FakeTorch(driver)))
        stream = mine.stream()

        def record() -> None:
            raise BackendError("a kernel is missing")

        with pytest.raises(BackendError, match="a kernel is missing"):
            mine.capture(stream, record)

    def test_what_torch_refuses_is_a_backend_error(self) -> None:
        driver = FakeDriver()
        torch = FakeTorch(driver)

        def refuse(handle: int) -> int:
            raise RuntimeError("out of memory")

        torch.ExternalStream = refuse  # type: ignore[method-assign]
        mine = capturing(driver, cast(Any, torch))
        stream: Stream = mine.stream()
        with pytest.raises(BackendError, match="capturing a graph: out of memory"):
            mine.capture(stream, lambda: None)
