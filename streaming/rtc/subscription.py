"""A viewer's bounded queue of encoded frames."""

import asyncio
from collections import deque
from collections.abc import Callable

from streaming.rtc.encoder import EncodedFrame
from streaming.rtc.keyframes import KeyframeReason


class SubscriptionClosed(Exception):
    """No more frames will come."""


class Subscription:
    """The bounded queue of one viewer. Belongs to the event loop.

    Attributes:
        dropped: frames this viewer did not get.
        target_bps: what its link carries, None for anything; see `VideoRendition`.
        active: whether it takes frames; see `pause`.
    """

    def __init__(
        self,
        frames_max: int,
        bytes_max: int,
        on_wait: Callable[["Subscription", KeyframeReason], None],
        on_close: Callable[["Subscription"], None],
    ) -> None:
        self.dropped = 0
        self.target_bps: int | None = None
        self.active = True
        self._frames: deque[EncodedFrame] = deque()
        self._bytes = 0
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._on_wait = on_wait
        self._on_close = on_close
        self._needs_keyframe = True
        self._closed = False
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """How many frames wait."""
        return len(self._frames)

    @property
    def keyframe_waits(self) -> bool:
        """Whether a keyframe is in the queue."""
        return any(frame.keyframe for frame in self._frames)

    async def get(self) -> EncodedFrame:
        """Wait for the next frame; the first, and the first after a gap, is a keyframe.

        Raises:
            SubscriptionClosed: there will be none.
        """
        while not self._frames:
            if self._closed:
                raise SubscriptionClosed
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame.data)
        return frame

    def pause(self, paused: bool) -> None:
        """Take no frames while nobody listens, and go on with a keyframe; does nothing if nothing changes."""
        if paused == self.active and not self._closed:
            self.active = not paused
            self._skip()
            if self.active:
                self._on_wait(self, "viewer")

    def lost(self) -> None:
        """Go on at a keyframe: the viewer cannot decode what comes before, and its link has better use."""
        self._skip()
        self._on_wait(self, "lost")

    def close(self) -> None:
        """Take no more frames; what waits is forgotten. May be called again."""
        if not self._closed:
            self._closed = True
            self.active = False
            self._skip()
            self._filled.set()
            self._on_close(self)

    def put(self, frame: EncodedFrame) -> None:
        """Queue a frame; without room, everything waits for the next keyframe instead."""
        if not self.active:
            return
        if len(self._frames) >= self._frames_max or self._bytes + len(frame.data) > self._bytes_max:
            self._skip()
            if not frame.keyframe:
                self._on_wait(self, "slow")
        if self._needs_keyframe and not frame.keyframe:
            self.dropped += 1
            return
        self._needs_keyframe = False
        self._frames.append(frame)
        self._bytes += len(frame.data)
        self._filled.set()

    def _skip(self) -> None:
        self.dropped += len(self._frames)
        self._frames.clear()
        self._bytes = 0
        self._needs_keyframe = True
