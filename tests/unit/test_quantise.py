"""Quantised graphs are near the originals, smaller, and run on both backends."""

import logging

import numpy as np
import onnx
import pytest

from engine.arrays import Array
from engine.backends import load_network
from export.quantise import quantise
from tests.support import networks

SIZE_PX, CHANNELS = 32, 23


def graph() -> bytes:
    return networks.unet(size_px=SIZE_PX, channels=CHANNELS)


def feeds(count: int) -> list[dict[str, Array]]:
    random = np.random.default_rng(0)
    shape = (1, CHANNELS, SIZE_PX, SIZE_PX)
    return [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def weights(model: bytes) -> list[str]:
    proto = onnx.load_model_from_string(model)
    return [node.input[1] for node in proto.graph.node if node.op_type == "Conv"]


@pytest.fixture(scope="module")
def integer() -> bytes:
    return quantise(graph(), feeds(3), keep=())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_result_is_near_on_both_backends(integer: bytes, backend: str) -> None:
    one = feeds(4)[-1]
    want = load_network(graph(), backend="onnxruntime", precision="f32").run(one)
    got = load_network(integer, backend=backend, precision="f32").run(one)
    assert got.keys() == want.keys()
    for name, exact in want.items():
        error = float(np.abs(got[name] - exact).mean())
        assert 0 < error < 0.1 * float(exact.std())


def test_every_convolution_reads_integers(integer: bytes) -> None:
    proto = onnx.load_model_from_string(integer)
    made = {output: node.op_type for node in proto.graph.node for output in node.output}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == len(weights(graph()))
    for node in convolutions:
        assert made[node.input[0]] == made[node.input[1]] == "DequantizeLinear"
    assert len(integer) < 0.5 * len(graph())


def test_what_is_kept_stays_in_float() -> None:
    kept = weights(graph())[-1]
    proto = onnx.load_model_from_string(quantise(graph(), feeds(1), keep=(kept,)))
    made = {output: node.op_type for node in proto.graph.node for output in node.output}
    last = [node for node in proto.graph.node if node.op_type == "Conv"][-1]
    assert last.input[1] == kept
    assert made.get(last.input[0]) != "DequantizeLinear"


def test_wrong_use_is_refused_and_logs_stay_as_they_were() -> None:
    level = logging.root.level
    with pytest.raises(ValueError, match="no convolution has weights named"):
        quantise(graph(), feeds(1), keep=("nobody",))
    with pytest.raises(ValueError, match="at least one canvas"):
        quantise(graph(), [], keep=())
    quantise(graph(), feeds(1), keep=())
    assert logging.root.level == level
