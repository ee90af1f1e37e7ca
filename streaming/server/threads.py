"""Sums of the event loop on one thread.

The loop's sums are small: a filter over 100 ms of sound. Divided over two threads on two busy cores they wait
for each other, some 100 ms at a time, where one thread needs under 1 ms (measured: 428 x 640 by 7).
"""

import ctypes
import logging
from pathlib import Path

import numpy as np

_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads")
_LOG = logging.getLogger(__name__)


def one_blas_thread() -> bool:
    """Let numpy's OpenBLAS use one thread in this process from now on, not in its children.

    Returns:
        Whether it does; where numpy brings another library, the environment has to say so before the start.
    """
    site = Path(np.__file__).resolve().parents[1]
    for path in (*sorted(site.glob("numpy.libs/*openblas*")), *sorted(site.glob("numpy/.dylibs/*openblas*"))):
        library = ctypes.CDLL(str(path))
        for name in _SETTERS:
            if hasattr(library, name):
                getattr(library, name)(1)
                return True
    _LOG.info("numpy has no OpenBLAS of its own here: OMP_NUM_THREADS=1 may be needed")
    return False
