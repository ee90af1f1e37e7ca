from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.actor.pack import ActorPack
from engine.arrays import F32, U8
from engine.backends import weights_of
from engine.errors import ActorPackError, BackendUnavailable
from engine.render.raster import rasterise_reference, sample_reference
from engine.render.renderer import Rendered, Renderer, open_renderer, prior_graph
from tests.support.toy_actor import CHANNELS, SIZE_PX, crop_head, opened, toy_actor

HEAD = crop_head(yaw_deg=12, roll_deg=4)


def source(seed: int = 0) -> U8:
    return np.random.default_rng(seed).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


def drawn(renderer: Renderer, crop: U8, expression: F32) -> Rendered:
    out = Rendered.empty(SIZE_PX)
    renderer.render(crop, HEAD, expression, out=out)
    return out


@pytest.fixture(scope="module")
def painter() -> Renderer:
    """Draws the texture's plain colours, the network adding nothing."""
    return open_renderer(toy_actor("zero"), "onnxruntime")


@pytest.fixture(scope="module")
def busy() -> Renderer:
    return open_renderer(toy_actor("random"), "onnxruntime")


@pytest.fixture(scope="module")
def oracle() -> Rendered:
    return drawn(open_renderer(toy_actor("random"), "reference"), source(), opened(1.2))


@pytest.mark.parametrize(("backend", "rms", "worst"), [("onnxruntime", 0.1, 1), ("openvino", 1.5, 24)])
def test_backends_draw_what_the_reference_draws(
    oracle: Rendered, backend: str, rms: float, worst: int
) -> None:
    got = drawn(open_renderer(toy_actor("random"), backend), source(), opened(1.2))
    difference = got.rgb.astype(int) - oracle.rgb
    assert np.sqrt((difference**2).mean()) <= rms
    assert np.abs(difference).max() <= worst
    np.testing.assert_allclose(got.mask, oracle.mask, atol=1e-5)
    assert oracle.rgb.std() > 10, "a picture worth comparing"


def test_draws_the_actors_texture_at_the_targets_geometry(painter: Renderer) -> None:
    actor, model = toy_actor("zero"), painter.model
    expression = opened(1.5)
    got = drawn(painter, source(), expression)
    vertices = model.vertices(painter.neutral, expression, HEAD)
    uv_map = rasterise_reference(vertices, model.triangles, model.layers, model.uv, SIZE_PX, SIZE_PX)
    colours = sample_reference(actor.texture[:3].transpose(1, 2, 0).astype(np.float32), uv_map)
    expected = np.where(got.mask[..., None] > 0, colours * 0.5 + 0.5, 0.5) * 255
    assert np.abs(got.rgb - expected).max() <= 0.6


def test_what_the_mask_hides_of_the_source_is_not_used(busy: Renderer) -> None:
    crop = source()
    first = drawn(busy, crop, opened(1))
    other = np.where(first.mask[..., None] == 1, source(1), crop)
    np.testing.assert_array_equal(drawn(busy, other, opened(1)).rgb, first.rgb)
    outside = np.where(first.mask[..., None] == 0, source(1), crop)
    assert (drawn(busy, outside, opened(1)).rgb != first.rgb).any()


def test_a_frame_leaves_nothing_behind(busy: Renderer) -> None:
    first = drawn(busy, source(), opened(0.5))
    drawn(busy, source(3), opened(2.5))
    again = drawn(busy, source(), opened(0.5))
    np.testing.assert_array_equal(again.rgb, first.rgb)
    np.testing.assert_array_equal(again.mask, first.mask)


def test_mean_residual_is_drawn(painter: Renderer) -> None:
    actor = toy_actor("zero")
    moved = np.zeros_like(actor.mean_residual)
    moved[:] = [0.4, 0, 0]
    shifted = open_renderer(replace(actor, mean_residual=moved), "onnxruntime")
    difference = drawn(shifted, source(), opened(1)).rgb != drawn(painter, source(), opened(1)).rgb
    assert difference.any()


@pytest.mark.parametrize(
    ("crop", "expression", "error", "what"),
    [
        (source()[:-1], opened(1), ValueError, "source"),
        (source().astype(np.float32), opened(1), TypeError, "source"),
        (source(), opened(1)[:-1], ValueError, "expression"),
        (source(), opened(1).astype(np.float64), TypeError, "expression"),
    ],
)
def test_wrong_input_is_refused(
    painter: Renderer, crop: Any, expression: Any, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        drawn(painter, crop, expression)


def with_weight(name: str, value: F32) -> Callable[[ActorPack], ActorPack]:
    return lambda actor: replace(actor, weights={**actor.weights, name: value})


def constant() -> str:
    """A number of the graph that nobody learned."""
    return next(name for name in weights_of(prior_graph("cpu")) if not name.startswith("net."))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: toy_actor(prior_sha256="0" * 64), "another prior: run `livedub adapt` again"),
        (lambda a: toy_actor(face_model_sha256="0" * 64), "another face model"),
        (lambda a: toy_actor(tier="huge"), "no renderer of tier 'huge'"),
        (
            lambda a: toy_actor(image_size_px=96),
            "16 channels of texture at 96 px, the renderer takes 16 at 224",
        ),
        (lambda a: replace(a, texture=a.texture[:-1]), "15 channels"),
        (lambda a: replace(a, references=a.references[:, :64, :64]), "reference crop of 224 px"),
        (lambda a: replace(a, references=a.references[:0]), "reference crop"),
        (
            lambda a: replace(a, neutral=a.neutral[:468], mean_residual=a.mean_residual[:468]),
            "468 vertices, the face model 530",
        ),
        (with_weight("net.head.bias", np.zeros(7, np.float32)), "weights do not fit"),
        (with_weight("net.nonsense", np.zeros(7, np.float32)), "weights do not fit"),
        (with_weight(constant(), np.ones(4, np.float32)), "no weight of the renderer"),
    ],
)
def test_packs_that_do_not_belong_are_refused(change: Callable[[ActorPack], ActorPack], message: str) -> None:
    with pytest.raises(ActorPackError, match=message):
        open_renderer(change(toy_actor()), "onnxruntime")


def test_backends_by_name() -> None:
    with pytest.raises((BackendUnavailable, ValueError), match="nonsense"):
        open_renderer(toy_actor(), "nonsense")
    assert open_renderer(toy_actor()).name.split()[1] in {"f32", "bf16"}
    assert len(toy_actor().texture) == CHANNELS
