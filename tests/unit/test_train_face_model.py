"""The face model learned from heads that another face model moved: it must find that motion again."""

from pathlib import Path

import numpy as np
import pytest

from engine.arrays import F32
from engine.face.model import (
    CAVITY,
    INNER_LIPS,
    LANDMARKS,
    LOWER_TEETH,
    SKIN,
    UPPER_TEETH,
    VERTICES,
    FaceModel,
    aperture,
    from_bytes,
    load_face_model,
)
from export.train_face_model import CanonicalMesh, learn, reprojection_px, write
from tests.support.toy_actor import landmarks, pose

MODES, FRAMES = 4, 60


def mesh() -> CanonicalMesh:
    """The shipped model's mesh, the membrane between the lips put back in its place."""
    model = load_face_model()
    inner = dict(zip(range(LANDMARKS, LANDMARKS + len(INNER_LIPS)), INNER_LIPS, strict=True))
    cavity = model.triangles[model.layers == CAVITY]
    membrane = np.array([[inner[int(v)] for v in t] for t in cavity], np.int32)
    triangles = np.concatenate([model.triangles[model.layers == SKIN], membrane])
    return CanonicalMesh(model.canonical, model.uv[:LANDMARKS], triangles)


def talking(seed: int, frames: int = FRAMES) -> F32:
    rng, modes = np.random.default_rng(seed), load_face_model().expressions
    expressions = np.zeros((frames, modes), np.float32)
    expressions[:, :3] = rng.standard_normal((frames, 3))
    head = [pose(scale_px=20, yaw_deg=rng.uniform(-20, 20), x_px=300, y_px=200) for _ in range(frames)]
    return np.stack([landmarks(h, e) for h, e in zip(head, expressions, strict=True)])


@pytest.fixture(scope="module")
def learned() -> FaceModel:
    return learn(mesh(), {"ada": [talking(0), talking(1)], "bob": [talking(2)]}, modes=MODES)


def test_has_the_parts_of_a_face_model(learned: FaceModel) -> None:
    assert learned.basis.shape == (MODES, VERTICES, 3)
    assert set(learned.layers.tolist()) == {SKIN, CAVITY, LOWER_TEETH, UPPER_TEETH}
    assert np.isfinite(learned.basis).all()
    assert aperture(np.tensordot(learned.jaw_open, learned.basis, 1)) == pytest.approx(1, abs=1e-4)


def test_explains_people_it_has_not_seen(learned: FaceModel) -> None:
    errors = reprojection_px(learned, talking(9))
    assert errors["lips_px"] < 0.5
    assert errors["lower_face_px"] < 0.5


def test_modes_are_sorted_and_symmetric_in_sum(learned: FaceModel) -> None:
    spread = np.linalg.norm(learned.basis[:, learned.lower].reshape(MODES, -1), axis=1)
    assert spread[0] > 1.5 * spread[-1]
    jaw = np.tensordot(learned.jaw_open, learned.basis, 1)
    left, right = jaw[[61, 78]], jaw[[291, 308]]
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=0.05)


def test_learning_repeats(learned: FaceModel) -> None:
    again = learn(mesh(), {"ada": [talking(0), talking(1)], "bob": [talking(2)]}, modes=MODES)
    np.testing.assert_array_equal(again.basis, learned.basis)


def test_file_there_and_back(learned: FaceModel, tmp_path: Path) -> None:
    write(learned, tmp_path / "model.safetensors")
    again = from_bytes((tmp_path / "model.safetensors").read_bytes())
    for name in FaceModel.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(learned, name))
