"""Audio in pieces of any length, cut into blocks of an exact one; and samples as integers or floats."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.arrays import F32, check_array

_FULL_SCALE = 32_768.0


@dataclass(frozen=True)
class Blocks:
    """A run of whole blocks.

    Attributes:
        start: index, in the stream, of the first sample.
        samples: float32 [n * block_size], n >= 0.
        padding_samples: how many samples at the end are zeros that were never in the stream.
    """

    start: int
    samples: F32
    padding_samples: int = 0


@dataclass(frozen=True)
class Pending:
    """What a Reblocker holds between two calls.

    Attributes:
        start: index, in the stream, of the first pending sample.
        samples: float32 [T], fewer than one block.
    """

    start: int
    samples: F32


class Reblocker:
    """Cuts pieces of any length into whole blocks; every sample comes out once, in order, at its own index.

    A value like a Steppable's state goes in and out, so one Reblocker serves any number of streams.
    """

    def __init__(self, block_size: int) -> None:
        if block_size < 1:
            raise ValueError(f"{block_size = } must be positive")
        self._block_size = block_size

    @property
    def block_size(self) -> int:
        """Samples of one block."""
        return self._block_size

    def initial_state(self, start: int = 0) -> Pending:
        """Nothing pending, the next sample being number `start` of the stream."""
        return Pending(start, np.zeros(0, np.float32))

    def push(self, samples: F32, state: Pending) -> tuple[Blocks, Pending]:
        """Take in float32 [T], T >= 0; give out the blocks that are now whole, possibly none.

        Raises:
            TypeError: `samples` is not float32.
            ValueError: `samples` has more than one axis.
        """
        check_array("samples", samples, (None,), np.float32)
        held = np.concatenate([state.samples, samples])
        whole = held.size - held.size % self._block_size
        return Blocks(state.start, held[:whole]), Pending(state.start + whole, held[whole:].copy())

    def flush(self, state: Pending) -> tuple[Blocks, Pending]:
        """At the end of a stream: what is pending as one block, filled up with zeros; none if nothing is."""
        count = state.samples.size
        padding = -count % self._block_size
        samples = np.pad(state.samples, (0, padding))
        return Blocks(state.start, samples, padding), self.initial_state(state.start + count)


def float_from_int16(samples: NDArray[np.int16]) -> F32:
    """Samples of any shape as float32 in -1..1 (full scale 32768)."""
    if samples.dtype != np.int16:
        raise TypeError(f"samples must be an array of int16, got {samples.dtype}")
    return samples.astype(np.float32) / np.float32(_FULL_SCALE)


def int16_from_float(samples: F32) -> NDArray[np.int16]:
    """Samples of any shape rounded to the nearest int16; beyond full scale they clip, NaN becomes silence."""
    if samples.dtype != np.float32:
        raise TypeError(f"samples must be an array of float32, got {samples.dtype}")
    scaled = np.rint(np.nan_to_num(samples, nan=0.0) * np.float64(_FULL_SCALE))
    return np.clip(scaled, -32_768, 32_767).astype(np.int16)
