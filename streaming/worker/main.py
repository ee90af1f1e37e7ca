"""What a worker process does once it is loaded: it says `Warm`, and answers what the edge orders.

`Open` gives it an actor and the memory with the pictures. The process's start is `streaming.worker.start`.
"""

import logging
import os
import select
import socket
import time
from typing import assert_never

import cv2
import numpy as np

from engine.errors import LivedubError
from engine.painting import Painter
from engine.timing import AUDIO_RATE_HZ
from streaming.worker import wire
from streaming.worker.actor import OpenedActor, measure_frame_s, open_actor
from streaming.worker.slots import SlotPictures
from streaming.worker.stage import Stage

READ_BYTES = 1 << 18
SOUND_RATE_HZ = AUDIO_RATE_HZ

log = logging.getLogger(__name__)


class Worker:
    """The messages of one socket, and the stage between them.

    Args:
        edge: blocking; the worker's end of the pair.
    """

    def __init__(self, edge: socket.socket) -> None:
        self._edge = edge
        self._inbox = wire.Inbox()
        self._fds: list[int] = []
        self._stage: Stage | None = None
        self._painter: Painter | None = None

    def run(self) -> None:
        """Serve until the edge closes the socket, or a device fails: it may not come back in this process."""
        self._say(wire.Warm())
        try:
            self._serve()
        except LivedubError as error:
            log.warning("a worker ends: %s", error)
            self._say(wire.Failed(type(error).__name__, str(error)))
        finally:
            if self._painter is not None:
                self._painter.close()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._edge, select.POLLIN)
        busy = False
        while True:
            if poll.poll(0 if busy else None):
                data, fds, _, _ = socket.recv_fds(self._edge, READ_BYTES, 1)
                self._fds += fds
                if not data:
                    return
                for message in self._inbox.to_worker(data):
                    self._hear(message)
            busy, done = self._stage.work() if self._stage else (False, None)
            if done is not None:
                self._say(done)

    def _hear(self, message: wire.ToWorker) -> None:
        match message:
            case wire.Open():
                self._open(message)
            case wire.Exchange():
                self._exchange(message)
            case wire.Measure():
                self._measure(message)
            case wire.Ping():
                self._say(wire.Pong(message.number))
            case _:
                if self._stage is not None:
                    self._pass_on(self._stage, message)

    def _pass_on(
        self, stage: Stage, message: wire.Frame | wire.Sound | wire.Skip | wire.SetRung | wire.Forget
    ) -> None:
        match message:
            case wire.Frame():
                stage.give_frame(message)
            case wire.Sound():
                stage.give_sound(np.frombuffer(message.samples, "<f4").astype(np.float32))
            case wire.Skip():
                stage.skip(message.index)
            case wire.SetRung():
                stage.set_rung(message.rung)
            case wire.Forget():
                for done in stage.forget(message.start_s):
                    self._say(done)
            case _:
                assert_never(message)

    def _open(self, message: wire.Open) -> None:
        fd = self._fds.pop(0)
        try:
            pictures = SlotPictures.of(fd, message.width, message.height, message.slots)
            actor: OpenedActor = open_actor(message)
        except LivedubError as error:
            self._say(wire.Failed(type(error).__name__, str(error)))
            return
        finally:
            os.close(fd)
        self._painter = actor.painter
        self._stage = Stage(actor.tracker, actor.make_dubber, pictures, time.monotonic_ns)
        self._say(wire.Ready(actor.painter.name, actor.warning))

    def _exchange(self, message: wire.Exchange) -> None:
        fd = self._fds.pop(0)
        try:
            if self._stage is not None:
                self._stage.exchange(SlotPictures.of(fd, message.width, message.height, message.slots))
        finally:
            os.close(fd)
        self._say(wire.Exchanged())

    def _measure(self, message: wire.Measure) -> None:
        try:
            self._say(wire.Measured(measure_frame_s(message, time.process_time_ns)))
        except LivedubError as error:
            self._say(wire.Failed(type(error).__name__, str(error)))

    def _say(self, message: wire.Message) -> None:
        self._edge.sendall(wire.encode(message))


def serve(edge: socket.socket) -> None:
    """Be a worker until the edge closes the socket."""
    cv2.setNumThreads(1)
    try:
        Worker(edge).run()
    except (BrokenPipeError, ConnectionResetError):
        log.info("the edge is gone")
