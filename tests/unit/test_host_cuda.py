"""The shim under which the GPU's kernels are tested without a GPU."""

from pathlib import Path

import numpy as np
import pytest

from engine.backends.cuda.compiler import SOURCES
from tests.support.fake_cuda import FakeDriver
from tests.support.host_cuda import HostTexture, LaunchError, host_kernels
from tests.support.host_cuda.device import DeviceKernels

KERNELS = """
extern "C" __global__ void turn(float* a, int n) {
  __shared__ float held[64];
  for (int tile = blockIdx.x; tile * 64 < n; tile += gridDim.x) {
    int p = tile * 64 + threadIdx.x;
    if (p < n) held[threadIdx.x] = a[p];
    __syncthreads();
    if (p < n) a[p] = held[min(63, n - 1 - tile * 64) - threadIdx.x];
    __syncthreads();
  }
}
extern "C" __global__ void broken(float* a) {
  if (threadIdx.x) __syncthreads();
  a[threadIdx.x] = 1;
}
extern "C" __global__ void place(unsigned* a) {
  u32 block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  u32 thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  a[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}
extern "C" __global__ void last(int* a) { a[0] = first_index(); }
extern "C" __global__ void taken(cudaTextureObject_t t, const float* uv, float* out, int n) {
  for (int i = first_index(); i < n; i += index_stride()) {
    float4 s = tex2D<float4>(t, uv[2 * i], uv[2 * i + 1]);
    out[4 * i] = s.x; out[4 * i + 1] = s.y; out[4 * i + 2] = s.z; out[4 * i + 3] = s.w;
  }
}
extern "C" __global__ void halves(const __half* from, const float* values, __half* to, int n) {
  for (int i = first_index(); i < n; i += index_stride()) put(to, i, get(from, i) + values[i]);
}
"""


@pytest.mark.parametrize("backwards", [False, True])
def test_threads_wait_for_each_other(backwards: bool) -> None:
    numbers = np.arange(150, dtype=np.float32)
    got = numbers.copy()
    host_kernels(more=KERNELS).launch("turn", 2, 64, got, 150, backwards=backwards)
    np.testing.assert_array_equal(got[:64], numbers[:64][::-1])
    np.testing.assert_array_equal(got[64:128], numbers[64:128][::-1])
    np.testing.assert_array_equal(got[128:], numbers[128:][::-1])


def test_a_barrier_that_some_never_reach_is_an_error_and_the_next_launch_is_none() -> None:
    compiled, numbers = host_kernels(more=KERNELS), np.zeros(64, np.float32)
    for _ in range(2):
        with pytest.raises(LaunchError, match=r"broken: some threads .* returned before"):
            compiled.launch("broken", 1, 4, numbers)
    compiled.launch("turn", 1, 64, numbers, 64)
    assert numbers[-1] == 1, "what the one thread wrote that did not wait, turned round"


def test_every_thread_of_three_axes_runs_once() -> None:
    got = np.zeros(2 * 3 * 2 * 30, np.uint32)
    host_kernels(more=KERNELS).launch("place", (2, 3, 2), (5, 3, 2), got)
    want = np.arange(12)[:, None] * 1000 + np.arange(30)
    np.testing.assert_array_equal(got.reshape(12, 30), want)


def test_the_order_can_be_turned_round() -> None:
    got = np.zeros(1, np.int32)
    host_kernels(more=KERNELS).launch("last", 3, 7, got)
    assert got[0] == 20
    host_kernels(more=KERNELS).launch("last", 3, 7, got, backwards=True)
    assert got[0] == 0


def test_halves_are_numpys() -> None:
    random = np.random.default_rng(0)
    left = random.standard_normal(500).astype(np.float16)
    right = (random.standard_normal(500) * 10.0 ** random.integers(-8, 4, 500)).astype(np.float32)
    out = np.zeros(500, np.float16)
    host_kernels(more=KERNELS).launch("halves", 1, 8, left, right, out, 500)
    np.testing.assert_array_equal(out, (left.astype(np.float32) + right).astype(np.float16))


def test_textures_are_sampled_with_weights_of_8_bits() -> None:
    random = np.random.default_rng(1)
    texels = random.standard_normal((6, 9, 4)).astype(np.float16)
    rows, columns = np.mgrid[0:6, 0:9]
    uv = np.stack([(columns + 0.5) / 9, (rows + 0.5) / 6], -1).astype(np.float32)
    out = np.zeros((6, 9, 4), np.float32)
    compiled = host_kernels(more=KERNELS)
    compiled.launch("taken", 1, 4, HostTexture(texels), uv, out, 54)
    np.testing.assert_allclose(out, texels, atol=1e-6)
    across = np.array([[(0.5 + n / 512) / 9, 0.0] for n in range(513)], np.float32)
    line = np.zeros((513, 4), np.float32)
    compiled.launch("taken", 1, 4, HostTexture(texels), across, line, 513)
    steps = np.unique(line[:, 0])
    assert len(steps) == 257, "256 steps from one texel to the next"
    np.testing.assert_allclose(line[256], texels[0, :2].astype(np.float32).mean(0), atol=1e-6)
    beyond = np.array([[-3, -3], [4, 9]], np.float32)
    corners = np.zeros((2, 4), np.float32)
    compiled.launch("taken", 1, 4, HostTexture(texels), beyond, corners, 2)
    np.testing.assert_array_equal(corners, texels[[0, -1], [0, -1]].astype(np.float32))


def test_arguments_are_checked() -> None:
    compiled, numbers = host_kernels(more=KERNELS), np.zeros(64, np.float32)
    assert compiled.signatures["turn"] == ("f4*", "i4")
    for values, message in (
        ((numbers,), "takes 2 arguments, got 1"),
        ((numbers.astype(np.float64), 64), "array of f4, got f8"),
        ((numbers[::2], 64), "C-contiguous"),
        ((3, 64), "is a pointer"),
        ((numbers, numbers), "is a number"),
    ):
        with pytest.raises(LaunchError, match=message):
            compiled.launch("turn", 1, 64, *values)


def test_what_the_compiler_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    with pytest.raises(LaunchError, match=r"more\.cu:1:.*nobody"):
        host_kernels(more='extern "C" __global__ void f(int* a) { a[0] = nobody; }')
    assert not list((tmp_path / "host-kernels").iterdir())


def test_without_a_compiler_tests_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match=r"g\+\+ is missing"):
        host_kernels(more=KERNELS)


def test_a_devices_launches_are_the_hosts() -> None:
    """On the driver's double, which runs the kernels on the CPU."""
    host = host_kernels(*SOURCES[1:])
    driver = FakeDriver(kernels=host)
    vis, teeth = np.zeros((2, 100), np.uint64), np.zeros(200, np.uint32)
    DeviceKernels(driver).launch("clear_raster", 1, 32, vis, teeth, 150)
    assert (vis.reshape(-1) == np.iinfo(np.uint64).max).sum() == 150
    assert (teeth == np.iinfo(np.uint32).max).sum() == 150
    assert not driver.open
