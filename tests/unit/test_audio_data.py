import numpy as np
import pytest

from engine.expression.audio import MEL_BANDS
from engine.face.model import load_face_model
from export.audio_data import SpokenClip, read_spoken, step_times_s, targets
from tests.support.toy_set import toy_packed


def test_steps_speak_of_their_end_less_the_look_ahead() -> None:
    np.testing.assert_allclose(step_times_s(1.0, 3, 0), [1.04, 1.08, 1.12])
    np.testing.assert_allclose(step_times_s(1.0, 3, 240), [0.80, 0.84, 0.88])


def test_targets_are_between_pictures_and_known_within_the_clip() -> None:
    ramp = SpokenClip(
        "a",
        "train",
        np.zeros((100, MEL_BANDS), np.float32),
        np.array([0.0, 0.1, 0.5]),
        np.array([[0.0], [1.0], [5.0]], np.float32),
    )
    values, known = targets(ramp, 0.0, 14, 0)
    np.testing.assert_allclose(values[:12, 0], np.arange(1, 13) * 0.4, atol=1e-6)
    np.testing.assert_array_equal(known, [*[1] * 12, 0, 0])
    assert targets(ramp, 0.0, 3, 120)[1].tolist() == [0, 0, 1]


def test_clips_are_read_with_the_times_of_their_sound() -> None:
    model = load_face_model()
    clip = read_spoken(toy_packed(frames=60, audio_lag_ms=80.0), model)
    assert clip is not None
    assert clip.expression.shape == (59, model.expressions)
    assert clip.mels.shape == (240, MEL_BANDS)
    assert clip.time_s[0] == pytest.approx(-0.08)
    assert clip.heard == ()


def test_clips_without_enough_face_or_sound_are_left_out() -> None:
    model = load_face_model()
    assert read_spoken(toy_packed(frames=20), model) is None
    assert read_spoken(toy_packed(frames=60, sound=False), model) is None
    assert read_spoken(toy_packed(frames=60, sync="weak/unverified"), model) is None
