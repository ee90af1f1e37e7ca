"""The border of what is drawn, on a real face: no seam, whatever the jaw does."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from engine.actor.pack import read_pack
from engine.arrays import F32, U8
from engine.composite.bend import bend, displacement
from engine.composite.blend import border_window, match_colour
from engine.face.crop import crop_pose, follow
from engine.face.fit import FaceState, Fitter
from engine.face.model import LANDMARKS
from engine.face.tracker import FaceTracker
from engine.image.resize import cut
from engine.render.renderer import Rendered, Renderer, open_renderer
from export.adapt import AdaptOptions, adapt
from export.seam import SeamMeter
from tests.support.data import astronaut, model_file

ENLARGED = 3
JAWS_CM = (-0.6, 0.0, 0.5, 1.0, 1.5)  # beside the photograph's own opening, a smile that shows teeth


@pytest.fixture(scope="module")
def photo() -> U8:
    return np.asarray(cv2.resize(astronaut()[:260, 90:360], None, fx=ENLARGED, fy=ENLARGED), np.uint8)


@pytest.fixture(scope="module")
def renderer(photo: U8, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """The person, learned from the photograph in a few steps."""
    model_file("face_landmarker")
    model_file("perceptual_alex")
    folder = tmp_path_factory.mktemp("border")
    picture, pack = folder / "photo.png", folder / "photo.actor"
    assert cv2.imwrite(str(picture), photo[..., ::-1])
    adapt(picture, pack, AdaptOptions(steps=4), now_iso="2026-01-01T00:00:00+00:00", on_progress=_quiet)
    return open_renderer(read_pack(Path(pack)))


def _quiet(*_: object) -> None:
    pass


def state_of(photo: U8, renderer: Renderer) -> FaceState:
    found = FaceTracker().step(photo)
    assert found is not None
    return Fitter(renderer.model, renderer.neutral[:LANDMARKS]).fit(found.landmarks)


def drawn(photo: U8, renderer: Renderer, *, light: float = 0.0) -> Iterator[tuple[U8, U8, F32]]:
    """Composite, source and alpha for every jaw; `light` makes the drawn face darker than the frame."""
    state, size = state_of(photo, renderer), renderer.size_px
    square = follow(None, state.pose).square
    crop, pose, out = cut(photo, square, size), crop_pose(state.pose, square, size), Rendered.empty(size)
    for jaw_cm in JAWS_CM:
        wanted = np.asarray(state.expression + jaw_cm * renderer.model.jaw_open, np.float32)
        shift = displacement(renderer.model, renderer.neutral, state.expression, wanted, pose, size)
        source = np.asarray(bend(crop, shift), np.uint8)
        renderer.render(source, pose, wanted, out=out)
        rgb = np.clip(out.rgb.astype(np.float32) - light, 0, 255).astype(np.uint8)
        window = border_window(size)
        alpha = out.alpha * window
        rgb = match_colour(rgb, source, out.mask * window, alpha)
        share = alpha[..., None]
        yield np.rint(rgb * share + source * (1 - share)).astype(np.uint8), source, alpha


def test_the_border_is_as_even_as_the_photographs_own(photo: U8, renderer: Renderer) -> None:
    meter = SeamMeter()
    for composite, source, alpha in drawn(photo, renderer):
        assert meter.add(composite, source, alpha)
    score = meter.result()
    assert score is not None
    assert score.within_source, score


def test_light_that_the_renderer_gets_wrong_leaves_no_edge(photo: U8, renderer: Renderer) -> None:
    meter = SeamMeter()
    for composite, source, alpha in drawn(photo, renderer, light=8):
        meter.add(composite, source, alpha)
    score = meter.result()
    assert score is not None
    assert score.step_median <= score.step_range_source, score


def test_real_skin_shows_wherever_it_can(photo: U8, renderer: Renderer) -> None:
    """Alpha covers the lips and little else, and ends well inside the mask."""
    for _, _, alpha in drawn(photo, renderer):
        assert alpha.max() > 0.95
        assert 0.02 < (alpha > 0.5).mean() < 0.25
        assert alpha[[0, -1]].max() == alpha[:, [0, -1]].max() == 0
