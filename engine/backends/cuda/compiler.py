"""Our CUDA C++ compiled to machine code by NVRTC, and kept. It needs packages, but no GPU, driver or toolkit.

Machine code (cubin) and not PTX, because a driver that is older than the compiler refuses the compiler's PTX.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Literal

from engine.errors import BackendError, BackendUnavailable
from engine.models import cache_dir

SOURCES = ("common.cuh", "geometry.cu", "crop.cu", "composite.cu")  # in this order they are one program
NEEDED = "the GPU's kernels need NVIDIA's compiler and headers: pip install 'livedub[gpu]'"
ARCHITECTURE = re.compile(r"sm_\d{2,3}[a-z]?")
ENTRY = re.compile(r"Compiling entry function '(\w+)'")
REGISTERS = re.compile(r"Used (\d+) registers")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
DIGEST_BYTES = 32

Element = Literal["__half", "float"]


@dataclass(frozen=True)
class Cubin:
    """Machine code of all kernels for one architecture.

    Attributes:
        code: what a driver loads, an ELF file.
        registers: of a thread, by kernel.
        spill_bytes: of a thread, stored or loaded because registers did not suffice, by kernel.
        nvrtc: version of the compiler, like "13.5".
    """

    code: bytes
    registers: dict[str, int]
    spill_bytes: dict[str, int]
    nvrtc: str

    def __repr__(self) -> str:
        return f"Cubin({len(self.code)} bytes, {', '.join(self.registers)}, NVRTC {self.nvrtc})"


def kernel_source(names: Sequence[str] = SOURCES) -> str:
    """The CUDA C++ of these files of `kernels`, in their order; its lines know which file they are from."""
    folder = resources.files("engine.backends.cuda") / "kernels"
    return "\n".join(f'#line 1 "{name}"\n{(folder / name).read_text(encoding="utf-8")}' for name in names)


def compile_cubin(
    arch: str,
    *,
    canvas: Element = "__half",
    picture: Element = "__half",
    source: str | None = None,
    cache: Path | None = None,
) -> Cubin:
    """Compile the kernels for an architecture, or take what was compiled before.

    Args:
        arch: like "sm_90".
        canvas: element type of the network's input.
        picture: element type of the network's output.
        source: CUDA C++ in place of our own kernels.
        cache: folder of what was compiled; None is the usual one. A damaged file there is made again.

    Raises:
        BackendUnavailable: a package of NVIDIA's is missing.
        BackendError: the compiler refuses the architecture or the source.
        ValueError: `arch` is no architecture's name.
    """
    if not ARCHITECTURE.fullmatch(arch):
        raise ValueError(f"{arch = } must be like 'sm_90'")
    text = kernel_source() if source is None else source
    # sums with the CPU's bits decide which pixel is in which triangle: no fused multiply-add; see common.cuh
    options = {"arch": arch, "define_macro": [("CANVAS_T", canvas), ("PICTURE_T", picture)], "fma": False}
    version = _nvrtc_version()
    key = hashlib.sha256(json.dumps([text, options, version]).encode()).hexdigest()
    path = (cache_dir() / "kernels" if cache is None else cache) / f"{key}.cubin"
    kept = _read(path)
    if kept is not None:
        return kept
    made = _compiled(text, options, version)
    with contextlib.suppress(OSError):  # what cannot be kept is compiled again
        _write(path, made)
    return made


def _nvrtc_version() -> str:
    try:
        from cuda.bindings import nvrtc
        from cuda.pathfinder import DynamicLibNotFoundError
    except ImportError as error:
        raise BackendUnavailable(NEEDED) from error
    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except DynamicLibNotFoundError as error:
        raise BackendUnavailable(NEEDED) from error
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BackendError(f"NVRTC does not say its version: {status.name}")
    return f"{major}.{minor}"


def _compiled(source: str, options: dict[str, object], version: str) -> Cubin:
    try:
        from cuda.core import Program, ProgramOptions
        from cuda.core._utils.cuda_utils import CUDAError  # has no public name
        from cuda.pathfinder import find_nvidia_header_directory
    except ImportError as error:
        raise BackendUnavailable(NEEDED) from error
    headers = find_nvidia_header_directory("cudart")
    if headers is None:
        raise BackendUnavailable(NEEDED)
    log = StringIO()
    described = ProgramOptions(name="kernels.cu", include_path=[headers], ptxas_options=["-v"], **options)
    try:
        code = bytes(Program(source, "c++", described).compile("cubin", logs=log).code)
    except CUDAError as error:
        if "cannot open source file" in str(error):  # of the headers, which are three packages
            raise BackendUnavailable(f"{NEEDED} ({_useful_line(str(error))})") from error
        raise BackendError(
            f"NVRTC {version} cannot compile the kernels for {options['arch']}: {_useful_line(str(error))}"
        ) from error
    registers, spill_bytes = _resources_of(log.getvalue())
    return Cubin(code, registers, spill_bytes, version)


def _useful_line(log: str) -> str:
    """The first error of a compiler's log, or else its first line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if re.search(r"\berror\b\s*:", line)), lines[0] if lines else "")


def _resources_of(log: str) -> tuple[dict[str, int], dict[str, int]]:
    """Registers and spilled bytes by kernel, from what the assembler says with `-v`."""
    registers: dict[str, int] = {}
    spill_bytes: dict[str, int] = {}
    kernel = ""
    for line in log.splitlines():
        if found := ENTRY.search(line):
            kernel = found[1]
        elif found := SPILLS.search(line):
            spill_bytes[kernel] = int(found[1]) + int(found[2])
        elif found := REGISTERS.search(line):
            registers[kernel] = int(found[1])
    return registers, spill_bytes


def _read(path: Path) -> Cubin | None:
    """What `_write` has written; None if there is nothing or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, rest = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    line, _, code = rest.partition(b"\n")
    return Cubin(code=code, **json.loads(line))


def _write(path: Path, cubin: Cubin) -> None:
    """Digest, a line of JSON, code; under its name only once it is whole."""
    about = {"registers": cubin.registers, "spill_bytes": cubin.spill_bytes, "nvrtc": cubin.nvrtc}
    rest = json.dumps(about).encode() + b"\n" + cubin.code
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_bytes(hashlib.sha256(rest).digest() + rest)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
