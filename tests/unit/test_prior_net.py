import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engine.render.canvas import split_picture
from engine.render.raster import UvMap, sample
from export.prior_net import (
    CANVAS_CHANNELS,
    TEXTURE_CHANNELS,
    TIERS,
    PriorNet,
    RuntimeNet,
    Tier,
    _fold,
    _unfold,
    make_canvas,
    sample_texture,
    within_reach,
)

TINY = Tier("cpu", 32, 16, (8, 12, 16), 1)


def canvas(batch: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand((batch, size, size, CANVAS_CHANNELS), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tier", [TINY, Tier("deeper", 64, 16, (4, 6, 8, 10), 2)])
def test_shapes(tier: Tier) -> None:
    with torch.no_grad():
        assert PriorNet(tier)(canvas(3, tier.size_px)).shape == (3, tier.size_px, tier.size_px, 4)


@pytest.mark.parametrize("tier", TIERS.values(), ids=lambda tier: f"{tier.size_px} px")
def test_tiers_can_be_built(tier: Tier) -> None:
    with torch.device("meta"):
        net = PriorNet(tier)
        shape = (1, tier.size_px, tier.size_px)
        assert net(torch.empty(*shape, CANVAS_CHANNELS)).shape == (*shape, 4)
    assert tier.size_px % 2 ** len(tier.widths) == 0


def test_starts_with_the_textures_colours_over_all_of_the_source() -> None:
    given = canvas()
    with torch.no_grad():
        got = PriorNet(TINY)(given)
    torch.testing.assert_close(got[..., :3], given[..., :3] * 0.5 + 0.5)
    assert got[..., 3].min() == got[..., 3].max() > 0.8


def test_runtime_result_is_a_picture() -> None:
    net = PriorNet(TINY)
    torch.nn.init.normal_(net.head.weight, std=1.0)
    with torch.no_grad():
        picture = RuntimeNet(net)(canvas())
    assert picture[..., :3].min() == 0
    assert picture[..., :3].max() == 1
    assert 0 <= picture[..., 3].min() < picture[..., 3].max() <= 1


def test_folding_keeps_two_by_two_pixels_together() -> None:
    x = torch.arange(2 * 6 * 8 * 3, dtype=torch.float32).reshape(2, 6, 8, 3)
    folded = _fold(x)
    assert folded.shape == (2, 3, 4, 12)
    torch.testing.assert_close(folded[1, 2, 3], x[1, 4:6, 6:8].reshape(-1))
    torch.testing.assert_close(_unfold(folded), x)


def test_every_pixel_depends_on_its_neighbours_only() -> None:
    net = PriorNet(Tier("shallow", 32, 16, (6,), 1))
    torch.nn.init.normal_(net.head.weight)
    one, other = canvas(1), canvas(1)
    other[0, 20, 20] += 1
    with torch.no_grad():
        changed = (net(one) != net(other)).any(-1)[0].nonzero()
    assert len(changed)
    assert (changed - 20).abs().max() <= 8


def test_sampling_is_the_engines() -> None:
    """In training as at run time; training samples in bfloat16, so to its precision."""
    rng = np.random.default_rng(0)
    textures = rng.uniform(-1, 1, (2, TEXTURE_CHANNELS, 20, 20)).astype(np.float32)
    uv = rng.uniform(0, 1, (4, 12, 12, 2)).astype(np.float32)
    covered = rng.integers(0, 2, (4, 1, 12, 12)).astype(np.float32)
    got = sample_texture(torch.from_numpy(textures), torch.from_numpy(uv), torch.from_numpy(covered)).float()
    assert got.shape == (4, TEXTURE_CHANNELS, 12, 12)
    for index in range(4):
        out = np.empty((12, 12, TEXTURE_CHANNELS), np.float32)
        layer = covered[index, 0].astype(np.int8) - 1
        texture = np.ascontiguousarray(textures[index // 2].transpose(1, 2, 0))
        sample(texture, UvMap(uv[index], layer.astype(np.int8)), out)
        np.testing.assert_allclose(got[index].permute(1, 2, 0).numpy(), out, atol=6e-3)


def test_alpha_reaches_as_far_as_at_run_time() -> None:
    mask = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8)
    alpha = np.empty_like(mask)
    split_picture(np.ones((4, 8, 4), np.float32), mask, np.empty((4, 8, 3), np.uint8), alpha)
    np.testing.assert_allclose(within_reach(torch.from_numpy(mask)).numpy(), alpha, atol=1e-6)


def test_canvas_hides_the_source_under_the_mask() -> None:
    sampled, source, reference = (
        torch.zeros(1, 16, 4, 4),
        torch.ones(1, 3, 4, 4),
        torch.full((1, 3, 4, 4), 0.25),
    )
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    mask[..., 0, 0] = 0.25
    got = make_canvas(sampled, source, reference, mask)
    assert got.shape == (1, 4, 4, CANVAS_CHANNELS)
    assert got[0, 2, 2].tolist() == [0] * 19 + [0.25] * 3 + [1]
    assert got[0, 0, 0].tolist() == [0] * 16 + [0.75] * 3 + [0.25] * 3 + [0.25]
