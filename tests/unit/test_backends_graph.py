import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import Array
from engine.backends.graph import describe, weights_of, with_weights
from engine.backends.registry import load_network
from tests.support import networks

MODEL = networks.gru(wide_in=3, wide=4)
HEAD = (4, 5)


def half_model() -> bytes:
    """`y` = `x` + `w`, all float16."""
    builder = networks.GraphBuilder(0)
    builder.node("Add", ["x", builder.weight(np.zeros(2, np.float16), "w")], "y")
    model = onnx.load_model_from_string(builder.finish({"x": (1, 2)}, {"y": (1, 2)}, check=False))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return bytes(model.SerializeToString())


def test_describe_lists_tensors_in_order() -> None:
    graph = describe(networks.gru(wide_in=3, wide=4, batch="B"))
    assert [(s.name, s.shape, str(s.dtype), s.symbols) for s in graph.inputs] == [
        ("x", (None, 3), "float32", ("B", "")),
        ("state", (None, 4), "float32", ("B", "")),
    ]
    assert [(s.name, s.shape) for s in graph.outputs] == [("y", (None, 5)), ("next", (None, 4))]


def test_weights_listed_as_inputs_are_not_inputs() -> None:
    model = onnx.load_model_from_string(MODEL)
    model.graph.input.append(onnx.helper.make_tensor_value_info("head", onnx.TensorProto.FLOAT, HEAD))
    assert [s.name for s in describe(model.SerializeToString()).inputs] == ["x", "state"]


@pytest.mark.parametrize("model", [b"", b"garbage", MODEL[: len(MODEL) // 2], b"\x00" * 64])
def test_damaged_bytes_are_refused(model: bytes) -> None:
    with pytest.raises(ValueError, match="not a serialized ONNX graph"):
        describe(model)


def test_weights_in_another_file_are_refused() -> None:
    model = onnx.load_model_from_string(MODEL)
    tensor = next(t for t in model.graph.initializer if t.name == "head")
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")
    with pytest.raises(ValueError, match=r"another file: \['head'\]"):
        describe(model.SerializeToString())


def test_unknown_element_type_is_refused() -> None:
    model = onnx.load_model_from_string(MODEL)
    model.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(ValueError, match="'x' has an unknown ONNX type 99"):
        describe(model.SerializeToString())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_new_weights_are_used(dtype: type[np.floating[np.generic]]) -> None:  # type: ignore[type-var]
    new = np.full(HEAD, 0.25, dtype)
    model = with_weights(MODEL, {"head": new})
    stored = weights_of(model)["head"]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, new.astype(np.float32))
    feeds = networks.feeds_for({"x": (1, 3), "state": (1, 4)})
    before, after = (load_network(m, backend="onnxruntime").run(feeds) for m in (MODEL, model))
    np.testing.assert_array_equal(before["next"], after["next"])
    assert not np.array_equal(before["y"], after["y"])


def test_weights_not_named_stay() -> None:
    old, new = weights_of(MODEL), weights_of(with_weights(MODEL, {"head": np.zeros(HEAD, np.float32)}))
    assert list(old) == list(new)
    for name in old.keys() - {"head"}:
        np.testing.assert_array_equal(old[name], new[name])


def test_own_weights_give_the_same_graph() -> None:
    floats = {name: w for name, w in weights_of(MODEL).items() if w.dtype == np.float32}
    feeds = networks.feeds_for({"x": (1, 3), "state": (1, 4)})
    again = load_network(with_weights(MODEL, floats), backend="onnxruntime").run(feeds)
    np.testing.assert_array_equal(again["y"], load_network(MODEL, backend="onnxruntime").run(feeds)["y"])


def test_scalar_and_strided_weights_keep_their_shape() -> None:
    builder = networks.GraphBuilder(0)
    scale = builder.weight(np.array(2, np.float32), "scale")
    table = builder.weight(np.zeros((2, 3), np.float32), "table")
    builder.node("Mul", [builder.node("Add", ["x", table]), scale], "y")
    model = builder.finish({"x": (2, 3)}, {"y": (2, 3)})
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2]
    stored = weights_of(with_weights(model, {"scale": np.array(3, np.float32), "table": wide}))
    assert stored["scale"].shape == ()
    np.testing.assert_array_equal(stored["table"], wide)


def test_a_half_precision_graph_stays_one() -> None:
    stored = weights_of(with_weights(half_model(), {"w": np.array([1, 1 / 3], np.float32)}))["w"]
    np.testing.assert_array_equal(stored, np.array([1, 1 / 3], np.float16))


@pytest.mark.parametrize(
    ("name", "new", "message"),
    [
        ("nobody", np.zeros(HEAD, np.float32), r"no weights named \['nobody'\]"),
        ("head", np.zeros((5, 4), np.float32), r"'head' must have shape \[4, 5\], got \[5, 4\]"),
        ("head", np.zeros(HEAD, np.float64), "'head' must be float16 or float32, got float64"),
        ("head", np.zeros(HEAD, np.int32), "'head' must be float16 or float32, got int32"),
        ("head", [0.0], "'head' must be float16 or float32, got list"),
        ("head", np.full(HEAD, np.nan, np.float32), "'head' has values that are not finite"),
        ("head", np.full(HEAD, -np.inf, np.float16), "'head' has values that are not finite"),
    ],
)
def test_wrong_weights_are_named(name: str, new: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_weights(MODEL, {name: new})


def test_values_too_large_for_half_precision_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite in float16"):
        with_weights(half_model(), {"w": np.array([1e6, 0], np.float32)})


def test_integer_constants_cannot_be_replaced() -> None:
    name = next(n for n, w in weights_of(MODEL).items() if w.dtype == np.int64)
    with pytest.raises(ValueError, match=f"'{name}' is int64 in the graph"):
        with_weights(MODEL, {name: np.zeros(3, np.float32)})


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_damaged_graph_raises_only_value_errors(data: st.DataObject) -> None:
    damaged = bytearray(MODEL)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(MODEL) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = describe(bytes(damaged))
    except ValueError:
        return
    assert graph.model == damaged
