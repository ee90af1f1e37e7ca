"""NVIDIA's TensorRT, whichever of its two flavours is installed: one module object for both.

`tensorrt` is taken if it can be imported, else `tensorrt_rtx`; of what we use, both have the same Python
interface. Neither is imported before it is asked for: the library has 230 MB.
"""

import importlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from engine.backends.network import Precision
from engine.errors import BackendError, BackendUnavailable

NAME = "tensorrt"
RTX = "tensorrt_rtx"
FLAVOURS = (NAME, RTX)
PRECISIONS: tuple[Precision, ...] = ("f16", "bf16", "f32")
COMMAND = "livedub export NAME.actor --backend tensorrt"
HOW_TO_INSTALL = (
    "backend 'tensorrt' needs: pip install 'livedub[gpu-rtx]'"
    " (or 'livedub[gpu]', where NVIDIA's own package index can be reached)"
)
_MOST_MESSAGES = 64


@dataclass(frozen=True, eq=False)
class TensorRt:
    """The library, imported.

    Attributes:
        trt: the module.
        flavour: its name, "tensorrt" or "tensorrt_rtx".
        version: as it says itself.
        logger: the process' only one: the library keeps the first that it is given.
        complaints: what it logged as an error, oldest first.
    """

    trt: ModuleType
    flavour: str
    version: str
    logger: Any
    complaints: deque[str]

    @contextmanager
    def refusing(self, doing: str) -> Iterator[None]:
        """Turn what goes wrong inside into `BackendError` with the library's first message.

        The library returns nothing, or False, and logs why: raise `Refused` then.
        """
        self.complaints.clear()
        try:
            yield
        except Refused as refusal:
            reason = next(iter([*refusal.reasons, *self.complaints]), "it does not say why")
            raise BackendError(
                f"{self.flavour} {self.version} failed while {doing}: {_line(reason)}"
            ) from refusal
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = next(iter(self.complaints), str(error) or type(error).__name__)
            raise BackendError(
                f"{self.flavour} {self.version} failed while {doing}: {_line(reason)}"
            ) from error


class Refused(Exception):
    """The library returned nothing; with its reasons, if it gave any but in its log."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


def load_tensorrt() -> TensorRt:
    """Import the library.

    Raises:
        BackendUnavailable: neither flavour can be imported.
    """
    for flavour in FLAVOURS:
        try:
            trt = importlib.import_module(flavour)
        except (ImportError, OSError):  # its bindings may be there without its library
            continue
        return _opened(trt, flavour)
    raise BackendUnavailable(HOW_TO_INSTALL)


@cache
def _opened(trt: ModuleType, flavour: str) -> TensorRt:
    complaints: deque[str] = deque(maxlen=_MOST_MESSAGES)
    return TensorRt(trt, flavour, str(trt.__version__), _logger(trt, complaints), complaints)


def _logger(trt: ModuleType, complaints: deque[str]) -> Any:
    serious = {trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR}

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps errors; the library calls it from its own threads, too."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            """One line of the library."""
            if severity in serious:
                complaints.append(message)

    return Logger()


def _line(text: str) -> str:
    return " ".join(text.split())
