"""The streaming contract: every causal part of livedub is a `Steppable`.

1. State is a value. `step` takes one and returns the next; neither the state nor the input that came in is
   written.
2. Every array of a state has the batch as its leading axis, and keeps its name, shape and dtype through a
   step. A row of the batch is a stranger to the others: rows can be gathered, reset and moved elsewhere.
3. `offline(x)` is what any sequence of steps over the same blocks gives, concatenated.
4. Input comes in whole blocks. Arbitrary lengths are cut by `engine.audio.blocks.Reblocker`.

`tests/support/contract.py` checks these rules, and every Steppable is put through it.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from engine.arrays import Array

State = dict[str, Array]
"""Named arrays, each with the batch as leading axis."""


@dataclass(frozen=True)
class StepSpec:
    """How a Steppable consumes and produces time steps.

    Attributes:
        block_size: time steps of input in one block; every input is a whole number of blocks.
        output_ratio: time steps out for each one in; a block gives a whole number of them.
        latency: algorithmic delay, in input time steps: what comes out when input step `t` has gone in
            describes the input at `t - latency`. Waiting for the block to fill is not counted.
        receptive_field: input time steps before the end of its block that an output can depend on, at most;
            None when the memory is unbounded (a recurrent part).
    """

    block_size: int
    output_ratio: Fraction
    latency: int
    receptive_field: int | None

    def __post_init__(self) -> None:
        """Refuse what cannot be stepped."""
        if self.block_size < 1 or self.output_ratio <= 0:
            raise ValueError(f"{self.block_size = } and {self.output_ratio = } must be positive")
        if (self.block_size * self.output_ratio).denominator != 1:
            raise ValueError(f"a block of {self.block_size} at {self.output_ratio = } gives no whole output")
        if self.latency < 0 or (self.receptive_field is not None and self.receptive_field < 1):
            raise ValueError(f"{self.latency = } must be >= 0 and {self.receptive_field = } >= 1 or None")

    @property
    def output_block(self) -> int:
        """Time steps out of one block."""
        return int(self.block_size * self.output_ratio)

    def blocks_in(self, length: int) -> int:
        """Number of blocks in `length` time steps.

        Raises:
            ValueError: not a whole number of them.
        """
        blocks, rest = divmod(length, self.block_size)
        if rest:
            raise ValueError(f"{length} time steps are not a whole number of blocks of {self.block_size}")
        return blocks


class Steppable(Protocol):
    """A causal part with explicit state; see the module for the rules it keeps."""

    @property
    def spec(self) -> StepSpec:
        """Block size, ratio, latency, receptive field."""
        ...

    def initial_state(self, batch: int) -> State:
        """State before the first block of `batch` new streams."""
        ...

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        """Advance by the whole blocks in `x`.

        Args:
            x: [B, n * block_size, ...], n >= 1.
            state: from `initial_state(B)` or the previous step; not written.

        Returns:
            y [B, n * output_block, ...] and the next state; both are the caller's.
        """
        ...

    def offline(self, x: Array) -> Array:
        """Output for a whole input, from time 0: [B, n * block_size, ...] -> [B, n * output_block, ...]."""
        ...


def run_steps(model: Steppable, x: Array, blocks_per_step: int) -> Array:
    """Output of stepping through `x` from a fresh state, `blocks_per_step` at a time, the last maybe shorter.

    A model whose step is already the fastest way through a recording can use this as its `offline`.

    Args:
        model: what to step.
        x: [B, n * block_size, ...], n >= 1.
        blocks_per_step: blocks given to each step, at least 1.

    Raises:
        ValueError: `x` is empty or not a whole number of blocks, or `blocks_per_step` is below 1.
    """
    if model.spec.blocks_in(x.shape[1]) < 1 or blocks_per_step < 1:
        raise ValueError(f"nothing to step: {x.shape[1]} time steps, {blocks_per_step = }")
    stride = blocks_per_step * model.spec.block_size
    state = model.initial_state(x.shape[0])
    parts: list[Array] = []
    for start in range(0, x.shape[1], stride):
        y, state = model.step(x[:, start : start + stride], state)
        parts.append(y)
    return np.concatenate(parts, axis=1)
