from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import F32
from engine.expression.audio import LOOK_AHEADS_MS, AudioToExpression
from engine.expression.speech import QUICK_RAMP_STEPS, RAMP_STEPS, STEP_SAMPLES, SpeechToExpression
from engine.timing import AUDIO_RATE_HZ
from tests.support.voice import silence, voice

model = cache(AudioToExpression)  # no state in it


def pushed(pieces: Sequence[F32], look_ahead_ms: int = 120, *, rests: bool = True) -> SpeechToExpression:
    speech = SpeechToExpression(model(look_ahead_ms), rests=rests)
    for piece in pieces:
        speech.push(piece)
    return speech


def track(speech: SpeechToExpression, times_s: Sequence[float]) -> F32:
    return np.stack([speech.at(time_s).expression for time_s in times_s])


TIMES_S = [i / 25 for i in range(15)]
SOUND = voice(0.72)


@pytest.fixture(scope="module")
def whole() -> F32:
    return track(pushed([SOUND]), TIMES_S)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, len(SOUND)), max_size=12))
def test_pieces_of_any_size_give_the_same(whole: F32, cuts: list[int]) -> None:
    pieces = np.split(SOUND, sorted(cuts))
    np.testing.assert_array_equal(track(pushed(pieces), TIMES_S), whole)


def test_a_voice_moves_the_lips(whole: F32) -> None:
    assert np.abs(whole).max() > 1e-2
    assert pushed([SOUND]).at(0.3).speaking == 1


def knows_until(speech: SpeechToExpression, time_s: float) -> bool:
    return speech.knows(time_s) and not speech.knows(time_s + 0.009)


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS)
def test_what_is_known_ends_with_the_last_step_of_sound(look_ahead_ms: int) -> None:
    speech = pushed([silence(0.039)], look_ahead_ms)
    assert not speech.knows(-99.0)
    with pytest.raises(ValueError, match="no sound was pushed yet"):
        speech.at(0.0)
    speech.push(silence(0.001))
    assert knows_until(speech, (40 - look_ahead_ms) / 1000)
    speech.push(silence(0.04 * 24 + 0.02))
    assert knows_until(speech, (1000 - look_ahead_ms) / 1000)
    speech.forget_before(0.5)
    assert knows_until(speech, (1000 - look_ahead_ms) / 1000)


@pytest.mark.parametrize("rests", [True, False])
def test_silence_rests_the_lips(rests: bool) -> None:
    speech = pushed([silence(1.0)], rests=rests)
    got = speech.at(0.5)
    assert got.speaking == (0 if rests else 1)
    if rests:
        assert not got.expression.any()


@pytest.mark.parametrize(
    ("look_ahead_ms", "rise_steps"), [(0, QUICK_RAMP_STEPS), (60, 3), (120, RAMP_STEPS), (240, RAMP_STEPS)]
)
def test_lips_come_to_rest_and_leave_it_gradually(look_ahead_ms: int, rise_steps: int) -> None:
    speech = pushed([silence(0.6), voice(1.0), silence(1.2), silence(0.24)], look_ahead_ms)
    levels = np.array([speech.at(i * 0.04 - look_ahead_ms % 40 / 1000).speaking for i in range(1, 70)])
    assert levels[:8].max() == 0, "silence before"
    assert levels[25:38].min() == 1, "speech"
    assert levels[-5:].max() == 0, "silence after"
    assert np.diff(levels).max() == pytest.approx(1 / rise_steps)
    assert np.diff(levels).min() == pytest.approx(-1 / RAMP_STEPS)


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS[2:])
def test_lips_leave_rest_before_the_first_sound(look_ahead_ms: int) -> None:
    speech = pushed([silence(0.8), voice(0.6)], look_ahead_ms)
    assert speech.at(0.6 if look_ahead_ms == 240 else 0.76).speaking > 0
    assert speech.at(0.5).speaking == 0


def test_between_steps_is_a_mixture_and_beyond_the_ends_it_holds() -> None:
    speech = pushed([voice(0.8)], 120)
    a, b, middle = (speech.at(t).expression for t in (0.2, 0.24, 0.23))
    np.testing.assert_allclose(middle, 0.25 * a + 0.75 * b, atol=1e-6)
    np.testing.assert_array_equal(speech.at(99.0).expression, speech.at(0.8 - 0.12).expression)
    np.testing.assert_array_equal(speech.at(-99.0).expression, speech.at(-0.08).expression)


def test_forgetting_keeps_what_later_frames_need() -> None:
    speech, sound = pushed([], 60), voice(4.0)
    kept = track(pushed([sound], 60), [i / 30 for i in range(115)])
    got = []
    position = 0
    for index in range(115):
        while not speech.knows(index / 30):
            speech.push(sound[position : position + 1000])
            position += 1000
        speech.forget_before(index / 30)
        got.append(speech.at(index / 30).expression)
        assert speech.held <= 8
    np.testing.assert_array_equal(np.stack(got), kept)


def test_forgetting_everything_keeps_the_last() -> None:
    speech = pushed([voice(0.4)])
    last = speech.at(10.0).expression
    speech.forget_before(1000.0)
    np.testing.assert_array_equal(speech.at(10.0).expression, last)
    speech.push(silence(STEP_SAMPLES / AUDIO_RATE_HZ))
    assert knows_until(speech, 0.44 - 0.12)


def test_a_frame_near_a_step_does_not_wait_for_the_next_one() -> None:
    speech = SpeechToExpression(AudioToExpression(120))
    assert not speech.knows(-1.0)
    speech.push(SOUND)
    last_s = 0.72 - 0.12
    assert speech.knows(last_s)
    assert speech.knows(last_s + 0.007)
    assert not speech.knows(last_s + 0.009)
    steps = [speech.at(last_s + late_s).expression for late_s in (0.0, 0.007, -0.007, -0.009)]
    assert np.array_equal(steps[0], steps[1])
    assert np.array_equal(steps[0], steps[2])
    assert not np.array_equal(steps[0], steps[3])
