import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engine.expression.audio import LOOK_AHEADS_MS, MEL_BANDS
from engine.face.model import aperture, load_face_model
from export import train_audio
from export.audio_data import SpokenClip
from export.train_audio import (
    TEACHERS_SHARE,
    AudioProgress,
    SpeechLoss,
    predict,
    score,
    softened,
    steps_in_all,
    train_audio_net,
)
from tests.support.toy_audio_net import random_front, tiny_audio_net

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
    expected = (1 - TEACHERS_SHARE) * plain.expression[:90] + TEACHERS_SHARE * said[5:95]
    np.testing.assert_allclose(moved.expression[:90], expected, atol=1e-5)
    np.testing.assert_array_equal(moved.expression[96:], plain.expression[96:])


def test_training_is_told_of_and_ends_in_a_network_that_opens_the_lips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_audio, "BATCH", 4)
    monkeypatch.setattr(train_audio, "FRONT_CLIPS", 6)
    clips, lines = [clip(0), clip(1)], list[AudioProgress]()
    net, result = train_audio_net(
        clips, [clip(2), clip(3)], MODEL, random_front(), steps=2, on_progress=lines.append
    )
    assert [line.step for line in lines] == [1, 2, 4]
    assert steps_in_all(2) == 4
    assert all(np.isfinite(line.loss) for line in lines)
    assert result == score(net, [clip(2), clip(3)], MODEL)
    said = predict(net, clip(2).mels, 120) @ aperture(MODEL.basis)
    assert said.shape == (100,)
    assert said.std() > 0
