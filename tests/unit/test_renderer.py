from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.actor.pack import ActorPack, decode_pack, encode_pack
from engine.arrays import F32, U8, Array
from engine.backends import (
    Precision,
    cpu,
    load_network,
    onnxruntime_cpu,
    registry,
    rounded_tensors,
    weights_of,
    with_outputs,
)
from engine.backends.onnxruntime_cpu import adds_integers_exactly
from engine.errors import ActorPackError, BackendUnavailable
from engine.render.raster import rasterise_reference, sample_reference
from engine.render.renderer import (
    EXACT,
    INPUT,
    RANGES,
    Rendered,
    Renderer,
    open_renderer,
    prior_graph,
    renderer_graph,
)
from tests.support.toy_actor import CHANNELS, SIZE_PX, crop_head, opened, toy_actor

HEAD = crop_head(yaw_deg=12, roll_deg=4)


def source(seed: int = 0) -> U8:
    return np.random.default_rng(seed).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


def drawn(renderer: Renderer, crop: U8, expression: F32) -> Rendered:
    out = Rendered.empty(SIZE_PX)
    renderer.render(crop, HEAD, expression, out=out)
    return out


def ranges_of(actor: ActorPack) -> F32:
    """Of the tensors in the network while it draws two frames."""
    graph = renderer_graph(actor)
    names = rounded_tensors(graph, EXACT)
    inner = load_network(with_outputs(graph, names), backend="onnxruntime", precision="f32")
    renderer, mask = open_renderer(actor, "onnxruntime"), np.empty((SIZE_PX, SIZE_PX), np.float32)
    found = []
    for seed, opening in ((8, 0.5), (9, 2.0)):
        tensors = inner.run({INPUT: renderer.canvas(source(seed), HEAD, opened(opening), mask)}).values()
        found.append([(tensor.min(), tensor.max()) for tensor in tensors])
    low, high = np.array(found).transpose(2, 0, 1)
    return np.stack([low.min(0), high.max(0)], axis=1).astype(np.float32)


def any_ranges(count: int | None = None) -> F32:
    names = rounded_tensors(prior_graph("cpu"), EXACT)
    return np.tile(np.array([-4, 4], np.float32), (len(names) if count is None else count, 1))


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


@pytest.mark.parametrize(
    ("backend", "precision", "rms", "worst"),
    [
        ("onnxruntime", "f32", 0.1, 1),
        ("openvino", "f32", 0.1, 1),
        ("openvino", "bf16", 1.5, 24),
        ("onnxruntime", "int8", 2.5, 24),  # 1.9 (42 dB)
        ("openvino", "int8", 2.5, 24),  # 1.9
    ],
)
def test_backends_draw_what_the_reference_draws(
    oracle: Rendered, backend: str, precision: Precision, rms: float, worst: int
) -> None:
    actor = replace(toy_actor("random"), extras={RANGES: ranges_of(toy_actor("random"))})
    if (backend, precision) == ("onnxruntime", "int8") and not adds_integers_exactly(cpu.cpu_info()[1]):
        pytest.skip("this CPU has no VNNI")
    renderer = open_renderer(actor, backend, precision=precision)
    assert renderer.name == f"{backend} {precision}"
    got = drawn(renderer, source(), opened(1.2))
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


def with_ranges(ranges: Array) -> Callable[[ActorPack], ActorPack]:
    return lambda actor: replace(actor, extras={RANGES: ranges})


def narrowed(row: int, low: float, high: float) -> F32:
    ranges = any_ranges()
    ranges[row] = low, high
    return ranges


def with_weight(name: str, value: F32) -> Callable[[ActorPack], ActorPack]:
    return lambda actor: replace(actor, weights={**actor.weights, name: value})


DAMAGED = r"ranges for int8 are damaged \(.*\): run `livedub adapt` again"


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
        (with_ranges(any_ranges(7)), DAMAGED),
        (with_ranges(any_ranges()[:, :1]), DAMAGED),
        (with_ranges(any_ranges().astype(np.float64)), DAMAGED),
        (with_ranges(narrowed(3, 0, 0)), DAMAGED),
        (with_ranges(narrowed(3, 2, 1)), DAMAGED),
    ],
)
def test_packs_that_do_not_belong_are_refused(change: Callable[[ActorPack], ActorPack], message: str) -> None:
    with pytest.raises(ActorPackError, match=message):
        open_renderer(change(toy_actor()), "onnxruntime")


def test_backends_by_name() -> None:
    with pytest.raises((BackendUnavailable, ValueError), match="nonsense"):
        open_renderer(toy_actor(), "nonsense")
    assert len(toy_actor().texture) == CHANNELS


AMX, VNNI, OLD = {"amx_bf16", "avx512_vnni"}, {"avx_vnni"}, {"avx2"}


@pytest.mark.parametrize(
    ("backend", "flags", "with_pack", "name"),
    [
        ("openvino", AMX, True, "openvino bf16"),
        ("openvino", VNNI, True, "openvino int8"),
        ("openvino", VNNI, False, "openvino f32"),
        ("openvino", OLD, True, "openvino f32"),
        ("onnxruntime", AMX, True, "onnxruntime int8"),
        ("onnxruntime", AMX, False, "onnxruntime f32"),
        ("reference", AMX, True, "reference f32"),
    ],
)
def test_the_precision_is_the_fastest_that_cpu_backend_and_pack_have(
    monkeypatch: pytest.MonkeyPatch, backend: str, flags: set[str], with_pack: bool, name: str
) -> None:
    for module in (registry, onnxruntime_cpu):
        monkeypatch.setattr(module, "cpu_info", lambda: ("", frozenset(flags)))
    actor = with_ranges(any_ranges())(toy_actor()) if with_pack else toy_actor()
    assert open_renderer(actor, backend).name == name


def test_a_precision_may_be_asked_for() -> None:
    ready = with_ranges(any_ranges())(toy_actor())
    for precision in ("f32", "bf16", "int8"):
        assert open_renderer(ready, "openvino", precision=precision).name == f"openvino {precision}"
    with pytest.raises(BackendUnavailable, match="'onnxruntime' offers f32 and int8, not bf16"):
        open_renderer(ready, "onnxruntime", precision="bf16")
    with pytest.raises(ActorPackError, match="no ranges for int8: run `livedub adapt` again"):
        open_renderer(toy_actor(), "openvino", precision="int8")
    with pytest.raises(ValueError, match="precision = 'f8' must be one of"):
        open_renderer(ready, "openvino", precision="f8")  # type: ignore[arg-type]


def test_ranges_that_are_no_numbers_are_no_pack() -> None:
    broken = encode_pack(with_ranges(any_ranges())(toy_actor()))
    four = np.float32(4).tobytes()
    with pytest.raises(ActorPackError, match="damaged"):
        decode_pack(broken.replace(four, np.float32(np.nan).tobytes()))
    with pytest.raises(ValueError, match="not finite"):
        with_ranges(narrowed(0, np.nan, 1))(toy_actor())
