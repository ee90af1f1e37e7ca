from pathlib import Path

import pytest

from engine.backends import Precision, cpu

TWO_CPUS = """processor\t: 0
model name\t: Some CPU @ 2.0GHz: fast
flags\t\t: fpu sse2 avx2 avx512_bf16

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


def test_the_first_cpu_is_read() -> None:
    name, flags = cpu.parse_cpu_info(TWO_CPUS)
    assert name == "Some CPU @ 2.0GHz: fast"
    assert flags == {"fpu", "sse2", "avx2", "avx512_bf16"}


@pytest.mark.parametrize("text", ["", "no colon here\n", "Features : bf16 asimd\n"])
def test_what_is_not_said_is_empty(text: str) -> None:
    assert cpu.parse_cpu_info(text) == ("", frozenset())


ALL: tuple[Precision, ...] = ("f32", "bf16", "int8")
SERVER = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}


@pytest.mark.parametrize(
    ("flags", "offered", "precision"),
    [
        (SERVER, ALL, "bf16"),
        (SERVER, ("f32", "int8"), "int8"),
        (SERVER, ("f32",), "f32"),
        (SERVER, (), "f32"),
        ({"avx512_bf16", "avx512_vnni", "avx2"}, ALL, "int8"),
        ({"avx512_bf16", "avx512_vnni", "avx2"}, ("f32", "bf16"), "f32"),
        ({"amx_bf16"}, ALL, "bf16"),
        ({"avx2", "avx512f", "avx512_vnni"}, ALL, "int8"),
        ({"avx2", "avx_vnni"}, ALL, "int8"),
        ({"avx2", "avx_vnni"}, ("f32", "bf16"), "f32"),
        ({"avx2", "fma"}, ALL, "f32"),
        ({"amx_bf16_lookalike"}, ALL, "f32"),
        ({"asimd", "asimddp", "i8mm", "bf16"}, ALL, "f32"),
        (set(), ALL, "f32"),
    ],
)
def test_a_precision_only_where_the_cpu_has_its_instructions(
    flags: set[str], offered: tuple[Precision, ...], precision: str
) -> None:
    assert cpu.fastest_precision(frozenset(flags), offered) == precision


def test_a_system_without_the_file_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "_CPU_INFO", tmp_path / "absent")
    assert cpu.cpu_info.__wrapped__() == ("", frozenset())


def test_this_machine_is_read_once() -> None:
    assert cpu.cpu_info() is cpu.cpu_info()
