import hashlib
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends import Precision
from engine.backends.cuda.driver import DeviceInfo
from engine.backends.engine_cache import (
    MAGIC,
    PORTABLE,
    EngineHeader,
    EngineKey,
    decode_engine,
    encode_engine,
    engine_header,
    engine_key,
    find_engine,
    store_engine,
)
from engine.backends.network import TensorSpec
from engine.backends.tensorrt_module import COMMAND, PRECISIONS, TensorRt
from engine.errors import BackendError

ONNX, PLAN = b"a graph", b"a plan" * 50
H200 = DeviceInfo("NVIDIA H200", (9, 0), (13, 0), 1 << 37)
L4 = DeviceInfo("NVIDIA L4", (8, 9), (13, 0), 1 << 34)
RTX = TensorRt(ModuleType("rtx"), "tensorrt_rtx", "1.7.1", None, deque())
FULL = replace(RTX, flavour="tensorrt", version="11.4.0")
TENSORS = [TensorSpec("x", (1, 3), np.dtype(np.float16)), TensorSpec("z", (), np.dtype(np.float32))]
TEXTS = st.text(min_size=0, max_size=30)
KEYS = st.builds(
    EngineKey,
    onnx_sha256=st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest()),
    precision=st.sampled_from(PRECISIONS),
    flavour=st.sampled_from(["tensorrt", "tensorrt_rtx"]),
    version=TEXTS,
    gpu=TEXTS | st.just(PORTABLE),
    driver=TEXTS,
    form=st.integers(0, 9),
)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    return tmp_path / "engines"


def header_of(key: EngineKey, plan: bytes = PLAN) -> EngineHeader:
    return engine_header(key, TENSORS[:1], TENSORS[1:], plan)


def stored(
    library: TensorRt = RTX,
    device: DeviceInfo | None = H200,
    precision: Precision = "f16",
    plan: bytes = PLAN,
) -> Path:
    return store_engine(header_of(engine_key(ONNX, precision, library, device), plan), plan)


@settings(deadline=None, max_examples=50)
@given(KEYS, KEYS)
def test_every_key_has_a_place_of_its_own(one: EngineKey, other: EngineKey) -> None:
    assert (one.path == other.path) == (one == other)
    assert one.path.parent.name == "engines"
    assert one.path.name.isascii()
    assert len(one.path.name) < 80
    assert one.path.suffix == ".engine"


@settings(deadline=None, max_examples=50)
@given(KEYS, st.binary(max_size=200))
def test_a_file_says_what_was_put_in(key: EngineKey, plan: bytes) -> None:
    header = header_of(key, plan)
    read = decode_engine(encode_engine(header, plan))
    assert (read.header, read.plan) == (header, plan)
    assert [tensor.spec for tensor in (*read.header.inputs, *read.header.outputs)] == TENSORS


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(place: int, change: int) -> None:
    data = bytearray(encode_engine(header_of(engine_key(ONNX, "f16", RTX, H200)), PLAN))
    data[place % len(data)] ^= change
    with pytest.raises(ValueError, match=r"not an engine's file|damaged"):
        decode_engine(bytes(data))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.binary(max_size=60))
def test_no_missing_end_goes_unseen(length: int, rubbish: bytes) -> None:
    data = encode_engine(header_of(engine_key(ONNX, "f16", RTX, H200)), PLAN)
    for text in (data[: length % len(data)], rubbish, MAGIC + rubbish):
        with pytest.raises(ValueError, match=r"not an engine's file|damaged"):
            decode_engine(text)


def test_a_tensor_of_another_type_is_no_engines() -> None:
    key = engine_key(ONNX, "f16", RTX, None)
    with pytest.raises(ValueError, match="int64"):
        engine_header(key, [TensorSpec("x", (1,), np.dtype(np.int64))], [], PLAN)
    with pytest.raises(ValueError, match="null"):
        engine_header(key, [TensorSpec("x", (None,), np.dtype(np.float32))], [], PLAN)


def test_an_engine_is_found_for_its_gpu_alone(cache_folder: Path) -> None:
    path = stored()
    assert [path] == list(cache_folder.iterdir())
    assert path.stat().st_mode & 0o777 == 0o644
    assert find_engine(ONNX, "f16", RTX, H200).plan == PLAN
    others: list[tuple[TensorRt, DeviceInfo, Precision]] = [
        (RTX, L4, "f16"),
        (RTX, H200, "bf16"),
        (FULL, H200, "f16"),
        (replace(RTX, version="1.7.2"), H200, "f16"),
        (RTX, replace(H200, driver_version=(13, 1)), "f16"),
    ]
    for library, device, precision in others:
        with pytest.raises(BackendError, match=rf"no TensorRT engine for .*; run: {COMMAND}"):
            find_engine(ONNX, precision, library, device)
    with pytest.raises(BackendError, match="no TensorRT engine"):
        find_engine(b"another graph", "f16", RTX, H200)


def test_what_there_is_instead_is_said() -> None:
    stored(FULL)
    message = (
        r"no TensorRT engine for tensorrt_rtx 1\.7\.1 f16, NVIDIA H200 9\.0, CUDA 13\.0 "
        r"\(there is one for tensorrt 11\.4\.0 f16, NVIDIA H200 9\.0, CUDA 13\.0\); run: livedub export"
    )
    with pytest.raises(BackendError, match=message):
        find_engine(ONNX, "f16", RTX, H200)


def test_a_portable_engine_serves_where_there_is_none_for_the_gpu() -> None:
    stored(device=None, plan=b"portable")
    assert find_engine(ONNX, "f16", RTX, H200).plan == b"portable"
    assert find_engine(ONNX, "f16", RTX, L4).header.key.gpu == PORTABLE
    stored(plan=b"its own")
    assert find_engine(ONNX, "f16", RTX, H200).plan == b"its own"
    assert find_engine(ONNX, "f16", RTX, L4).plan == b"portable"


def test_tensorrt_itself_has_no_portable_engines() -> None:
    stored(FULL, device=None)
    with pytest.raises(BackendError, match=r"there is one for tensorrt 11\.4\.0 f16, portable"):
        find_engine(ONNX, "f16", FULL, H200)


@pytest.mark.parametrize("content", [b"", b"rubbish", MAGIC, MAGIC + b"\xff" * 60])
def test_a_damaged_file_is_said_and_not_passed_over(content: bytes) -> None:
    stored(device=None)
    path = stored()
    path.write_bytes(content)
    with pytest.raises(BackendError, match=rf"engine {path} cannot be used: .*; run: {COMMAND}"):
        find_engine(ONNX, "f16", RTX, H200)


def test_an_engine_under_a_wrong_name_is_not_taken() -> None:
    path, other = stored(plan=b"f16"), stored(precision="bf16", plan=b"bf16")
    path.write_bytes(other.read_bytes())
    with pytest.raises(BackendError, match=r"it is for tensorrt_rtx 1\.7\.1 bf16, NVIDIA H200"):
        find_engine(ONNX, "f16", RTX, H200)


def test_damaged_neighbours_do_not_hide_what_there_is(cache_folder: Path) -> None:
    path = stored(FULL)
    path.with_name(path.name.replace("-f16-", "-f32-")).write_bytes(b"rubbish")
    with pytest.raises(BackendError, match=r"there is one for tensorrt 11\.4\.0 f16"):
        find_engine(ONNX, "f16", RTX, H200)


def test_a_file_is_replaced_whole(cache_folder: Path, tmp_path: Path) -> None:
    path = stored(plan=b"old")
    assert stored(plan=b"new") == path
    assert decode_engine(path.read_bytes()).plan == b"new"
    assert list(cache_folder.iterdir()) == [path]
    header = header_of(engine_key(ONNX, "f16", RTX, H200))
    second = store_engine(header, PLAN, tmp_path / "elsewhere" / "deep")
    assert second == tmp_path / "elsewhere" / "deep" / path.name
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(OSError, match="a file"):
        store_engine(header, PLAN, tmp_path / "a file")
