import numpy as np
import pytest

from engine.face.crop import crop_pose as in_crop
from engine.face.crop import follow
from engine.face.fit import FaceState, Fitter
from engine.face.model import LIPS, Pose, load_face_model
from engine.face.occlusion import (
    CLEAR_FRAMES,
    FORGET_FRAMES,
    LEARNING_FRAMES,
    PATIENCE_FRAMES,
    CoverWatch,
    Looks,
    face_cells,
    far_share,
    read_cells,
    watch,
)
from tests.support.painted_face import hidden, picture, vertices
from tests.support.toy_actor import SIZE_PX, crop_head, landmarks, opened, resting_face

MODEL = load_face_model()
CELLS = face_cells(MODEL)


def state(head: Pose, opening_cm: float = 0.0) -> FaceState:
    return FaceState(head, opened(opening_cm), np.zeros((468, 3), np.float32), 1.0)


class Face:
    """Somebody who talks and moves, and what is known of the looks."""

    def __init__(self, frames: int = 30) -> None:
        self.watch, self.count = CoverWatch(MODEL, resting_face()), 0
        for _ in range(frames):
            assert not self.next()

    def next(
        self, colour: tuple[int, int, int] | None = None, *, light: float = 1.0, cut: bool = False
    ) -> bool:
        """One frame, maybe with something before the mouth; whether that was noticed."""
        self.count += 1
        head = crop_head(yaw_deg=8 * np.sin(self.count / 5), roll_deg=3 * np.sin(self.count / 7))
        opening = float(1 + np.sin(self.count))
        crop = picture(head, opening, light=light, seed=self.count)
        if colour is not None:
            crop = hidden(crop, head, colour)
        self.watch.look(crop, head, state(head, opening), cut=cut)
        return self.watch.covered


def test_a_talking_moving_face_is_not_covered() -> None:
    assert not any(Face(0).next() for _ in range(200))


def test_nor_is_one_whose_light_changes() -> None:
    face = Face()
    assert not any(face.next(light=light) for light in (0.6, 1.1, *np.linspace(1.1, 0.5, 20)))


@pytest.mark.parametrize("colour", [(30, 30, 30), (230, 60, 40), (90, 120, 200), (205, 165, 145)])
def test_what_comes_before_the_mouth_is_noticed_within_two_frames(colour: tuple[int, int, int]) -> None:
    face = Face()
    assert [face.next(colour), face.next(colour)][1]
    assert all(face.next(colour) for _ in range(30))


def test_the_face_is_clear_again_after_some_clear_frames() -> None:
    face = Face()
    for _ in range(10):
        face.next((30, 30, 30))
    assert [face.next() for _ in range(CLEAR_FRAMES + 1)] == [True] * (CLEAR_FRAMES - 1) + [False] * 2


def test_a_glimpse_of_the_face_is_not_enough() -> None:
    face = Face()
    assert [face.next((30, 30, 30) if index % 3 < 2 else None) for index in range(20)][1:] == [True] * 19


def test_new_looks_are_learned_in_the_end_and_sooner_if_the_old_ones_were_new() -> None:
    lasting = []
    for frames in (LEARNING_FRAMES + 1, 60):
        face = Face(frames)
        lasting.append(next(n for n in range(1000) if n > 0 and not face.next((30, 30, 30))))
    assert lasting[0] == pytest.approx(PATIENCE_FRAMES[0], abs=2)
    assert lasting[1] == pytest.approx(120, abs=2)


def test_a_cut_and_a_long_loss_forget_the_face_a_short_one_does_not() -> None:
    face = Face()
    face.next((30, 30, 30))
    face.next((30, 30, 30))
    for _ in range(FORGET_FRAMES):
        face.watch.miss()
        assert face.watch.covered
    face.watch.miss()
    assert not face.watch.covered
    other = Face()
    other.next((30, 30, 30))
    assert not other.next((30, 30, 30), cut=True)


def test_a_profile_is_not_looked_at() -> None:
    face = Face()
    known = face.watch._looks
    head = crop_head(yaw_deg=60)
    face.watch.look(hidden(picture(head), head, (0, 0, 0)), head, state(head))
    assert face.watch._looks is known


def test_cells_lie_on_skin_around_the_mouth_and_on_nose_and_cheeks() -> None:
    assert 60 <= CELLS.mouth <= 96
    assert len(CELLS.corners) - CELLS.mouth > 50
    np.testing.assert_allclose(CELLS.shares.sum(1), 1, atol=1e-5)
    places = np.einsum("nkd,nk->nd", resting_face()[CELLS.corners], CELLS.shares)
    lips = resting_face()[list(LIPS)]
    near = places[: CELLS.mouth]
    assert near[:, 1].min() > lips[:, 1].min() - 1.5
    assert near[:, 1].max() < lips[:, 1].max() + 2.0
    assert places[CELLS.mouth :, 1].max() < 1.6


def test_cells_go_with_the_face_wherever_its_crop_is() -> None:
    """Through the pixels of a frame: the same head, seen in another crop, has the same looks."""
    head = crop_head()
    looks = read_cells(CELLS, picture(head), vertices(head))
    wide = np.full((400, 400, 3), 128, np.uint8)
    wide[90 : 90 + SIZE_PX, 60 : 60 + SIZE_PX] = picture(head)
    moved = Pose(head.scale_px, head.rotation, head.translation_px + np.array([60, 90, 0]))
    np.testing.assert_allclose(read_cells(CELLS, wide, vertices(moved)), looks, atol=0.05)
    bright = read_cells(CELLS, picture(head, light=0.7), vertices(head))
    assert np.abs(np.median(bright[:, 0] - looks[:, 0]) - np.log(0.7)) < 0.05
    assert np.abs(bright[:, 1:] - looks[:, 1:]).mean() < 0.03


def test_tracked_landmarks_give_the_same_cells() -> None:
    """The mesh that is fitted to landmarks, as the dubber does it."""
    head = crop_head()
    fitted = Fitter(MODEL, resting_face()).fit(landmarks(head, opened(0.8)))
    square = follow(None, fitted.pose).square
    assert square.side_px == pytest.approx(SIZE_PX, abs=2)
    assert (
        np.abs(in_crop(fitted.pose, square, SIZE_PX).translation_px - fitted.pose.translation_px)[:2].max()
        < 6
    )
    there = MODEL.vertices(resting_face(), fitted.expression, fitted.pose)
    crop = picture(head, 0.8)
    difference = read_cells(CELLS, crop, there) - read_cells(CELLS, crop, vertices(head, 0.8))
    assert np.median(np.abs(difference)) < 0.03


def test_looks_are_values() -> None:
    random = np.random.default_rng(0)
    first = watch(Looks(), random.normal(size=(20, 3)).astype(np.float32), 12)
    before = first.mean.copy() if first.mean is not None else None
    watch(first, random.normal(size=(20, 3)).astype(np.float32), 12)
    np.testing.assert_array_equal(first.mean, before)


def test_far_is_far_against_the_spread() -> None:
    away = np.array([[0.5, 0, 0], [0.05, 0, 0], [0, 0.2, 0], [0.5, 0, 0]], np.float32)
    variance = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0.25, 0, 0]], np.float32)
    assert far_share(away, variance) == 0.5
