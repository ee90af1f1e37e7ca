from typing import Any

import numpy as np
import pytest

from engine.audio.blocks import Reblocker, float_from_int16, int16_from_float


def test_pieces_become_blocks_at_their_own_index() -> None:
    reblocker = Reblocker(4)
    stream = np.arange(11, dtype=np.float32)
    state = reblocker.initial_state(start=100)
    first, state = reblocker.push(stream[:3], state)
    second, state = reblocker.push(stream[3:10], state)
    third, state = reblocker.push(stream[10:], state)
    assert (first.start, first.samples.size) == (100, 0)
    assert second.start == 100
    np.testing.assert_array_equal(second.samples, stream[:8])
    assert (third.start, third.samples.size) == (108, 0)
    last, state = reblocker.flush(state)
    assert (last.start, last.padding_samples) == (108, 1)
    np.testing.assert_array_equal(last.samples, [8, 9, 10, 0])
    assert (state.start, state.samples.size) == (111, 0)


def test_flushing_nothing_gives_nothing() -> None:
    reblocker = Reblocker(4)
    blocks, state = reblocker.flush(reblocker.initial_state(7))
    assert (blocks.start, blocks.samples.size, blocks.padding_samples) == (7, 0, 0)
    assert state.start == 7


def test_what_goes_in_is_not_kept() -> None:
    reblocker, piece = Reblocker(4), np.ones(6, np.float32)
    before = reblocker.initial_state()
    blocks, state = reblocker.push(piece, before)
    piece[:] = 9
    assert np.all(blocks.samples == 1)
    assert np.all(state.samples == 1)
    assert before.samples.size == 0


@pytest.mark.parametrize(
    ("samples", "error"), [(np.zeros(3), TypeError), (np.zeros((1, 3), np.float32), ValueError)]
)
def test_wrong_pieces_are_refused(samples: Any, error: type[Exception]) -> None:
    reblocker = Reblocker(4)
    with pytest.raises(error):
        reblocker.push(samples, reblocker.initial_state())


def test_a_block_has_a_size() -> None:
    assert Reblocker(160).block_size == 160
    with pytest.raises(ValueError, match="block_size = 0"):
        Reblocker(0)


def test_every_int16_survives_the_way_through_float() -> None:
    every = np.arange(-32_768, 32_768).astype(np.int16).reshape(2, -1)
    floats = float_from_int16(every)
    assert floats.dtype == np.float32
    assert floats.min() == -1
    assert floats.max() < 1
    np.testing.assert_array_equal(int16_from_float(floats), every)


def test_beyond_full_scale_clips_and_nan_is_silence() -> None:
    given = np.array([1.0, 1.5, -1.0, -7.0, np.inf, -np.inf, np.nan, 1e-9], np.float32)
    want = [32_767, 32_767, -32_768, -32_768, 32_767, -32_768, 0, 0]
    np.testing.assert_array_equal(int16_from_float(given), want)


def test_conversions_refuse_another_dtype() -> None:
    with pytest.raises(TypeError, match="int16, got int32"):
        float_from_int16(np.zeros(2, np.int32))
    with pytest.raises(TypeError, match="float32, got float64"):
        int16_from_float(np.zeros(2))  # type: ignore[arg-type]
