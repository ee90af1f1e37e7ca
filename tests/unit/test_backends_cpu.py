from pathlib import Path

import pytest

from engine.backends import cpu

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


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx512_bf16", "avx2"}, "bf16"),
        ({"amx_bf16"}, "bf16"),
        ({"avx2", "avx512f", "avx512_vnni"}, "f32"),
        ({"avx512_bf16_lookalike"}, "f32"),
        (set(), "f32"),
    ],
)
def test_bfloat16_only_where_the_cpu_has_it(flags: set[str], precision: str) -> None:
    assert cpu.fastest_precision(frozenset(flags)) == precision


def test_a_system_without_the_file_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "_CPU_INFO", tmp_path / "absent")
    assert cpu.cpu_info.__wrapped__() == ("", frozenset())


def test_this_machine_is_read_once() -> None:
    assert cpu.cpu_info() is cpu.cpu_info()
