"""Small ONNX graphs with the operators that our own networks use, made from a seed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from engine.arrays import Array

Shape = Sequence[int | str]

_OPSET = 20
_IR_VERSION = 10
_SLOPE = 0.1  # of the leaky rectifier


class GraphBuilder:
    """Collects nodes and weights; every method returns the name of its result."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []
        self._count = 0

    def weight(self, array: NDArray[np.generic], name: str = "") -> str:
        name = name or self._next("constant")
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or self._next(kind.lower())
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def nodes(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def random(self, *shape: int, scale: float) -> NDArray[np.float32]:
        return (self._random.standard_normal(shape) * scale).astype(np.float32)

    def conv(
        self,
        x: str,
        wide_in: int,
        wide_out: int,
        *,
        name: str,
        size: int = 3,
        stride: int = 1,
        gain: float = 1.6,
    ) -> str:
        scale = float(np.sqrt(gain / (wide_in * size * size)))
        kernel = self.weight(self.random(wide_out, wide_in, size, size, scale=scale), f"{name}.weight")
        bias = self.weight(self.random(wide_out, scale=0.05), f"{name}.bias")
        pad = size // 2
        return self.node("Conv", [x, kernel, bias], strides=[stride] * 2, pads=[pad] * 4)

    def block(self, x: str, wide_in: int, wide: int, name: str) -> str:
        """Two 3x3 convolutions, the second one around a skip."""
        a = self.node("LeakyRelu", [self.conv(x, wide_in, wide, name=f"{name}.a")], alpha=_SLOPE)
        b = self.node("LeakyRelu", [self.conv(a, wide, wide, name=f"{name}.b")], alpha=_SLOPE)
        return self.node("Add", [a, b])

    def finish(self, inputs: dict[str, Shape], outputs: dict[str, Shape], *, check: bool = True) -> bytes:
        def values(shapes: dict[str, Shape]) -> list[ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in shapes.items()]

        graph = helper.make_graph(self._nodes, "net", values(inputs), values(outputs), self._weights)
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="livedub"
        )
        if check:
            checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    def _next(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def unet(
    *,
    size_px: int,
    channels: int = 23,
    widths: Sequence[int] = (48, 96, 128, 160),
    batch: int | str = 1,
    seed: int = 0,
) -> bytes:
    """A renderer like ours: input `x` [B, channels, S, S] -> output `y` [B, 4, S, S] in 0..1.

    Pixel-unshuffle 2, residual blocks, nearest upsampling with added skips, pixel-shuffle 2.
    """
    g = GraphBuilder(seed)
    x = g.block(g.node("SpaceToDepth", ["x"], blocksize=2), channels * 4, widths[0], "stem")
    skips = []
    for level, (wide_in, wide) in enumerate(pairwise(widths)):
        skips.append(x)
        x = g.conv(x, wide_in, wide, stride=2, name=f"down{level}.conv")
        x = g.block(g.node("LeakyRelu", [x], alpha=_SLOPE), wide, wide, f"down{level}")
    scales = g.weight(np.array([1, 1, 2, 2], np.float32))
    for level, (wide_in, wide) in enumerate(zip(widths[:0:-1], widths[-2::-1], strict=True)):
        up = g.conv(x, wide_in, wide, size=1, name=f"up{level}.conv")
        up = g.node(
            "Resize", [up, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip
        x = g.block(g.node("Add", [up, skips.pop()]), wide, wide, f"up{level}")
    logits = g.conv(x, widths[0], 16, name="out", gain=0.05)
    g.node("Sigmoid", [g.node("DepthToSpace", [logits], blocksize=2, mode="CRD")], "y")
    return g.finish({"x": [batch, channels, size_px, size_px]}, {"y": [batch, 4, size_px, size_px]})


def toolbox(*, size_px: int = 16, seed: int = 1) -> bytes:
    """The other operators we use: `a`, `b` [1, 4, S, S] -> `mixed` [1, 4, S, S], `part` [1, 3, S, S/2].

    Pixel-unshuffle and -shuffle as PyTorch exports them (reshape, transpose, reshape), concatenation, a mask
    multiplied in, clipping and slicing.
    """
    g = GraphBuilder(seed)
    half = size_px // 2

    def ints(*values: int) -> str:
        return g.weight(np.array(values, np.int64))

    both = g.node("Concat", ["a", "b"], axis=1)
    split = g.node("Reshape", [both, ints(1, 8, half, 2, half, 2)])
    order = g.node("Transpose", [split], perm=[0, 1, 3, 5, 2, 4])
    x = g.conv(g.node("Reshape", [order, ints(1, 32, half, half)]), 32, 16, name="mix")
    split = g.node("Reshape", [x, ints(1, 4, 2, 2, half, half)])
    order = g.node("Transpose", [split], perm=[0, 1, 4, 2, 5, 3])
    x = g.node("Reshape", [order, ints(1, 4, size_px, size_px)])
    low, high = g.weight(np.array(0, np.float32)), g.weight(np.array(1, np.float32))
    g.node("Clip", [g.node("Mul", [x, g.node("Sigmoid", ["b"])]), low, high], "mixed")
    g.node("Slice", ["mixed", ints(0, 0), ints(3, half), ints(1, 3), ints(1, 1)], "part")
    shape = (1, 4, size_px, size_px)
    return g.finish({"a": shape, "b": shape}, {"mixed": shape, "part": [1, 3, size_px, half]})


def gru(
    *, wide_in: int = 12, wide: int = 16, batch: int | str = 1, seed: int = 2, fused: bool = False
) -> bytes:
    """One step of a recurrent network: `x` [B, wide_in], `state` [B, wide] -> `y` [B, 5], `next` [B, wide].

    Args:
        fused: with ONNX' own GRU operator instead of matrix products (reset after the product, as PyTorch).
    """
    g = GraphBuilder(seed)
    scale = float(1 / np.sqrt(wide))
    w_x, w_h = g.random(3 * wide, wide_in, scale=scale), g.random(3 * wide, wide, scale=scale)
    b_x, b_h = g.random(3 * wide, scale=scale), g.random(3 * wide, scale=scale)
    (_fused_step if fused else _plain_step)(g, wide, w_x, w_h, np.stack([b_x, b_h]))
    g.node(
        "Gemm",
        ["next", g.weight(g.random(wide, 5, scale=scale), "head"), g.weight(g.random(5, scale=scale))],
        "y",
    )
    return g.finish({"x": [batch, wide_in], "state": [batch, wide]}, {"y": [batch, 5], "next": [batch, wide]})


def _fused_step(g: GraphBuilder, wide: int, w_x: Array, w_h: Array, biases: Array) -> None:
    zero, first = g.weight(np.array([0], np.int64)), g.weight(np.array([0, 1], np.int64))
    x, h = g.node("Unsqueeze", ["x", zero]), g.node("Unsqueeze", ["state", zero])
    weights = [g.weight(w_x[None]), g.weight(w_h[None]), g.weight(biases.reshape(1, -1))]
    g.nodes("GRU", [x, *weights, "", h], ["steps", "last"], hidden_size=wide, linear_before_reset=1)
    g.node("Identity", [g.node("Squeeze", ["steps", first])], "next")


def _plain_step(g: GraphBuilder, wide: int, w_x: Array, w_h: Array, biases: Array) -> None:
    """Gates in ONNX' order: update, reset, hidden."""
    sizes = g.weight(np.array([wide] * 3, np.int64))

    def thirds(source: str, weights: Array, bias: Array, stem: str) -> list[str]:
        product = g.node("MatMul", [source, g.weight(np.ascontiguousarray(weights.T))])
        names = [f"{stem}_{gate}" for gate in "zrh"]
        g.nodes("Split", [g.node("Add", [product, g.weight(bias)]), sizes], names, axis=1)
        return names

    x, h = thirds("x", w_x, biases[0], "x"), thirds("state", w_h, biases[1], "h")
    update, reset = (g.node("Sigmoid", [g.node("Add", [x[i], h[i]])]) for i in (0, 1))
    candidate = g.node("Tanh", [g.node("Add", [x[2], g.node("Mul", [reset, h[2]])])])
    keep = g.node("Mul", [update, g.node("Sub", ["state", candidate])])
    g.node("Add", [candidate, keep], "next")


def feeds_for(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Array]:
    """Standard normal float32 arrays of the given shapes."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
