import numpy as np
import pytest

pytest.importorskip("torch")

from engine.expression.audio import LOOK_AHEADS_MS, MEL_BANDS, SILENCE
from export import audio_views
from export.audio_data import WINDOW_STEPS, SpokenClip
from export.audio_views import (
    SETTLE_STEPS,
    Closures,
    Heard,
    ViewSampler,
    Window,
    at_speed,
    at_times,
    clean_view,
    silent_views,
    views_of,
)
from export.speech_front import FAST_FEATURES, SLOW_FEATURES
from tests.support.toy_audio_net import random_front

FRONT, EXPRESSIONS, START_S, LENGTH_S = random_front(), 16, 2.0, 6.0


def clip(identity: str = "a", length_s: float = LENGTH_S) -> SpokenClip:
    """Silent with lips at rest up to `START_S`, then loud with lips open."""
    time_s = np.arange(0, length_s, 0.04)
    expression = np.repeat((time_s > START_S).astype(np.float32)[:, None], EXPRESSIONS, 1)
    mels = np.full((int(length_s * 100), MEL_BANDS), SILENCE, np.float32)
    mels[int(START_S * 100) :] = 5
    return SpokenClip(identity, "train", mels, time_s, expression)


def heard(one: SpokenClip, shut: Closures | None = None) -> Heard:
    return Heard(one, [clean_view(one.mels, FRONT)], shut)


def drawn(sampler: ViewSampler, count: int = 40) -> list[Window]:
    return [sampler.draw() for _ in range(count)]


def test_a_view_has_features_for_every_step() -> None:
    for view in views_of(clip(), 2, FRONT, np.random.default_rng(0), [clip().mels]):
        assert view.mels.shape == (4 * view.steps, MEL_BANDS)
        assert view.fast.shape == (2 * view.steps, FAST_FEATURES)
        assert view.slow.shape == (view.steps, SLOW_FEATURES)
        assert view.lead_s > 0
        assert view.media_s(np.array([view.lead_s]))[0] == 0


def test_views_begin_as_a_session_does() -> None:
    view = clean_view(clip().mels, FRONT)
    assert abs(float(view.fast[0].astype(np.float32).mean()) - float(view.fast[5].mean())) < 1e-2


def test_faster_speech_is_shorter() -> None:
    ramp = np.arange(100, dtype=np.float32)[:, None]
    np.testing.assert_allclose(at_speed(ramp, 2.0)[:, 0], ramp[::2, 0])


def test_expressions_are_between_pictures_and_known_within_the_clip() -> None:
    ramp = SpokenClip("a", "train", clip().mels, np.array([0.0, 0.1, 0.5]), np.array([[0.0], [1.0], [5.0]]))
    values, known = at_times(ramp, np.array([-0.1, 0.05, 0.3, 0.6]))
    np.testing.assert_allclose(values[1:3, 0], [0.5, 3.0])
    assert known.tolist() == [0, 1, 1, 0]


def test_windows_have_an_answer_for_each_look_ahead() -> None:
    for window in drawn(ViewSampler([heard(clip())], [], [], 0)):
        assert window.heard.shape == (3 + 4 * WINDOW_STEPS, MEL_BANDS)
        assert window.fast.shape == (1 + 2 * WINDOW_STEPS, FAST_FEATURES)
        assert window.slow.shape == (WINDOW_STEPS, SLOW_FEATURES)
        assert window.expression.shape == (len(LOOK_AHEADS_MS), WINDOW_STEPS, EXPRESSIONS)
        assert not window.known[:, :SETTLE_STEPS].any()
        assert not window.told.any()


def test_answers_follow_the_sound_by_their_look_ahead() -> None:
    late: list[list[float]] = [[] for _ in LOOK_AHEADS_MS]
    for window in drawn(ViewSampler([heard(clip())], [], [], 0)):
        loud = window.heard[3:].reshape(WINDOW_STEPS, -1).mean(1)
        for index, answer in enumerate(window.expression[..., 0]):
            if loud[0] < -10 and loud[-1] > 0:
                late[index].append(float(np.argmax(answer > 0.5) - np.argmax(loud > -10)))
    for of_one, look_ahead_ms in zip(late, LOOK_AHEADS_MS, strict=True):
        assert len(of_one) > 5
        assert np.median(of_one) == pytest.approx(look_ahead_ms / 40, abs=1)


def test_closures_are_told_where_they_are_known() -> None:
    shut = Closures(np.array([0.0, 2.99, 3.0, LENGTH_S]), np.array([0.0, 0.0, 1.0, 1.0], np.float32))
    for window in drawn(ViewSampler([heard(clip(), shut)], [], [], 0)):
        np.testing.assert_array_equal(window.told, window.known)
        assert window.shut.min() >= 0
        assert window.shut.max() <= 1


def test_a_share_is_silence_and_a_share_is_sound_of_nobody() -> None:
    silence = silent_views(FRONT, np.random.default_rng(0), [clip().mels])[:3]
    sounds = [heard(SpokenClip("", "sound", clip().mels, clip().time_s, clip().expression))]
    windows = drawn(ViewSampler([heard(clip())], sounds, silence, 0, sound_share=0.5), 200)
    nobody = [window for window in windows if window.speaker is None]
    quiet = [window for window in nobody if not window.expression.any() and window.known.all()]
    assert 4 <= len(quiet) <= 40
    assert 60 <= len(nobody) - len(quiet) <= 140


def test_people_weigh_by_the_square_root_of_what_they_say() -> None:
    many = [*[heard(clip("talker"))] * 4, heard(clip("other"))]
    speakers = [window.speaker for window in drawn(ViewSampler(many, [], [], 0), 400)]
    assert speakers.count(1) / speakers.count(0) == pytest.approx(2, abs=0.5)


def test_short_clips_are_known_as_far_as_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_views, "START_SHARE", 1.0)
    for window in drawn(ViewSampler([heard(clip(length_s=1.2))], [], [], 0), 10):
        assert window.known[0, 27] == 1
        assert not window.known[:, 36:].any()
