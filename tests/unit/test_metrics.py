"""Image metrics against scikit-image and against values worked out by hand."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from engine.arrays import F32, U8
from engine.image.yuv import Box
from export import metrics

RNG = np.random.default_rng(0)
peak_signal_noise_ratio: Any = skimage_metrics.peak_signal_noise_ratio
structural_similarity: Any = skimage_metrics.structural_similarity


def noisy(image: U8, sigma: float, seed: int = 1) -> U8:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def image() -> U8:
    blurred = cv2.GaussianBlur(RNG.integers(0, 256, (90, 121, 3), dtype=np.uint8), (0, 0), 3)
    return (blurred * 2).astype(np.uint8)


@pytest.fixture
def face() -> F32:
    """A face-like cloud: 100 px wide, 140 px high, centred in a 200 x 240 picture."""
    rng = np.random.default_rng(3)
    points = np.zeros((478, 3), np.float32)
    points[:, 0] = rng.uniform(60, 140, 478)
    points[:, 1] = rng.uniform(60, 180, 478)
    points[10, :2] = (100, 50)
    points[152, :2] = (100, 190)
    points[93, :2], points[323, :2] = (50, 120), (150, 120)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points[metrics.LIPS, :2] = np.stack((100 + 20 * np.cos(angle), 160 + 10 * np.sin(angle)), 1)
    lower = [i for i in metrics.LOWER_FACE if i not in {93, 323, 152}]
    points[lower, :2] = rng.uniform((70, 125), (130, 180), (len(lower), 2))
    return points


@pytest.mark.parametrize("sigma", [1, 5, 40])
def test_psnr_is_scikit_images(image: U8, sigma: float) -> None:
    other = noisy(image, sigma)
    assert metrics.psnr_db(image, other) == pytest.approx(peak_signal_noise_ratio(image, other), abs=1e-9)


@pytest.mark.parametrize("sigma", [0, 1, 5, 40])
@pytest.mark.parametrize("shape", [(90, 121), (11, 11), (11, 60), (13, 12)])
def test_ssim_is_scikit_images(image: U8, sigma: float, shape: tuple[int, int]) -> None:
    a = np.ascontiguousarray(image[: shape[0], : shape[1]])
    b = noisy(a, sigma)
    want = structural_similarity(
        a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert metrics.ssim(a, b) == pytest.approx(want, abs=1e-9)


def test_identical_images_are_at_the_ceiling(image: U8) -> None:
    assert metrics.psnr_db(image, image) == metrics.PSNR_CEILING_DB
    assert metrics.ssim(image, image) == pytest.approx(1.0)


def test_ssim_of_less_than_a_window_is_none(image: U8) -> None:
    assert metrics.ssim(image[:10], image[:10]) is None


@pytest.mark.parametrize("function", [metrics.psnr_db, metrics.ssim])
def test_images_of_another_size_or_type_are_refused(
    image: U8, function: Callable[[U8, U8], float | None]
) -> None:
    with pytest.raises(ValueError, match="of one size"):
        function(image, image[1:])
    with pytest.raises(TypeError, match="uint8"):
        function(image, image.astype(np.float32))


def test_face_box_holds_the_face_and_not_the_irises(face: F32) -> None:
    face[470, :2] = (5, 5)
    box = metrics.face_box(face, 240, 200)
    assert box == Box(50, 50, 100, 140)


def test_boxes_are_cut_at_the_picture(face: F32) -> None:
    face[:, 0] -= 70
    box = metrics.face_box(face, 240, 200)
    assert box == Box(0, 50, 80, 140)
    face[:, 0] -= 70
    assert metrics.face_box(face, 240, 200) is None


def test_mouth_box_adds_a_fifth_on_each_side(face: F32) -> None:
    box = metrics.mouth_box(face, 240, 200)
    assert box == Box(72, 146, 56, 28)


def test_boxes_of_a_lost_face_are_an_error(face: F32) -> None:
    face[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        metrics.face_box(face, 240, 200)
    with pytest.raises(ValueError, match="finite"):
        metrics.mouth_landmark_distance_px(face, face)


def test_mouth_landmark_distance_is_scaled_to_a_256_px_face(face: F32) -> None:
    moved = face.copy()
    moved[metrics.LIPS, 1] += 7.0
    moved[0, 2] += 100.0
    assert metrics.mouth_landmark_distance_px(moved, face) == pytest.approx(7.0 * 256 / 140, rel=1e-5)
    assert metrics.mouth_landmark_distance_px(2 * moved, 2 * face) == pytest.approx(7.0 * 256 / 140, rel=1e-5)
    assert metrics.mouth_landmark_distance_px(face, face) == 0.0


def test_lips_are_forty_different_landmarks() -> None:
    assert len(set(metrics.LIPS.tolist())) == 40


def test_outside_mask_frees_the_lower_face_an_opened_jaw_and_nothing_above_the_nose(face: F32) -> None:
    mask = metrics.outside_mask([face], 240, 200)
    assert set(np.unique(mask)) == {0, 255}
    radius = round(0.08 * 140)
    assert mask[160, 100] == 0
    assert mask[190 + 35 + radius - 1, 100] == 0
    assert mask[190 + 35 + radius + 2, 100] == 255
    assert mask[120, 50 - radius + 1] == 0
    assert mask[120, 50 - radius - 2] == 255
    assert (mask[: 120 - radius - 1] == 255).all()


def test_outside_mask_is_the_union_over_faces(face: F32) -> None:
    other = face + np.array([20, 0, 0], np.float32)
    both = metrics.outside_mask([face, other], 240, 200)
    each = [metrics.outside_mask([f], 240, 200) for f in (face, other)]
    np.testing.assert_array_equal(both, np.minimum(*each))


def test_outside_mask_of_no_face_is_the_whole_picture() -> None:
    assert (metrics.outside_mask([], 24, 20) == 255).all()


def test_pooled_psnr_counts_only_the_mask(image: U8) -> None:
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[:40] = 255
    other = noisy(image, 10)
    pooled = metrics.PooledPsnr()
    pooled.add(image, other, mask)
    want = peak_signal_noise_ratio(image[:40], other[:40])
    assert pooled.result() == pytest.approx(want, abs=1e-9)
    other[:40] = image[:40]
    clean = metrics.PooledPsnr()
    clean.add(image, other, mask)
    assert clean.result() == metrics.PSNR_CEILING_DB


def test_pooled_psnr_is_that_of_the_frames_laid_side_by_side(image: U8) -> None:
    others = [noisy(image, 3), noisy(image, 30)]
    pooled = metrics.PooledPsnr()
    for other in others:
        pooled.add(image, other)
    want = peak_signal_noise_ratio(np.concatenate((image, image)), np.concatenate(others))
    assert pooled.result() == pytest.approx(want, abs=1e-9)


def test_nothing_counted_is_none(image: U8) -> None:
    assert metrics.Mean().result() is None
    assert metrics.PooledPsnr().result() is None
    assert metrics.Flicker().ratio() is None
    assert metrics.Flicker().error_levels() is None
    empty = metrics.PooledPsnr()
    empty.add(image, image, np.zeros(image.shape[:2], np.uint8))
    assert empty.result() is None


def test_mean_leaves_out_what_is_not_a_number() -> None:
    mean = metrics.Mean()
    for value in (1.0, None, float("nan"), 3.0, float("inf")):
        mean.add(value)
    assert (mean.result(), mean.count) == (2.0, 2)


def flicker_of(out: list[U8], ref: list[U8]) -> metrics.Flicker:
    flicker = metrics.Flicker()
    for t in range(1, len(ref)):
        flicker.add(out[t - 1], out[t], ref[t - 1], ref[t])
    return flicker


def test_flicker_of_the_source_itself_is_one(image: U8) -> None:
    frames = [np.roll(image, t, 1) for t in range(4)]
    flicker = flicker_of(frames, frames)
    assert flicker.ratio() == 1.0
    assert flicker.error_levels() == 0.0


def test_flicker_sees_noise_and_frozen_frames(image: U8) -> None:
    frames = [np.roll(image, t, 1) for t in range(4)]
    shaky = [noisy(f, 25, seed=t) for t, f in enumerate(frames)]
    frozen = flicker_of([image] * 4, frames)
    assert (flicker_of(shaky, frames).ratio() or 0.0) > 1.2
    assert frozen.ratio() == 0.0
    assert (frozen.error_levels() or 0.0) > 1.0


def test_flicker_is_the_ratio_of_sums() -> None:
    ref = [np.full((2, 2, 3), v, np.uint8) for v in (10, 20, 10)]
    out = [np.full((2, 2, 3), v, np.uint8) for v in (200, 215, 220)]
    flicker = flicker_of(out, ref)
    assert flicker.ratio() == pytest.approx(20 / 20)
    assert flicker.error_levels() == pytest.approx((5 + 15) / 2)


def test_flicker_against_a_still_source_is_unknown(image: U8) -> None:
    assert flicker_of([image, noisy(image, 9)], [image, image]).ratio() is None


def scores_of(outs: list[U8], refs: list[U8], face: F32, out_face: F32 | None = None) -> metrics.FrameScores:
    scores = metrics.FrameScores(lambda a, b: float(np.abs(a.astype(int) - b).mean()))
    for t, (out, ref) in enumerate(zip(outs, refs, strict=True)):
        scores.add(
            out, ref, face if out_face is None else out_face, face, joined=t > 0, perceptual=t % 2 == 0
        )
    return scores


@pytest.fixture
def frames() -> list[U8]:
    return [RNG.integers(0, 256, (240, 200, 3), dtype=np.uint8) for _ in range(3)]


def test_frame_scores_are_means_over_the_references_boxes(frames: list[U8], face: F32) -> None:
    outs = [noisy(frame, 10 + 5 * t, seed=t) for t, frame in enumerate(frames)]
    scores = scores_of(outs, frames, face)
    box, mouth = Box(50, 50, 100, 140), Box(72, 146, 56, 28)
    pairs = list(zip(outs, frames, strict=True))
    for mean, where in ((scores.face_psnr, box), (scores.mouth_psnr, mouth)):
        want = np.mean([metrics.psnr_db(metrics.crop(a, where), metrics.crop(b, where)) for a, b in pairs])
        assert mean.result() == pytest.approx(want)
    for mean, where in ((scores.face_ssim, box), (scores.mouth_ssim, mouth)):
        want = np.mean(
            [metrics.ssim(metrics.crop(a, where), metrics.crop(b, where)) or 0.0 for a, b in pairs]
        )
        assert mean.result() == pytest.approx(want)
    assert (scores.frames, scores.perceptual.count, scores.mouth_lmd.result()) == (3, 2, 0.0)
    assert scores.outside.result() == pytest.approx(
        np.mean([metrics.psnr_db(*pair) for pair in pairs]), abs=1
    )
    assert scores.flicker.ratio() == pytest.approx(1.0, abs=0.2)


def test_frame_scores_skip_flicker_where_frames_do_not_follow(frames: list[U8], face: F32) -> None:
    scores = metrics.FrameScores()
    for frame in frames:
        scores.add(frame, frame, face, face, joined=False)
    assert scores.flicker.count == 0
    assert scores.perceptual.count == 0


def test_a_lost_output_face_is_counted_and_the_rest_is_measured(frames: list[U8], face: F32) -> None:
    scores = scores_of(frames, frames, face, np.full_like(face, np.nan))
    assert scores.frames_face_lost == scores.frames == 3
    assert scores.mouth_lmd.result() is None
    assert scores.face_psnr.result() == metrics.PSNR_CEILING_DB


def test_a_face_outside_the_picture_has_no_scores(frames: list[U8], face: F32) -> None:
    scores = scores_of(frames, frames, face - np.float32(1000))
    assert scores.frames == 3
    assert scores.face_psnr.result() is scores.mouth_psnr.result() is scores.perceptual.result() is None
    assert scores.flicker.ratio() is None
    assert scores.outside.result() == metrics.PSNR_CEILING_DB
