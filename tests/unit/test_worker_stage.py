"""What a stage keeps of sound that nobody needs, and when a frame is done; see the whole worker for more."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.arrays import F32
from engine.dubber import Dubber
from engine.expression.audio import STEP_MS
from engine.image.yuv import I420, Colour
from engine.painting import open_painter
from engine.timing import AUDIO_RATE_HZ
from streaming.types import MEDIA_RATE_HZ
from streaming.worker.slots import SlotPictures
from streaming.worker.stage import MOST_SOUND_S, Stage
from streaming.worker.wire import Frame
from tests.support.live_worker import face_frame, same
from tests.support.toy_actor import landmarks, opened, pose, toy_actor
from tests.support.voice import voice

BT709 = Colour("bt709", full_range=False)
MINUTE_S = 60
SECOND = np.zeros(AUDIO_RATE_HZ, np.float32)


class NoTracker:
    """For streams in which no face is looked for."""

    def reset(self) -> None:
        return


class KnownFaces:
    """A tracker that knows where the face is."""

    cut = False

    def __init__(self) -> None:
        self._count = 0

    def step_frame(self, picture: I420, colour: Colour) -> SimpleNamespace:
        self._count += 1
        head = pose(scale_px=14, yaw_deg=3.0, x_px=240 + 2 * (self._count % 5), y_px=170)
        return SimpleNamespace(landmarks=landmarks(head, opened(0.3 * (self._count % 3))), confidence=1.0)


@pytest.fixture
def stage() -> Stage:
    actor = toy_actor()
    painter = open_painter(actor)
    pictures = SlotPictures((I420.blank(64, 48),), (I420.blank(64, 48),))
    tracker: Any = NoTracker()
    return Stage(tracker, lambda: Dubber(actor, painter, BT709), pictures, lambda: 0)


def held_s(stage: Stage) -> float:
    speech = stage._dubber._speech
    assert speech is not None
    return speech.held * STEP_MS / 1000


def test_a_minute_of_sound_without_a_picture_is_not_kept(stage: Stage) -> None:
    for _ in range(MINUTE_S):
        stage.give_sound(SECOND)
        assert held_s(stage) <= MOST_SOUND_S + 1


def test_frames_that_are_passed_on_free_the_sound_before_them(stage: Stage) -> None:
    stage.set_rung("pass")
    stage._gain = 0.0
    for second in range(MINUTE_S):
        stage.give_sound(SECOND)
        stage.give_frame(Frame(second, 0, float(second), BT709.matrix, BT709.full_range))
        worked, done = stage.work()
        assert worked
        assert done is not None
        assert done.shown == "passed"
        assert held_s(stage) < 2


COUNT, QUANTUM_MS = 14, 20
TIMES_S = [round(MEDIA_RATE_HZ * n / 30) / MEDIA_RATE_HZ for n in range(COUNT)]


def played_live(make_dubber: Callable[[], Dubber], sound: F32) -> tuple[tuple[I420, ...], list[int]]:
    """The pictures of a webcam's frames, and how much sound had come when each was done, ms."""
    source = tuple(face_frame(n) for n in range(COUNT))
    pictures = SlotPictures(source, tuple(one.copy() for one in source))
    tracker: Any = KnownFaces()
    live, done_ms = Stage(tracker, make_dubber, pictures, lambda: 0), list[int]()
    for n, time_s in enumerate(TIMES_S):
        live.give_frame(Frame(n, n, time_s, BT709.matrix, BT709.full_range))
    for start_ms in range(0, 1000, QUANTUM_MS):
        live.give_sound(sound[16 * start_ms :][: 16 * QUANTUM_MS])
        while (work := live.work())[0]:
            done_ms += [start_ms + QUANTUM_MS] if work[1] else []
    return pictures.dub, done_ms


@pytest.mark.parametrize("look_ahead_ms", [0, 120])
def test_a_live_webcam_at_30_gets_the_pictures_of_a_recording_at_once(look_ahead_ms: int) -> None:
    actor, sound = toy_actor("random"), voice(1.0)

    def make_dubber() -> Dubber:
        return Dubber(actor, open_painter(actor), BT709, look_ahead_ms=look_ahead_ms)

    pictures, done_ms = played_live(make_dubber, sound)
    recorded, known = make_dubber(), KnownFaces()
    recorded.push_audio(sound)
    for n, time_s in enumerate(TIMES_S):
        points = known.step_frame(pictures[n], BT709).landmarks
        recorded.push_video(face_frame(n), time_s, points)
        shown = recorded.step()
        assert shown is not None
        assert same(shown.image, pictures[n])
        assert not same(shown.image, face_frame(n))
    waits_ms = [ms - 1000 * time_s - look_ahead_ms for ms, time_s in zip(done_ms, TIMES_S, strict=True)]
    assert max(waits_ms[2:]) < (7 if look_ahead_ms else QUANTUM_MS)
