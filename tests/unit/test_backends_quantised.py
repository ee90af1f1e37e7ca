"""What becomes integers, to what they are rounded, and which ranges are refused; see also the contract."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engine.arrays import F32, Array
from engine.backends import cpu, load_network, quantised, rounded_tensors, weights_of, with_outputs
from engine.backends.onnxruntime_cpu import adds_integers_exactly
from tests.support import networks

UNET = networks.unet(size_px=16, widths=(8, 16))
HEAD = "out.weight"
COUNT = len(rounded_tensors(UNET))


def wide(count: int = COUNT) -> F32:
    return np.tile(np.array([-4, 4], np.float32), (count, 1))


def chain(bias: float = 0.0, weight: float = 0.5, filters: int = 2) -> bytes:
    """`x` [1, 3, 4, 4] -> convolution -> rectifier -> convolution `y`."""
    builder = networks.GraphBuilder(0)
    kernel = builder.weight(np.full((filters, 3, 1, 1), weight, np.float32), "a.weight")
    added = builder.weight(np.full(filters, bias, np.float32), "a.bias")
    builder.node("Conv", ["x", kernel, added], "a")
    builder.node("LeakyRelu", ["a"], "b", alpha=0.1)
    last = builder.weight(builder.random(4, filters, 1, 1, scale=0.5), "c.weight")
    builder.node("Conv", ["b", last], "y")
    return builder.finish({"x": [1, 3, 4, 4]}, {"y": [1, 4, 4, 4]})


def test_tensors_between_convolutions_are_rounded_in_the_graphs_order() -> None:
    assert rounded_tensors(chain()) == ("x", "a", "b", "y")
    assert rounded_tensors(chain(), ["c.weight"]) == ("x", "a")
    assert rounded_tensors(chain(), ["a.weight", "c.weight"]) == ()


def test_additions_and_resizing_are_carried_but_not_beyond_the_last_convolution() -> None:
    proto = onnx.load_model_from_string(UNET)
    kinds = {output: node.op_type for node in proto.graph.node for output in node.output}
    rounded = [kinds[name] for name in rounded_tensors(UNET, [HEAD])]
    assert set(rounded) == {"SpaceToDepth", "Conv", "LeakyRelu", "Add", "Resize"}
    assert rounded.count("Conv") == list(kinds.values()).count("Conv") - 1
    assert rounded.count("Add") == list(kinds.values()).count("Add") - 1
    assert rounded.count("LeakyRelu") == list(kinds.values()).count("LeakyRelu") - 1


def test_the_graph_stays_valid_becomes_small_and_is_the_same_every_time() -> None:
    made = quantised(UNET, wide())
    onnx.checker.check_model(onnx.load_model_from_string(made), full_check=True)
    assert made == quantised(UNET, wide())
    large = networks.unet(size_px=16)
    assert len(quantised(large, wide(len(rounded_tensors(large))))) < 0.3 * len(large)


def test_what_is_kept_stays_in_float_with_its_input() -> None:
    keep = [HEAD]
    proto = onnx.load_model_from_string(quantised(UNET, wide(len(rounded_tensors(UNET, keep))), keep))
    made = {output: node.op_type for node in proto.graph.node for output in node.output}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    for node in convolutions[:-1]:
        assert made[node.input[0]] == made[node.input[1]] == "DequantizeLinear"
    assert convolutions[-1].input[1] == HEAD
    assert made[convolutions[-1].input[0]] == "Add"


def test_weights_are_rounded_by_the_filter_and_symmetrically() -> None:
    stored = weights_of(quantised(UNET, wide()))
    for name, values in weights_of(UNET).items():
        if not name.endswith(".weight"):
            continue
        integers, scale = stored[f"{name}.int8"], stored[f"{name}.scale"]
        assert integers.dtype == np.int8
        assert (np.abs(integers.astype(int)).max(axis=(1, 2, 3)) == 127).all()
        assert not stored[f"{name}.zero"].any()
        error = np.abs(integers * scale[:, None, None, None] - values)
        assert (error.max(axis=(1, 2, 3)) <= 0.5001 * scale).all()


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [(-1, 1.55, 0.01, 100), (0, 2.55, 0.01, 0), (0.5, 5.1, 0.02, 0), (-5.1, -0.5, 0.02, 255)],
)
def test_ranges_become_steps_that_hit_zero(low: float, high: float, scale: float, zero: int) -> None:
    stored = weights_of(quantised(chain(), np.tile(np.array([low, high], np.float32), (4, 1))))
    assert stored["a.scale"] == pytest.approx(scale)
    assert stored["a.zero"] == zero


@pytest.mark.parametrize("backend", ["reference", "onnxruntime", "openvino"])
@pytest.mark.parametrize(("bias", "weight"), [(1.0, 1e-7), (-1.0, 0.0), (0.0, 0.0)])
def test_tiny_weights_do_not_lose_the_bias(backend: str, bias: float, weight: float) -> None:
    """ONNX Runtime makes an int32 of it, in steps as fine as the weights are small."""
    if backend == "onnxruntime" and not adds_integers_exactly(cpu.cpu_info()[1]):
        pytest.skip("this CPU has no VNNI")
    model = chain(bias, weight)
    x = networks.feeds_for({"x": (1, 3, 4, 4)})
    want = load_network(model, backend="reference").run(x)["y"]
    got = load_network(quantised(model, wide(4)), backend=backend, precision="int8").run(x)["y"]
    assert np.abs(got - want).max() <= 0.06  # a step and a half of 8/255


def ranges(row: int, low: float, high: float) -> F32:
    values = wide()
    values[row] = low, high
    return values


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (wide(COUNT - 1), ValueError, rf"must have shape \[{COUNT}, 2\]"),
        (wide(COUNT + 1), ValueError, "must have shape"),
        (wide().ravel(), ValueError, "must have shape"),
        (wide().astype(np.float64), TypeError, "must be an array of float32"),
        (ranges(3, -1, np.nan), ValueError, "must be finite"),
        (ranges(0, -np.inf, 1), ValueError, "must be finite"),
        (ranges(0, 0, 0), ValueError, "the range of 'spacetodepth_1' must be wider than 0, got 0 to 0"),
        (ranges(2, 1, -1), ValueError, "must be wider than 0, got 1 to -1"),
        (ranges(2, 0, 1e-44), ValueError, "must be wider than 0"),
        (ranges(2, -3e38, 3e38), ValueError, "must be wider than 0"),
    ],
)
def test_damaged_ranges_are_refused(given: Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quantised(UNET, given)


def test_wrong_names_and_damaged_graphs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no convolution has weights named \['nobody'\]"):
        rounded_tensors(UNET, ["nobody"])
    with pytest.raises(ValueError, match="no convolution has weights named"):
        quantised(UNET, wide(), ["nobody", HEAD])
    with pytest.raises(ValueError, match="not a serialized ONNX graph"):
        quantised(b"garbage", wide())


@pytest.mark.parametrize("backend", ["reference", "onnxruntime", "openvino"])
def test_inner_tensors_can_be_read(backend: str) -> None:
    model = chain(bias=0.25)
    x = networks.feeds_for({"x": (1, 3, 4, 4)})
    found = load_network(with_outputs(model, ["b", "y"]), backend=backend, precision="f32").run(x)
    assert list(found) == ["b", "y"]
    kernel = weights_of(model)["a.weight"][:, :, 0, 0]
    a = np.einsum("oi,bihw->bohw", kernel, x["x"]) + np.float32(0.25)
    np.testing.assert_allclose(found["b"], np.where(a > 0, a, 0.1 * a), atol=1e-5)
    np.testing.assert_allclose(found["y"], load_network(model, backend=backend).run(x)["y"], atol=3e-2)


def test_scales_are_stored_as_the_standard_wants() -> None:
    tensors = onnx.load_model_from_string(quantised(chain(), wide(4))).graph.initializer
    kinds = {tensor.name: numpy_helper.to_array(tensor).dtype for tensor in tensors}
    assert kinds["x.scale"] == np.float32
    assert kinds["x.zero"] == np.uint8
    assert kinds["a.weight.zero"] == np.int8
