from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engine.errors import AssetError
from engine.face.model import load_face_model
from export.dataset import FaceClip
from export.losses import render_loss
from export.prior_net import Tier
from export.render_batch import NO_NOISE, Sample, make_batch, reference_order
from export.train_prior import (
    PAIRS,
    Prior,
    Progress,
    draw,
    held_out,
    load_checkpoint,
    save_checkpoint,
    start_textures,
    train,
)
from tests.support.toy_clip import toy_clip

TINY = Tier("cpu", 32, 32, (8, 12), 1)


@pytest.fixture(scope="module")
def clips() -> list[FaceClip]:
    return [toy_clip("ada", tint=0.0), toy_clip("bob", tint=1.0)]


@pytest.fixture
def prior(clips: list[FaceClip]) -> Prior:
    torch.manual_seed(0)
    prior = Prior(TINY, len(clips))
    start_textures(prior, clips, load_face_model())
    return prior


def loss(prior: Prior, clips: list[FaceClip]) -> float:
    chosen = [Sample(0, 1, 0, other=5), Sample(1, 2, 0, other=6)]
    batch = make_batch(clips, chosen, load_face_model(), NO_NOISE, np.random.default_rng(0))
    with torch.no_grad():
        return float(render_loss(prior.render(batch, prior.textures(batch.clips)), batch))


def test_textures_start_with_each_persons_colours(prior: Prior, clips: list[FaceClip]) -> None:
    blank = Prior(TINY, len(clips))
    assert loss(prior, clips) < 0.5 * loss(blank, clips)
    ada, bob = prior.textures([0, 1])[:, 2].detach()
    assert float((bob - ada).mean()) > 0.1, "bob's tint is blue"


def test_training_lowers_the_loss(prior: Prior, clips: list[FaceClip]) -> None:
    before = loss(prior, clips)
    lines: list[Progress] = []
    train(prior, clips, load_face_model(), steps=30, every=15, on_progress=lines.append)
    assert loss(prior, clips) < before
    assert [line.step for line in lines] == [15, 30]
    assert all(np.isfinite([line.loss, line.psnr_db, line.mouth_psnr_db]).all() for line in lines)


def test_training_repeats_with_its_seed(clips: list[FaceClip]) -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        prior = Prior(TINY, len(clips))
        train(prior, clips, load_face_model(), steps=2, seed=7)
        results.append(prior.mean.detach().clone())
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_draw_takes_neighbours_and_keeps_the_last_frames_out(clips: list[FaceClip]) -> None:
    order = [reference_order(clip, load_face_model()) for clip in clips]
    rng = np.random.default_rng(0)
    for _ in range(50):
        chosen = draw(clips, order, rng, 0.75)
        assert len(chosen) == 2 * PAIRS
        for first, second in zip(chosen[::2], chosen[1::2], strict=True):
            assert first.other is not None
            assert second == first._replace(frame=first.frame + 1, other=first.other + 1)
            assert max(second.frame, first.reference, first.other + 1) < 9, (
                "the last quarter of twelve is kept"
            )
            assert first.reference not in {first.frame, second.frame}
        assert [sample.look for sample in chosen] == [look for look in range(PAIRS) for _ in "ab"]


def test_two_pictures_can_be_drawn_from(clips: list[FaceClip]) -> None:
    order = [reference_order(clip, load_face_model()) for clip in clips]
    chosen = draw(clips, order, np.random.default_rng(0), 2 / 12)
    assert {sample.frame for sample in chosen} == {0, 1}


def test_alpha_is_learned_from_sources_with_another_mouth(clips: list[FaceClip]) -> None:
    """Less of the drawn face shows where the source is right anyway, and the lips stay the drawn ones."""
    torch.manual_seed(0)
    prior, model = Prior(TINY, len(clips)), load_face_model()
    start_textures(prior, clips, model)
    train(prior, clips, model, steps=60)
    chosen = [Sample(k, 3, 0, other=8) for k in (0, 1)]
    batch = make_batch(clips, chosen, model, NO_NOISE, np.random.default_rng(0))
    with torch.no_grad():
        alpha = prior.render(batch, prior.textures([0, 1])).alpha
    lips, edge = batch.mouth > 0.9, (batch.mask > 0) & (batch.mouth == 0) & (batch.mask < 0.4)
    assert not alpha[batch.mask == 0].any()
    assert float(alpha[lips].mean()) > 0.8
    assert float(alpha[edge].mean()) < float(alpha[lips].mean()) - 0.2


def test_held_out_is_a_measure(prior: Prior, clips: list[FaceClip]) -> None:
    order = [reference_order(clip, load_face_model()) for clip in clips]
    whole, mouth = held_out(prior, clips, load_face_model(), order)
    blank, _ = held_out(Prior(TINY, len(clips)), clips, load_face_model(), order)
    assert 0 < mouth < 60
    assert whole > blank


def test_checkpoint_there_and_back(prior: Prior, clips: list[FaceClip], tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    save_checkpoint(prior, path, step=3)
    other = Prior(TINY, len(clips))
    assert load_checkpoint(other, path) == 3
    assert loss(other, clips) == loss(prior, clips)
    assert [file.name for file in tmp_path.iterdir()] == ["prior.safetensors"]
    with pytest.raises(AssetError, match="no checkpoint of this prior"):
        load_checkpoint(Prior(TINY, 1), path)
