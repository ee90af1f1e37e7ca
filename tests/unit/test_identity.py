"""Telling the actor from others: what a look says, and what is believed after some."""

import cv2
import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.errors import ActorPackError, AssetError
from engine.face.fit import Fitter
from engine.face.identity import (
    ALIKE,
    CHECK_FRAMES,
    CHECK_YAW,
    LOOKS,
    MIDDLE,
    RETRY_FRAMES,
    TURN_LOOKS,
    UNLIKE,
    Belief,
    FaceReader,
    IdentityWatch,
    actor_direction,
    cut_out,
    from_bytes,
    load_face_axes,
    mean_direction,
    open_watch,
    weigh,
)
from engine.face.model import LANDMARKS, load_face_model
from engine.image.yuv import I420, Colour, rgb_to_i420
from tests.support.painted_face import picture
from tests.support.toy_actor import landmarks, pose, resting_face

BT709, FULL = (Colour("bt709", full_range=full) for full in (False, True))
AXES, MODEL = load_face_axes(), load_face_model()
READER = FaceReader(AXES.cells, MODEL)
FITTER = Fitter(MODEL, resting_face()[:LANDMARKS])
BETWEEN = (ALIKE + UNLIKE) / 2
NEW, ACTOR, OTHER = Belief(), Belief("actor"), Belief("other")


def person(seed: int, *, size_px: int = 240, light: float = 1.0, yaw_deg: float = 0.0) -> tuple[U8, F32]:
    """A painted face with moles and wrinkles of its own, and its landmarks."""
    scale = size_px / 240
    head = pose(scale_px=10 * scale, yaw_deg=yaw_deg, x_px=120 * scale, y_px=90 * scale)
    rgb = picture(head, light=light, width=size_px, height=size_px).astype(np.float32)
    marks = cv2.GaussianBlur(
        np.random.default_rng(seed).normal(0, 300, (60, 60)).astype(np.float32), (0, 0), 1.5
    )
    marks = cv2.resize(marks, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.clip(rgb + light * marks[..., None], 0, 255).astype(np.uint8), landmarks(head)


def direction(rgb: U8, points: F32, colour: Colour = BT709) -> F32:
    patch = cut_out(rgb_to_i420(rgb, colour), colour, points)
    assert patch is not None
    return AXES.direction(READER.features(patch))


def after(belief: Belief, *likenesses: float) -> Belief:
    for likeness in likenesses:
        belief = weigh(belief, likeness)
    return belief


@pytest.mark.parametrize(("likeness", "verdict"), [(ALIKE, "actor"), (UNLIKE - 0.01, "other")])
def test_one_look_settles_a_clear_face(likeness: float, verdict: str) -> None:
    assert weigh(NEW, likeness).verdict == verdict


@pytest.mark.parametrize(("likeness", "verdict"), [(MIDDLE, "actor"), (MIDDLE - 0.01, "other")])
def test_some_looks_settle_a_face_between(likeness: float, verdict: str) -> None:
    assert after(NEW, *[likeness] * (LOOKS - 1)).verdict == "undecided"
    assert after(NEW, *[likeness] * LOOKS).verdict == verdict


@pytest.mark.parametrize(("belief", "against"), [(ACTOR, UNLIKE - 0.01), (OTHER, ALIKE)])
def test_a_verdict_is_turned_only_by_looks_in_a_row(belief: Belief, against: float) -> None:
    doubted = after(belief, *[against] * (TURN_LOOKS - 1))
    assert (doubted.verdict, doubted.wait) == (belief.verdict, 0)
    assert weigh(doubted, against).verdict != belief.verdict
    assert after(doubted, BETWEEN, *[against] * (TURN_LOOKS - 1)).verdict == belief.verdict


@pytest.mark.parametrize("belief", [ACTOR, OTHER])
def test_no_flicker_between_the_limits(belief: Belief) -> None:
    for likeness in np.random.default_rng(0).uniform(UNLIKE, ALIKE - 1e-9, 200):
        belief = weigh(belief, float(likeness))
        assert belief.likenesses == ()
    assert belief.verdict in {"actor", "other"}


def test_settled_faces_are_looked_at_now_and_then() -> None:
    assert weigh(NEW, 1.0).wait == CHECK_FRAMES - 1
    assert weigh(NEW, 0.0).wait == RETRY_FRAMES - 1


def test_a_look_does_not_depend_on_light_size_or_range() -> None:
    known = direction(*person(1))
    for other in (
        direction(*person(1, light=0.6)),
        direction(*person(1, size_px=480)),
        direction(*person(1), colour=FULL),
    ):
        assert float(known @ other) > 0.9
    assert float(known @ direction(*person(2))) < UNLIKE
    assert np.linalg.norm(known) == pytest.approx(1, abs=1e-5)


def test_what_is_outside_the_picture_cannot_be_looked_at() -> None:
    image, points = I420.blank(64, 48), person(1)[1]
    assert cut_out(image, BT709, points + np.array([1000, 0, 0], np.float32)) is None
    patch = cut_out(image, BT709, points)
    assert patch is not None
    assert np.isfinite(AXES.direction(READER.features(patch))).all()


def test_a_moment_of_somebody_else_does_not_colour_the_reference() -> None:
    mine, theirs = direction(*person(1)), direction(*person(2))
    assert mean_direction(np.stack([mine, theirs, mine, mine]))[0] == pytest.approx(mine, abs=1e-6)


class Watched:
    """Frames before a watch."""

    def __init__(self, watch: IdentityWatch) -> None:
        self.watch = watch

    def sees(
        self, seed: int, *, yaw_deg: float = 0.0, new: bool = False, covered: bool = False, times: int = 1
    ) -> str:
        rgb, points = person(seed, yaw_deg=yaw_deg)
        image, state = rgb_to_i420(rgb, BT709), FITTER.fit(points)
        for _ in range(times):
            self.watch.look(image, BT709, points, state, new=new, covered=covered)
        return self.watch.verdict


@pytest.fixture
def watched() -> Watched:
    return Watched(IdentityWatch(AXES, MODEL, direction(*person(1))))


def test_a_new_face_is_known_at_once(watched: Watched) -> None:
    assert watched.watch.verdict == "undecided"
    assert [watched.sees(who, new=True) for who in (1, 2, 1)] == ["actor", "other", "actor"]


def test_somebody_who_takes_the_place_unseen_is_found_out_and_the_actor_again(watched: Watched) -> None:
    watched.sees(1, new=True)
    assert watched.sees(2, times=CHECK_FRAMES + TURN_LOOKS - 2) == "actor"
    assert watched.sees(2) == "other"
    assert watched.sees(1, times=RETRY_FRAMES + TURN_LOOKS - 1) == "actor"


def test_a_turned_head_says_nothing(watched: Watched) -> None:
    assert watched.sees(1, new=True, yaw_deg=50) == "undecided"
    watched.sees(1)
    assert watched.sees(2, yaw_deg=CHECK_YAW + 2, times=30) == "actor"


def test_a_face_comes_out_from_behind_something_as_a_new_one(watched: Watched) -> None:
    watched.sees(1, new=True)
    assert watched.sees(2, covered=True, times=3) == "undecided"
    assert watched.sees(2) == "other"


def test_without_an_entry_in_the_pack_everybody_is_the_actor() -> None:
    watch = Watched(open_watch({"identity.00000000": np.zeros((1, 64), np.float32)}))
    assert watch.watch.verdict == "actor"
    assert watch.sees(2, new=True) == "actor"


@pytest.mark.parametrize("rows", [np.zeros((2, 64), np.float32), np.zeros(64), np.zeros((1, 64), np.float32)])
def test_a_damaged_entry_is_refused(rows: F32) -> None:
    with pytest.raises(ActorPackError, match="identity does not fit"):
        actor_direction(AXES, {AXES.extra_name: rows})


def test_a_damaged_asset_is_refused() -> None:
    with pytest.raises(AssetError, match="damaged"):
        from_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(AssetError, match="damaged"):
        from_bytes(b"no")
