"""However a stream is cut, the same blocks come out: nothing lost, nothing twice, starts exact."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import F32
from engine.audio.blocks import Reblocker


@given(
    block_size=st.integers(1, 50),
    start=st.integers(0, 2**62),
    lengths=st.lists(st.integers(0, 120), max_size=30),
)
@settings(deadline=None, max_examples=50)
def test_nothing_lost_and_starts_exact(block_size: int, start: int, lengths: list[int]) -> None:
    total = sum(lengths)
    stream = np.arange(total, dtype=np.float32)
    reblocker = Reblocker(block_size)
    state = reblocker.initial_state(start)
    parts: list[F32] = []
    for piece in np.split(stream, np.cumsum(lengths)):
        blocks, state = reblocker.push(piece, state)
        assert blocks.start == start + sum(part.size for part in parts)
        assert blocks.samples.size % block_size == 0
        assert state.samples.size < block_size
        assert state.start == blocks.start + blocks.samples.size
        parts.append(blocks.samples)
    last, state = reblocker.flush(state)
    parts.append(last.samples)
    out = np.concatenate(parts)
    assert out.size % block_size == 0
    assert out.size == total + last.padding_samples
    assert last.padding_samples < block_size
    np.testing.assert_array_equal(out[:total], stream)
    assert not out[total:].any()
    assert state.start == start + total
