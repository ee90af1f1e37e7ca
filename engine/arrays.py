"""Array types and the one shape check.

Names of axes in docstrings: `B` batch, `T` samples or time steps, `F` frames, `E` expression coefficients,
`V` vertices, `H W` pixels, `C` channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
Bool = NDArray[np.bool_]
Array = NDArray[Any]


def check_array(name: str, array: Array, shape: tuple[int | None, ...], dtype: type[np.generic]) -> None:
    """Raise unless `array` has this dtype and shape; `None` in the shape stands for any length.

    Raises:
        TypeError: not an array of that dtype.
        ValueError: another shape.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, got {got}")
    if array.ndim != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, array.shape, strict=True)
    ):
        want = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
        raise ValueError(f"{name} must have shape {want}, got {list(array.shape)}")
