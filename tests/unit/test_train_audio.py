import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engine.expression.audio import LOOK_AHEADS_MS, MEL_BANDS
from engine.face.model import aperture, load_face_model
from export import audio_views, teacher, train_audio
from export.audio_data import SpokenClip
from export.audio_views import Closures
from export.listener import Listener, load_listener
from export.speech_loss import SpeechLoss, closing_direction, closure_loss
from export.train_audio import (
    OWN_SHARE,
    AudioProgress,
    Sound,
    predict,
    score,
    softened,
    steps_in_all,
    train_audio_net,
)
from tests.support.toy_audio_net import random_front, tiny_audio_net
from tests.support.toy_listener import packed, tiny_whisper

MODEL = load_face_model()
STEPS = 20


def clip(seed: int = 0, length_s: float = 4.0) -> SpokenClip:
    """Loud where the jaw is open."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(0, length_s, 0.04)
    opening = np.sin(time_s * 2 * np.pi * 2 + rng.uniform(0, 6)) > 0
    mels = np.repeat(-9 + 8 * np.repeat(opening, 4)[:, None], MEL_BANDS, 1) + rng.normal(
        0, 0.3, (400, MEL_BANDS)
    )
    expression = opening[:, None] * MODEL.jaw_open
    return SpokenClip(f"p{seed}", "train", mels.astype(np.float32), time_s, expression.astype(np.float32))


def truth() -> torch.Tensor:
    rng = np.random.default_rng(0)
    opening = np.maximum(rng.normal(0.3, 0.5, (2, len(LOOK_AHEADS_MS), STEPS, 1)), 0)
    return torch.from_numpy((opening * MODEL.jaw_open).astype(np.float32))


def test_the_truth_has_no_loss() -> None:
    known = torch.ones(truth().shape[:3])
    assert float(SpeechLoss(MODEL)(truth(), truth(), known)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "worse",
    [
        lambda said: said * 0.5,  # mumbles
        lambda said: said + torch.from_numpy(0.4 * MODEL.jaw_open),  # never closes
        lambda said: said.roll(1, 2),  # late
    ],
)
def test_what_is_wrong_costs(worse) -> None:  # type: ignore[no-untyped-def]
    known = torch.ones(truth().shape[:3])
    assert float(SpeechLoss(MODEL)(worse(truth()), truth(), known)) > 0.05


def test_unknown_answers_cost_nothing() -> None:
    known = torch.ones(truth().shape[:3])
    known[..., STEPS // 2 :] = 0
    said = truth().clone()
    said[..., STEPS // 2 :, :] += 5
    assert float(SpeechLoss(MODEL)(said, truth(), known)) == pytest.approx(0, abs=1e-6)


def test_softened_clips_lie_between_the_footage_and_the_teachers() -> None:
    net, plain = tiny_audio_net(MODEL.expressions), clip()
    moved = softened(plain, [net])
    said = predict(net, plain.mels, LOOK_AHEADS_MS[-1])  # step k speaks of (k + 1) * 40 - 240 ms
    expected = (1 - OWN_SHARE) * plain.expression[:90] + OWN_SHARE * said[5:95]
    np.testing.assert_allclose(moved.expression[:90], expected, atol=1e-5)
    np.testing.assert_array_equal(moved.expression[96:], plain.expression[96:])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"BATCH": 4, "VIEWS": 1, "SOUND_VIEWS": 1, "TEACHERS": 1, "STYLE_STEPS": 2, "TEACHER_STEPS": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(train_audio, name, value)
    monkeypatch.setattr(teacher, "STEPS", 2)
    monkeypatch.setattr(teacher, "BATCH", 2)
    monkeypatch.setattr(audio_views, "SILENT_VIEWS", 2)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    path = tmp_path_factory.mktemp("whisper") / "model.bin"
    path.write_bytes(packed(tiny_whisper()))
    loaded = load_listener(path)
    assert loaded is not None
    return loaded


def test_training_is_told_of_and_ends_in_a_network_that_opens_the_lips(small: None) -> None:
    clips, lines = [clip(0), clip(1)], list[AudioProgress]()
    net, result = train_audio_net(
        clips, [clip(2), clip(3)], MODEL, random_front(), steps=2, on_progress=lines.append
    )
    assert [line.step for line in lines] == [1, 2, 4, 6]
    assert steps_in_all(2, listens=False) == 6
    assert all(np.isfinite(line.loss) for line in lines)
    assert result == score(net, [clip(2), clip(3)], MODEL)
    said = predict(net, clip(2).mels, 120) @ aperture(MODEL.basis)
    assert said.shape == (100,)
    assert said.std() > 0


def test_a_recogniser_and_sounds_that_nobody_was_filmed_to_teach_too(small: None, listener: Listener) -> None:
    shut = Closures(np.arange(200) / 50, (np.arange(200) % 50 < 5).astype(np.float32))
    lines = list[AudioProgress]()
    net, result = train_audio_net(
        [clip(0), clip(1)],
        [clip(2), clip(3)],
        MODEL,
        random_front(),
        steps=2,
        listener=listener,
        sounds=[Sound(clip(4).mels, shut), Sound(clip(5).mels)],
        on_progress=lines.append,
    )
    assert [line.step for line in lines] == [2, 4, 6]
    assert steps_in_all(2, listens=True) == 6
    assert np.isfinite(result.correlation)
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_lips_shut_where_a_sound_shuts_them() -> None:
    net = tiny_audio_net(MODEL.expressions)
    net.opening.copy_(torch.from_numpy(aperture(MODEL.basis).astype(np.float32)))
    net.closing.copy_(torch.from_numpy(closing_direction(MODEL)))
    said, doubt = truth()[:, 0], torch.zeros(2)
    logits = torch.full(said.shape[:2], -20.0)
    torch.testing.assert_close(net.closed(said, logits, doubt), said)
    shut = net.closed(said, -logits, doubt) @ net.opening
    assert float(shut.max()) < 0.05
    assert float((said @ net.opening).max()) > 0.5


def test_answers_are_moved_on_by_their_look_aheads_lead() -> None:
    net = tiny_audio_net(MODEL.expressions)
    net.lead.copy_(torch.tensor([0.5, 0, 0, 0]))
    said, before = truth()[:, 0], torch.zeros(2, MODEL.expressions)
    code = torch.eye(4)
    moved = net.moved_on(said, code[[0, 1]], before)
    torch.testing.assert_close(moved[0, 1:], said[0, 1:] + 0.5 * (said[0, 1:] - said[0, :-1]))
    torch.testing.assert_close(moved[0, 0], 1.5 * said[0, 0])
    torch.testing.assert_close(moved[1], said[1])


def test_closures_that_nobody_told_of_cost_nothing() -> None:
    shut, logit = torch.ones(2, 4, 6), torch.full((2, 4, 6), -3.0)
    assert float(closure_loss(logit, shut, torch.zeros(2, 4, 6))) == 0
    assert float(closure_loss(logit, shut, torch.ones(2, 4, 6))) > float(closure_loss(-logit, shut, shut))
