"""What the results depend on besides the code."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks.schema import Metadata
from engine.backends.cpu import cpu_info

_REPOSITORY = Path(__file__).parents[1]
_LIBRARIES = (
    "ai-edge-litert", "av", "livedub", "numba", "numpy", "onnx", "onnxruntime", "opencv-python-headless",
    "openvino", "safetensors", "scikit-image", "torch",
)  # fmt: skip
_FLAGS = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "amx_tile",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_QUIET_LOAD = 0.5


def describe_machine(now: datetime) -> Metadata:
    """Everything that a reader needs to judge the numbers.

    Args:
        now: start of the run, with a time zone.
    """
    cpu_model, flags = cpu_info()
    load = os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0)
    return Metadata(
        utc_time=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=_git("rev-parse", "HEAD") or "unknown",
        dirty=bool(_git("status", "--porcelain")),
        python=platform.python_version(),
        libraries={name: version for name in _LIBRARIES if (version := _version(name))},
        cpu_model=cpu_model or platform.processor() or "unknown",
        cpu_flags=[flag for flag in _FLAGS if flag in flags],
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        load_average=load,
        quiet=load[0] < _QUIET_LOAD,
        thread_variables={name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_REPOSITORY), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
