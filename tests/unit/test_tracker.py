from pathlib import Path

import numpy as np
import pytest

from engine.arrays import U8
from engine.errors import AssetError
from engine.face import tracker as tracking
from engine.face.detector import Detection, FaceDetector, Region
from engine.face.landmarks import LandmarkNetwork
from engine.face.picture import RgbPicture
from engine.face.tracker import FaceTracker, LandmarkResult, TrackerState
from tests.support.data import astronaut, faces_picture, model_file

GREY: U8 = np.full((720, 1280, 3), 96, np.uint8)
NOISE: U8 = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
LEFT, RIGHT = (320, 330, 1.2, False), (960, 330, 1.2, True)
LOOKS = 4  # windows of a wide picture


@pytest.fixture(scope="module")
def models() -> bytes:
    return model_file("face_landmarker").read_bytes()


@pytest.fixture
def tracker(models: bytes) -> FaceTracker:
    return FaceTracker(models)


def place(found: LandmarkResult | None) -> tuple[float, float]:
    """The centre of the found face."""
    assert found is not None
    return found.region.x_px, found.region.y_px


def test_raw_landmarks_of_a_still_picture_stay(tracker: FaceTracker) -> None:
    found = [tracker.step(astronaut()) for _ in range(6)]
    points = np.stack([one.landmarks for one in found if one is not None])
    assert points.shape == (6, 478, 3)
    assert points.dtype == np.float32
    # The region settles within the first frames; landmarks of other implementations differ by as much.
    assert np.abs(points[2:, :, :2] - points[-1, :, :2]).mean() < 0.1
    assert np.abs(points[0, :, :2] - points[-1, :, :2]).mean() < 0.5
    assert found[-1] is not None
    assert 0.5 <= found[-1].confidence <= 1
    assert not tracker.cut


def test_landmarks_follow_a_moving_face(models: bytes) -> None:
    """Moving by whole px must give the still picture's landmarks, moved: nothing lags."""
    still, moving = FaceTracker(models), FaceTracker(models)
    base = faces_picture((400, 300, 1.5, False))
    for step in range(12):
        here, there = still.step(base), moving.step(np.roll(base, (3 * step, 8 * step), axis=(0, 1)))
        assert here is not None
        assert there is not None
        offset = there.landmarks - here.landmarks - np.array([8 * step, 3 * step, 0], np.float32)
        assert np.abs(offset[:, :2]).mean() < 0.6
    assert not moving.cut


def test_agrees_with_the_networks_run_by_hand(models: bytes) -> None:
    """Against the steps written out: detect, read twice, then read in the region of the frame before."""
    tracker = FaceTracker(models)
    by_hand = FaceTracker(models)
    detector, landmarks = by_hand._detector, by_hand._landmarks
    assert isinstance(detector, FaceDetector)
    assert isinstance(landmarks, LandmarkNetwork)
    picture = faces_picture((500, 350, 1.4, False))
    region = detector.detect(picture)[0].region()
    region = landmarks.read(picture, region).region()
    for _ in range(3):
        read = landmarks.read(picture, region)
        region = read.region()
        found = tracker.step(picture)
        assert found is not None
        np.testing.assert_array_equal(found.landmarks, read.points)
        assert (found.confidence, found.region) == (read.confidence, region)


def test_no_face_gives_none_until_one_comes(tracker: FaceTracker) -> None:
    assert [tracker.step(GREY) for _ in range(4)] == [None] * 4
    assert place(tracker.step(faces_picture(LEFT))) == pytest.approx((320, 330), abs=12)


def test_state_is_a_value(tracker: FaceTracker) -> None:
    picture = faces_picture(LEFT, RIGHT)
    first, state = tracker.advance(picture, TrackerState())
    again = [tracker.advance(picture, state)[0] for _ in range(2)]
    assert first is not None
    assert again[0] is not None
    assert again[1] is not None
    np.testing.assert_array_equal(again[0].landmarks, again[1].landmarks)
    assert tracker.state == TrackerState()
    assert "region" in repr(state)


def test_largest_face_is_chosen(tracker: FaceTracker) -> None:
    assert place(tracker.step(faces_picture(LEFT, (960, 330, 1.9, True))))[0] == pytest.approx(960, abs=15)


def test_most_central_of_equal_faces_is_chosen(models: bytes) -> None:
    found = FaceTracker(models).step(faces_picture((160, 200, 1.2, False), (700, 350, 1.2, True)))
    assert place(found)[0] == pytest.approx(700, abs=15)
    found = FaceTracker(models).step(faces_picture((580, 350, 1.2, False), (1120, 350, 1.2, True)))
    assert place(found)[0] == pytest.approx(580, abs=15)


def test_the_chosen_face_is_kept_when_another_grows(tracker: FaceTracker) -> None:
    for scale in np.linspace(0.8, 2.6, 30):
        found = tracker.step(faces_picture(LEFT, (900, 350, float(scale), True)))
        assert place(found)[0] == pytest.approx(320, abs=15)
        assert not tracker.cut


@pytest.mark.parametrize(("face", "x"), [(1, 200), (2, 640), (3, 1060)])
def test_face_counts_from_the_left(models: bytes, face: int, x: int) -> None:
    tracker = FaceTracker(models, face=face)
    picture = faces_picture((200, 330, 1.0, False), (640, 330, 1.6, True), (1060, 330, 1.2, False))
    for _ in range(3):
        assert place(tracker.step(picture))[0] == pytest.approx(x, abs=15)


def test_face_waits_until_there_are_as_many(models: bytes) -> None:
    tracker = FaceTracker(models, face=2)
    assert tracker.step(faces_picture(LEFT)) is None
    assert place(tracker.step(faces_picture(LEFT, RIGHT)))[0] == pytest.approx(960, abs=15)
    assert place(tracker.step(faces_picture(RIGHT)))[0] == pytest.approx(960, abs=15)


def test_cut_is_marked_and_chooses_anew(tracker: FaceTracker) -> None:
    pictures = [faces_picture(LEFT)] * 3 + [NOISE] * 2 + [255 - faces_picture(RIGHT)[:, ::-1]] * 2
    pictures += [faces_picture(LEFT, (900, 350, 2.0, True))] * 2
    cuts, found = [], []
    for picture in pictures:
        found.append(tracker.step(np.ascontiguousarray(picture)))
        cuts.append(tracker.cut)
    assert [i for i, cut in enumerate(cuts) if cut] == [3, 5, 7]
    assert [one is None for one in found[:5]] == [False, False, False, True, True]
    assert place(found[7])[0] == pytest.approx(900, abs=20)


def test_cut_to_black_and_back(tracker: FaceTracker) -> None:
    bright = np.maximum(faces_picture(LEFT), 90)
    black = np.zeros_like(bright)
    cuts = []
    for picture in (bright, bright, black, black, bright):
        tracker.step(picture)
        cuts.append(tracker.cut)
    assert cuts == [False, False, True, False, True]


def test_motion_and_fades_are_no_cuts() -> None:
    state = TrackerState()
    base = np.roll(NOISE // 4, 200, axis=1) + faces_picture(LEFT, RIGHT) // 2
    for step in range(20):
        faded = (np.roll(base, 16 * step, axis=1) * (1 - 0.04 * step)).astype(np.uint8)
        state = tracking.watch(RgbPicture(faded).thumbnail(), state)
        assert not state.cut


def test_a_cut_inside_a_restless_shot_is_seen() -> None:
    rng = np.random.default_rng(2)
    state = TrackerState()
    for _ in range(8):
        waves = np.kron(rng.integers(60, 120, (36, 64, 3), dtype=np.uint8), np.ones((10, 10, 1), np.uint8))
        state = tracking.watch(RgbPicture(waves).thumbnail(), state)
        assert not state.cut
    assert tracking.watch(RgbPicture(np.asarray(waves + 80, np.uint8)).thumbnail(), state).cut


def test_hidden_face_is_none_and_comes_back_without_a_cut(tracker: FaceTracker) -> None:
    shown = faces_picture((500, 330, 1.4, False))
    hidden = shown.copy()
    hidden[210:450, 380:620] = 110
    found = [tracker.step(p) for p in [shown] * 3 + [hidden] * 4 + [shown] * 2]
    assert [one is None for one in found] == [False] * 3 + [True] * 4 + [False] * 2
    assert place(found[-1]) == pytest.approx((500, 330), abs=15)


def test_a_lost_face_is_not_replaced_by_its_neighbour(tracker: FaceTracker) -> None:
    both, other = faces_picture((320, 330, 1.4, False), RIGHT), faces_picture(RIGHT)
    assert place(tracker.step(both))[0] == pytest.approx(320, abs=15)
    assert [tracker.step(other) for _ in range(10)] == [None] * 10
    assert place(tracker.step(both))[0] == pytest.approx(320, abs=15)


def test_nor_by_somebody_who_came_later(tracker: FaceTracker) -> None:
    alone, both, other = faces_picture(LEFT), faces_picture(LEFT, RIGHT), faces_picture(RIGHT)
    for picture in [alone] * 2 + [both] * (tracking.VERIFY_FRAMES + LOOKS):
        assert place(tracker.step(picture))[0] == pytest.approx(320, abs=15)
    assert [tracker.step(other) for _ in range(10)] == [None] * 10
    assert not tracker.cut


def test_memory_of_a_lost_face_ends(tracker: FaceTracker) -> None:
    both, other = faces_picture((320, 330, 1.4, False), RIGHT), faces_picture(RIGHT)
    tracker.step(both)
    found = [tracker.step(other) for _ in range(tracking.MEMORY_FRAMES + 3)]
    assert found[tracking.MEMORY_FRAMES - 2] is None
    assert place(found[-1])[0] == pytest.approx(960, abs=15)


def test_a_lone_face_is_found_anywhere(tracker: FaceTracker) -> None:
    assert place(tracker.step(faces_picture(LEFT)))[0] == pytest.approx(320, abs=15)
    assert place(tracker.step(faces_picture((700, 330, 1.2, False))))[0] == pytest.approx(700, abs=15)
    assert not tracker.cut


def test_what_the_detector_does_not_confirm_ends(
    tracker: FaceTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = faces_picture(LEFT)
    looks: list[Region] = []
    first = FaceDetector(tracker._detector._network).detect(picture)

    def never(rgb: U8, region: Region) -> bool:
        looks.append(region)
        return False

    monkeypatch.setattr(tracker._detector, "confirm", never)
    monkeypatch.setattr(tracker._detector, "detect", lambda rgb: [] if looks else first)
    monkeypatch.setattr(tracker._detector, "look", lambda rgb, window: [])
    frames = 1 + tracking.VERIFY_FRAMES + tracking.VERIFY_FAILURES - 1
    found = [tracker.step(picture) for _ in range(frames)]
    assert [one is None for one in found] == [False] * (frames - 1) + [True]
    assert len(looks) == tracking.VERIFY_FAILURES
    assert tracker.step(picture) is None


def test_a_real_face_is_confirmed_again_and_again(tracker: FaceTracker) -> None:
    picture = faces_picture(LEFT)
    for _ in range(tracking.VERIFY_FRAMES + 2):
        assert tracker.step(picture) is not None
    assert tracker.state.failures == 0
    assert tracker.state.unverified_frames < 3


def test_reset_forgets(tracker: FaceTracker) -> None:
    first = tracker.step(faces_picture(LEFT))
    tracker.step(NOISE)
    tracker.reset()
    again = tracker.step(faces_picture(LEFT))
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert not tracker.cut


def test_choice_rules() -> None:
    def at(x: float, side: float) -> Detection:
        return Detection(x, 360, side, side, 0.0, 0.9)

    faces = [at(900, 100), at(100, 100), at(640, 95)]
    assert tracking.choose(faces, 1280, 720, None) == faces[2]
    assert tracking.choose([*faces, at(1200, 300)], 1280, 720, None) == at(1200, 300)
    assert [tracking.choose(faces, 1280, 720, k) for k in (1, 2, 3, 4)] == [
        faces[1],
        faces[2],
        faces[0],
        None,
    ]
    assert tracking.choose([], 1280, 720, None) is None
    lost = Region(620, 360, 150, 0.0)
    assert tracking.nearest(faces, lost) == faces[2]
    assert tracking.nearest([at(640, 400)], lost) is None
    assert tracking.nearest([at(900, 100)], lost) is None


def test_odd_sizes_are_tracked(models: bytes) -> None:
    for picture in (astronaut()[:401, :333], astronaut()[20:230, 130:321]):
        assert FaceTracker(models).step(np.ascontiguousarray(picture)) is not None
    assert FaceTracker(models).step(np.zeros((1, 3, 3), np.uint8)) is None


def test_wrong_arguments_are_refused(tracker: FaceTracker, models: bytes) -> None:
    with pytest.raises(ValueError, match="face = 0"):
        FaceTracker(models, face=0)
    with pytest.raises(ValueError, match="threads"):
        FaceTracker(models, threads=0)
    with pytest.raises(TypeError, match="rgb"):
        tracker.step(GREY.astype(np.float32))
    with pytest.raises(ValueError, match="rgb"):
        tracker.step(GREY[..., 0])


def test_bad_bundles_are_asset_errors(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="bundle"):
        FaceTracker(b"no zip")
    with pytest.raises(AssetError, match="bundle"):
        FaceTracker(tmp_path / "missing.task")
