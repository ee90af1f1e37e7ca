"""A programme whose pictures say their number, with a flash and a beep each second; and who takes it in."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from engine.arrays import U8
from engine.errors import LivedubError
from engine.image.yuv import I420
from streaming.media.address import Address
from streaming.media.source import ProgrammeSource
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, AudioIn, VideoIn
from tests.support.media import av_frame, pattern, write_sound_to

WIDTH, HEIGHT, RATE = 320, 240, 25
BITS, BIT_PX, LEFT_PX = 12, 24, 16
BEEP_S = 0.06
SIDE_PX = 96
START_S = 10.0  # of the times in a feed: room to jump back


def picture(number: int) -> I420:
    """A gradient with the number in twelve squares, and a flash in each first one of a second."""
    image = pattern(WIDTH, HEIGHT, 0)
    for bit in range(BITS):
        left = LEFT_PX + BIT_PX * bit
        image.y[8 : 8 + BIT_PX, left : left + BIT_PX] = 225 if number >> bit & 1 else 25
    image.y[-SIDE_PX:, -SIDE_PX:] = 225 if number % RATE == 0 else 30
    return image


def number_of(luma: U8) -> int | None:
    """The number that a picture shows, of any size; None if it cannot be read."""
    scale = luma.shape[1] / WIDTH
    found = 0
    for bit in range(BITS):
        top, left = round(14 * scale), round((LEFT_PX + BIT_PX * bit + 6) * scale)
        side = round(12 * scale)
        level = float(luma[top : top + side, left : left + side].mean())
        if 70 < level < 180:
            return None
        found |= int(level > 128) << bit
    return found


def flashes(luma: U8) -> bool:
    """Whether a picture has the flash."""
    side = luma.shape[1] * SIDE_PX // WIDTH
    return bool(luma[-side // 2 :, -side // 2 :].mean() > 128)


def beeps(seconds: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Sound that goes with the pictures, float32 [1, T] at 48 kHz."""
    time_s = np.arange(round(seconds * MEDIA_RATE_HZ)) / MEDIA_RATE_HZ
    sound = np.where(time_s % 1 < BEEP_S, 0.5 * np.sin(2 * np.pi * 1000 * time_s), 0)
    return sound[None].astype(np.float32)


def write_feed(
    path: Path, seconds: float, *, first: int = 0, sound: bool = True, codec: str = "libx264", gop: int = RATE
) -> Path:
    """Write a feed into a file of any container, with B-frames as broadcasters have them."""
    options = {"preset": "veryfast", "bf": "2", "forced-idr": "1"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        video = cast(VideoStream, container.add_stream(codec, rate=RATE, options=options | {"g": str(gop)}))
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.bit_rate = 1_000_000
        audio = container.add_stream("aac", rate=MEDIA_RATE_HZ, layout="mono") if sound else None
        container.start_encoding()
        for index in range(round(seconds * RATE)):
            frame = av_frame(picture(first + index))
            frame.pts, frame.time_base = index + round(START_S * RATE), Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            write_sound_to(container, audio, beeps(seconds), MEDIA_RATE_HZ, start=round(START_S * 48_000))
    return path


@dataclass
class Inbox:
    """What a source gave.

    Attributes:
        numbers: of the pictures, as read from them.
        captured_ns: when each was taken.
        came_ns: when it came.
        flashes_ns, beeps_ns: capture times.
        changes: what was told about it going and coming.
    """

    numbers: list[int | None] = field(default_factory=list)
    captured_ns: list[int] = field(default_factory=list)
    came_ns: list[int] = field(default_factory=list)
    flashes_ns: list[int] = field(default_factory=list)
    beeps_ns: list[int] = field(default_factory=list)
    changes: list[str | None] = field(default_factory=list)
    changed_ns: list[int] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    sounds: int = 0
    latest: I420 | None = None
    ended: "asyncio.Future[LivedubError | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _quiet_ns: int = 0

    def video(self, frame: VideoIn) -> None:
        self.numbers.append(number_of(frame.image.y))
        self.captured_ns.append(frame.captured_ns)
        self.came_ns.append(time.monotonic_ns())
        self.sizes.add((frame.image.width, frame.image.height))
        self.latest = frame.image
        if flashes(frame.image.y):
            self.flashes_ns.append(frame.captured_ns)

    def audio(self, piece: AudioIn) -> None:
        self.sounds += 1
        assert piece.captured_ns is not None
        loud = np.flatnonzero(np.abs(piece.samples) > 3000)
        if not loud.size:
            return
        at_ns = piece.captured_ns + int(loud[0]) * NS_PER_S // piece.rate_hz
        if at_ns > self._quiet_ns:
            self.beeps_ns.append(at_ns)
        self._quiet_ns = at_ns + NS_PER_S // 2

    def change(self, why: str | None) -> None:
        self.changes.append(why)
        self.changed_ns.append(time.monotonic_ns())

    def source(self, address: str, protocols: str) -> ProgrammeSource:
        scheme = address.partition("://")[0]
        return ProgrammeSource(
            Address(address, protocols, scheme),
            self.video,
            self.audio,
            self.ended.set_result,
            on_change=self.change,
        )

    def offsets_ms(self) -> list[float]:
        """By how much each flash comes later than its beep."""
        if not self.beeps_ns:
            return []
        beeps = np.array(self.beeps_ns)
        nearest = [flash - int(beeps[np.abs(beeps - flash).argmin()]) for flash in self.flashes_ns]
        return [offset / 1e6 for offset in nearest if abs(offset) < NS_PER_S // 2]

    def steps_ms(self) -> list[float]:
        """Between pictures, as taken."""
        return [float(step) / 1e6 for step in np.diff(self.captured_ns)]


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait for something.

    Raises:
        TimeoutError: it does not happen.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  polls what a thread counts
            await asyncio.sleep(0.01)
