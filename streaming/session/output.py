"""What leaves a session: encoded once for all viewers and other outputs, and how late it was."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from engine.composite.mark import Mark, stamp
from streaming.core.actions import LeaveSound, LeaveVideo
from streaming.core.clock import ns_of
from streaming.core.latency import FrameTimes, LatencyLog, frame_times
from streaming.rtc.encoder import EncodedFrame
from streaming.rtc.rendition import AudioRendition, VideoRendition
from streaming.session.pictures import Pictures
from streaming.session.resources import Reporter, Resources

LOW_BITRATE_BPS = 800_000
REMEMBERED = 256  # frames under way to their first packet


@dataclass
class Passage:
    """A frame on its way through the session.

    Attributes:
        captured_ns: when it was taken.
        stamps_ns: when it passed each stage.
        heard_ns: when the dub's sound of its media time came in.
        dubbed: whether it shows the dub's mouth.
        zero_heard_ns: when sound of media position 0 would have come in, as sound was placed when the frame
            was handed to the worker; None before that. Where sound is placed may move.
    """

    captured_ns: int
    stamps_ns: dict[str, int] = field(default_factory=dict)
    heard_ns: int = 0
    dubbed: bool = False
    zero_heard_ns: int | None = None

    def heard(self, zero_heard_ns: int, position: int) -> None:
        """Note when its sound came in, if media position 0 did then and the frame was never handed over."""
        known_ns = zero_heard_ns if self.zero_heard_ns is None else self.zero_heard_ns
        self.heard_ns = known_ns + ns_of(position)


class Output:
    """Renditions, and the times of what left. Belongs to the event loop.

    Args:
        resources: encoders' threads, and who counts.
        on_missed: called when a picture could not be encoded in time.
        mark: what every picture says of itself.
        now_ns: the monotonic clock.

    Attributes:
        video, audio: what viewers and other outputs subscribe to.
        latency: of the frames that left.
    """

    def __init__(
        self,
        resources: Resources,
        on_missed: Callable[[], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
        *,
        mark: Mark = "none",
    ) -> None:
        self.video = VideoRendition(resources.video_pool, on_first_packet=self._left, now_ns=now_ns)
        self.audio = AudioRendition(resources.audio_pool, now_ns=now_ns)
        self.latency = LatencyLog()
        self._reporter: Reporter = resources.reporter
        self._on_missed, self._now_ns, self._mark = on_missed, now_ns, mark
        self._tasks: set[asyncio.Task[None]] = set()
        self._passages: OrderedDict[int, Passage] = OrderedDict()  # by position

    def picture(self, leave: LeaveVideo, pictures: Pictures, passage: Passage) -> None:
        """Send a picture; its slot is held until it is encoded."""
        pictures.hold(leave.ref)
        passage.stamps_ns.setdefault("taken", self._now_ns())
        self._run(self._send(leave, pictures, passage))

    def sound(self, leave: LeaveSound) -> None:
        """Send 20 ms of sound."""
        self._run(self._send_sound(leave))

    def low_bitrate(self, wanted: bool) -> None:
        """Hold the bitrate low, or not."""
        self.video.set_bitrate(LOW_BITRATE_BPS if wanted else None)

    async def close(self) -> None:
        """End the renditions."""
        self.video.close()
        self.audio.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _send(self, leave: LeaveVideo, pictures: Pictures, passage: Passage) -> None:
        try:
            self._passages[leave.position] = passage
            if len(self._passages) > REMEMBERED:
                self._passages.popitem(last=False)
            image = pictures.picture(leave.ref, dubbed=leave.dubbed)
            if self._mark == "visible":
                stamp(image)
            made = await self.video.push(image, pictures.colour(leave.ref), leave.position)
        finally:
            pictures.let_go(leave.ref)
        if made is not None:
            passage.stamps_ns["encoded"] = made.encoded_ns
        elif self.video.viewers:
            self._on_missed()

    async def _send_sound(self, leave: LeaveSound) -> None:
        await self.audio.push(leave.samples, leave.position)

    def _left(self, frame: EncodedFrame) -> None:
        """The first packet of a picture left for the first viewer."""
        passage = self._passages.pop(frame.position, None)
        if passage is None:
            return
        passage.stamps_ns |= {"encoded": frame.encoded_ns, "first_packet": frame.first_packet_ns}
        times = frame_times(passage.captured_ns, passage.heard_ns, passage.stamps_ns, dubbed=passage.dubbed)
        self.latency.add(times)
        self._report(times)

    def _report(self, times: FrameTimes) -> None:
        for stage, spent_ms in times.stages_ms.items():
            self._reporter.stage(stage, spent_ms / 1000)
        if times.mouth_ms is not None:
            self._reporter.mouth_latency(times.mouth_ms / 1000)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
