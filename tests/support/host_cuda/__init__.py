"""The GPU's kernels on the CPU: their source compiled by g++ with a shim for CUDA's built-ins.

    kernels = host_kernels("geometry.cu")  # behind common.cuh; skips the test where g++ is missing
    kernels.launch("clear_raster", 4, 32, vis, teeth, vis.size)

That shows the kernels' logic and arithmetic; not races, the memory model or speed. Threads run one after the
other and change over at `__syncthreads()` (see shim.h). With g++'s sanitizers, flags from the environment,
accesses that leave an array show too:

    HOST_CUDA_FLAGS="-g -fsanitize=address,undefined -fno-sanitize-recover=undefined" \\
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so.6)" \\
    ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 pytest tests/unit/test_cuda_geometry.py
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.arrays import Array
from engine.backends.cuda.compiler import kernel_source
from engine.models import cache_dir

SHIM = Path(__file__).with_name("shim.h")
# no fused multiply-add: the same choice as for the GPU, see common.cuh
FLAGS = (
    *("-O2", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-DHOST_CUDA"),
    *("-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function"),
    *os.environ.get("HOST_CUDA_FLAGS", "").split(),
)
ENTRY = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(')
FRAME_PARAMS_FIELDS = (
    *("part_x", "part_y", "part_w", "part_h", "side", "planes", "margin_px", "slope", "level", "bends"),
    *("to_rgb", "to_yuv"),
)


class LaunchError(Exception):
    """The launch does not fit the kernel, or the kernel broke a rule that the shim checks."""


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("backwards", ctypes.c_int),
    )


class _Texture(ctypes.Structure):
    _fields_ = (("texels", ctypes.c_void_p), ("width", ctypes.c_int), ("height", ctypes.c_int))


class HostTexture:
    """A texture object: channels [h, w, 4] in half precision; clamped, linear, normalised coordinates."""

    def __init__(self, texels: Array) -> None:
        self.texels = np.ascontiguousarray(texels, np.float16)
        self._exact = self.texels.astype(np.float32)
        height, width, _ = self.texels.shape
        self._struct = _Texture(self._exact.ctypes.data, width, height)

    @property
    def handle(self) -> np.uint64:
        """What a kernel takes as `cudaTextureObject_t`; good as long as this object lives."""
        return np.uint64(ctypes.addressof(self._struct))


@dataclass(frozen=True)
class HostKernels:
    """A compiled program of kernels."""

    library: ctypes.PyDLL
    signatures: dict[str, tuple[str, ...]]

    def launch(
        self,
        name: str,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        *values: Any,
        backwards: bool = False,
    ) -> None:
        """Run a kernel to its end.

        Args:
            name: of the kernel.
            grid: blocks, along up to three axes.
            block: threads of a block, likewise.
            values: the kernel's arguments: C-contiguous arrays for pointers (a structured one for a struct),
                numbers, HostTexture.
            backwards: last block and thread first, to see that their order does not matter.

        Raises:
            LaunchError: arguments of another number or type, or a barrier that not all threads reach.
        """
        types = self.signatures[name]
        if len(types) != len(values):
            raise LaunchError(f"{name} takes {len(types)} arguments, got {len(values)}: {' '.join(types)}")
        held = [
            _argument(f"{name}, argument {i}", t, v)
            for i, (t, v) in enumerate(zip(types, values, strict=True))
        ]
        self.launch_held(name, grid, block, held, backwards=backwards)

    def launch_held(
        self,
        name: str,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        held: Sequence[Array],
        *,
        backwards: bool = False,
    ) -> None:
        """As `launch`, for arrays [1] that hold the arguments' bytes, of pointers the address; unchecked."""
        pointers = (ctypes.c_void_p * len(held))(*(one.ctypes.data for one in held))
        how = _Launch(_three(grid), _three(block), backwards)
        getattr(self.library, f"host_launch_{name}")(ctypes.byref(how), pointers)
        error = self.library.host_error()
        if error:
            raise LaunchError(f"{name}: {error.decode()}")

    def frame_params_dtype(self) -> np.dtype[np.void]:
        """The C++ struct FrameParams as numpy's structured dtype, with its offsets."""
        numbers = (ctypes.c_int * (1 + 2 * len(FRAME_PARAMS_FIELDS)))()
        self.library.host_frame_params(numbers)
        formats = []
        for field, size in zip(FRAME_PARAMS_FIELDS, numbers[2::2], strict=True):
            kind = "f4" if field in {"margin_px", "slope", "level", "to_rgb", "to_yuv"} else "i4"
            formats.append(kind if size == 4 else f"({size // 4},){kind}")
        return np.dtype({
            "names": FRAME_PARAMS_FIELDS,
            "formats": formats,
            "offsets": numbers[1::2],
            "itemsize": numbers[0],
        })  # fmt: skip


def host_kernels(*files: str, canvas: str = "float", picture: str = "float", more: str = "") -> HostKernels:
    """The kernels of these files, compiled together behind common.cuh; built once for a state of the source.

    Args:
        files: names in engine/backends/cuda/kernels.
        canvas: CANVAS_T, "float" or "__half".
        picture: PICTURE_T, likewise.
        more: source of further kernels.
    """
    if shutil.which("g++") is None:
        pytest.skip("g++ is missing: the kernels' source cannot be compiled for the CPU")
    return _built(files, canvas, picture, more)


@functools.cache
def _built(files: tuple[str, ...], canvas: str, picture: str, more: str) -> HostKernels:
    kernels = kernel_source(("common.cuh", *files)) + f'\n#line 1 "more.cu"\n{more}'
    names = ENTRY.findall(kernels)
    source = "\n".join([SHIM.read_text(encoding="utf-8"), kernels, *map(_entry, names), _layout()])
    flags = (*FLAGS, f"-DCANVAS_T={canvas}", f"-DPICTURE_T={picture}")
    library = ctypes.PyDLL(str(_compiled(source, flags)))  # keeps the GIL: one launch at a time
    library.host_error.restype = ctypes.c_char_p
    return HostKernels(library, {name: _signature(library, name) for name in names})


def _entry(name: str) -> str:
    return (
        f'extern "C" void host_launch_{name}(const host::Launch* how, void** values)'
        f" {{ host::launch({name}, *how, values); }}\n"
        f'extern "C" const char* host_signature_{name}() {{ return host::signature({name}); }}'
    )


def _layout() -> str:
    pairs = (f"(int)offsetof(FrameParams, {f}), (int)sizeof(FrameParams::{f})" for f in FRAME_PARAMS_FIELDS)
    return (
        'extern "C" void host_frame_params(int* out)'
        f" {{ int all[] = {{(int)sizeof(FrameParams), {', '.join(pairs)}}};"
        " memcpy(out, all, sizeof all); }\n"
    )


def _compiled(source: str, flags: tuple[str, ...]) -> Path:
    version = subprocess.run(["g++", "-dumpfullversion"], check=True, capture_output=True, text=True).stdout
    key = hashlib.sha256("\0".join([source, version, *flags]).encode()).hexdigest()
    library = cache_dir() / "host-kernels" / f"{key}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    code, made = (library.with_suffix(f".{os.getpid()}.{kind}") for kind in ("cpp", "so"))
    code.write_text(source, encoding="utf-8")
    try:
        done = subprocess.run(
            ["g++", *flags, str(code), "-o", str(made)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LaunchError(f"g++ refuses the kernels:\n{done.stderr}")
        os.replace(made, library)
    finally:
        code.unlink()
        made.unlink(missing_ok=True)
    return library


def _signature(library: ctypes.PyDLL, name: str) -> tuple[str, ...]:
    function = getattr(library, f"host_signature_{name}")
    function.restype = ctypes.c_char_p
    return tuple(function().decode().split())


def _three(sizes: int | tuple[int, ...]) -> ctypes.Array[ctypes.c_uint]:
    given = (sizes,) if isinstance(sizes, int) else sizes
    return (ctypes.c_uint * 3)(*given, *(1,) * (3 - len(given)))


def _argument(what: str, wanted: str, value: Any) -> Array:
    """An array that holds the argument's bytes where the kernel's call reads them."""
    if isinstance(value, HostTexture):
        value = value.handle
    if not wanted.endswith("*"):
        if isinstance(value, np.ndarray):
            raise LaunchError(f"{what} is a number ({wanted}), got an array")
        return np.asarray([value], np.dtype(wanted))
    if not isinstance(value, np.ndarray):
        raise LaunchError(f"{what} is a pointer ({wanted}), got {value!r}")
    kind = "u" if value.dtype.kind == "b" else value.dtype.kind
    got = f"{kind}{value.dtype.itemsize}*"
    if got != wanted or not value.flags.c_contiguous:
        raise LaunchError(f"{what} must be a C-contiguous array of {wanted[:-1]}, got {got[:-1]}")
    return np.asarray([value.ctypes.data], np.uint64)
