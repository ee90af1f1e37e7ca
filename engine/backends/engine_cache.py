"""Built TensorRT engines on disk: which belong to a graph on a machine, and where they lie.

An engine is what TensorRT made of one graph, for one version of itself and one kind of GPU. `livedub export`
builds and stores it; at run time it is only looked up: an engine for something else is never taken, and none
is built, for that takes seconds to minutes.

An engine lies at `engines/<graph>-<precision>-<key>.engine` in the cache folder; the first and last part are
the beginnings of sha256 sums. Integers are little-endian and unsigned:

    8 bytes   magic: 89 54 52 54 45 0D 0A 00
    4 bytes   length of the header
    32 bytes  SHA-256 of the header
    header    JSON, UTF-8: `EngineHeader`
    plan      the serialized engine, up to the end of the file
"""

import hashlib
import os
import struct
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from engine.backends.cuda.driver import DeviceInfo
from engine.backends.network import Precision, TensorSpec
from engine.backends.tensorrt_module import COMMAND, RTX, TensorRt
from engine.errors import BackendError
from engine.models import cache_dir

FORM = 1  # of what is built from a graph: raise it when the exporter makes something else of the same graph
PORTABLE = "portable"
MAGIC = b"\x89TRTE\r\n\x00"
MAX_HEADER_BYTES = 64 * 2**10
MAX_ENGINE_BYTES = 2**30
_HEAD = struct.Struct("<8sI32s")
_DIGITS = 16
_FOLDER, _ENDING = "engines", ".engine"


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """What an engine was built of and for; an engine serves where all of it is equal.

    Attributes:
        onnx_sha256: hex digest of the float32 graph as run time has it.
        precision: what it computes in.
        flavour: "tensorrt" or "tensorrt_rtx".
        version: of the library.
        gpu: name and compute capability, like "NVIDIA H200 9.0"; PORTABLE for one that TensorRT-RTX built for
            every GPU it knows.
        driver: newest CUDA version that the GPU's driver knows, like "13.0"; "" for a portable one.
        form: of what the exporter makes of a graph.
    """

    onnx_sha256: str
    precision: Precision
    flavour: str
    version: str
    gpu: str
    driver: str
    form: int = FORM

    @property
    def path(self) -> Path:
        """Where the engine lies, whether or not it is there."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()
        name = f"{self.onnx_sha256[:_DIGITS]}-{self.precision}-{digest[:_DIGITS]}{_ENDING}"
        return cache_dir() / _FOLDER / name

    def __str__(self) -> str:
        """For a person."""
        where = self.gpu if self.gpu == PORTABLE else f"{self.gpu}, CUDA {self.driver}"
        return f"{self.flavour} {self.version} {self.precision}, {where}"


class EngineTensor(msgspec.Struct, frozen=True):
    """One input or output of an engine: name, numpy's name of its type, and its static shape."""

    name: str
    dtype: Literal["float16", "float32"]
    shape: tuple[int, ...]

    @property
    def spec(self) -> TensorSpec:
        """The same for the rest of the engine."""
        return TensorSpec(self.name, self.shape, np.dtype(self.dtype))


class EngineHeader(msgspec.Struct, frozen=True):
    """What a file says about the engine in it."""

    key: EngineKey
    inputs: list[EngineTensor]
    outputs: list[EngineTensor]
    plan_sha256: str


@dataclass(frozen=True)
class StoredEngine:
    """An engine read from the cache.

    Attributes:
        header: what is known of it.
        plan: as TensorRT serialized it.
    """

    header: EngineHeader
    plan: bytes


def engine_key(onnx: bytes, precision: Precision, library: TensorRt, device: DeviceInfo | None) -> EngineKey:
    """The key of an engine for a graph with this library on a GPU; without one, of a portable engine."""
    if device is None:
        gpu, driver = PORTABLE, ""
    else:
        gpu = f"{device.name} {_version(device.compute_capability)}"
        driver = _version(device.driver_version)
    return EngineKey(
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        precision=precision,
        flavour=library.flavour,
        version=library.version,
        gpu=gpu,
        driver=driver,
    )


def engine_header(
    key: EngineKey, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], plan: bytes
) -> EngineHeader:
    """What a new engine's file says.

    Raises:
        ValueError: a tensor has another type than an engine's may have, or an open axis.
    """

    def tensors(specs: Sequence[TensorSpec]) -> list[EngineTensor]:
        fields = [{"name": spec.name, "dtype": str(spec.dtype), "shape": spec.shape} for spec in specs]
        return msgspec.convert(fields, list[EngineTensor])

    return EngineHeader(key, tensors(inputs), tensors(outputs), hashlib.sha256(plan).hexdigest())


def encode_engine(header: EngineHeader, plan: bytes) -> bytes:
    """The bytes of an engine's file."""
    text = msgspec.json.encode(header)
    return _HEAD.pack(MAGIC, len(text), hashlib.sha256(text).digest()) + text + plan


def decode_engine(data: bytes) -> StoredEngine:
    """The engine in the bytes of a file.

    Raises:
        ValueError: the bytes are no engine's file, or are damaged.
    """
    header, start = _decode_header(data)
    plan = data[start:]
    if hashlib.sha256(plan).hexdigest() != header.plan_sha256:
        raise ValueError("truncated or damaged: the engine's checksum is wrong")
    return StoredEngine(header, plan)


def store_engine(header: EngineHeader, plan: bytes, folder: Path | None = None) -> Path:
    """Write an engine where run time looks for it, or under the same name into a folder; whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path = header.key.path if folder is None else folder / header.key.path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(encode_engine(header, plan))
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(0o644)
        os.replace(part, path)
    finally:
        with suppress(OSError):
            os.unlink(part)
    return path


def find_engine(onnx: bytes, precision: Precision, library: TensorRt, device: DeviceInfo) -> StoredEngine:
    """The engine for a graph on a GPU: that built for this one, or with TensorRT-RTX a portable one.

    Args:
        onnx: the float32 graph, serialized.
        precision: what it shall compute in.
        library: who shall run it.
        device: on what.

    Raises:
        BackendError: there is none, or its file is damaged; the message names the command that builds it.
    """
    exact = engine_key(onnx, precision, library, device)
    keys = [exact, engine_key(onnx, precision, library, None)] if library.flavour == RTX else [exact]
    for key in keys:
        stored = _read(key)
        if stored is not None:
            return stored
    others = [str(other) for other in _others(exact)]
    there = f" (there is one for {others[0]})" if others else ""
    raise BackendError(f"no TensorRT engine for {exact}{there}; run: {COMMAND}")


def _read(key: EngineKey) -> StoredEngine | None:
    """The engine of a key; None if there is none."""
    path = key.path
    try:
        if path.stat().st_size > MAX_ENGINE_BYTES:
            raise ValueError(f"larger than {MAX_ENGINE_BYTES} bytes")
        stored = decode_engine(path.read_bytes())
        if stored.header.key != key:
            raise ValueError(f"it is for {stored.header.key}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BackendError(f"the TensorRT engine {path} cannot be used: {error}; run: {COMMAND}") from error
    return stored


def _others(key: EngineKey) -> list[EngineKey]:
    """Keys of what is stored for the same graph, newest first."""
    pattern = f"{key.onnx_sha256[:_DIGITS]}-*{_ENDING}"
    found: list[tuple[float, EngineKey]] = []
    for path in key.path.parent.glob(pattern):
        with suppress(OSError, ValueError), path.open("rb") as file:
            data = file.read(_HEAD.size + MAX_HEADER_BYTES)
            found.append((path.stat().st_mtime, _decode_header(data)[0].key))
    return [other for _, other in sorted(found, key=lambda pair: -pair[0])]


def _decode_header(data: bytes) -> tuple[EngineHeader, int]:
    """The header at the beginning of a file, and where the plan begins."""
    if not data.startswith(MAGIC) or len(data) < _HEAD.size:
        raise ValueError("not an engine's file")
    _, length, digest = _HEAD.unpack_from(data)
    text = data[_HEAD.size : _HEAD.size + length]
    if length > MAX_HEADER_BYTES or hashlib.sha256(text).digest() != digest:
        raise ValueError("truncated or damaged: the header's checksum is wrong")
    try:
        return msgspec.json.decode(text, type=EngineHeader), _HEAD.size + length
    except msgspec.MsgspecError as error:
        raise ValueError(f"damaged: {error}") from error


def _version(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))
