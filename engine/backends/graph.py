"""Read what a serialized ONNX graph says about itself, and exchange its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.arrays import Array
from engine.backends.network import TensorSpec

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Graph:
    """A serialized ONNX model and the tensors that go in and out.

    Attributes:
        model: the bytes; self-contained.
        inputs: in the graph's order, without weights.
        outputs: in the graph's order.
        integer: whether it says itself what to compute in 8-bit integers.
    """

    model: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    integer: bool


def describe(model: bytes) -> Graph:
    """Read the names, types and shapes of a graph's inputs and outputs.

    Raises:
        ValueError: `model` is not a serialized ONNX graph, or is not complete in itself.
    """
    graph = parse(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    return Graph(
        model=model,
        inputs=tuple(_spec(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_spec(value) for value in graph.output),
        integer=any(node.op_type == "QuantizeLinear" for node in graph.node),
    )


def weights_of(model: bytes) -> dict[str, Array]:
    """Copy the weights (initializers) out of a graph, by name, in the graph's order.

    Raises:
        ValueError: as for `describe`.
    """
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in parse(model).graph.initializer}


def with_weights(model: bytes, tensors: Mapping[str, Array]) -> bytes:
    """Exchange some of a graph's weights.

    Args:
        model: serialized ONNX graph; not changed.
        tensors: new values by initializer name, float16 or float32, finite, each of the shape it replaces.
            They are converted to the type they replace. Weights not named stay as they are.

    Returns:
        The new serialized graph.

    Raises:
        ValueError: `model` is not a graph, or a tensor has an unknown name, another shape, a type that is
            not a float, or values that are not finite in the graph's type; the message names it.
    """
    from onnx import numpy_helper

    proto = parse(model)
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    unknown = sorted(tensors.keys() - initializers.keys())
    if unknown:
        raise ValueError(f"the graph has no weights named {unknown}")
    for name, new in tensors.items():
        old = initializers[name]
        dtype = _dtype(old.data_type, name)
        old.CopyFrom(numpy_helper.from_array(_converted(name, new, tuple(old.dims), dtype), name))
    return bytes(proto.SerializeToString())


def _converted(name: str, new: Array, shape: Sequence[int], dtype: np.dtype[np.generic]) -> Array:
    if not isinstance(new, np.ndarray) or new.dtype not in (np.float16, np.float32):
        got = new.dtype if isinstance(new, np.ndarray) else type(new).__name__
        raise ValueError(f"weight '{name}' must be float16 or float32, got {got}")
    if dtype not in (np.float16, np.float32):
        raise ValueError(f"weight '{name}' is {dtype} in the graph and cannot be replaced by floats")
    TensorSpec(name, tuple(shape), new.dtype).check(new)
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(new, dtype)
    if not np.isfinite(converted).all():
        raise ValueError(f"weight '{name}' has values that are not finite in {dtype}")
    return converted.reshape(new.shape)


def parse(model: bytes) -> "onnx.ModelProto":
    """Read a serialized graph.

    Raises:
        ValueError: `model` is not a serialized ONNX graph, or is not complete in itself.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load_model_from_string(model)
    except DecodeError as error:
        raise ValueError(f"not a serialized ONNX graph: {error}") from error
    if not proto.graph.node:
        raise ValueError("not a serialized ONNX graph: it has no nodes")
    outside = [t.name for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ValueError(f"the graph keeps weights in another file: {outside}; save it without external data")
    return proto


def _spec(value: "onnx.ValueInfoProto") -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    symbols = tuple(dim.dim_param for dim in tensor.shape.dim)
    return TensorSpec(value.name, shape, _dtype(tensor.elem_type, value.name), symbols)


def _dtype(elem_type: int, name: str) -> np.dtype[np.generic]:
    from onnx import helper

    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, TypeError) as error:
        raise ValueError(f"tensor '{name}' has an unknown ONNX type {elem_type}") from error
