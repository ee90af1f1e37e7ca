"""What this machine's CPU can do, as far as the choice of a precision needs it."""

from collections.abc import Collection
from functools import cache
from pathlib import Path

from engine.backends.network import Precision

_CPU_INFO = Path("/proc/cpuinfo")
_FASTEST_FIRST: tuple[tuple[Precision, frozenset[str]], ...] = (
    ("bf16", frozenset({"amx_bf16"})),
    ("int8", frozenset({"avx512_vnni", "avx_vnni"})),
)


def parse_cpu_info(text: str) -> tuple[str, frozenset[str]]:
    """Model name and instruction-set flags of the first CPU in the text of Linux' /proc/cpuinfo.

    Returns:
        ("", empty set) for what the text does not say.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields.get("model name", ""), frozenset(fields.get("flags", "").split())


@cache
def cpu_info() -> tuple[str, frozenset[str]]:
    """Model name and instruction-set flags of this machine; empty where the system does not tell."""
    try:
        return parse_cpu_info(_CPU_INFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return "", frozenset()


def fastest_precision(flags: frozenset[str], offered: Collection[Precision]) -> Precision:
    """Which of the precisions offered a CPU with these flags runs convolutions fastest in.

    Emulated bfloat16 is 2.4 to 4.7 times slower than float32, so unknown means float32. With AVX-512's
    instructions for it alone it is slower too: 69 ms a frame against 46, and 18 in int8 (a Xeon, AMX hidden).
    """
    for precision, needs in _FASTEST_FIRST:
        if precision in offered and flags & needs:
            return precision
    return "f32"
