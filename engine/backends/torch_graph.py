"""An ONNX graph as torch operations.

Torch ships no reader of ONNX, and needs none here: our graphs use two dozen operators, each a line of torch.
Whole numbers (shapes, axes, where to cut) stay in host memory as numpy arrays, and what depends on constants
only is computed when a graph is opened; so a run enqueues device work and nothing else, and can be captured.

Left out: gathers of more than one index, resizes but of nearest neighbours by whole factors, GRUs but forward
ones, poolings with padding. What is left out is refused when a graph is opened or run, never approximated.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from engine.arrays import Array
from engine.backends.graph import parse
from engine.backends.network import Precision

if TYPE_CHECKING:
    import onnx

Tensor = Any  # torch.Tensor: torch is imported in one place only, `engine.backends.cuda_torch`


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator.

    Attributes:
        run: the operator with its attributes.
        arguments: constants; in the place of what is computed its name, as `_Name`.
        results: names.
        forget: names that nothing after it needs.
    """

    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    results: tuple[str, ...]
    forget: tuple[str, ...]


class _Name(str):
    """Of a computed value."""

    __slots__ = ()


class TorchGraph:
    """An ONNX graph as torch operations.

    Args:
        torch: the library.
        model: serialized ONNX graph.
        precision: what all floats are, f16 or f32.
        device: of torch, like "cuda" or "cpu".

    Raises:
        NotImplementedError: the graph has an operator that is left out; see the module.
        ValueError: not an ONNX graph.
    """

    def __init__(self, torch: ModuleType, model: bytes, precision: Precision, device: str) -> None:
        self._torch, self._device = torch, device
        self._dtype = {"f16": torch.float16, "f32": torch.float32}[precision]
        graph = parse(model).graph
        self._operators = _Operators(torch)
        self._constants: dict[str, Any] = {}
        self._outputs = [output.name for output in graph.output]
        with torch.no_grad():
            self._steps = self._planned(graph)

    def run(self, feeds: Mapping[str, Tensor]) -> list[Tensor]:
        """All outputs, in the graph's order; they may share memory with the inputs.

        Args:
            feeds: by name, on the graph's device; floats in its precision.
        """
        values: dict[str, Any] = dict(feeds)
        with self._torch.no_grad(), self._exactly():
            for step in self._steps:
                given = [values[one] if isinstance(one, _Name) else one for one in step.arguments]
                result = step.run(*given)
                results = result if isinstance(result, (list, tuple)) else (result,)
                values.update(zip(step.results, results, strict=False))
                for name in step.forget:
                    del values[name]
        return [values[name] if name in values else self._constants[name] for name in self._outputs]

    def tensor(self, array: Array) -> Tensor:
        """A copy on the device, floats in the graph's precision."""
        floats = array.dtype.kind == "f"
        dtype = self._dtype if floats else None
        return self._torch.tensor(array, dtype=dtype, device=self._device)

    def _exactly(self) -> AbstractContextManager[Any]:
        """Convolutions in float32 keep all their bits, and take the fastest algorithm that does."""
        flags = self._torch.backends.cudnn.flags
        return cast(
            AbstractContextManager[Any],
            flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False),
        )

    def _planned(self, graph: "onnx.GraphProto") -> list[_Step]:
        from onnx import helper, numpy_helper

        constants: dict[str, Any] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        last = {name: index for index, node in enumerate(graph.node) for name in node.input}
        steps = []
        for index, node in enumerate(graph.node):
            attributes = {a.name: _text(helper.get_attribute_value(a)) for a in node.attribute}
            run = self._operators.bound(node.op_type, attributes)
            arguments = tuple(
                self._argument(node.op_type, place, name, constants) for place, name in enumerate(node.input)
            )
            if not any(isinstance(one, _Name) for one in arguments):
                result = run(*arguments)
                results = result if isinstance(result, (list, tuple)) else (result,)
                constants.update(zip(node.output, results, strict=False))
                continue
            ended = {one for one in arguments if isinstance(one, _Name) and last[one] == index}
            forget = tuple(ended.difference(self._outputs))
            steps.append(_Step(run, arguments, tuple(node.output), forget))
        self._constants = {name: constants[name] for name in self._outputs if name in constants}
        return steps

    def _argument(self, operator: str, place: int, name: str, constants: Mapping[str, Any]) -> Any:
        """A constant where it is needed, an absent one as None, else the name."""
        if not name:
            return None
        if name not in constants:
            return _Name(name)
        value = constants[name]
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or operator == "Resize":
            return value
        tensor = self.tensor(value)
        if operator == "Conv" and place == 1 and tensor.ndim == 4:
            return tensor.contiguous(memory_format=self._torch.channels_last)
        return tensor


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


class _Operators:
    """ONNX's operators by their names; attributes are keywords. What differs from torch is said at each."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch, self._f = torch, torch.nn.functional
        self.Exp, self.Log, self.Sigmoid, self.Relu = torch.exp, torch.log, torch.sigmoid, torch.relu
        self.MatMul, self.Clip, self.LeakyRelu = torch.matmul, torch.clamp, self._leaky_relu

    def bound(self, operator: str, attributes: Mapping[str, Any]) -> Callable[..., Any]:
        """The operator with its attributes."""
        method = getattr(self, operator, None)
        if method is None or not operator[0].isupper():
            raise NotImplementedError(f"the operator {operator} is left out")
        if not attributes:
            return cast(Callable[..., Any], method)
        return lambda *inputs: method(*inputs, **attributes)

    def Add(self, a: Any, b: Any) -> Any:
        return a + b

    def Sub(self, a: Any, b: Any) -> Any:
        return a - b

    def Mul(self, a: Any, b: Any) -> Any:
        return a * b

    def Div(self, a: Tensor, b: Tensor) -> Tensor:
        return a / b

    def _leaky_relu(self, x: Tensor, *, alpha: float = 0.01) -> Any:
        return self._f.leaky_relu(x, alpha)

    def Gelu(self, x: Tensor, *, approximate: str = "none") -> Any:
        return self._f.gelu(x, approximate=approximate)

    def Gemm(
        self,
        a: Tensor,
        b: Tensor,
        c: Tensor = None,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,
        transB: int = 0,
    ) -> Any:
        product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
        return product if c is None else product + beta * c

    def Conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor = None,
        *,
        kernel_shape: Sequence[int] = (),
        strides: Sequence[int] = (),
        pads: Sequence[int] = (),
        dilations: Sequence[int] = (),
        group: int = 1,
        auto_pad: str = "NOTSET",
    ) -> Any:
        axes = weight.ndim - 2
        _wants(auto_pad == "NOTSET" and axes in (1, 2), "a convolution that pads itself")
        before, after = tuple(pads[:axes]) or (0,) * axes, tuple(pads[axes:]) or (0,) * axes
        if before != after:
            x = self._f.pad(x, [n for pair in zip(before[::-1], after[::-1], strict=True) for n in pair])
            before = (0,) * axes
        run = self._f.conv1d if axes == 1 else self._f.conv2d
        return run(x, weight, bias, tuple(strides) or 1, before, tuple(dilations) or 1, group)

    def MaxPool(
        self,
        x: Tensor,
        *,
        kernel_shape: Sequence[int],
        strides: Sequence[int] = (),
        pads: Sequence[int] = (),
        dilations: Sequence[int] = (),
        ceil_mode: int = 0,
        storage_order: int = 0,
        auto_pad: str = "NOTSET",
    ) -> Any:
        plain = auto_pad == "NOTSET" and not any(pads) and not ceil_mode and len(kernel_shape) == 2
        _wants(plain and all(step == 1 for step in dilations), "a pooling with padding or gaps")
        return self._f.max_pool2d(x, tuple(kernel_shape), tuple(strides) or 1)

    def Resize(self, x: Tensor, _roi: Any, scales: Array, *sizes: Any, **how: Any) -> Any:
        nearest = how.get("mode", "nearest") == "nearest" and how.get("nearest_mode") == "floor"
        factors = [round(float(scale)) for scale in scales]
        whole = not sizes and np.array_equal(factors, scales) and factors[:2] == [1, 1] and len(factors) == 4
        asymmetric = how.get("coordinate_transformation_mode") == "asymmetric"
        _wants(nearest and asymmetric and whole, "a resize but of nearest neighbours by whole factors")
        return self._f.interpolate(x, scale_factor=tuple(map(float, factors[2:])), mode="nearest")

    def GRU(
        self,
        x: Tensor,
        weight: Tensor,
        recurrent: Tensor,
        bias: Tensor,
        lengths: None,
        before: Tensor,
        *,
        hidden_size: int,
        direction: str = "forward",
        linear_before_reset: int = 0,
        layout: int = 0,
    ) -> tuple[Tensor, Tensor]:
        known = direction == "forward" and linear_before_reset == 1 and layout == 0 and lengths is None
        _wants(known, "a GRU that is not torch's, forward")
        stack, w, r = self._torch.stack, weight[0], recurrent[0]
        wb, rb = bias[0, : 3 * hidden_size], bias[0, 3 * hidden_size :]
        state, states = before[0], []
        for step in x:
            z, reset, new = (step @ w.T + wb).chunk(3, -1)
            z2, reset2, new2 = (state @ r.T + rb).chunk(3, -1)
            z, reset = (z + z2).sigmoid(), (reset + reset2).sigmoid()
            state = (1 - z) * (new + reset * new2).tanh() + z * state
            states.append(state)
        return stack(states)[:, None], state[None]

    def ReduceSum(
        self, x: Tensor, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Any:
        _wants(axes is not None, "a sum over all axes")
        return x.sum(_whole(axes), keepdim=bool(keepdims))

    def Reshape(self, x: Any, shape: Array, *, allowzero: int = 0) -> Any:
        lengths = [x.shape[i] if n == 0 and not allowzero else int(n) for i, n in enumerate(shape)]
        return x.reshape(tuple(lengths))

    def Transpose(self, x: Tensor, *, perm: Sequence[int]) -> Tensor:
        return x.permute(tuple(perm))

    def Unsqueeze(self, x: Any, axes: Array) -> Any:
        ndim = x.ndim + axes.size
        new = {axis % ndim for axis in _whole(axes)}
        return x[tuple(None if axis in new else slice(None) for axis in range(ndim))]

    def Concat(self, *parts: Any, axis: int) -> Any:
        host = all(isinstance(part, np.ndarray) for part in parts)
        return np.concatenate(parts, axis) if host else self._torch.cat(parts, axis)

    def Split(self, x: Tensor, lengths: Array, *, axis: int = 0) -> Any:
        return self._torch.split(x, list(_whole(lengths)), axis)

    def Slice(
        self, x: Any, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
    ) -> Any:
        where = range(len(starts)) if axes is None else _whole(axes)
        strides = (1,) * len(starts) if steps is None else _whole(steps)
        _wants(min(strides) > 0, "a slice backwards")
        index = [slice(None)] * x.ndim
        for axis, start, end, step in zip(where, _whole(starts), _whole(ends), strides, strict=True):
            index[axis] = slice(start, end, step)
        return x[tuple(index)]

    def Gather(self, x: Any, index: Array, *, axis: int = 0) -> Any:
        _wants(index.ndim == 0, "a gather of several indices")
        return x[(slice(None),) * (axis % x.ndim) + (int(index),)]

    def Shape(self, x: Any, *, start: int = 0, end: int | None = None) -> Array:
        return np.array(x.shape[start:end], np.int64)


def _wants(known: bool, otherwise: str) -> None:
    if not known:
        raise NotImplementedError(f"{otherwise} is left out")


def _whole(numbers: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in np.atleast_1d(numbers))
