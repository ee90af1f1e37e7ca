"""How a frame gets its mouth: on the CPU step by step, or on a GPU as one graph."""

from contextlib import suppress

from engine.actor.pack import ActorPack
from engine.backends import WantedPrecision, choose_precision
from engine.backends.cuda.driver import Driver
from engine.errors import BackendError
from engine.painting.cpu import CpuPainter
from engine.painting.gpu import GpuPainter
from engine.painting.protocol import DebugPictures, HeadToPaint, Painter
from engine.render.renderer import open_renderer, renderer_graph

TENSORRT, CUDA_TORCH = GPU_BACKENDS = ("tensorrt", "cuda-torch")


def open_painter(
    actor: ActorPack,
    backend: str | None = None,
    *,
    threads: int = 1,
    precision: WantedPrecision = "auto",
) -> Painter:
    """Open an actor on this machine, to be painted into the frames of one stream.

    Args:
        actor: the pack.
        backend: one of GPU_BACKENDS for the first GPU, or as for `open_renderer`; None takes the best one of
            the CPU that is installed.
        threads: of the network, on a CPU.
        precision: of the network.

    Raises:
        ActorPackError: as for `open_renderer`.
        BackendUnavailable: the backend is not installed, has not this precision, or there is no GPU for it.
        BackendError: the device failed, or the actor has no TensorRT engine for this machine.
        ValueError: no backend or precision of that name is known.
    """
    if backend not in GPU_BACKENDS:
        return CpuPainter(open_renderer(actor, backend, threads=threads, precision=precision))
    from engine.backends.cuda.cuda_core import CudaDriver

    driver = CudaDriver()
    try:
        return open_gpu_painter(actor, driver, backend, precision=precision, owns_driver=True)
    except BaseException:
        with suppress(BackendError):  # a device that has failed refuses this too
            driver.close()
        raise


def open_gpu_painter(
    actor: ActorPack,
    driver: Driver,
    backend: str,
    *,
    precision: WantedPrecision = "auto",
    owns_driver: bool = False,
) -> GpuPainter:
    """Open an actor on a device that others may use too.

    Args:
        actor: the pack.
        driver: the device.
        backend: one of GPU_BACKENDS.
        precision: of the network.
        owns_driver: the painter closes the driver with itself; if this raises, the caller must.

    Raises:
        ActorPackError, BackendError, ValueError: as for `open_painter`.
    """
    graph, chosen = renderer_graph(actor), choose_precision(backend, precision, integers=False)
    if backend == CUDA_TORCH:
        from engine.backends import cuda_torch

        network = cuda_torch.open_graph_network(graph, chosen, driver)
        return GpuPainter(actor, cuda_torch.capturing(driver), network, owns_driver=owns_driver)
    from engine.backends import tensorrt_gpu

    engine = tensorrt_gpu.open_graph_network(graph, chosen, driver)
    return GpuPainter(actor, driver, engine, owns_driver=owns_driver)


__all__ = [
    "CUDA_TORCH",
    "GPU_BACKENDS",
    "TENSORRT",
    "CpuPainter",
    "DebugPictures",
    "GpuPainter",
    "HeadToPaint",
    "Painter",
    "open_gpu_painter",
    "open_painter",
]
