"""Ranges of an actor's network: repeatable, of what a dub may show, and enough for int8 to draw the same."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from engine.actor.pack import ActorPack, decode_pack, encode_pack
from engine.arrays import F32, U8
from engine.backends import Precision, cpu, rounded_tensors
from engine.backends.onnxruntime_cpu import adds_integers_exactly
from engine.errors import ActorPackError
from engine.render.renderer import EXACT, RANGES, Rendered, open_renderer, prior_graph, renderer_graph
from export import quantise
from export.dataset import FaceClip
from export.metrics import psnr_db
from export.prior_assets import load_prior
from export.prior_net import TIERS
from export.quantise import NARROWEST, calibrate, measure_ranges
from tests.support.toy_actor import SIZE_PX, crop_head, opened, toy_actor
from tests.support.toy_clip import toy_clip

HEADS = [crop_head(yaw_deg=yaw, roll_deg=roll) for yaw, roll in ((0, 0), (9, 3), (-7, -4))]
OPENINGS_CM = 0.2, 1.0, 2.2


@pytest.fixture(scope="module", autouse=True)
def few_canvases() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantise, "CANVASES", 6)
        yield


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    return toy_clip(frames=3, size_px=SIZE_PX)


@pytest.fixture(scope="module")
def shipped(clip: FaceClip) -> ActorPack:
    """The prior as it is, with its mean texture, calibrated."""
    texture = load_prior(TIERS["cpu"]).mean.detach().numpy().astype(np.float16)
    actor = replace(toy_actor(), weights={}, texture=texture, references=clip.crops[:1])
    return replace(actor, extras=calibrate(actor, clip))


@pytest.fixture(scope="module")
def busy(clip: FaceClip) -> ActorPack:
    """A network of random weights, calibrated."""
    actor = toy_actor("random")
    return replace(actor, extras=calibrate(actor, clip))


def drawn(actor: ActorPack, backend: str, precision: Precision, count: int) -> list[Rendered]:
    """A head that nods and speaks over smooth skin."""
    renderer = open_renderer(actor, backend, precision=precision)
    frames = []
    for head, opening in list(zip(HEADS, OPENINGS_CM, strict=True))[:count]:
        out = Rendered.empty(SIZE_PX)
        renderer.render(skin(), head, opened(opening), out=out)
        frames.append(out)
    return frames


def compared(got: list[Rendered], exact: list[Rendered]) -> tuple[float, int]:
    """Mean PSNR in dB, and the greatest difference in levels, of what is drawn inside the mask."""
    pairs = [(a.rgb[b.mask > 0.5], b.rgb[b.mask > 0.5]) for a, b in zip(got, exact, strict=True)]
    worst = max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)
    return float(np.mean([psnr_db(a[None], b[None]) for a, b in pairs])), worst


def skin() -> U8:
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX] / SIZE_PX
    light = 0.6 + 0.3 * np.cos(2 * x) * np.cos(y)
    return np.asarray(light[..., None] * [200, 150, 130], np.uint8)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("who", "least_db", "worst_levels"),
    [
        ("shipped", 40, 24),  # 44 and 52 dB with two priors; real faces 51 dB, 10 levels
        ("busy", 39, 20),  # 42.4 dB, 12 levels
    ],
)
def test_integers_draw_what_floats_draw(
    request: pytest.FixtureRequest, backend: str, who: str, least_db: float, worst_levels: int
) -> None:
    if backend == "onnxruntime" and not adds_integers_exactly(cpu.cpu_info()[1]):
        pytest.skip("this CPU has no VNNI")
    actor = request.getfixturevalue(who)
    exact = drawn(actor, "onnxruntime", "f32", count=3)
    got = drawn(actor, backend, "int8", count=3)
    assert exact[0].rgb[exact[0].mask > 0.5].std() > 5, "a picture worth comparing"
    psnr, worst = compared(got, exact)
    assert least_db < psnr < 99
    assert worst <= worst_levels


def test_ranges_are_repeatable_small_and_travel_with_the_pack(shipped: ActorPack, clip: FaceClip) -> None:
    again = calibrate(replace(shipped, extras={}), clip)
    assert again.keys() == {RANGES}
    np.testing.assert_array_equal(again[RANGES], shipped.extras[RANGES])
    assert again[RANGES].shape == (len(rounded_tensors(prior_graph("cpu"), EXACT)), 2)
    without = replace(shipped, extras={})
    assert len(encode_pack(shipped)) - len(encode_pack(without)) < 2000
    np.testing.assert_array_equal(decode_pack(encode_pack(shipped)).extras[RANGES], again[RANGES])


def test_ranges_cover_more_than_the_footage_shows(shipped: ActorPack, clip: FaceClip) -> None:
    renderer = open_renderer(shipped, "onnxruntime", precision="f32")
    mask = np.empty((SIZE_PX, SIZE_PX), np.float32)
    seen: list[F32] = [
        renderer.canvas(clip.crops[row], clip.pose(row), clip.expression[row], mask).copy()
        for row in range(len(clip))
    ]
    narrow, wide = measure_ranges(renderer_graph(shipped), seen), shipped.extras[RANGES]
    assert (wide[:, 0] <= narrow[:, 0] + 1e-4).all()
    assert (wide[:, 1] >= narrow[:, 1] - 1e-4).all()
    assert (np.ptp(wide, axis=1) > 1.02 * np.ptp(narrow, axis=1)).mean() > 0.5


def test_a_network_that_gives_nothing_still_has_ranges(clip: FaceClip) -> None:
    actor = toy_actor("zero")
    found = calibrate(actor, clip)[RANGES]
    assert np.ptp(found, axis=1).min() == pytest.approx(NARROWEST, rel=1e-3)
    actor = replace(actor, extras={RANGES: found})
    exact, got = (drawn(actor, "openvino", precision, 1) for precision in ("f32", "int8"))
    assert compared(got, exact)[1] <= 1


def test_one_frame_of_a_photo_is_enough(shipped: ActorPack) -> None:
    found = calibrate(shipped, toy_clip(frames=1, size_px=SIZE_PX), seed=1)[RANGES]
    assert (found != shipped.extras[RANGES]).any()


def test_wrong_use_is_refused(shipped: ActorPack, clip: FaceClip) -> None:
    with pytest.raises(ValueError, match="at least one canvas"):
        measure_ranges(renderer_graph(shipped), [])
    with pytest.raises(ActorPackError, match="another prior"):
        calibrate(toy_actor(prior_sha256="0" * 64), clip)
