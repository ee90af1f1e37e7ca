"""Turn a float32 graph into one that computes its convolutions in 8-bit integers.

Static quantisation: every convolution gets its weights as int8, symmetric, one scale per filter, and its
input and output as uint8, one scale and zero point per tensor, from ranges that somebody has measured. So do
the tensors between convolutions that additions, leaky rectifiers and resizing make: then integers flow from
one convolution to the next. QuantizeLinear and DequantizeLinear around the operators say it, in the form that
both ONNX Runtime and OpenVINO fuse into integer instructions. Convolutions must not share weights.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.arrays import F32, Array, check_array
from engine.backends.graph import parse

if TYPE_CHECKING:
    import onnx

_CARRIERS = ("Add", "LeakyRelu", "Resize")  # computed in integers when what they are given and give is
_STEPS = 255  # of a uint8
_LARGEST_WEIGHT = 127
_SMALLEST_SCALE = 1e-12  # of a filter that is 0 throughout
_LARGEST_BIAS = 2.0**30  # ONNX Runtime adds biases as int32, in steps of input scale times weight scale


@dataclass(frozen=True)
class _Grid:
    """How a tensor is rounded: to whole multiples of `scale`, of which 0 is number `zero`."""

    scale: np.float32
    zero: np.uint8


def rounded_tensors(model: bytes, keep: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the tensors that `quantised` rounds, in the order that it takes their ranges in.

    They are the inputs and outputs of the convolutions, and what carriers pass on between them, in the order
    in which the graph computes them, its own inputs first.

    Args:
        model: serialized ONNX graph in float32.
        keep: names of weights whose convolutions stay in float32.

    Raises:
        ValueError: `model` is not a serialized ONNX graph, or a name to keep is no convolution's weights.
    """
    return _rounded(parse(model).graph, keep)


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The graph with these tensors of float32 as its outputs, in this order, instead of its own.

    Raises:
        ValueError: `model` is not a serialized ONNX graph.
    """
    from onnx import TensorProto, helper

    proto = parse(model)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    del proto.graph.output[:]
    proto.graph.output.extend(values)
    return bytes(proto.SerializeToString())


def quantised(model: bytes, ranges: F32, keep: Collection[str] = ()) -> bytes:
    """Quantise a graph's convolutions; equal arguments give equal bytes.

    Args:
        model: serialized ONNX graph in float32.
        ranges: float32 [N, 2], least and greatest value of each of the N `rounded_tensors(model, keep)`. What
            lies beyond is clipped; 0 is always within.
        keep: names of weights whose convolutions stay in float32.

    Returns:
        The serialized graph, with the same inputs and outputs.

    Raises:
        ValueError: `model` is not a serialized ONNX graph, a name to keep is no convolution's weights, or
            the ranges are not such ranges; the message says why.
        TypeError: the ranges are not float32.
    """
    proto = parse(model)
    graph = proto.graph
    grids = _grids(ranges, _rounded(graph, keep))
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for value in graph.input if value.name in grids for node in _round_trip(value.name)]
    for node in graph.node:
        if _is_convolution(node, weights, keep):
            nodes.append(_with_integer_weights(node, weights, float(grids[node.input[0]].scale)))
        node.input[:] = [_dequantised(name) if name in grids else name for name in node.input]
        nodes.append(node)
        nodes += [trip for name in node.output if name in grids for trip in _round_trip(name)]
    for name, grid in grids.items():
        _add(weights, _scale(name), np.asarray(grid.scale))
        _add(weights, _zero(name), np.asarray(grid.zero))
    return _rebuilt(proto, nodes, weights)


def _is_convolution(
    node: "onnx.NodeProto", weights: Mapping[str, "onnx.TensorProto"], keep: Collection[str]
) -> bool:
    """Whether this is one to quantise."""
    return node.op_type == "Conv" and node.input[1] in weights and node.input[1] not in keep


def _rounded(graph: "onnx.GraphProto", keep: Collection[str]) -> tuple[str, ...]:
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    if unknown := sorted(set(keep) - kernels):
        raise ValueError(f"no convolution has weights named {unknown}")
    chosen = set()
    for node in reversed(graph.node):
        if _is_convolution(node, weights, keep):
            chosen |= {node.input[0], node.output[0]}
        elif node.op_type in _CARRIERS and node.output[0] in chosen:
            given = node.input[:1] if node.op_type == "Resize" else node.input
            chosen |= {name for name in given if name not in weights}
    made = [value.name for value in graph.input] + [name for node in graph.node for name in node.output]
    return tuple(name for name in made if name in chosen)


def _grids(ranges: F32, names: Sequence[str]) -> dict[str, _Grid]:
    check_array("ranges", ranges, (len(names), 2), np.float32)
    if not np.isfinite(ranges).all():
        raise ValueError("ranges must be finite")
    low, high = np.minimum(ranges[:, 0], 0), np.maximum(ranges[:, 1], 0)
    with np.errstate(over="ignore"):
        scales = np.asarray((high - low) / np.float32(_STEPS), np.float32)
    for name, (least, most), scale in zip(names, ranges, scales, strict=True):
        if least > most or not np.finfo(np.float32).tiny <= scale < np.inf:
            raise ValueError(f"the range of '{name}' must be wider than 0, got {least:g} to {most:g}")
    zeros = np.rint(-low / scales).astype(np.uint8)
    return {name: _Grid(scale, zero) for name, scale, zero in zip(names, scales, zeros, strict=True)}


def _with_integer_weights(
    node: "onnx.NodeProto", weights: dict[str, "onnx.TensorProto"], input_scale: float
) -> "onnx.NodeProto":
    """Exchange a convolution's weights for integers; returns the node that makes floats of them."""
    from onnx import helper, numpy_helper

    name = node.input[1]
    values = numpy_helper.to_array(weights.pop(name)).astype(np.float32)
    bias = np.zeros(len(values))
    if len(node.input) > 2 and node.input[2] in weights:
        bias = numpy_helper.to_array(weights[node.input[2]])
    scale = _weight_scales(values, bias, input_scale)
    each = scale.reshape(-1, *[1] * (values.ndim - 1))
    integers = np.rint(values / each).astype(np.int8)
    _add(weights, _integer(name), integers)
    _add(weights, _scale(name), scale)
    _add(weights, _zero(name), np.zeros(len(scale), np.int8))
    node.input[1] = _dequantised(name)
    inputs = [_integer(name), _scale(name), _zero(name)]
    return helper.make_node("DequantizeLinear", inputs, [_dequantised(name)], axis=0)


def _weight_scales(values: F32, bias: Array, input_scale: float) -> F32:
    """One scale per filter [O]: the finest that shows every weight, and lets the bias be an int32."""
    finest = np.abs(values).reshape(len(values), -1).max(axis=1) / _LARGEST_WEIGHT
    for_bias = np.abs(bias) / (input_scale * _LARGEST_BIAS)
    return np.asarray(np.maximum(np.maximum(finest, for_bias), _SMALLEST_SCALE), np.float32)


def _round_trip(name: str) -> Iterator["onnx.NodeProto"]:
    """To integers and back; libraries move the operators in between them."""
    from onnx import helper

    grid = [_scale(name), _zero(name)]
    yield helper.make_node("QuantizeLinear", [name, *grid], [_integer(name)])
    yield helper.make_node("DequantizeLinear", [_integer(name), *grid], [_dequantised(name)])


def _rebuilt(
    proto: "onnx.ModelProto",
    nodes: Sequence["onnx.NodeProto"],
    weights: Mapping[str, "onnx.TensorProto"],
) -> bytes:
    from onnx import NodeProto, TensorProto

    graph = proto.graph
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    tensors = [TensorProto.FromString(tensor.SerializeToString()) for tensor in weights.values()]
    for field, values in ((graph.node, copies), (graph.initializer, tensors)):
        del field[:]
        field.extend(values)
    return bytes(proto.SerializeToString())


def _add(weights: dict[str, "onnx.TensorProto"], name: str, values: Array) -> None:
    from onnx import numpy_helper

    weights[name] = numpy_helper.from_array(values, name)


def _integer(name: str) -> str:
    return f"{name}.int8"


def _dequantised(name: str) -> str:
    return f"{name}.rounded"


def _scale(name: str) -> str:
    return f"{name}.scale"


def _zero(name: str) -> str:
    return f"{name}.zero"
