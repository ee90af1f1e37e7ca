"""A programme that cuts between the actor and somebody else: only the actor is touched, recorded or live."""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import pytest

from engine.actor.pack import ActorPack
from engine.arrays import F32, U8
from engine.dubber import Dubber
from engine.face.identity import FaceReader, cut_out, load_face_axes, mean_direction
from engine.face.landmarks import COUNT
from engine.face.model import load_face_model
from engine.face.track import to_rgb
from engine.face.tracker import FaceTracker
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.media import open_video
from engine.painting import Painter, open_painter
from streaming.types import MEDIA_RATE_HZ
from streaming.worker.slots import SlotPictures
from streaming.worker.stage import Stage
from streaming.worker.wire import Frame
from tests.support.data import data_file, model_file
from tests.support.toy_actor import toy_actor
from tests.support.voice import voice

WIDTH, HEIGHT, RATE_HZ = 480, 270, 25
BT709 = Colour("bt709", full_range=False)
KNOWN, LATER = 25, 12  # frames that the actor is known from, and of each shot of the programme
SHOWS_WITHIN = 10  # frames
PAIRS = [("tv_male_1", "rs_s2"), ("rs_s2", "tv_male_1"), ("rs_s2", "hd_wda_bobmenendez")]


@cache
def frames(name: str) -> tuple[I420, ...]:
    """The first two seconds of a clip, fitted into the programme's size."""
    with open_video(data_file(f"clips/{name}.mp4")) as video:
        pictures = (to_rgb(frame.image, video.info.colour) for frame in video)
        return tuple(rgb_to_i420(_fitted(rgb), BT709) for _, rgb in zip(range(50), pictures, strict=False))


def _fitted(rgb: U8) -> U8:
    scale = min(WIDTH / rgb.shape[1], HEIGHT / rgb.shape[0])
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (HEIGHT - small.shape[0]) // 2, (WIDTH - small.shape[1]) // 2
    whole = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    whole[top : top + small.shape[0], left : left + small.shape[1]] = small
    return whole


@cache
def actor(name: str) -> ActorPack:
    """A pack that knows the person of a clip, from its first second."""
    model_file("face_landmarker")
    axes, tracker = load_face_axes(), FaceTracker()
    reader, seen = FaceReader(axes.cells, load_face_model()), []
    for image in frames(name)[:KNOWN:4]:
        found = tracker.step_frame(image, BT709)
        assert found is not None
        patch = cut_out(image, BT709, found.landmarks)
        assert patch is not None
        seen.append(axes.direction(reader.features(patch)))
    return replace(toy_actor(), extras={axes.extra_name: mean_direction(np.stack(seen))})


@dataclass(frozen=True)
class Shot:
    """Frames of one person."""

    name: str
    start: int
    count: int = LATER

    @property
    def images(self) -> tuple[I420, ...]:
        return frames(self.name)[self.start : self.start + self.count]


@dataclass(frozen=True)
class Seen:
    """What became of a frame."""

    level: float
    shown: str
    untouched: bool


def recorded(shots: list[Shot], pack: ActorPack, painter: Painter) -> tuple[list[list[Seen]], list[I420]]:
    """The programme dubbed at one go: per shot what showed, and every picture."""
    dubber, tracker = Dubber(pack, painter, BT709, look_ahead_ms=0), FaceTracker()
    dubber.push_audio(voice(4.0))
    results, pictures, count = list[list[Seen]](), list[I420](), 0
    for shot in shots:
        results.append([])
        for source in shot.images:
            image = source.copy()
            found, count = tracker.step_frame(image, BT709), count + 1
            points: F32 = np.full((COUNT, 3), np.nan, np.float32) if found is None else found.landmarks
            confidence = 0.0 if found is None else found.confidence
            dubber.push_video(image, media_s(count), points, confidence, cut=tracker.cut)
            frame = dubber.step()
            assert frame is not None
            same = all(np.array_equal(getattr(image, p), getattr(source, p)) for p in "yuv")
            results[-1].append(Seen(frame.level, frame.shown, same))
            pictures.append(image)
    return results, pictures


def media_s(count: int) -> float:
    return round(MEDIA_RATE_HZ * count / RATE_HZ) / MEDIA_RATE_HZ


@pytest.mark.parametrize(("who", "other"), PAIRS)
def test_the_actor_is_dubbed_from_the_cut_on_and_nobody_else(who: str, other: str) -> None:
    pack = actor(who)
    shots = [Shot(who, KNOWN), Shot(other, 0, 24), Shot(who, KNOWN + 10), Shot(other, 24), Shot(who, KNOWN)]
    seen, _ = recorded(shots, pack, open_painter(pack))
    for shot, results in zip(shots, seen, strict=True):
        if shot.name == who:
            assert results[SHOWS_WITHIN].shown == "dubbed"
            assert results[SHOWS_WITHIN].level == 1
        else:
            assert {(one.level, one.untouched) for one in results} == {(0.0, True)}
            assert {one.shown for one in results[5:]} == {"other person"}
    assert [results[0].level for results in seen] == [0.25, 0, 1, 0, 1]


@pytest.mark.parametrize("who", ["tv_male_1", "rs_s2"])
def test_a_cut_to_another_moment_of_the_actor_does_not_interrupt_the_dub(who: str) -> None:
    pack = actor(who)
    seen, _ = recorded([Shot(who, 0), Shot(who, 36), Shot(who, 18)], pack, open_painter(pack))
    assert [one.shown for one in seen[0]] == ["fading"] * 3 + ["dubbed"] * 9
    assert {one.level for one in (*seen[1], *seen[2])} == {1.0}


def test_a_pack_that_knows_nobody_dubs_everybody_as_before() -> None:
    name = "tv_male_1"
    model_file("face_landmarker")
    pack = toy_actor()
    seen, _ = recorded([Shot(name, 0, 6), Shot("rs_s2", 0, 6)], pack, open_painter(pack))
    assert [results[-1].shown for results in seen] == ["dubbed"] * 2


def test_live_leaves_the_same_people_untouched_and_makes_the_same_pictures() -> None:
    who, other = PAIRS[0]
    pack, sound = actor(who), voice(4.0)
    shots = [Shot(who, KNOWN), Shot(other, 0), Shot(who, KNOWN + 10)]
    offline, wanted = recorded(shots, pack, open_painter(pack))
    source = tuple(image.copy() for shot in shots for image in shot.images)
    pictures = SlotPictures(source, tuple(image.copy() for image in source))
    painter = open_painter(pack)
    stage = Stage(FaceTracker(), lambda: Dubber(pack, painter, BT709, look_ahead_ms=0), pictures, lambda: 0)
    done = []
    for index in range(len(source)):
        stage.give_frame(Frame(index, index, media_s(index + 1), BT709.matrix, BT709.full_range))
        stage.give_sound(sound[index * 640 : (index + 1) * 640])
        while (work := stage.work())[0]:
            done += [work[1]] if work[1] is not None else []
    stage.give_sound(sound[len(source) * 640 :][:6400])
    while (work := stage.work())[0]:
        done += [work[1]] if work[1] is not None else []
    assert [(one.shown, one.level) for one in done] == [(s.shown, s.level) for shot in offline for s in shot]
    assert {one.shown for one in done[LATER : 2 * LATER]} == {"other person"}
    for mine, theirs in zip(pictures.dub, wanted, strict=True):
        assert all(np.array_equal(getattr(mine, plane), getattr(theirs, plane)) for plane in "yuv")
