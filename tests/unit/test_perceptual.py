"""The perceptual distance: its structure with random weights, its values with the pinned ones."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from engine import models
from engine.arrays import U8
from engine.errors import AssetError
from export import perceptual
from export.perceptual import BlurPool, Perceptual, load_perceptual

astronaut: Callable[[], U8] = data.astronaut
SHAPES = {
    "1.0": (64, 3, 11),
    "2.5": (192, 64, 5),
    "3.9": (384, 192, 3),
    "4.11": (256, 384, 3),
    "5.13": (256, 256, 3),
}


def random_state() -> dict[str, Tensor]:
    """Tensors with the names and shapes of the pinned file."""
    rng = torch.Generator().manual_seed(0)
    state = {
        "scaling_layer.shift": torch.full((1, 3, 1, 1), -0.1),
        "scaling_layer.scale": torch.full((1, 3, 1, 1), 0.5),
    }
    for name, (out, into, side) in SHAPES.items():
        bound = (2.0 / (into * side * side)) ** 0.5
        state[f"net.slice{name}.weight"] = bound * torch.randn(out, into, side, side, generator=rng)
        state[f"net.slice{name}.bias"] = 0.1 * torch.randn(out, generator=rng)
    for index, channels in enumerate(perceptual.CHANNELS):
        state[f"lin{index}.model.1.weight"] = torch.rand(1, channels, 1, 1, generator=rng)
    return state


@pytest.fixture(scope="module")
def net() -> Perceptual:
    return Perceptual(random_state())


@pytest.fixture(scope="module")
def pinned() -> Perceptual:
    try:
        return load_perceptual()
    except AssetError as error:
        pytest.skip(str(error))


def pictures(count: int, side: int = 64, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, side, side + 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_blur_pool_is_opencvs_binomial_blur() -> None:
    image = np.random.default_rng(0).random((21, 30)).astype(np.float32)
    padded = cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_REFLECT_101)
    want = cv2.GaussianBlur(padded, (3, 3), 0)[1:-1:2, 1:-1:2]  # of 3 taps, OpenCV's default is 1 2 1
    got = BlurPool(2)(torch.from_numpy(image).expand(1, 2, -1, -1))
    assert got.shape == (1, 2, 12, 16)
    np.testing.assert_allclose(got[0, 1].numpy(), want, atol=1e-6)


def test_a_picture_is_at_distance_zero_from_itself_and_the_distance_is_symmetric(net: Perceptual) -> None:
    a, b = pictures(2), pictures(2, seed=2)
    assert torch.equal(net(a, a), torch.zeros(2))
    torch.testing.assert_close(net(a, b), net(b, a))
    assert (net(a, b) > 0).all()


def test_rows_of_a_batch_are_strangers(net: Perceptual) -> None:
    a, b = pictures(3), pictures(3, seed=2)
    alone = torch.cat([net(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(net(a, b), alone)


def test_distance_is_the_weighted_mean_of_squared_feature_differences(net: Perceptual) -> None:
    state = random_state()
    a, b = (net.features(pictures(1, seed=s)) for s in (1, 2))
    want = 0.0
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        torch.testing.assert_close(x.square().sum(1), torch.ones_like(x[:, 0]))
        weight = state[f"lin{index}.model.1.weight"].numpy()
        want += float((((x - y).numpy() ** 2) * weight).sum(1).mean())
    assert float(net.distance_of(a, b)) == pytest.approx(want, rel=1e-5)
    assert [x.shape[1] for x in a] == list(perceptual.CHANNELS)


def test_gradients_reach_the_picture_and_not_the_weights(net: Perceptual) -> None:
    a = pictures(1).requires_grad_()
    net(a, pictures(1, seed=2)).sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert a.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_gradients_of_a_flat_picture_are_finite(pinned: Perceptual, value: float) -> None:
    a = torch.full((1, 3, 64, 64), value, requires_grad=True)
    pinned(a, pictures(1)[..., :64]).sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_bfloat16_autocast_is_close_and_gives_float32(net: Perceptual) -> None:
    a, b = pictures(1).requires_grad_(), pictures(1, seed=2)
    exact = net(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(a, b)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.0)
    rough.sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 63, 64)])
def test_other_shapes_are_refused(net: Perceptual, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images must be"):
        net.features(torch.zeros(shape))


def test_a_file_without_the_tensors_is_refused() -> None:
    state = random_state()
    del state["net.slice3.9.bias"]
    with pytest.raises(AssetError, match=r"net\.slice3\.9\.bias"):
        Perceptual(state)
    with pytest.raises(AssetError, match="size mismatch"):
        Perceptual(random_state() | {"lin0.model.1.weight": torch.zeros(1, 65, 1, 1)})


def test_a_file_that_is_not_the_pinned_one_is_never_loaded(tmp_path: Path) -> None:
    torch.save(random_state(), tmp_path / "weights.pth")
    with pytest.raises(AssetError, match="not the pinned file"):
        load_perceptual(tmp_path / "weights.pth")
    with pytest.raises(AssetError, match="missing"):
        load_perceptual(tmp_path / "nothing.pth")


def test_a_missing_model_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=models.FETCH_COMMAND):
        load_perceptual()


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (lambda image: np.roll(image, 1, 1), 0.00473641),
        (lambda image: cv2.GaussianBlur(image, (0, 0), 2), 0.48748612),
        (lambda image: np.ascontiguousarray(image[:, ::-1]), 0.57979840),
    ],
    ids=["a pixel of shift", "blur", "mirrored"],
)
def test_values_are_those_of_the_published_code(
    pinned: Perceptual, change: Callable[[U8], U8], want: float
) -> None:
    """Wanted values come from stlpips-pytorch 0.0.2 itself (shift_tolerant AlexNet) on this picture."""
    image = cv2.resize(astronaut(), (256, 256), interpolation=cv2.INTER_AREA).astype(np.uint8)
    assert pinned.distance(image, change(image)) == pytest.approx(want, rel=1e-3)
    assert pinned.distance(image, image) == 0.0


def test_pictures_of_any_size_are_compared_at_256_px(net: Perceptual) -> None:
    small = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    assert net.distance(small, small) == 0.0
    assert net.distance(small, 255 - small) > 0.0
