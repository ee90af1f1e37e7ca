import numpy as np
import pytest

from engine.arrays import F32
from engine.media.opus import PACKET_SAMPLES, through_opus
from tests.support.voice import voice


def level(samples: F32) -> float:
    return float(np.sqrt(np.mean(samples**2)))


@pytest.mark.parametrize("length", [1, 319, 320, 16_000, 24_077])
def test_sound_keeps_its_length(length: int) -> None:
    said = voice(2.0)[:length]
    back = through_opus(said, 24_000)
    assert back.shape == said.shape
    assert back.dtype == np.float32


def test_sound_keeps_its_time_and_loses_with_the_rate() -> None:
    said = voice(2.0)
    near, far = through_opus(said, 64_000), through_opus(said, 8_000)
    middle = slice(4000, 28_000)
    agree = [float(np.dot(said[middle], np.roll(near, shift)[middle])) for shift in range(-40, 41)]
    assert abs(int(np.argmax(agree)) - 40) <= 2
    errors = [level(one[middle] - said[middle]) for one in (near, far)]
    assert errors[0] < errors[1] < level(said[middle])


def test_lost_packets_are_concealed_at_first_and_then_fade() -> None:
    said = voice(3.0)
    whole, holed = through_opus(said, 24_000), through_opus(said, 24_000, lost=range(70, 85))
    parts = [level(holed[k * PACKET_SAMPLES : (k + 1) * PACKET_SAMPLES]) for k in range(150)]
    np.testing.assert_array_equal(holed[: 68 * PACKET_SAMPLES], whole[: 68 * PACKET_SAMPLES])
    assert parts[71] > 0.3 * np.mean(parts[50:69])
    assert parts[83] < 0.3 * np.mean(parts[50:69])
    assert level(holed[100 * PACKET_SAMPLES :]) == pytest.approx(
        level(whole[100 * PACKET_SAMPLES :]), rel=0.1
    )


def test_silence_is_silent_and_nothing_is_nothing() -> None:
    assert level(through_opus(np.zeros(8000, np.float32), 16_000)) < 1e-3
    assert len(through_opus(np.zeros(0, np.float32), 16_000)) == 0


def test_other_rates_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="bit_rate_bps"):
        through_opus(voice(0.1), 1_000)
    with pytest.raises(ValueError, match="samples"):
        through_opus(voice(0.1)[None], 24_000)
