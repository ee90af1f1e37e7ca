import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engine.expression.audio import MEL_BANDS
from engine.face.model import load_face_model
from export import teacher
from export.audio_data import SpokenClip
from export.audio_views import Closures, Heard, clean_view
from export.listener import Listener
from export.teacher import TeacherNet, Teachers, lesson_of, middles_s, train_teacher
from tests.support.toy_audio_net import random_front
from tests.support.toy_listener import tiny_whisper

MODEL, FRONT = load_face_model(), random_front()


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(
        {
            name.removeprefix("encoder/"): torch.from_numpy(value.astype(np.float32))
            for name, value in tiny_whisper().items()
            if value.ndim
        }
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "STEPS", 12)
    monkeypatch.setattr(teacher, "BATCH", 4)
    monkeypatch.setattr(teacher, "WARM_UP_STEPS", 1)


def clip(identity: str = "a", length_s: float = 3.0) -> SpokenClip:
    """Loud where the jaw is open."""
    time_s = np.arange(0, length_s, 0.04)
    opening = np.sin(time_s * 2 * np.pi * 2) > 0
    mels = np.repeat(-9 + 8 * np.repeat(opening, 4)[:, None], MEL_BANDS, 1).astype(np.float32)
    expression = (opening[:, None] * MODEL.jaw_open).astype(np.float32)
    return SpokenClip(identity, "train", mels, time_s, expression)


def heard(one: SpokenClip, shut: Closures | None = None) -> Heard:
    return Heard(one, [clean_view(one.mels, FRONT)], shut)


def test_a_lesson_has_what_a_recogniser_hears_of_each_view(listener: Listener) -> None:
    lesson = lesson_of(heard(clip()), listener)
    assert [features.shape for features in lesson.features] == [(150, 3, 384)]


def test_teachers_learn_the_motion_and_the_closures(small: None, listener: Listener) -> None:
    shut = Closures(np.array([0.0, 3.0]), np.ones(2, np.float32))
    footage, sounds = [lesson_of(heard(clip()), listener)], [lesson_of(heard(clip(), shut), listener)]
    *before, net = train_teacher(footage, sounds, MODEL, 0)
    assert before == [None] * 11
    assert isinstance(net, TeacherNet)
    teachers = Teachers([net], listener)
    said, closures = teachers.answers(clip().mels)
    assert said.shape == (75, MODEL.expressions)
    np.testing.assert_allclose(closures.time_s, middles_s(np.arange(75)))
    assert closures.level.mean() > 0.5


def test_softened_footage_lies_between_itself_and_what_teachers_say(listener: Listener) -> None:
    torch.manual_seed(0)
    teachers, one = Teachers([TeacherNet(MODEL.expressions)], listener), heard(clip())
    said, closures = teachers.answers(one.clip.mels)
    softened = teachers.softened(one, 0.25)
    between = np.stack([np.interp(one.clip.time_s, closures.time_s, column) for column in said.T], 1)
    expected = 0.75 * one.clip.expression + 0.25 * between
    np.testing.assert_allclose(softened.clip.expression[1:-1], expected[1:-1], atol=1e-5)
    np.testing.assert_array_equal(softened.clip.expression[0], one.clip.expression[0])
    assert softened.shut is not None


def test_sounds_get_a_motion_and_keep_closures_that_are_known(listener: Listener) -> None:
    torch.manual_seed(0)
    teachers = Teachers([TeacherNet(MODEL.expressions)], listener)
    shut = Closures(np.array([0.0, 3.0]), np.ones(2, np.float32))
    assert teachers.spoken(heard(clip(), shut)).shut is shut
    spoken = teachers.spoken(heard(clip()))
    assert spoken.shut is not None
    assert spoken.clip.expression.shape == (75, MODEL.expressions)
