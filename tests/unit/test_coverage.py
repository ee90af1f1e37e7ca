from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from engine.arrays import F32
from engine.face.model import LOWER_TEETH, SKIN, UPPER_TEETH, load_face_model
from export.coverage import (
    WIDE_CM,
    Coverage,
    choose_reference,
    lip_opening_cm,
    look,
    not_learned,
    seen_colours,
    sharpness,
    texel_mask,
    yaw_deg,
)
from export.dataset import FaceClip
from export.render_batch import NO_NOISE, geometry, unproject
from export.replay import frames_of
from tests.support.toy_clip import opening, toy_clip

EVERYTHING = Coverage(
    seconds=10.0,
    frames=250,
    face_px=300.0,
    widest_cm=2.0,
    closest_cm=0.05,
    upper_teeth=0.5,
    lower_teeth=0.4,
    yaw_low_deg=-10.0,
    yaw_high_deg=12.0,
    texels_seen=0.93,
    sharpness=0.3,
    brightness=0.5,
)


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    return toy_clip(size_px=128)


def painted(clip: FaceClip, layers: tuple[int, ...]) -> FaceClip:
    """The clip with white where these layers of the mouth show."""
    crops = clip.crops.copy()
    for index in range(len(clip)):
        uv_map, _, _ = geometry(clip, index, load_face_model(), NO_NOISE, np.random.default_rng(0))
        crops[index][np.isin(uv_map.layer, layers)] = 235
    return replace(clip, crops=crops)


def seen(clip: FaceClip) -> Coverage:
    return look(clip, load_face_model(), seconds=1.0, face_px=100.0, texture_px=64)


def test_footage_that_shows_everything_leaves_nothing_to_say() -> None:
    assert not_learned(EVERYTHING) == ()


@pytest.mark.parametrize(
    ("lacks", "about"),
    [
        ({"upper_teeth": 0.0, "lower_teeth": 0.0}, "Teeth were never seen"),
        ({"lower_teeth": 0.02}, "The lower teeth were never seen"),
        ({"upper_teeth": 0.02}, "The upper teeth were never seen"),
        ({"widest_cm": 0.7}, "never wide open (0.7 cm at most)"),
        ({"closest_cm": 0.6}, "lips were never closed"),
        ({"frames": 1, "seconds": 0.0}, "One picture cannot show how this person moves"),
        ({"seconds": 1.2}, "1.2 s are few"),
        ({"yaw_low_deg": 22.0, "yaw_high_deg": 40.0}, "never seen from the front"),
        ({"yaw_low_deg": -40.0, "yaw_high_deg": -22.0}, "never seen from the front"),
        ({"texels_seen": 0.7}, "30 % of the lower face"),
        ({"face_px": 80.0}, "80 px wide"),
        ({"sharpness": 0.1}, "is blurred"),
        ({"brightness": 0.05}, "is dark"),
        ({"brightness": 0.97}, "is overexposed"),
    ],
)
def test_each_lack_is_one_sentence(lacks: dict[str, float], about: str) -> None:
    sentences = not_learned(replace(EVERYTHING, **lacks))  # type: ignore[arg-type]
    assert len(sentences) == 1
    assert about in sentences[0]


def test_the_numbers_go_into_a_manifest_under_names_of_their_own() -> None:
    metrics = EVERYTHING.as_metrics()
    assert metrics["coverage_widest_cm"] == 2.0
    assert len(metrics) == 12
    assert all(isinstance(value, float) for value in metrics.values())


def test_the_mouths_opening_is_measured(clip: FaceClip) -> None:
    openings = [opening(index) for index in range(len(clip))]
    measured = lip_opening_cm(clip, load_face_model())
    np.testing.assert_allclose(measured - measured.min(), openings - np.min(openings), atol=0.15)
    coverage = seen(clip)
    assert coverage.widest_cm == pytest.approx(measured.max())
    assert coverage.closest_cm == pytest.approx(measured.min())


def test_the_heads_turn_is_measured(clip: FaceClip) -> None:
    turns = [2.0 * np.sin(index) for index in range(len(clip))]
    np.testing.assert_allclose(np.abs(yaw_deg(clip)), np.abs(turns), atol=0.5)


def test_teeth_are_seen_where_the_mouth_shows_something_pale(clip: FaceClip) -> None:
    dark = seen(clip)
    assert max(dark.upper_teeth, dark.lower_teeth) < 0.1
    both = seen(painted(clip, (UPPER_TEETH, LOWER_TEETH)))
    assert min(both.upper_teeth, both.lower_teeth) > 0.9
    upper = seen(painted(clip, (UPPER_TEETH,)))
    assert upper.upper_teeth > 0.9
    assert upper.lower_teeth < 0.1


def test_closed_mouths_show_no_teeth_and_fewer_texels(clip: FaceClip) -> None:
    white = painted(clip, (UPPER_TEETH, LOWER_TEETH))
    order = np.argsort(lip_opening_cm(white, load_face_model()))
    closed, everything = seen(frames_of(white, order[:2])), seen(white)
    assert max(closed.upper_teeth, closed.lower_teeth) == 0
    assert closed.texels_seen < everything.texels_seen <= 1


def test_blur_lowers_sharpness_and_contrast_does_not() -> None:
    noise = np.random.default_rng(0).uniform(0, 1, (128, 128)).astype(np.float32)
    values = [sharpness(blurred(noise, sigma)) for sigma in (0.8, 1.2, 2.0)]
    assert values[0] > values[1] > values[2]
    plain = blurred(noise, 0.8)
    assert sharpness(plain * np.float32(0.2) + np.float32(0.4)) == pytest.approx(values[0], rel=1e-3)


def blurred(picture: F32, sigma_px: float) -> F32:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.float32)


def test_brightness_is_the_skins(clip: FaceClip) -> None:
    dark = replace(clip, crops=(clip.crops // 10).astype(np.uint8))
    assert seen(dark).brightness == pytest.approx(seen(clip).brightness / 10, abs=0.01)


def test_seen_colours_have_no_gaps_and_no_inventions(clip: FaceClip) -> None:
    model = load_face_model()
    photo = frames_of(clip, np.array([1]))
    plain, weight = unproject(photo, model, 144)
    colour, seen = seen_colours(photo, model, 144)
    hit = (weight > 0).astype(np.uint8)
    gaps = (cv2.morphologyEx(hit, cv2.MORPH_CLOSE, np.ones((3, 3))) > 0) & (hit == 0)
    assert gaps.any()
    assert seen[gaps].mean() > 0.6, "between the pixels of one small picture"
    assert seen.min() == 0
    far = cv2.dilate(hit, np.ones((9, 9))) == 0
    assert not seen[far].any()
    sure = weight >= 1
    np.testing.assert_allclose(colour[sure], plain[sure], atol=1e-5)
    assert np.abs(colour[seen == 1].std(0) - plain[sure].std(0)).max() < 0.1


def test_every_triangle_has_texels() -> None:
    model = load_face_model()
    mask = texel_mask(model, 256)
    middles = model.uv[model.triangles].mean(1)
    places = np.clip((middles * 256).astype(int), 0, 255)
    assert mask[places[:, 1], places[:, 0]].mean() > 0.98
    assert not mask.all()


def test_the_reference_is_open_and_shows_teeth(clip: FaceClip) -> None:
    model = load_face_model()
    chosen = choose_reference(clip, model)
    assert lip_opening_cm(clip, model)[chosen] > 0.8 * WIDE_CM
    assert choose_reference(frames_of(clip, np.array([4])), model) == 0


def test_the_reference_is_not_blurred_turned_or_covered(clip: FaceClip) -> None:
    model = load_face_model()
    white = painted(clip, (UPPER_TEETH, LOWER_TEETH))
    candidates = np.argsort(-lip_opening_cm(white, model))[:3]
    chosen = choose_reference(white, model)
    assert chosen in candidates
    blurred = white.crops.copy()
    blurred[chosen] = cv2.GaussianBlur(blurred[chosen], (0, 0), 4)
    turned = white.rotation.copy()
    turned[chosen] = cv2.Rodrigues(np.array([0.0, 1.2, 0.0]))[0] @ turned[chosen]
    covered = white.crops.copy()
    uv_map, _, mouth = geometry(white, chosen, model, NO_NOISE, np.random.default_rng(0))
    covered[chosen][(mouth > 0) & (uv_map.layer == SKIN)] = (20, 120, 30)
    for worse in (
        replace(white, crops=blurred),
        replace(white, rotation=turned),
        replace(white, crops=covered),
    ):
        assert choose_reference(worse, model) != chosen
