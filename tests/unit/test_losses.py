import math
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from export.losses import ALPHA_MOUTH_WEIGHT, ALPHA_WEIGHT, Drawn, around_mouth, psnr_db, render_loss
from export.render_batch import Batch

SIZE = 32


def pictures(batch: int = 4, seed: int = 0) -> Tensor:
    return torch.rand((batch, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed))


def area(batch: int = 4, top: int = 8, left: int = 8, side: int = 12) -> Tensor:
    mask = torch.zeros(batch, 1, SIZE, SIZE)
    mask[:, :, top : top + side, left : left + side] = 1
    return mask


def batch_of(target: Tensor, source: Tensor) -> Batch:
    count = len(target)
    uv, mouth = torch.zeros(count, SIZE, SIZE, 2), area(count, top=12, left=12, side=4)
    return Batch(
        [0] * count,
        target,
        source,
        target,
        uv,
        area(count),
        area(count),
        mouth,
    )


def cost(
    picture: Tensor, target: Tensor, alpha: Tensor | None = None, source: Tensor | None = None, **options: Any
) -> float:
    alpha = area(len(target)) if alpha is None else alpha
    batch = batch_of(target, target if source is None else source)
    return float(render_loss(Drawn(picture, alpha, target * 2 - 1), batch, **options))


def loss(picture: Tensor, target: Tensor, **options: Any) -> float:
    """What the picture costs beyond the target itself, which pays for its alpha alone."""
    return cost(picture, target, **options) - cost(target, target, **options)


def test_a_perfect_picture_pays_for_its_alpha_alone() -> None:
    target = pictures()
    assert cost(target, target, alpha=area() * 0 + 1) == pytest.approx(ALPHA_WEIGHT)
    assert cost(target, target, alpha=area() * 0) == pytest.approx(ALPHA_MOUTH_WEIGHT)


@pytest.mark.parametrize("pairs", [False, True])
def test_outside_the_hole_nothing_counts(pairs: bool) -> None:
    target = pictures()
    other = torch.where(area() > 0, target, pictures(seed=1))
    assert loss(other, target, pairs=pairs) == pytest.approx(0, abs=1e-6)


def test_mouth_weighs_more_than_cheek() -> None:
    target = pictures() * 0.5
    mouth, cheek = target.clone(), target.clone()
    mouth[:, :, 13:15, 13:15] += 0.2
    cheek[:, :, 9:11, 9:11] += 0.2
    assert loss(mouth, target) > 1.5 * loss(cheek, target)


def test_a_source_that_shows_through_counts() -> None:
    """Where the source is wrong, showing it costs; where it is right, hiding it does."""
    target, wrong = pictures() * 0.5, pictures(seed=3)
    shown, hidden = area() * 0.5 + area(top=12, left=12, side=4) * 0.5, area()
    assert cost(target, target, shown, wrong) > cost(target, target, hidden, wrong) + 0.01
    assert cost(target * 0.9, target, shown, target) < cost(target * 0.9, target, hidden, target)


def test_flicker_costs_only_between_neighbours() -> None:
    target = pictures(2).repeat_interleave(2, 0)
    steady, flickering = target + 0.1, target.clone()
    flickering[::2] += 0.1
    flickering[1::2] -= 0.1
    assert loss(flickering, target, pairs=False) == pytest.approx(loss(steady, target, pairs=False), rel=1e-3)
    assert loss(flickering, target, pairs=True) > loss(steady, target, pairs=True) + 0.1


def test_perceptual_sees_the_mouth_of_every_second_of_a_pair() -> None:
    seen: list[tuple[int, ...]] = []

    def distance(ours: Tensor, theirs: Tensor) -> Tensor:
        seen.append(tuple(ours.shape))
        return (ours - theirs).abs().mean((1, 2, 3))

    target = pictures()
    assert loss(target, target, pairs=True, perceptual=distance) == pytest.approx(0, abs=1e-6)
    assert set(seen) == {(2, 3, 12, 12)}
    plain = loss(target * 0.9, target, pairs=True)
    assert loss(target * 0.9, target, pairs=True, perceptual=distance) > plain


def test_loss_has_a_gradient_everywhere_in_the_hole() -> None:
    target, picture = pictures(), pictures(seed=2).requires_grad_()
    drawn = Drawn(picture, area(), target * 2 - 1)
    value = render_loss(drawn, batch_of(target, target), pairs=True)
    value.backward()  # type: ignore[no-untyped-call]
    assert picture.grad is not None
    assert torch.isfinite(picture.grad).all()
    assert (picture.grad[area().expand(-1, 3, -1, -1) > 0] != 0).float().mean() > 0.95
    assert not picture.grad[area().expand(-1, 3, -1, -1) == 0].any()


@pytest.mark.parametrize(("top", "left"), [(0, 0), (10, 14), (28, 28)])
def test_window_is_around_the_mouth_and_inside_the_picture(top: int, left: int) -> None:
    mouth = area(top=top, left=left, side=4)
    windows = around_mouth(mouth, mouth)
    assert windows.shape == (4, 1, 12, 12)
    assert windows.sum() == mouth.sum()


def test_psnr() -> None:
    target = pictures()
    assert psnr_db(target + 0.1, target * 0 + target, torch.zeros(4, 1, SIZE, SIZE)) > 80
    grey = torch.full_like(target, 0.4)
    assert psnr_db(grey, grey + 0.1, area()) == pytest.approx(20, abs=1e-3)
    assert psnr_db(grey, torch.where(area() > 0, grey, pictures()), area()) == pytest.approx(120, abs=1)
    assert math.isfinite(psnr_db(grey, grey, area()))
