"""The real driver on cuda.core: without NVIDIA's library, and on a stand-in for that library.

The stand-in proves that every call reaches the driver with the arguments that it should have; what a device
then does is tests/gpu's.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends.cuda.compiler import compile_cubin
from engine.backends.cuda.cuda_core import CudaDriver
from engine.backends.cuda.driver import DeviceInfo, Driver
from engine.backends.cuda.kernels import KERNELS
from engine.errors import BackendUnavailable
from tests.support.data import ROOT

STUB = ROOT / "tests" / "support" / "stub_libcuda.c"


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stand-in for NVIDIA's driver library."""
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="cuda-python is not installed")
    headers = pathfinder.find_nvidia_header_directory("cudart")
    if headers is None or shutil.which("gcc") is None:
        pytest.skip("gcc or NVIDIA's headers are missing: no stand-in for the driver can be compiled")
    compile_cubin("sm_90")  # kept for the process below: the compiler does not run beside the stand-in
    folder = tmp_path_factory.mktemp("stub")
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        f"-I{headers}",
        str(STUB),
        "-o",
        str(folder / "libcuda.so.1"),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return folder


def driven(stub: Path, *what: str, **settings: str) -> tuple[dict[str, Any], list[str]]:
    """What `tests.support.drive_cuda` says, and the driver's calls."""
    log = stub / "log"
    log.write_text("")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.support.drive_cuda", *what],
        env=os.environ | {"LD_LIBRARY_PATH": str(stub), "STUB_CUDA_LOG": str(log)} | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), log.read_text().splitlines()


@pytest.fixture(scope="module")
def tour(stub: Path) -> tuple[dict[str, Any], list[str]]:
    """Every call of the driver once."""
    return driven(stub, "tour", STUB_CUDA_VALUES="1")


@pytest.fixture(scope="module")
def calls(tour: tuple[dict[str, Any], list[str]]) -> list[str]:
    return tour[1]


def has_gpu() -> bool:
    try:
        CudaDriver().close()
    except BackendUnavailable:
        return False
    return True


class TestWithoutADevice:
    def test_the_reason_is_said_in_one_line(self) -> None:
        if has_gpu():
            pytest.skip("this machine has a GPU")
        with pytest.raises(BackendUnavailable, match="NVIDIA") as raised:
            CudaDriver()
        assert "\n" not in str(raised.value)


class TestOnAStandIn:
    def test_every_call_gives_what_the_driver_gave(self, tour: tuple[dict[str, Any], list[str]]) -> None:
        assert tour[0] == {
            "info": ["Stub 9000", "sm_90", [13, 0], 1 << 31],
            "aligned": True,
            "zeros": True,
            "back": True,
            "copied": [7] * 4,
            "ms": 0.5,
            "done": False,
            "free": 1 << 30,
            "same program": True,
        }

    def test_streams_do_not_wait_for_the_default_one_and_events_do_not_spin(self, calls: list[str]) -> None:
        non_blocking, blocking_sync = 1, 1
        assert calls.count(f"cuStreamCreate flags={non_blocking}") == 2
        assert calls.count(f"cuEventCreate flags={blocking_sync}") == 2

    def test_a_texture_is_half4_linear_clamped_and_normalised(self, calls: list[str]) -> None:
        half, clamp, linear, as_they_are_and_normalised = 0x10, 1, 1, 1 | 2
        last = int(np.array([8 * 4 * 4 - 1], np.float16).view(np.uint16)[0])
        assert f"cuArrayCreate 4 x 8 x 0 format={half} channels=4 flags=0" in calls
        assert f"cuMemcpy3D 32 x 8 pitch=32 first=0 last={last}" in calls
        flags = f"address={clamp},{clamp} filter={linear} flags={as_they_are_and_normalised}"
        assert f"cuTexObjectCreate type=0 {flags}" in calls

    def test_a_launch_has_its_grid_and_its_arguments_types(self, calls: list[str]) -> None:
        launches = [call for call in calls if call.startswith("cuLaunchKernel")]
        shape, values = launches[0].split(" values=")
        assert shape == "cuLaunchKernel 12x1x1 of 256x1x1 shared=0"
        number, real, handle = values.split(",")
        assert (number, real) == ("-7", "0.5")
        assert int(handle) > 0x3000  # the stand-in's handles of textures

    def test_a_capture_is_thread_local_and_is_uploaded(self, calls: list[str]) -> None:
        thread_local = 1
        begin = calls.index(f"cuStreamBeginCapture mode={thread_local}")
        kinds = [call.split()[0] for call in calls[begin:]]
        assert kinds[1:4] == ["cuMemcpyAsync", "cuLaunchKernel", "cuStreamEndCapture"]
        assert kinds.index("cuGraphInstantiate") < kinds.index("cuGraphUpload") < kinds.index("cuGraphLaunch")
        assert kinds.index("cuGraphDestroy") < kinds.index("cuGraphUpload")  # only the instance stays

    def test_everything_is_freed_once(self, calls: list[str]) -> None:
        kinds = [call.split()[0] for call in calls]
        for made, freed in (
            ("cuStreamCreate", "cuStreamDestroy"),
            ("cuEventCreate", "cuEventDestroy"),
            ("cuMemAllocAsync", "cuMemFreeAsync"),
            ("cuMemAllocHost", "cuMemFreeHost"),
            ("cuArrayCreate", "cuArrayDestroy"),
            ("cuTexObjectCreate", "cuTexObjectDestroy"),
            ("cuGraphInstantiate", "cuGraphExecDestroy"),
        ):
            assert kinds.count(made) == kinds.count(freed) > 0, made

    def test_a_call_that_fails_is_named(self, stub: Path) -> None:
        doing = {
            "cuMemAllocAsync": "allocating 1000 bytes on the device",
            "cuMemAllocHost": "allocating 512 bytes of pinned memory",
            "cuMemcpyHtoDAsync": "copying to the device",
            "cuLibraryLoadData": "loading the kernel copy_in",
            "cuLaunchKernel": "launching copy_in",
            "cuMemcpyAsync": "copying on the device",
            "cuStreamEndCapture": "making a graph of what was captured",
            "cuGraphInstantiate": "making a graph of what was captured",
            "cuGraphUpload": "uploading a graph",
            "cuGraphLaunch": "launching a graph",
            "cuEventSynchronize": "waiting for an event",
        }
        raised, _ = driven(stub, "failures", *doing, "cuCtxSetCurrent", STUB_CUDA_VALUES="1")
        kind, message = raised.pop("cuCtxSetCurrent")
        assert kind == "BackendUnavailable"
        assert "no CUDA device can be used (choosing the device failed: CUDA_ERROR" in message
        assert raised.keys() == doing.keys()
        for call, (kind, message) in raised.items():
            assert kind == "BackendError"
            assert message.startswith(f"CUDA: {doing[call]} failed: CUDA_ERROR_LAUNCH_FAILED")

    def test_a_frame_graph_replays_and_allocates_nothing(self, stub: Path) -> None:
        result, calls = driven(stub, "frames")
        assert result == {"ms": 0.5, "streams": 1}
        kinds = [call.split()[0] for call in calls]
        assert kinds.count("cuLaunchKernel") == 4 * len(KERNELS)  # each slot warmed up and captured
        start, end = kinds.index("cuGraphLaunch"), len(kinds) - 1 - kinds[::-1].index("cuGraphLaunch")
        between = ["cuGraphLaunch", "cuEventRecord", "cuEventSynchronize", "cuEventRecord", "cuGraphLaunch"]
        assert kinds[start : end + 1] == between
        assert kinds.count("cuMemAllocHost") == kinds.count("cuMemFreeHost") == 2


def test_the_driver_is_what_the_graphs_ask_for() -> None:
    """A type check that mypy makes: CudaDriver is a Driver."""

    def taken(driver: Driver) -> DeviceInfo:
        return driver.info

    def unused(driver: CudaDriver) -> DeviceInfo:
        return taken(driver)

    assert callable(unused)
