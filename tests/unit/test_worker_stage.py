"""What a stage keeps of sound that nobody's mouth needs; pictures are tested on a whole worker."""

from typing import Any

import numpy as np
import pytest

from engine.dubber import Dubber
from engine.expression.audio import STEP_MS
from engine.image.yuv import I420, Colour
from engine.painting import open_painter
from engine.timing import AUDIO_RATE_HZ
from streaming.worker.slots import SlotPictures
from streaming.worker.stage import MOST_SOUND_S, Stage
from streaming.worker.wire import Frame
from tests.support.toy_actor import toy_actor

BT709 = Colour("bt709", full_range=False)
MINUTE_S = 60
SECOND = np.zeros(AUDIO_RATE_HZ, np.float32)


class NoTracker:
    """For streams in which no face is looked for."""

    def reset(self) -> None:
        return


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
