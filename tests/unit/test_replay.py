from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engine.face.model import aperture, load_face_model
from export.dataset import FaceClip
from export.prior_net import Tier
from export.render_batch import NO_NOISE, make_batch
from export.replay import WIDEST_CM, drift, frames_of, other_expressions, with_other_expressions
from export.train_prior import Prior
from tests.support.toy_clip import toy_clip

TINY = Tier("cpu", 32, 32, (8, 12), 1)


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    return toy_clip(frames=9)


def test_other_expressions_are_broad_and_plausible(clip: FaceClip) -> None:
    model, rng = load_face_model(), np.random.default_rng(0)
    drawn = other_expressions(np.zeros((1, model.expressions), np.float32), model, 400, rng)
    opening = drawn @ aperture(model.basis)
    assert drawn.dtype == np.float32
    assert opening.min() < 0.0
    assert 1.0 < np.quantile(opening, 0.9) < opening.max() < 2 * WIDEST_CM
    assert np.abs(drawn.std(0) - 0.75).max() < 0.45, "about the spread of real mouths, in every direction"


def test_replayed_frames_keep_their_source_and_reference(clip: FaceClip) -> None:
    model, rng = load_face_model(), np.random.default_rng(0)
    spoken = replace(clip, spoken=np.zeros_like(clip.expression))
    shown, samples = with_other_expressions(spoken, np.arange(4), 6, model, 3, rng)
    assert shown.spoken is None
    assert len(shown) == 4
    np.testing.assert_array_equal(shown.crops[3], clip.crops[6])
    assert {sample.reference for sample in samples} == {3}
    batch = make_batch([shown], samples, model, NO_NOISE, rng)
    assert torch.equal(batch.source, batch.target)
    for picture in shown.crops[:3]:
        apart = np.abs(clip.crops[:4].astype(int) - picture).mean((1, 2, 3))
        assert 0 < apart.min() < 8, "a frame of the person, bent to the new mouth"
    assert not np.allclose(shown.expression[0], shown.expression[1])


def test_drift_is_the_difference_of_two_networks(clip: FaceClip) -> None:
    torch.manual_seed(0)
    model, rng = load_face_model(), np.random.default_rng(0)
    one, other = Prior(TINY, 0), Prior(TINY, 0)
    other.load_state_dict(one.state_dict())
    shown, samples = with_other_expressions(clip, np.arange(9), 0, model, 2, rng)
    batch = make_batch([shown], samples, model, NO_NOISE, rng)
    texture = one.mean.detach()
    assert float(drift(one, other, batch, texture).detach()) == 0
    with torch.no_grad():
        one.net.head.bias += torch.tensor([0.1, 0.1, 0.1, 0.0]).repeat(4)  # type: ignore[operator]
    moved = drift(one, other, batch, texture)
    assert float(moved.detach()) == pytest.approx(0.075, rel=0.05)
    moved.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in other.parameters())


def test_frames_of_a_clip(clip: FaceClip) -> None:
    rows = np.array([5, 2])
    part = frames_of(replace(clip, spoken=clip.expression), rows)
    assert len(part) == 2
    assert part.spoken is not None
    np.testing.assert_array_equal(part.spoken, clip.expression[rows])
    np.testing.assert_array_equal(part.translation_px, clip.translation_px[rows])
    assert frames_of(clip, rows).spoken is None
