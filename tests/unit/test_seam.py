"""Planted seams are found, on real pictures and made ones; what changes everything alike is not a seam."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.render.mask import soft_mask
from export import seam as module
from export.seam import SeamMeter, SeamScore, seam
from tests.support import data

SIZE_PX = 256
CORNERS = np.array([[70, 90], [190, 84], [212, 150], [180, 214], [110, 224], [54, 160]], np.float32)
FEATHER_PX = 15.0

Plant = Callable[[U8, F32], U8]


def lower_face(shift_px: int = 0) -> U8:
    """A real lower face, enlarged to 256 px, with the film's grain."""
    cut = data.astronaut()[92:176, 184 + shift_px : 268 + shift_px]
    return np.asarray(cv2.resize(cut, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC), np.uint8)


def mask() -> F32:
    return soft_mask(CORNERS, 6.0, FEATHER_PX, SIZE_PX, SIZE_PX)


def over(drawn: U8, source: U8, alpha: F32) -> U8:
    mixed = drawn * alpha[..., None] + source * (1 - alpha[..., None])
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def hard(alpha: F32, level: float = 0.5) -> F32:
    return (alpha >= level).astype(np.float32)


def brighter(picture: U8, levels: float) -> U8:
    return np.asarray(np.clip(picture.astype(np.float32) + levels, 0, 255), np.uint8)


def encoded(picture: U8, quality: int) -> U8:
    done, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)


PLANTED: dict[str, Plant] = {
    "a step of 4 grey levels": lambda s, m: over(brighter(s, 4), s, hard(m)),
    "a step of 4 grey levels down": lambda s, m: over(brighter(s, -4), s, hard(m)),
    "a step inside the ramp": lambda s, m: over(brighter(s, 4), s, hard(m, 0.95)),
    "a step outside the ramp": lambda s, m: over(brighter(s, 4), s, hard(m, 0.02)),
    "a patch moved by 3 px": lambda s, m: over(np.roll(s, 3, 0), s, hard(m)),
    "a patch moved sideways": lambda s, m: over(np.roll(s, 3, 1), s, hard(m)),
    "a patch of another size": lambda s, m: over(
        np.asarray(cv2.resize(s, None, fx=1.05, fy=1.05)[6:262, 6:262], np.uint8), s, hard(m)
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_seam_is_found(name: str) -> None:
    source = lower_face()
    score = seam(PLANTED[name](source, mask()), source, mask())
    assert not score.within_source
    assert max(score.step_ratio, score.gradient_ratio) > module.STEP_RATIO
    assert score.step_error > 1.0


def test_a_blurred_border_is_found() -> None:
    source = textured()
    alpha = mask()
    border = ((alpha > 0.2) & (alpha < 0.8)).astype(np.float32)
    score = seam(
        over(np.asarray(cv2.GaussianBlur(source, (0, 0), 3), np.uint8), source, border), source, alpha
    )
    assert score.gradient_ratio < module.GRADIENT_RATIO[0]
    assert not score.within_source


def textured() -> U8:
    """Shaded skin with pores: detail of one to three pixels on a slope."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    shade = 90 + 0.25 * x + 0.15 * y
    pores = cv2.GaussianBlur(rng.normal(0, 14, (SIZE_PX, SIZE_PX)), (0, 0), 1.0)
    return np.asarray(np.clip((shade + pores)[..., None] * [1.0, 0.8, 0.7], 0, 255), np.uint8)


@pytest.mark.parametrize("picture", [lower_face, textured], ids=["face", "skin"])
@pytest.mark.parametrize("quality", [75, 90])
def test_a_plain_encoding_is_no_seam(picture: Callable[[], U8], quality: int) -> None:
    source = picture()
    score = seam(encoded(source, quality), source, mask())
    assert score.within_source


def test_the_source_itself_is_perfect() -> None:
    source = lower_face()
    score = seam(source, source, mask())
    assert (score.step_ratio, score.gradient_ratio, score.flicker_ratio, score.step_error) == (1, 1, 1, 0)
    assert score.within_source


def test_another_mouth_inside_is_no_seam() -> None:
    source, alpha = lower_face(), mask()
    inner = np.asarray(cv2.GaussianBlur(hard(alpha, 1.0), (0, 0), 12), np.float32)
    inner[cv2.distanceTransform((alpha >= 1).astype(np.uint8), cv2.DIST_L2, 5) < 24] = 0
    moved = over(brighter(source, 30), source, inner * hard(alpha, 1.0))
    assert (moved != source).any()
    assert seam(moved, source, alpha).within_source


def test_an_even_shading_is_no_step() -> None:
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    slope = np.repeat((40 + 0.5 * x + 0.2 * y)[..., None], 3, 2).astype(np.uint8)
    score = seam(slope, slope, mask())
    assert score.step_source < 0.5
    assert score.gradient_source > 0.25


def test_the_step_of_a_flat_picture_is_what_was_planted() -> None:
    flat = np.full((SIZE_PX, SIZE_PX, 3), 100, np.uint8)
    score = seam(over(brighter(flat, 4), flat, hard(mask())), flat, mask())
    assert score.step == pytest.approx(4.0, abs=0.05)
    assert score.step_median == pytest.approx(4.0, abs=0.2)
    assert score.step_error == pytest.approx(4.0, abs=0.05)
    assert (score.step_source, score.gradient_source) == (0, 0)


def clip(change: Callable[[U8, F32, int], U8], frames: int = 6) -> SeamScore:
    meter = SeamMeter()
    for t in range(frames):
        source = lower_face(t % 2)
        assert meter.add(change(source, mask(), t), source, mask(), joined=t > 0)
    score = meter.result()
    assert score is not None
    assert meter.frames == frames
    return score


def test_a_border_that_flickers_is_found() -> None:
    steady = clip(lambda s, m, t: s)
    score = clip(lambda s, m, t: over(brighter(s, 4 * (t // 2 % 2)), s, m))
    assert steady.flicker == steady.flicker_source > 0
    assert steady.within_source
    assert score.flicker_source == steady.flicker_source
    assert score.flicker > score.flicker_source


def test_light_that_flickers_on_a_still_face_is_found() -> None:
    source, meter = lower_face(), SeamMeter()
    for t in range(4):
        meter.add(over(brighter(source, 2 * (t % 2)), source, mask()), source, mask(), joined=t > 0)
    score = meter.result()
    assert score is not None
    assert score.flicker_source == 0
    assert score.flicker_ratio > 2
    assert not score.within_source


def test_frames_that_do_not_follow_each_other_do_not_flicker() -> None:
    meter = SeamMeter()
    for t in range(3):
        source = brighter(lower_face(), 20 * t)
        meter.add(source, source, mask(), joined=False)
    score = meter.result()
    assert score is not None
    assert (score.flicker, score.flicker_source) == (0, 0)


def test_a_mask_that_leaves_the_crop_is_measured_where_it_shows() -> None:
    source = textured()
    corners = CORNERS + np.array([0, 60], np.float32)
    alpha = soft_mask(corners, 6.0, FEATHER_PX, SIZE_PX, SIZE_PX)
    assert alpha[-1].max() == 1
    assert seam(source, source, alpha).within_source
    assert not seam(over(brighter(source, 6), source, hard(alpha)), source, alpha).within_source


@pytest.mark.parametrize("size_px", [128, 384])
def test_other_sizes_of_crop(size_px: int) -> None:
    source = np.asarray(cv2.resize(textured(), (size_px, size_px)), np.uint8)
    alpha = np.asarray(cv2.resize(mask(), (size_px, size_px)), np.float32)
    assert seam(source, source, alpha).within_source
    assert not seam(over(brighter(source, 5), source, hard(alpha)), source, alpha).within_source


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_without_an_outline_is_refused(value: float) -> None:
    source = lower_face()
    alpha = np.full((SIZE_PX, SIZE_PX), value, np.float32)
    with pytest.raises(ValueError, match="no outline"):
        seam(source, source, alpha)
    meter = SeamMeter()
    assert not meter.add(source, source, alpha)
    assert meter.result() is None


def test_other_shapes_are_refused() -> None:
    source, meter = lower_face(), SeamMeter()
    with pytest.raises(ValueError, match="crops must be"):
        meter.add(source[:-1], source, mask())
    with pytest.raises(ValueError, match="crops must be"):
        meter.add(source, source, mask()[:, :-1])
    meter.add(source, source, mask())
    with pytest.raises(ValueError, match="one size"):
        meter.add(source[:128, :128], source[:128, :128], hard(mask()[:128, :128]))
