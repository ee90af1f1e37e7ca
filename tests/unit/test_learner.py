from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engine.errors import BackendUnavailable
from engine.face.model import load_face_model
from export import learner
from export.coverage import seen_colours
from export.dataset import FaceClip
from export.learner import Check, LearnOptions, learn, steps_of
from export.prior_net import Tier
from export.render_batch import NO_NOISE, make_batch
from export.replay import drift, frames_of, with_other_expressions
from export.train_prior import Prior, start_textures, train
from tests.support.toy_clip import toy_clip

TINY = Tier("cpu", 32, 32, (8, 12), 1)
FEW = LearnOptions(steps=12, check_every=4)


@pytest.fixture(scope="module")
def prior() -> Prior:
    """A small prior that has met two other people."""
    torch.manual_seed(0)
    others = [toy_clip("ada", tint=0.0), toy_clip("bob", tint=1.0)]
    prior = Prior(TINY, len(others))
    start_textures(prior, others, load_face_model())
    train(prior, others, load_face_model(), steps=12)
    bare = Prior(TINY, 0)
    bare.net.load_state_dict(prior.net.state_dict())
    bare.mean.data.copy_(prior.mean.data)
    return bare


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    return toy_clip("eve", frames=20, tint=0.5)


def weights_of(prior: Prior) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in prior.net.state_dict().values()])


def test_learning_helps_on_frames_it_did_not_see(prior: Prior, clip: FaceClip) -> None:
    learned = learn(clip, FEW, prior)
    first, *_, last = learned.checks
    assert (first.step, last.step) == (0, 12)
    assert max(check.score for check in learned.checks) > first.score
    assert learned.held_out_frames == 2
    assert learned.before is not None
    assert learned.after is not None
    assert learned.after["face_psnr_db"] > learned.before["face_psnr_db"]  # type: ignore[operator]


def test_no_step_is_a_start_and_nothing_else(prior: Prior, clip: FaceClip) -> None:
    """The person's own colours on the prior's mean texture: what a preview shows."""
    learned = learn(clip, LearnOptions(steps=0), prior)
    assert learned.steps == 0
    assert not learned.changed
    assert torch.equal(weights_of(learned.prior), weights_of(prior))
    assert not torch.equal(learned.texture, prior.mean)


def test_the_prior_is_left_as_it_is_and_a_seed_repeats(prior: Prior, clip: FaceClip) -> None:
    before = weights_of(prior).clone()
    one, same = (learn(clip, FEW, prior) for _ in range(2))
    assert torch.equal(weights_of(prior), before)
    assert torch.equal(one.texture, same.texture)
    assert torch.equal(weights_of(one.prior), weights_of(same.prior))


def test_the_texture_learns_alone_first(prior: Prior, clip: FaceClip) -> None:
    options = LearnOptions(steps=4, check_every=1, patience=None, keep_best=False)
    start = learn(clip, LearnOptions(steps=1, network_stage=False, texture_stage=True), prior)
    assert not start.changed
    assert torch.equal(weights_of(start.prior), weights_of(prior))
    assert not torch.equal(start.texture, prior.mean)
    assert learn(clip, options, prior).changed
    together = LearnOptions(steps=1, texture_stage=False, keep_best=False)
    assert learn(clip, together, prior).changed


def test_texels_that_no_frame_shows_stay_the_priors(prior: Prior, clip: FaceClip) -> None:
    shown = np.arange(len(clip) - 2)
    _, seen = seen_colours(frames_of(clip, shown), load_face_model(), TINY.texture_px)
    unseen = torch.from_numpy(seen == 0)
    learned = learn(clip, LearnOptions(steps=6, keep_best=False), prior)
    assert 0.05 < float(unseen.float().mean()) < 0.95
    assert torch.equal(learned.texture[:, unseen], prior.mean.detach()[:, unseen])
    assert not torch.equal(learned.texture[3:, ~unseen], prior.mean.detach()[3:, ~unseen])


def test_a_generic_person_has_the_mean_texture(prior: Prior, clip: FaceClip) -> None:
    learned = learn(clip, LearnOptions(steps=3, personal_texture=False, keep_best=False), prior)
    assert torch.equal(learned.texture, prior.mean.detach())
    assert learned.changed


def test_from_scratch_owes_the_prior_nothing(prior: Prior, clip: FaceClip) -> None:
    learned = learn(clip, LearnOptions(steps=2, start="scratch", keep_best=False, seed=5), prior)
    with_prior = learn(clip, LearnOptions(steps=2, keep_best=False), prior)
    assert learned.changed
    assert torch.allclose(weights_of(with_prior.prior), weights_of(prior), atol=0.01)
    assert not torch.allclose(weights_of(learned.prior), weights_of(prior), atol=0.1)
    assert not torch.allclose(learned.texture[3:], with_prior.texture[3:], atol=0.05)


def test_later_footage_can_be_held_out_in_place_of_the_last_tenth(prior: Prior, clip: FaceClip) -> None:
    early, late = frames_of(clip, np.arange(12)), frames_of(clip, np.arange(12, 20))
    seen: list[Check] = []
    ticks: Iterator[int] = count()
    learned = learn(early, FEW, prior, holdout=late, on_check=seen.append, clock_s=lambda: float(next(ticks)))
    assert learned.held_out_frames == 8
    assert learned.reference < 12
    assert tuple(seen) == learned.checks
    assert [check.seconds for check in seen] == [0, 4, 8, 12]


def test_the_reference_is_never_held_out(prior: Prior, clip: FaceClip) -> None:
    widest_last = frames_of(clip, np.argsort(clip.expression @ load_face_model().jaw_open))
    assert learn(widest_last, LearnOptions(steps=1), prior).reference < 18


def test_a_photo_is_learned_from_without_looking(prior: Prior, clip: FaceClip) -> None:
    photo = frames_of(clip, np.arange(1))
    learned = learn(photo, LearnOptions(steps=3), prior)
    assert (learned.before, learned.after, learned.checks) == (None, None, ())
    assert (learned.steps, learned.best_step, learned.held_out_frames) == (3, 3, 0)
    assert steps_of(LearnOptions(), 1) < steps_of(LearnOptions(), 100)


def test_learning_stops_when_nothing_is_gained_and_keeps_the_best(
    prior: Prior, clip: FaceClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "NET_RATE", 0.3)
    options = LearnOptions(steps=40, check_every=1, patience=2, texture_stage=False, mixed=False)
    learned = learn(clip, options, prior)
    assert learned.steps < 40
    assert learned.steps == learned.best_step + 2
    best = max(learned.checks, key=lambda check: check.score)
    assert learned.best_step == best.step
    assert learned.after is not None
    assert learned.after["face_psnr_db"] == pytest.approx(best.face_psnr_db, abs=1e-3)


def test_replay_keeps_other_expressions_the_priors(
    prior: Prior, clip: FaceClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "NET_RATE", 2e-3)
    model, rng = load_face_model(), np.random.default_rng(1)
    shown, samples = with_other_expressions(clip, np.arange(18), 0, model, 8, rng)
    batch = make_batch([shown], samples, model, NO_NOISE, rng)
    moved = {}
    for mixed in (True, False):
        options = LearnOptions(steps=30, mixed=mixed, keep_best=False, patience=None)
        learned = learn(clip, options, prior)
        with torch.no_grad():
            moved[mixed] = float(drift(learned.prior, prior, batch, learned.texture))
    assert 0 < moved[True] < 0.8 * moved[False]


def test_a_device_that_is_not_there_is_named(prior: Prior, clip: FaceClip) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BackendUnavailable, match="--device cuda"):
        learn(clip, LearnOptions(steps=1, device="cuda"), prior)
