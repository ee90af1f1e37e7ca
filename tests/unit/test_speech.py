from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import F32, Array
from engine.expression.audio import LOOK_AHEADS_MS, AudioToExpression
from engine.expression.speech import (
    EARLY_MS,
    QUICK_RAMP_STEPS,
    RAMP_STEPS,
    SNAP_MS,
    STEP_SAMPLES,
    SpeechToExpression,
)
from engine.steppable import State
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


def knows_until(speech: SpeechToExpression, time_s: float, late_ms: float) -> bool:
    return speech.knows(time_s + late_ms / 1000) and not speech.knows(time_s + (late_ms + 0.01) / 1000)


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS)
def test_what_is_known_ends_with_the_last_20_ms_of_sound(look_ahead_ms: int) -> None:
    speech = pushed([silence(0.039)], look_ahead_ms)
    assert not speech.knows(-99.0)
    with pytest.raises(ValueError, match="no sound was pushed yet"):
        speech.at(0.0)
    speech.push(silence(0.001))
    assert knows_until(speech, (40 - look_ahead_ms) / 1000, SNAP_MS)
    speech.push(silence(0.96))
    for _ in range(2):
        assert knows_until(speech, (1000 - look_ahead_ms) / 1000, SNAP_MS)
        speech.forget_before(0.5)
    speech.push(silence(0.02))
    assert knows_until(speech, (1020 - look_ahead_ms) / 1000, EARLY_MS if look_ahead_ms else 0.0)


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


def test_late_between_steps_is_a_mixture_and_beyond_the_ends_it_holds() -> None:
    speech = pushed([voice(0.8)], 120)
    a, b, middle = (speech.at(t).expression for t in (0.2, 0.24, 0.23))
    np.testing.assert_allclose(middle, 0.25 * a + 0.75 * b, atol=1e-6)
    np.testing.assert_array_equal(speech.at(99.0).expression, speech.at(0.8 - 0.12).expression)
    np.testing.assert_array_equal(speech.at(-99.0).expression, speech.at(-0.08).expression)


@pytest.mark.parametrize("look_ahead_ms", [60, 120, 240])
def test_half_of_a_step_says_nearly_what_all_of_it_will(look_ahead_ms: int) -> None:
    speech = pushed([voice(2.0)], look_ahead_ms)
    off_ms = -look_ahead_ms % 40
    steps = track(speech, [(40 * k + off_ms) / 1000 for k in range(10, 41)])
    early = track(speech, [(40 * k + off_ms + 20) / 1000 for k in range(10, 40)])
    late = np.abs(early - (steps[:-1] + steps[1:]) / 2).mean()
    assert 0 < late < 0.5 * np.abs(steps[1:] - steps[:-1]).mean() / 2


def test_half_of_a_step_does_not_hear_the_other_half() -> None:
    first = voice(0.66)
    one, other = (pushed([first, rest], 120) for rest in (voice(0.1), silence(0.1)))
    early_s, late_s = 0.52 + 0.027, 0.52 + 0.029
    np.testing.assert_array_equal(one.at(early_s).expression, other.at(early_s).expression)
    assert not np.array_equal(one.at(late_s).expression, other.at(late_s).expression)


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
    assert knows_until(speech, 0.44 - 0.12, SNAP_MS)


class Counting(AudioToExpression):
    """Counts the runs of the network."""

    runs = 0

    def step(self, x: Array, state: State) -> tuple[F32, State]:
        self.runs += 1
        return super().step(x, state)


def test_frames_around_the_steps_cost_nothing_and_do_not_jump() -> None:
    network = Counting(120)
    speech = SpeechToExpression(network)
    speech.push(voice(2.0))
    shaken = np.random.default_rng(0).uniform(-0.005, 0.005, 40)
    steady = track(speech, [k / 25 for k in range(40)])
    got = track(speech, [k / 25 + late_s for k, late_s in enumerate(shaken)])
    assert network.runs == 50
    furthest = np.abs(np.diff(steady, axis=0)).max() * 5 / 40
    assert np.abs(got - steady).max() <= 1.01 * furthest


def test_a_frame_between_the_steps_costs_one_run_however_often_it_is_asked_for() -> None:
    network = Counting(120)
    speech = SpeechToExpression(network)
    speech.push(voice(0.8))
    first = speech.at(0.42)
    assert network.runs == 21
    np.testing.assert_array_equal(speech.at(0.42).expression, first.expression)
    speech.at(0.41)
    assert network.runs == 21


LONG = voice(2.4)
RATES_HZ = [24_000 / 1001, 24, 25, 30_000 / 1001, 30, 50, 60]


@cache
def recorded(look_ahead_ms: int) -> SpeechToExpression:
    return pushed([LONG], look_ahead_ms)


@settings(deadline=None, max_examples=20)
@given(
    look_ahead_ms=st.sampled_from(LOOK_AHEADS_MS),
    rates_hz=st.lists(st.sampled_from(RATES_HZ), min_size=1, max_size=3),
    late_ms=st.floats(0, 40),
    piece_ms=st.sampled_from([1, 5, 20]),
)
def test_a_frame_waits_for_20_ms_of_sound_at_most_and_gets_what_a_recording_gets(
    look_ahead_ms: int, rates_hz: list[float], late_ms: float, piece_ms: int
) -> None:
    speech, piece, position = pushed([], look_ahead_ms), piece_ms * AUDIO_RATE_HZ // 1000, 0
    time_s = 0.04 + late_ms / 1000
    for index in range(45):
        needed_s = time_s + look_ahead_ms / 1000
        while not speech.knows(time_s):
            speech.push(LONG[position : position + piece])
            position += piece
            if position >= STEP_SAMPLES:
                assert position / AUDIO_RATE_HZ < needed_s + (0.02 if look_ahead_ms == 0 else 0.012) + 1e-4
        assert position / AUDIO_RATE_HZ >= needed_s - 0.0081
        got, want = speech.at(time_s), recorded(look_ahead_ms).at(time_s)
        np.testing.assert_array_equal(got.expression, want.expression)
        assert got.speaking == want.speaking
        speech.forget_before(time_s)
        time_s += 1 / rates_hz[index * len(rates_hz) // 45]


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS[1:])
def test_a_webcam_at_30_waits_for_less_than_7_ms_of_sound(look_ahead_ms: int) -> None:
    speech = pushed([], look_ahead_ms)
    waits_ms: list[float] = []
    for quantum in range(1, 60):
        speech.push(LONG[(quantum - 1) * 320 : quantum * 320])
        while quantum > 1 and speech.knows(len(waits_ms) / 30):
            waits_ms.append(20 * quantum - look_ahead_ms - len(waits_ms) * 1000 / 30)
    assert len(waits_ms) >= 28
    assert max(waits_ms) < 7
