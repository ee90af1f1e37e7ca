"""A device that fails in a frame: the worker says so and ends, and the frame's source is whole."""

import socket
from dataclasses import dataclass
from typing import Any

import pytest

from engine.arrays import F32
from engine.dubber import Dubber
from engine.errors import BackendError
from engine.image.yuv import I420, Colour
from engine.painting import open_painter
from streaming.worker import wire
from streaming.worker.main import Worker
from streaming.worker.slots import SlotPictures
from streaming.worker.stage import Stage
from tests.support.failing_worker import WHY, FailingPainter
from tests.support.toy_actor import landmarks, opened, pose, toy_actor
from tests.support.voice import voice

WIDTH, HEIGHT, SLOTS, GOOD = 480, 360, 6, 3
BT709 = Colour("bt709", full_range=False)
ACTOR = toy_actor()


@dataclass
class Found:
    landmarks: F32
    confidence: float = 1.0


class StillTracker:
    """Sees the same head in every frame."""

    cut = False

    def step_frame(self, image: I420, colour: Colour) -> Found:
        return Found(landmarks(pose(scale_px=14, x_px=240, y_px=150), opened(0.5)))

    def reset(self) -> None:
        return


def pictures() -> SlotPictures:
    source, dub = (tuple(I420.blank(WIDTH, HEIGHT) for _ in range(SLOTS)) for _ in range(2))
    for image in source:
        image.y[:] = 128
    return SlotPictures(source, dub)


@pytest.fixture
def painter() -> FailingPainter:
    return FailingPainter(open_painter(ACTOR), GOOD)


def stage_of(painter: FailingPainter, slots: SlotPictures) -> Stage:
    tracker: Any = StillTracker()
    return Stage(tracker, lambda: Dubber(ACTOR, painter, BT709), slots, lambda: 0)


def frame(index: int) -> wire.Frame:
    return wire.Frame(index, index, index / 25, BT709.matrix, BT709.full_range)


def work(stage: Stage, done: list[wire.Done]) -> None:
    """Do all there is to do."""
    busy = True
    while busy:
        busy, answer = stage.work()
        done += [answer] if answer else []


def test_a_step_that_fails_leaves_the_source_whole(painter: FailingPainter) -> None:
    slots = pictures()
    stage = stage_of(painter, slots)
    done: list[wire.Done] = []
    stage.give_sound(voice(1.0))
    for index in range(SLOTS):
        stage.give_frame(frame(index))
    with pytest.raises(BackendError, match="ILLEGAL_ADDRESS"):
        work(stage, done)
    assert [answer.index for answer in done] == list(range(GOOD))
    assert (slots.source[GOOD].y == 128).all()
    assert (slots.dub[GOOD].y != 128).any(), "what the device left is in the worker's own picture"
    assert painter.closed


def test_a_worker_says_why_and_ends(painter: FailingPainter) -> None:
    edge, end = socket.socketpair()
    with edge, end:
        worker = Worker(end)
        worker._painter, worker._stage = painter, stage_of(painter, pictures())
        for message in (wire.Sound(voice(1.0).tobytes()), *(frame(index) for index in range(SLOTS))):
            edge.sendall(wire.encode(message))
        worker.run()
        end.shutdown(socket.SHUT_RDWR)
        said = wire.Inbox().to_edge(edge.recv(1 << 16))
    assert isinstance(said[0], wire.Warm)
    assert [type(message) for message in said[1:-1]] == [wire.Done] * GOOD
    assert said[-1] == wire.Failed("BackendError", WHY)
    assert painter.closed >= 1


def test_a_worker_whose_edge_is_gone_closes_its_painter(painter: FailingPainter) -> None:
    edge, end = socket.socketpair()
    with end:
        worker = Worker(end)
        worker._painter, worker._stage = painter, stage_of(painter, pictures())
        edge.shutdown(socket.SHUT_WR)
        worker.run()
        edge.close()
    assert painter.closed == 1
