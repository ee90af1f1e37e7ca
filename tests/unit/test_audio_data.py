import numpy as np
import pytest

from engine.expression.audio import LOOK_AHEADS_MS, MEL_BANDS, SILENCE
from export.audio_data import (
    HEARD_SHARE,
    SETTLE_STEPS,
    WINDOW_STEPS,
    Sample,
    Sampler,
    SpokenClip,
    step_times_s,
    targets,
)

START_S, LENGTH_S, EXPRESSIONS = 4.0, 8.0, 16


def clip(identity: str = "a", length_s: float = LENGTH_S) -> SpokenClip:
    """Silent with lips at rest up to `START_S`, then loud with lips open."""
    time_s = np.arange(0, length_s, 0.04)
    expression = np.repeat((time_s > START_S).astype(np.float32)[:, None], EXPRESSIONS, 1)
    mels = np.full((int(length_s * 100), MEL_BANDS), SILENCE, np.float32)
    mels[int(START_S * 100) :] = 5
    return SpokenClip(identity, "train", mels, time_s, expression)


def drawn(count: int, *clips: SpokenClip) -> list[Sample]:
    sampler = Sampler(clips or [clip()], 0)
    return [sampler.draw() for _ in range(count)]


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


def test_samples_have_an_answer_for_each_look_ahead() -> None:
    for sample in drawn(20):
        assert sample.mels.shape == (4 * WINDOW_STEPS, MEL_BANDS)
        assert sample.expression.shape == (len(LOOK_AHEADS_MS), WINDOW_STEPS, EXPRESSIONS)
        assert sample.known.shape == (len(LOOK_AHEADS_MS), WINDOW_STEPS)
        assert {sample.mels.dtype, sample.expression.dtype, sample.known.dtype} == {np.dtype(np.float32)}
        assert set(np.unique(sample.known)) <= {0, 1}


def test_answers_follow_the_sound_at_any_speed_by_their_look_ahead() -> None:
    late: list[list[float]] = [[] for _ in LOOK_AHEADS_MS]
    for sample in drawn(150):
        loud = sample.mels.reshape(WINDOW_STEPS, -1).mean(1)
        onset = int(np.argmax(np.diff(loud)))  # or a drop-out's end, in some
        for index, answer in enumerate(sample.expression[..., 0]):
            if answer[SETTLE_STEPS] == 0 and answer[-SETTLE_STEPS] == 1:
                late[index].append(float(np.argmax(np.diff(answer)) - onset))
    assert min(len(of_one) for of_one in late) > 10
    for of_one, look_ahead_ms in zip(late, LOOK_AHEADS_MS, strict=True):
        assert np.median(of_one) == pytest.approx(look_ahead_ms / 40, abs=1)


def test_no_answer_is_asked_for_before_the_front_end_has_settled() -> None:
    for sample in drawn(20):
        if sample.speaker is not None:
            assert not sample.known[:, :SETTLE_STEPS].any()


def test_some_samples_are_no_speech_with_lips_at_rest() -> None:
    quiet = [sample for sample in drawn(150) if sample.speaker is None]
    assert 3 <= len(quiet) <= 30
    for sample in quiet:
        assert not sample.expression.any()
        assert sample.known.all()


def test_people_weigh_by_the_square_root_of_what_they_say() -> None:
    samples = drawn(400, *[clip("talker")] * 4, clip("other"))
    speakers = [sample.speaker for sample in samples if sample.speaker is not None]
    assert speakers.count(1) / speakers.count(0) == pytest.approx(2, rel=0.35)


def test_clips_shorter_than_a_window_are_followed_by_silence() -> None:
    short = SpokenClip(
        "a",
        "train",
        np.full((120, MEL_BANDS), 3, np.float32),
        np.arange(30, dtype=np.float64) * 0.04,
        np.ones((30, EXPRESSIONS), np.float32),
    )
    for sample in drawn(20, short):
        if sample.speaker is not None:
            assert not sample.known[:, -8:].any()


def test_most_samples_are_of_sound_heard_otherwise() -> None:
    loud = np.full((800, MEL_BANDS), 5, np.float32)
    time_s = np.arange(0, LENGTH_S, 0.04)
    expression = np.zeros((len(time_s), EXPRESSIONS), np.float32)
    other = SpokenClip("a", "train", np.full_like(loud, SILENCE), time_s, expression, heard=(loud, loud))
    heard = [np.median(one.mels) > -2 for one in drawn(200, other) if one.speaker is not None]
    assert np.mean(heard) == pytest.approx(HEARD_SHARE, abs=0.12)
