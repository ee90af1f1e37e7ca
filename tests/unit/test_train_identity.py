"""The axes that tell people apart, learned from people made of numbers, and the grid they stand on."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from engine.errors import MediaError
from engine.face.identity import ALIKE, PATCH_PX, SIZE, UNLIKE, FaceAxes, Patch, from_bytes, load_face_axes
from engine.face.model import INNER_LIPS, LANDMARKS, load_face_model
from export.train_identity import discriminants, disturbed, face_cells, to_bytes, train_identity
from tests.support.toy_actor import landmarks, pose

MODEL = load_face_model()
CELLS = face_cells(MODEL)
FEATURES = int(CELLS.used.sum()) + 3 * LANDMARKS


def people(count: int, each: int) -> dict[str, np.ndarray]:
    """Features in 300 dimensions: who it is, and a light as strong as that, which is nobody's own."""
    random = np.random.default_rng(0)
    lights = random.normal(size=(20, 300))
    own = random.normal(size=(count, 300))
    return {
        str(index): (one + 3 * random.normal(size=(each, 20)) @ lights / np.sqrt(20)).astype(np.float32)
        for index, one in enumerate(own)
    }


def test_the_shipped_axes_stand_on_this_grid() -> None:
    shipped = load_face_axes()
    assert (shipped.cells.used == CELLS.used).all()
    assert (shipped.cells.corners == CELLS.corners).all()
    assert shipped.cells.shares == pytest.approx(CELLS.shares, abs=1e-3)
    assert shipped.axes.shape == (FEATURES, SIZE)


def test_the_grid_covers_the_face_but_not_the_mouth() -> None:
    assert 0.6 < CELLS.used.mean() < 0.9
    assert CELLS.shares[CELLS.used].sum(-1) == pytest.approx(1, abs=1e-5)
    assert (CELLS.shares[CELLS.used] > -1e-6).all()
    assert not np.isin(CELLS.corners[CELLS.used], INNER_LIPS).any()


def test_discriminants_see_who_it_is_and_not_the_light() -> None:
    known = people(150, 8)
    middle, axes = discriminants({who: rows[:6] for who, rows in known.items()})
    faces = FaceAxes(CELLS, middle, axes, "")
    first, later = (faces.direction(np.stack([rows[i] for rows in known.values()])) for i in (0, 7))
    likeness = first @ later.T
    apart = ~np.eye(len(known), dtype=bool)
    assert np.quantile(np.diag(likeness), 0.05) > ALIKE
    assert np.quantile(likeness[apart], 0.95) < UNLIKE


def test_the_asset_holds_what_was_learned() -> None:
    random = np.random.default_rng(0)
    middle = random.normal(size=FEATURES).astype(np.float32)
    axes = random.normal(size=(FEATURES, SIZE)).astype(np.float32)
    data = to_bytes(CELLS, middle, axes)
    held = from_bytes(data)
    assert (held.middle == middle).all()
    assert held.axes == pytest.approx(axes, abs=2e-3)
    assert len(data) < 2**20
    assert held.extra_name == from_bytes(data).extra_name != load_face_axes().extra_name


def test_a_disturbed_face_is_the_same_for_the_same_seed_and_hardly_moves() -> None:
    points = landmarks(pose(scale_px=6, x_px=64, y_px=50))[:LANDMARKS]
    face = Patch(np.full((PATCH_PX, PATCH_PX), 128, np.float32), points)
    one, two = (disturbed(face, np.random.default_rng(3)) for _ in range(2))
    assert (one.luma == two.luma).all()
    assert (one.landmarks == two.landmarks).all()
    assert np.abs(one.landmarks - points).max() < 8
    assert 0 <= one.luma.min() < one.luma.max() <= 255


def test_too_few_people_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match="shows 0 people"):
        train_identity(tmp_path, tmp_path / "out.safetensors")
