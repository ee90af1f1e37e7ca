"""What the results depend on besides the code."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec

from benchmarks.load import cores_here
from benchmarks.method import METHOD
from benchmarks.schema import BackendRow, Device, Metadata
from engine.backends.cpu import cpu_info
from engine.errors import BackendError

_REPOSITORY = Path(__file__).parents[1]
_LIBRARIES = (
    "ai-edge-litert", "av", "cuda-bindings", "cuda-core", "livedub", "numba", "numpy", "onnx", "onnxruntime",
    "opencv-python-headless", "openvino", "safetensors", "scikit-image", "tensorrt", "tensorrt-rtx", "torch",
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
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CGROUP = Path("/sys/fs/cgroup")


def describe_machine(
    now: datetime, *, seed: int = 0, command: str = "", backends: Sequence[BackendRow] = ()
) -> Metadata:
    """Everything that a reader needs to judge the numbers.

    Args:
        now: start of the run, with a time zone.
        seed: of everything random.
        command: what was asked for.
        backends: all that livedub knows.
    """
    cpu_model, flags = cpu_info()
    load = _load_average()
    return Metadata(
        utc_time=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=_git("rev-parse", "HEAD") or "unknown",
        dirty=bool(_git("status", "--porcelain")),
        python=platform.python_version(),
        libraries={name: version for name in _LIBRARIES if (version := _version(name))},
        cpu_model=cpu_model or platform.processor() or "unknown",
        cpu_flags=[flag for flag in _FLAGS if flag in flags],
        cores=cores_here(),
        load_average=load,
        quiet=load[0] < _QUIET_LOAD,
        thread_variables={name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        system=f"{platform.system()} {platform.release()}",
        cpu_limit=cpu_limit(_CGROUP),
        governor=_read(_GOVERNOR),
        memory_gib=_memory_gib(),
        devices=_devices(),
        backends=list(backends),
        seed=seed,
        command=command,
        method=METHOD,
    )


def finished(before: Metadata) -> Metadata:
    """The same with the load at the end of the run."""
    return msgspec.structs.replace(before, load_average_after=_load_average())


def cpu_limit(cgroup: Path) -> float | None:
    """Cores that a container may use, by either version of its control files; None without a limit."""
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not period:
        quota = _read(cgroup / "cpu" / "cpu.cfs_quota_us")
        period = _read(cgroup / "cpu" / "cpu.cfs_period_us")
    if not quota.isdigit() or not period.isdigit():
        return None
    return int(quota) / int(period)


def _load_average() -> tuple[float, float, float]:
    return os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (OSError, ValueError):
        return None


def _devices() -> list[Device]:
    """NVIDIA GPUs, as the driver's own tool tells, or else CUDA."""
    fields = "name,driver_version,compute_cap,memory.total,clocks.max.sm"
    text = _output(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    return [found for line in text.splitlines() if (found := device_of(line)) is not None] or _by_cuda()


def _by_cuda() -> list[Device]:
    """The first GPU, where the driver's tool is missing."""
    from engine.backends.tensorrt_gpu import open_driver

    try:
        driver = open_driver()
    except BackendError:
        return []
    info = driver.info
    driver.close()
    return [
        Device(
            name=info.name,
            driver="CUDA " + ".".join(map(str, info.driver_version)),
            compute_capability=".".join(map(str, info.compute_capability)),
            memory_mib=info.memory_bytes // 2**20,
        )
    ]


def device_of(line: str) -> Device | None:
    """One line of the driver's tool: name, driver, compute capability, MiB, MHz."""
    values = [value.strip() for value in line.split(",")]
    if len(values) != 5 or not values[0]:
        return None
    name, driver, capability, memory, clock = values
    return Device(
        name=name,
        driver=driver,
        compute_capability=capability,
        memory_mib=int(memory) if memory.isdigit() else None,
        clock_mhz=int(clock) if clock.isdigit() else None,
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _git(*arguments: str) -> str:
    return _output(["git", "-C", str(_REPOSITORY), *arguments])


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
