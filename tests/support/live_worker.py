"""A worker with a made-up actor, driven from a test that is not itself asynchronous."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.actor.pack import write_pack
from engine.arrays import F32, U8
from engine.errors import WorkerError
from engine.image.yuv import I420, Colour, rgb_to_i420
from streaming.types import SessionOptions
from streaming.worker.link import FrameDone, WorkerLink
from streaming.worker.pool import WorkerPool
from streaming.worker.slots import SlotRing, write
from tests.support.data import faces_picture
from tests.support.toy_actor import toy_actor

WIDTH, HEIGHT, RATE_HZ = 480, 360, 25
BT709 = Colour("bt709", full_range=False)
SLOTS = 12
PLANES = ("y", "u", "v")
ANSWER_TIMEOUT_S = 60.0
CALM_S = 20.0  # a busy machine is no hanging worker
T = TypeVar("T")


def same(a: I420, b: I420) -> bool:
    return all(np.array_equal(getattr(a, plane), getattr(b, plane)) for plane in PLANES)


def options(folder: Path, **changes: Any) -> SessionOptions:
    """A session with the toy actor, whose consent nobody checks."""
    path = folder / "toy.actor"
    if not path.exists():
        write_pack(toy_actor("random"), path)
    return replace(SessionOptions(path, override_consent=True), **changes)


def face_frame(index: int, *, x_px: int = 240, y_px: int = 170) -> I420:
    """One frame of a head that drifts, with a camera's noise."""
    place = (x_px + 2 * (index % 8), y_px + index % 5, 1.4, False)
    return noisy(faces_picture(place, width=WIDTH, height=HEIGHT), index)


def empty_frame(index: int) -> I420:
    """The same room without the head."""
    return noisy(faces_picture(width=WIDTH, height=HEIGHT), index)


def noisy(rgb: U8, seed: int) -> I420:
    noise = np.random.default_rng(seed).integers(-3, 4, rgb.shape)
    return rgb_to_i420(np.clip(rgb.astype(int) + noise, 0, 255).astype(np.uint8), BT709)


class Driver:
    """One link, its answers, and the loop that they come on."""

    def __init__(self, wanted: SessionOptions) -> None:
        self.runner, self.options = asyncio.Runner(), wanted
        self.runner.get_loop()
        self._news = asyncio.Event()
        self.done: list[FrameDone] = []
        self.deaths: list[WorkerError] = []
        self.pool = self.wait(self._pool())
        self.link = self.start(SlotRing(WIDTH, HEIGHT, SLOTS))

    async def _pool(self) -> WorkerPool:
        return await WorkerPool().__aenter__()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the loop until that is over."""
        return self.runner.run(coroutine)

    def start(self, slots: SlotRing, hang_s: float = CALM_S) -> WorkerLink:
        """Open a worker of the pool."""
        return self.wait(
            self.pool.start(self.options, slots, on_done=self._answered, on_death=self._died, hang_s=hang_s)
        )

    def _answered(self, done: FrameDone) -> None:
        self.done.append(done)
        self._news.set()

    def _died(self, error: WorkerError) -> None:
        self.deaths.append(error)
        self._news.set()

    def close(self) -> None:
        """End everything."""
        self.wait(self.link.close())
        self.wait(self.pool.close())
        self.link.slots.close()
        self.runner.close()

    def restart(self) -> None:
        """A new stream on the same worker."""
        self.link.forget()
        self.link.set_rung("full")
        self.settle(0)
        for slot in range(len(self.link.slots)):
            self.link.slots.give_back(slot)
        self.done.clear()

    def give(self, image: I420, index: int) -> int:
        """One frame; its slot."""
        slot = self.link.slots.take()
        assert slot is not None, "no slot is free"
        write(image, into=self.link.slots.view(slot))
        self.link.give_frame(slot, index, index / RATE_HZ, BT709)
        return slot

    def settle(self, waiting: int) -> None:
        """Let the worker work until only so many frames wait there."""

        async def until() -> None:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while self.link.waiting > waiting and not self.deaths:
                    self._news.clear()
                    await self._news.wait()

        self.wait(until())

    def until_death(self, limit_s: float) -> float:
        """Seconds until the worker is known to be dead."""
        began_s = time.monotonic()

        async def wait() -> None:
            async with asyncio.timeout(limit_s):
                while not self.deaths:
                    self._news.clear()
                    await self._news.wait()

        self.wait(wait())
        return time.monotonic() - began_s

    def play(self, frames: list[I420], sound: F32, *, piece_samples: int = 640, ahead: int = 4) -> list[I420]:
        """Everything through the worker; the pictures that came back, in the order of the frames."""
        self.restart()
        pictures: list[I420] = []
        for start in range(0, len(sound), piece_samples):
            self.link.give_sound(sound[start : start + piece_samples])
        for index, image in enumerate(frames):
            self.give(image, index)
            self.settle(ahead)
            self._collect(pictures)
        self.settle(0)
        self._collect(pictures)
        return pictures

    def _collect(self, pictures: list[I420]) -> None:
        for done in self.done[len(pictures) :]:
            assert done.index == len(pictures)
            pictures.append(self.link.slots.dubbed(done.slot).copy())
            self.link.slots.give_back(done.slot)
