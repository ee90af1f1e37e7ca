import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.backends.cuda import compiler
from engine.backends.cuda.compiler import SOURCES, Cubin, compile_cubin, kernel_source
from engine.errors import BackendError, BackendUnavailable
from tests.support.data import ROOT
from tests.support.host_cuda import ENTRY, host_kernels

ARCHITECTURES = ("sm_80", "sm_90", "sm_120")
RESULTS = ROOT / "benchmarks" / "results" / "0.1.0"
ELF = b"\x7fELF"
KERNELS = set(ENTRY.findall(kernel_source()))
SMALL = 'extern "C" __global__ void twice(float* a) { a[threadIdx.x] *= 2; }'
FRAME = {"copy_in", "read_crop", "bend_crop", "clear_raster", "raster_triangles", "resolve_canvas"} | {
    *("split_picture", "ring_difference", "bend_region", "blend_region", "copy_out"),
}


@pytest.fixture(autouse=True)
def _packages() -> None:
    for name in ("cuda.core", "cuda.bindings.nvrtc"):
        pytest.importorskip(name, reason="NVIDIA's compiler is not installed: pip install 'livedub[kernels]'")


def test_the_source_is_all_files_in_order() -> None:
    source = kernel_source()
    places = [source.index(f'#line 1 "{name}"') for name in SOURCES]
    assert places == sorted(places)
    assert KERNELS >= FRAME
    assert kernel_source(SOURCES[:1]) == source[: places[1] - 1]


@pytest.mark.parametrize("element", ["__half", "float"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_compiles_and_spills_nothing(arch: str, element: compiler.Element) -> None:
    cubin = compile_cubin(arch, canvas=element, picture=element)
    assert cubin.code.startswith(ELF)
    assert set(cubin.registers) == KERNELS
    assert all(name.encode() in cubin.code for name in KERNELS)
    assert not any(cubin.spill_bytes.values())
    assert max(cubin.registers.values()) <= 80, "three blocks of 256 threads share 65536 registers"


def machine_of(cubin: Cubin) -> int:
    """The architecture's number in an ELF file of CUDA's: the second byte of e_flags."""
    return cubin.code[49]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_code_is_of_the_wanted_architecture(arch: str, tmp_path: Path) -> None:
    assert machine_of(compile_cubin(arch, source=SMALL, cache=tmp_path)) == int(arch[3:])


def test_elements_of_the_tensors_are_options() -> None:
    halves = compile_cubin("sm_90")
    assert compile_cubin("sm_90", canvas="float").code != halves.code
    assert compile_cubin("sm_90", picture="float").code != halves.code


def test_no_multiply_add_is_fused(tmp_path: Path) -> None:
    """What keeps the CPU's bits reaches the compiler: the code is as if each operation were asked for."""
    source = 'extern "C" __global__ void f(float* a) { a[0] = a[1] * a[2] + a[3]; }'
    ours = compile_cubin("sm_90", source=source, cache=tmp_path).code
    by_hand = source.replace("a[1] * a[2] + a[3]", "__fadd_rn(__fmul_rn(a[1], a[2]), a[3])")
    fused = source.replace("a[1] * a[2] + a[3]", "fmaf(a[1], a[2], a[3])")
    text = [section(code) for code in (ours, code_of(by_hand, tmp_path), code_of(fused, tmp_path))]
    assert text[0] == text[1]
    assert text[0] != text[2]


def code_of(source: str, cache: Path) -> bytes:
    return compile_cubin("sm_90", source=source, cache=cache).code


def section(code: bytes, name: str = ".text.f") -> bytes:
    """A section of a 64-bit ELF file."""
    start, size, count, names = (
        int.from_bytes(code[a:b], "little") for a, b in ((40, 48), (58, 60), (60, 62), (62, 64))
    )
    headers = [code[start + n * size : start + (n + 1) * size] for n in range(count)]
    bounds = [(int.from_bytes(h[24:32], "little"), int.from_bytes(h[32:40], "little")) for h in headers]
    strings = code[bounds[names][0] : sum(bounds[names])]
    for header, (offset, length) in zip(headers, bounds, strict=True):
        at = int.from_bytes(header[:4], "little")
        if strings[at : strings.index(b"\0", at)] == name.encode():
            return code[offset : offset + length]
    raise AssertionError(f"no section {name}")


def test_what_was_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_cubin("sm_90", source=SMALL, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    assert re.fullmatch(r"[0-9a-f]{64}\.cubin", kept.name)
    monkeypatch.setattr(compiler, "_compiled", None)  # would not survive a call
    again = compile_cubin("sm_90", source=SMALL, cache=tmp_path)
    assert again == first
    assert first.registers.keys() == {"twice"}
    assert first.nvrtc.count(".") == 1
    assert repr(first) == f"Cubin({len(first.code)} bytes, twice, NVRTC {first.nvrtc})"


def test_each_choice_has_a_file_of_its_own(tmp_path: Path) -> None:
    compile_cubin("sm_90", source=SMALL, cache=tmp_path)
    compile_cubin("sm_80", source=SMALL, cache=tmp_path)
    compile_cubin("sm_80", source=SMALL + " ", cache=tmp_path)
    compile_cubin("sm_80", source=SMALL, canvas="float", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "numbers", "folder"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path) -> None:
    first = compile_cubin("sm_90", source=SMALL, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    flipped = bytearray(whole)
    flipped[np.random.default_rng(0).integers(100, len(whole))] ^= 4
    damaged = {
        "empty": b"",
        "short": whole[:-1],
        "flipped": bytes(flipped),
        "numbers": whole.replace(b'"twice": ', b'"twice": 1', 1),
    }
    if damage == "folder":  # nothing can be kept there; compiling works all the same
        kept.unlink()
        kept.mkdir()
    else:
        assert damaged[damage] != whole
        kept.write_bytes(damaged[damage])
    assert compile_cubin("sm_90", source=SMALL, cache=tmp_path) == first
    if damage != "folder":
        assert kept.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [kept], "no half-written file stays"


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert compile_cubin("sm_90", source=SMALL, cache=in_the_way / "kernels").registers


def test_the_usual_folder_is_the_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    compile_cubin("sm_90", source=SMALL)
    assert [path.suffix for path in (tmp_path / "kernels").iterdir()] == [".cubin"]


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    wrong = f'#line 1 "crop.cu"\n{SMALL}\n__device__ int f() {{ return nobody; }}\n'
    with pytest.raises(BackendError, match=r"for sm_90: crop.cu\(2\): error: .*nobody") as caught:
        compile_cubin("sm_90", source=wrong, cache=tmp_path)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, BackendUnavailable)
    assert not list(tmp_path.iterdir())


def test_an_architecture_that_the_compiler_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"sm_13: .*gpu-architecture"):
        compile_cubin("sm_13", source=SMALL, cache=tmp_path)
    for strange in ("", "90", "compute_90", "sm_90; rm", "sm_90\n"):
        with pytest.raises(ValueError, match="must be like 'sm_90'"):
            compile_cubin(strange, source=SMALL, cache=tmp_path)


@pytest.mark.parametrize("missing", ["cuda.bindings", "cuda.pathfinder", "cuda.core"])
def test_a_missing_package_is_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'livedub\[gpu\]'"):
        compile_cubin("sm_90", source=SMALL, cache=tmp_path)


def test_missing_headers_are_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailable, match=r"livedub\[gpu\].*cannot open source file"):
        compile_cubin("sm_90", source='#include "cuda_fp16_that_is_missing.h"\n', cache=tmp_path)
    import cuda.pathfinder

    monkeypatch.setattr(cuda.pathfinder, "find_nvidia_header_directory", lambda _: None)
    with pytest.raises(BackendUnavailable, match="headers"):
        compile_cubin("sm_90", source=SMALL, cache=tmp_path)


def test_a_missing_compiler_library_is_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import cuda.bindings.nvrtc
    import cuda.pathfinder

    def refuse() -> None:
        raise cuda.pathfinder.DynamicLibNotFoundError("libnvrtc.so.13")

    monkeypatch.setattr(cuda.bindings.nvrtc, "nvrtcVersion", refuse)
    with pytest.raises(BackendUnavailable, match="pip install"):
        compile_cubin("sm_90", source=SMALL)


def test_both_compilers_see_the_same_kernels() -> None:
    assert set(host_kernels(*SOURCES[1:]).signatures) == KERNELS


def test_the_published_registers_are_of_these_kernels() -> None:
    published = json.loads((RESULTS / "kernels.json").read_text(encoding="utf-8"))
    for by_arch in published["results"].values():
        assert tuple(by_arch) == ARCHITECTURES
        for kernels in by_arch.values():
            assert set(kernels) == KERNELS, "python -m benchmarks.kernel_registers --json writes it anew"
            assert not any(kernel["spill_bytes"] for kernel in kernels.values())
