"""Registers and spills of each GPU kernel, by architecture; needs NVIDIA's compiler, no GPU.

    python -m benchmarks.kernel_registers [--json OUT]

The numbers depend on the kernels' source and the compiler alone, not on the machine. A multiprocessor has
65536 registers: at 64 a thread it holds 1024 threads. Any spill is a mistake.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from engine.backends.cuda.compiler import Element, compile_cubin, kernel_source

ARCHITECTURES = ("sm_80", "sm_90", "sm_120")
ELEMENTS: tuple[Element, ...] = ("__half", "float")


def main() -> int:
    """Print a table and, if asked, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = measure()
    for element, by_arch in report["results"].items():
        print(f"NVRTC {report['nvrtc']}, tensors of {element}: registers (spilled bytes)")
        names = list(next(iter(by_arch.values())))
        print(f"{'':18}" + "".join(f"{arch:>12}" for arch in by_arch))
        for name in names:
            cells = (by_arch[arch][name] for arch in by_arch)
            print(f"{name:18}" + "".join(f"{c['registers']:>6} ({c['spill_bytes']:>3})" for c in cells))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def measure() -> dict[str, Any]:
    """The report: what was compiled with what, then by element, architecture and kernel."""
    cubins = {e: {a: compile_cubin(a, canvas=e, picture=e) for a in ARCHITECTURES} for e in ELEMENTS}
    return {
        "nvrtc": cubins["__half"]["sm_90"].nvrtc,
        "source_sha256": hashlib.sha256(kernel_source().encode()).hexdigest(),
        "results": {
            element: {
                arch: {
                    name: {
                        "registers": cubin.registers[name],
                        "spill_bytes": cubin.spill_bytes[name],
                    }
                    for name in sorted(cubin.registers)
                }
                for arch, cubin in by_arch.items()
            }
            for element, by_arch in cubins.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
