from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.actor.pack import ActorPack
from engine.arrays import F32, Bool
from engine.dubber import DubbedFrame, Dubber
from engine.errors import ActorPackError
from engine.expression.manner import EXTRA
from engine.face.model import Pose, aperture
from engine.image.resize import read_square
from engine.image.yuv import I420, Colour
from engine.painting import Painter, open_painter
from engine.timing import AUDIO_RATE_HZ
from tests.support.toy_actor import landmarks, opened, pose, toy_actor
from tests.support.voice import silence, voice

WIDTH, HEIGHT, RATE_HZ = 480, 360, 25
FRAMES, LOOK_AHEAD_MS = 12, 120
BT709 = Colour("bt709", full_range=False)
ACTOR = toy_actor("random")
NO_FACE = np.full((478, 3), np.nan, np.float32)
PLANES = ("y", "u", "v")


@dataclass(frozen=True)
class Shot:
    """One frame to push."""

    image: I420
    points: F32
    confidence: float = 1.0
    cut: bool = False


@dataclass
class Programme:
    """Frames and sound of one job, and how they are pushed."""

    shots: list[Shot]
    sound: F32 = field(default_factory=lambda: voice(0.9))
    piece_samples: int = 640
    frames_ahead: int = 1

    def through(self, dubber: Dubber) -> list[DubbedFrame]:
        """Push everything, frames in bunches of `frames_ahead`, sound in pieces when a frame waits for it."""
        out: list[DubbedFrame] = []
        position = 0
        for first in range(0, len(self.shots), self.frames_ahead):
            for index in range(first, min(first + self.frames_ahead, len(self.shots))):
                shot = self.shots[index]
                dubber.push_video(
                    shot.image.copy(), index / RATE_HZ, shot.points, shot.confidence, cut=shot.cut
                )
            while len(out) < min(first + self.frames_ahead, len(self.shots)):
                frame = dubber.step()
                if frame is not None:
                    out.append(frame)
                    continue
                assert position < len(self.sound), "sound is over and a frame still waits"
                dubber.push_audio(self.sound[position : position + self.piece_samples])
                position += self.piece_samples
        assert dubber.step() is None
        return out


def head(index: int = 0, yaw_deg: float = 3.0) -> Pose:
    return pose(scale_px=14, yaw_deg=yaw_deg, x_px=240 + 2 * index, y_px=150 + index)


def picture(index: int) -> I420:
    rng = np.random.default_rng(index)
    chroma = (HEIGHT // 2, WIDTH // 2)
    return I420(
        rng.integers(60, 200, (HEIGHT, WIDTH), dtype=np.uint8),
        rng.integers(100, 150, chroma, dtype=np.uint8),
        rng.integers(100, 150, chroma, dtype=np.uint8),
    )


def shots(count: int = FRAMES) -> list[Shot]:
    opening = np.abs(np.sin(np.arange(count))) * 1.5
    return [Shot(picture(i), landmarks(head(i), opened(o))) for i, o in enumerate(opening)]


@pytest.fixture(scope="module")
def painter() -> Painter:
    return open_painter(ACTOR)


def make(painter: Painter, *, tracked: bool = False, look_ahead_ms: int = LOOK_AHEAD_MS) -> Dubber:
    return Dubber(ACTOR, painter, BT709, look_ahead_ms=look_ahead_ms, tracked=tracked)


def same(a: I420, b: I420) -> bool:
    return all(np.array_equal(getattr(a, plane), getattr(b, plane)) for plane in PLANES)


def changed(frame: DubbedFrame, before: I420) -> Bool:
    return np.asarray(frame.image.y != before.y)


@pytest.fixture(scope="module")
def offline(painter: Painter) -> list[DubbedFrame]:
    """Everything pushed at once, then stepped."""
    return Programme(shots(), piece_samples=10**6, frames_ahead=FRAMES).through(make(painter))


@pytest.mark.parametrize(
    ("piece_samples", "frames_ahead"), [(640, 1), (100, 1), (1501, 4), (AUDIO_RATE_HZ, 1), (640, FRAMES)]
)
def test_stream_is_offline(
    painter: Painter, offline: list[DubbedFrame], piece_samples: int, frames_ahead: int
) -> None:
    streamed = Programme(shots(), piece_samples=piece_samples, frames_ahead=frames_ahead)
    got = streamed.through(make(painter))
    assert [(f.time_s, f.shown, f.level) for f in got] == [(f.time_s, f.shown, f.level) for f in offline]
    assert all(same(a.image, b.image) for a, b in zip(got, offline, strict=True))


def test_two_streams_do_not_meet(painter: Painter, offline: list[DubbedFrame]) -> None:
    one, other, sound = make(painter), make(painter), voice(0.9)
    for dubber in (one, other):
        dubber.push_audio(sound)
    for index, (shot, noise) in enumerate(zip(shots(), shots()[::-1], strict=True)):
        one.push_video(shot.image, index / RATE_HZ, shot.points)
        other.push_video(noise.image, index / RATE_HZ, noise.points)
        got = one.step()
        other.step()
        assert got is not None
        assert same(got.image, offline[index].image)


def test_sound_moves_the_mouth(painter: Painter, offline: list[DubbedFrame]) -> None:
    other = Programme(shots(), sound=voice(0.9, seed=2)).through(make(painter))
    assert not same(other[-1].image, offline[-1].image)


def test_original_opening_does_not_matter_to_what_is_drawn(painter: Painter) -> None:
    """What the source's lips do leaves no trace in geometry or level; its skin is bent to the new mouth."""
    open_ones = shots()
    still = [replace(shot, points=landmarks(head(i))) for i, shot in enumerate(open_ones)]
    results = []
    for film in (still, open_ones):
        dubber = Dubber(ACTOR, painter, BT709, look_ahead_ms=LOOK_AHEAD_MS, keep_debug=True)
        results.append(Programme(film).through(dubber))
    for a, b in zip(*results, strict=True):
        assert a.level == b.level
        if a.debug and b.debug:
            assert np.abs(a.debug.rendered.astype(int) - b.debug.rendered).mean() < 0.5
    bent = [film[-1].debug for film in results]
    assert bent[0] is not None
    assert bent[1] is not None
    assert (bent[0].source != bent[1].source).any()


def test_tracked_skin_stays_where_it_is(painter: Painter) -> None:
    """The frame's own expression is the target: nothing is bent."""
    dubber = Dubber(ACTOR, painter, BT709, look_ahead_ms=LOOK_AHEAD_MS, tracked=True, keep_debug=True)
    film = shots()
    last = Programme(film).through(dubber)[-1].debug
    assert last is not None
    crop = read_square(film[-1].image, last.square, BT709, painter.size_px)
    assert crop is not None
    unchanged = last.alpha == 0
    np.testing.assert_array_equal(last.source[unchanged], crop[unchanged])


def test_only_the_mask_is_touched(offline: list[DubbedFrame]) -> None:
    for index, (frame, shot) in enumerate(zip(offline, shots(), strict=True)):
        rows, columns = np.nonzero(changed(frame, shot.image))
        assert len(rows) > 1000
        lips = shot.points[[13, 14], :2].mean(0)
        reach = np.hypot(columns - lips[0], rows - lips[1]).max()
        assert reach < 9 * 14, index
        nose = shot.points[6, 1]
        assert rows.min() > nose, "above the nose nothing changes"


def test_waits_for_the_sound_that_it_needs(painter: Painter) -> None:
    dubber = make(painter)
    dubber.push_video(picture(0), 0.2, landmarks(head()))
    needed = round((0.2 + LOOK_AHEAD_MS / 1000) * AUDIO_RATE_HZ)
    dubber.push_audio(silence((needed - 1) / AUDIO_RATE_HZ))
    assert dubber.step() is None
    dubber.push_audio(np.zeros(1, np.float32))
    frame = dubber.step()
    assert frame is not None
    assert frame.time_s == 0.2


def test_waits_for_the_first_sound_without_look_ahead(painter: Painter) -> None:
    dubber = make(painter, look_ahead_ms=0)
    dubber.push_video(picture(0), 0.0, landmarks(head()))
    assert dubber.step() is None
    dubber.push_audio(silence(0.04))
    assert dubber.step() is not None


def test_no_face_leaves_the_frame_alone(painter: Painter) -> None:
    all_shots = shots(6)
    for index in (0, 3):
        all_shots[index] = replace(all_shots[index], points=NO_FACE)
    got = Programme(all_shots).through(make(painter))
    assert [frame.shown for frame in got] == ["no face", "fading", "fading", "no face", "fading", "fading"]
    for index in (0, 3):
        assert same(got[index].image, all_shots[index].image)
        assert got[index].level == 0


def test_a_turned_head_fades_out_and_shows_the_source(painter: Painter) -> None:
    all_shots = [Shot(picture(i), landmarks(head(yaw_deg=0 if i < 5 else 60))) for i in range(8)]
    got = Programme(all_shots).through(make(painter))
    assert [frame.level for frame in got] == [0.25, 0.5, 0.75, 1, 1, 0.5, 0, 0]
    assert [frame.shown for frame in got[4:]] == ["dubbed", "fading", "no face", "no face"]
    assert same(got[6].image, all_shots[6].image)


def test_a_cut_shows_the_dub_at_once(painter: Painter) -> None:
    far = landmarks(pose(scale_px=9, x_px=100, y_px=100))
    cut = [Shot(picture(0), landmarks(head())), Shot(picture(1), far, cut=True)]
    got = Programme(cut).through(make(painter))
    assert [(frame.shown, frame.level) for frame in got] == [("fading", 0.25), ("dubbed", 1.0)]
    assert changed(got[1], cut[1].image)[:, 250:].sum() == 0, "nothing of the old place"


def test_tracked_needs_no_sound_and_repeats_the_source(painter: Painter) -> None:
    dubber = make(painter, tracked=True)
    dubber.push_audio(voice(0.2))
    images = []
    for index, opening in enumerate([0.0, 0.0, 0.0, 0.0, 2.0]):
        dubber.push_video(picture(0), index / RATE_HZ, landmarks(head(), opened(opening)))
        frame = dubber.step()
        assert frame is not None
        images.append(frame.image)
    assert not same(images[3], images[4])


@pytest.mark.parametrize("silence_shows", ["closed", "source"])
def test_silence(painter: Painter, silence_shows: str) -> None:
    dubber = Dubber(ACTOR, painter, BT709, silence="source" if silence_shows == "source" else "closed")
    got = Programme(shots(6), sound=silence(1.0)).through(dubber)
    if silence_shows == "source":
        assert {(frame.shown, frame.level) for frame in got} == {("silence", 0.0)}
        assert all(same(frame.image, shot.image) for frame, shot in zip(got, shots(6), strict=True))
    else:
        assert got[-1].shown == "dubbed"
        assert changed(got[-1], shots(6)[-1].image).any()


def test_a_face_at_the_border(painter: Painter) -> None:
    for x, y in ((0, 150), (WIDTH, 150), (240, HEIGHT - 20), (240, -90), (-300, 0), (5000, 5000)):
        points = landmarks(pose(scale_px=14, x_px=x, y_px=y))
        got = Programme([Shot(picture(i), points) for i in range(2)]).through(make(painter, tracked=True))
        assert len(got) == 2


def test_debug_pictures_on_demand(painter: Painter, offline: list[DubbedFrame]) -> None:
    assert offline[-1].debug is None
    dubber = Dubber(ACTOR, painter, BT709, look_ahead_ms=LOOK_AHEAD_MS, keep_debug=True)
    got = Programme(shots(), piece_samples=5000).through(dubber)
    assert same(got[-1].image, offline[-1].image)
    first, last = got[0].debug, got[-1].debug
    assert first is not None
    assert last is not None
    assert not np.array_equal(first.rendered, last.rendered), "every frame's pictures are its own"
    assert last.alpha[0].max() == last.alpha[:, -1].max() == 0


@settings(deadline=None, max_examples=30)
@given(
    st.floats(0.01, 150),
    st.floats(-180, 180),
    st.floats(-180, 180),
    st.floats(-2000, 2000),
    st.floats(-2000, 2000),
    st.floats(0, 5),
)
def test_any_head_leaves_a_frame(
    painter: Painter, scale_px: float, yaw_deg: float, roll_deg: float, x: float, y: float, opening: float
) -> None:
    one = pose(scale_px=scale_px, yaw_deg=yaw_deg, roll_deg=roll_deg, x_px=x, y_px=y)
    dubber = make(painter, tracked=True)
    for index in range(2):
        dubber.push_video(picture(0), index / RATE_HZ, landmarks(one, opened(opening)))
        frame = dubber.step()
        assert frame is not None
        assert frame.image.y.shape == (HEIGHT, WIDTH)


def test_landmarks_on_one_point_are_no_face(painter: Painter) -> None:
    dubber = make(painter, tracked=True)
    dubber.push_video(picture(0), 0.0, np.full((478, 3), 7, np.float32))
    frame = dubber.step()
    assert frame is not None
    assert frame.shown == "no face"
    assert same(frame.image, picture(0))


def test_a_style_that_the_speech_model_does_not_know_is_refused(painter: Painter) -> None:
    strange = replace(ACTOR, style=np.ones(3, np.float32))
    with pytest.raises(ActorPackError, match="style has 3 numbers, not 8"):
        Dubber(strange, painter, BT709)


def drawn(actor: ActorPack, painter: Painter, sound: F32) -> F32:
    """The expressions of a job that were drawn."""
    dubber = Dubber(actor, painter, BT709, look_ahead_ms=LOOK_AHEAD_MS, keep_debug=True)
    frames = Programme(shots(), sound=sound).through(dubber)
    return np.stack([frame.debug.expression for frame in frames if frame.debug])


def a_manner(painter: Painter) -> F32:
    """Half as far again, and held in some way that opens nothing."""
    opening = aperture(painter.model.basis)
    jaw = painter.model.jaw_open / (opening @ painter.model.jaw_open)
    hold = np.random.default_rng(0).normal(0, 0.2, len(jaw))
    return np.stack([0.5 * jaw, hold - (opening @ hold) * jaw]).astype(np.float32)


def test_an_actor_speaks_in_the_packs_style_and_manner(painter: Painter) -> None:
    rows, opening = a_manner(painter), aperture(painter.model.basis)
    average = drawn(ACTOR, painter, voice(0.9))
    styled = drawn(replace(ACTOR, style=np.full(8, 2, np.float32)), painter, voice(0.9))
    assert np.abs(styled - average).max() > 1e-3
    own = drawn(replace(ACTOR, extras={EXTRA: rows}), painter, voice(0.9))
    np.testing.assert_allclose(own @ opening, 1.5 * (average @ opening), atol=1e-4)
    assert np.linalg.norm(own[-1] - average[-1]) > 0.5 * np.linalg.norm(rows[1])


def test_an_actors_manner_leaves_silence_alone(painter: Painter) -> None:
    actor = replace(ACTOR, extras={EXTRA: a_manner(painter)})
    np.testing.assert_array_equal(drawn(actor, painter, silence(1.0)), drawn(ACTOR, painter, silence(1.0)))


def test_a_manner_of_another_face_model_is_refused(painter: Painter) -> None:
    strange = replace(ACTOR, extras={EXTRA: np.zeros((2, 3), np.float32)})
    with pytest.raises(ActorPackError, match="manner of speaking does not fit"):
        Dubber(strange, painter, BT709)
