"""The same launches as `host_kernels` has them, on a device: what the shim cannot show, a GPU does."""

from typing import Any

import numpy as np

from engine.backends.cuda.driver import Buffer, Driver, KernelArgument, Texture
from tests.support.host_cuda import HostTexture

NUMPY: dict[str, np.dtype[Any]] = {"float": np.dtype(np.float32), "__half": np.dtype(np.float16)}


class DeviceKernels:
    """All kernels of the product on a device; see `HostKernels.launch`."""

    def __init__(self, driver: Driver, *, canvas: str = "float", picture: str = "float") -> None:
        self._driver = driver
        self._program = driver.program(NUMPY[canvas], NUMPY[picture])

    def launch(self, name: str, grid: int, block: int, *values: Any, backwards: bool = False) -> None:
        """Take the arrays there, run the kernel, take the arrays back; a device has an order of its own.

        Args:
            name: of the kernel.
            grid: blocks.
            block: threads of a block.
            values: arrays, integers, HostTexture.
            backwards: nothing here.
        """
        driver, stream = self._driver, self._driver.stream()
        buffers: list[tuple[Buffer, np.ndarray[Any, Any]]] = []
        held: list[Texture] = []
        arguments: list[KernelArgument] = []
        try:
            for value in values:
                if isinstance(value, HostTexture):
                    held.append(driver.texture(value.texels))
                    arguments.append(np.uint64(held[-1].handle))
                elif isinstance(value, np.ndarray):
                    buffers.append((driver.buffer(value.nbytes), value))
                    driver.upload(buffers[-1][0], value)
                    arguments.append(np.uint64(buffers[-1][0].address))
                else:
                    arguments.append(np.int32(value))
            driver.launch(stream, self._program.kernel(name), grid, block, arguments)
            stream.synchronize()
            for buffer, array in buffers:
                if array.flags.writeable:
                    driver.download(buffer, array)
        finally:
            for texture in held:
                texture.close()
            for buffer, _ in buffers:
                buffer.close()
            stream.close()
