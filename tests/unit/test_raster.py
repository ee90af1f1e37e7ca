import numpy as np
import pytest

from engine.arrays import F32, I32
from engine.face.model import CAVITY, LOWER_TEETH, SKIN, UPPER_TEETH, load_face_model
from engine.render.raster import NOTHING, UvMap, rasterise, rasterise_reference, sample, sample_reference
from tests.support.toy_actor import crop_head, opened, resting_face

SIZE_PX = 96
ONE_TRIANGLE = np.array([[0, 1, 2]], np.int32)
CORNER_UV = np.array([[0, 0], [1, 0], [0, 1]], np.float32)


def mesh(yaw_deg: float, opening: float, roll_deg: float = 0.0) -> tuple[F32, I32, I32, F32]:
    model = load_face_model()
    head = crop_head(SIZE_PX, yaw_deg=yaw_deg, roll_deg=roll_deg)
    vertices = model.vertices(resting_face(), opened(opening), head)
    return vertices, model.triangles, model.layers, model.uv


def shown(yaw_deg: float = 0.0, opening: float = 0.0) -> UvMap:
    return rasterise(*mesh(yaw_deg, opening), SIZE_PX, SIZE_PX)


def triangle(*corners: tuple[float, float], z: float = 0.0, layer: int = SKIN) -> UvMap:
    vertices = np.array([(*corner, z) for corner in corners], np.float32)
    return rasterise(vertices, ONE_TRIANGLE, np.array([layer], np.int32), CORNER_UV, 8, 8)


@pytest.mark.parametrize(
    ("yaw_deg", "roll_deg", "opening"), [(0, 0, 0), (15, 20, 1), (-40, -5, 2.5), (80, 0, 1)]
)
def test_fast_is_the_reference(yaw_deg: float, roll_deg: float, opening: float) -> None:
    face = mesh(yaw_deg, opening, roll_deg)
    fast = rasterise(*face, SIZE_PX, SIZE_PX)
    slow = rasterise_reference(*face, SIZE_PX, SIZE_PX)
    np.testing.assert_array_equal(fast.layer, slow.layer)
    np.testing.assert_allclose(fast.uv, slow.uv, atol=1e-6)


def test_a_face_that_leaves_the_picture_is_cut_off() -> None:
    vertices, triangles, layers, uv = mesh(0, 1)

    def moved_by(x: float, y: float) -> UvMap:
        moved = vertices + np.array([x, y, 0], np.float32)
        return rasterise(moved, triangles, layers, uv, SIZE_PX, SIZE_PX)

    whole = moved_by(0, 0)
    moved = moved_by(40, -30)
    np.testing.assert_array_equal(moved.layer[:-30, 40:], whole.layer[30:, :-40])
    gone = moved_by(1e6, 1e6)
    assert (gone.layer == NOTHING).all()
    assert not gone.uv.any()


@pytest.mark.parametrize("yaw_deg", [-35.0, 0.0, 35.0])
def test_inner_mouth_shows_only_between_open_lips(yaw_deg: float) -> None:
    closed, opened_wide = shown(yaw_deg, 0.0), shown(yaw_deg, 2.0)
    hidden = np.isin(closed.layer, (CAVITY, LOWER_TEETH, UPPER_TEETH))
    assert not hidden.any(), "a closed mouth shows only skin"
    inner = np.isin(opened_wide.layer, (CAVITY, LOWER_TEETH, UPPER_TEETH))
    assert np.isin(opened_wide.layer, (LOWER_TEETH, UPPER_TEETH)).any()
    vertices, triangles, layers, uv = mesh(yaw_deg, 2.0)
    hole = layers == CAVITY
    without_teeth = layers <= CAVITY
    cavity = rasterise(vertices, triangles[without_teeth], layers[without_teeth], uv, SIZE_PX, SIZE_PX)
    np.testing.assert_array_equal(inner, cavity.layer == CAVITY)
    assert (
        inner.sum() < rasterise(vertices, triangles[hole], layers[hole], uv, SIZE_PX, SIZE_PX).layer.size / 4
    )


def test_wider_open_shows_more() -> None:
    areas = [np.sum(shown(0, opening).layer > SKIN) for opening in (0.0, 0.5, 1.0, 2.0, 3.0)]
    assert (np.diff(areas) > 0).all()


def test_every_pixel_has_a_texel_of_its_layer() -> None:
    model, picture = load_face_model(), shown(10, 1.5)
    for layer in (SKIN, CAVITY, LOWER_TEETH, UPPER_TEETH):
        uv, area = (
            picture.uv[picture.layer == layer],
            model.uv[np.unique(model.triangles[model.layers == layer])],
        )
        assert len(uv)
        assert (uv >= area.min(0) - 1e-6).all()
        assert (uv <= area.max(0) + 1e-6).all()


def test_a_pixel_is_in_when_its_centre_is() -> None:
    picture = triangle((0.5, 0.5), (4.5, 0.5), (0.5, 4.5))
    rows, columns = np.nonzero(picture.layer == SKIN)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (y, x) for y in range(5) for x in range(5) if x + y <= 4
    }
    np.testing.assert_allclose(picture.uv[1, 2], [0.5, 0.25], atol=1e-6)


def test_direction_of_the_corners_does_not_matter() -> None:
    one = triangle((1, 1), (7, 2), (3, 6))
    other = triangle((3, 6), (7, 2), (1, 1))
    np.testing.assert_array_equal(one.layer, other.layer)


def test_nearer_wins_and_flat_triangles_are_nothing() -> None:
    assert (triangle((1, 1), (4, 4), (7, 7)).layer == NOTHING).all()
    vertices = np.array([[0, 0, 1], [8, 0, 1], [0, 8, 1], [0, 0, 0], [8, 0, 0], [0, 8, 0]], np.float32)
    uv = np.repeat(np.array([[0.25, 0.25], [0.75, 0.75]], np.float32), 3, axis=0)
    for order in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        picture = rasterise(vertices, np.array(order, np.int32), np.zeros(2, np.int32), uv, 8, 8)
        np.testing.assert_allclose(picture.uv[picture.layer == SKIN], 0.75)


def test_teeth_alone_are_not_drawn() -> None:
    assert (triangle((0, 0), (8, 0), (0, 8), layer=UPPER_TEETH).layer == NOTHING).all()


def test_sampling_is_the_reference() -> None:
    rng = np.random.default_rng(0)
    texture = rng.standard_normal((24, 40, 5)).astype(np.float32)
    uv = rng.uniform(-0.1, 1.1, (30, 20, 2)).astype(np.float32)
    uv_map = UvMap(uv, rng.integers(-1, 4, (30, 20)).astype(np.int8))
    out = np.full((30, 20, 5), np.nan, np.float32)
    sample(texture, uv_map, out)
    np.testing.assert_allclose(out, sample_reference(texture, uv_map), atol=2e-5)
    assert not out[uv_map.layer == NOTHING].any()


def test_texel_centres_give_texels() -> None:
    texture = np.random.default_rng(1).standard_normal((6, 9, 2)).astype(np.float32)
    v, u = np.mgrid[0:6, 0:9]
    uv = np.stack([(u + 0.5) / 9, (v + 0.5) / 6], -1).astype(np.float32)
    out = np.empty_like(texture)
    sample(texture, UvMap(uv, np.zeros((6, 9), np.int8)), out)
    np.testing.assert_allclose(out, texture, atol=1e-5)
