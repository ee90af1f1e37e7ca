"""As much of TensorRT as running an engine takes: engines that double their input, and every call noted."""

import ctypes
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from engine.backends.engine_cache import EngineTensor, StoredEngine
from engine.backends.tensorrt_module import TensorRt

SCRATCH_BYTES = 4096


class DataType(Enum):
    HALF = "float16"
    FLOAT = "float32"
    INT64 = "int64"


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class Strategy(Enum):
    STATIC = 0
    USER_MANAGED = 2


@dataclass(eq=False)
class FakeTensorRt:
    """The module, and what becomes of its engine.

    Attributes:
        tensors: of the engine, with their direction.
        refuse: names of the calls that shall fail, with what is logged then.
        calls: of all its objects, in order.
    """

    tensors: list[tuple[EngineTensor, TensorIOMode]]
    refuse: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    complaints: deque[str] = field(default_factory=deque)
    DataType = DataType
    TensorIOMode = TensorIOMode
    ExecutionContextAllocationStrategy = Strategy

    @classmethod
    def of(cls, stored: StoredEngine) -> "FakeTensorRt":
        """One whose engine has the tensors that its file says."""
        header = stored.header
        return cls(
            [(tensor, TensorIOMode.INPUT) for tensor in header.inputs]
            + [(tensor, TensorIOMode.OUTPUT) for tensor in header.outputs]
        )

    @property
    def library(self) -> TensorRt:
        return TensorRt(cast(Any, self), "tensorrt_rtx", "1.7.1", "logger", self.complaints)

    def works(self, call: str) -> bool:
        self.calls.append(call)
        name = call.partition(" ")[0]
        if name in self.refuse:
            self.complaints.append(self.refuse[name])
            return False
        return True

    def Runtime(self, logger: object) -> Any:
        assert logger == "logger"
        return SimpleNamespace(
            deserialize_cuda_engine=lambda plan: _Engine(self) if self.works("deserialize") else None
        )


class _Engine:
    device_memory_size_v2 = SCRATCH_BYTES

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self._by_name = {tensor.name: (tensor, mode) for tensor, mode in trt.tensors}
        self.num_io_tensors = len(trt.tensors)

    def get_tensor_name(self, index: int) -> str:
        return self._trt.tensors[index][0].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._by_name[name][1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._by_name[name][0].shape

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self._by_name[name][0].dtype)

    def create_execution_context(self, strategy: Strategy) -> "_Context | None":
        return _Context(self._trt) if self._trt.works(f"context {strategy.name}") else None


class _Context:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self._addresses: dict[str, int] = {}

    def set_device_memory(self, address: int, size_bytes: int) -> None:
        if not self._trt.works(f"scratch {size_bytes}"):
            raise RuntimeError("refused")

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return self._trt.works(f"address {name}")

    def execute_async_v3(self, stream: int) -> bool:
        if not self._trt.works("execute"):
            return False
        arrays = {tensor.name: self._array(tensor) for tensor, _ in self._trt.tensors}
        sides = {mode: [t.name for t, m in self._trt.tensors if m is mode] for mode in TensorIOMode}
        for source, target in zip(sides[TensorIOMode.INPUT], sides[TensorIOMode.OUTPUT], strict=True):
            arrays[target][:] = 2 * arrays[source]
        return True

    def _array(self, tensor: EngineTensor) -> Any:
        dtype = np.dtype(tensor.dtype)
        size_bytes = int(np.prod(tensor.shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size_bytes).from_address(self._addresses[tensor.name])
        return np.ctypeslib.as_array(memory).view(dtype).reshape(tensor.shape)
