"""A session's picture and sound, encoded once and handed to every viewer.

Each viewer has a bounded queue of its own. One that falls behind loses its queue and goes on at the next
keyframe; it never holds the others, the encoder or memory.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.image.yuv import I420, Colour
from streaming.rtc.encoder import (
    AudioEncoder,
    AudioSettings,
    EncodedFrame,
    VideoEncoder,
    VideoSettings,
)
from streaming.rtc.keyframes import KeyframeLimiter, KeyframeReason
from streaming.rtc.rate_control import RateOptions
from streaming.rtc.subscription import Subscription
from streaming.types import MEDIA_RATE_HZ, PCM

VIDEO_QUEUE_FRAMES = 30
VIDEO_QUEUE_BYTES = 1_000_000
AUDIO_QUEUE_FRAMES = 50

_VIDEO_SETTINGS = VideoSettings()
_AUDIO_SETTINGS = AudioSettings()
_RATES = RateOptions()


@dataclass
class RenditionStats:
    """Counters since the start.

    Attributes:
        frames: encoded.
        skipped: not encoded because the encoder was busy, or the position did not grow.
        bytes: encoded.
        encode_ns: spent in the encoder's thread, in total.
        target_bps: of video, now.
        viewers: now.
        keyframes: by reason.
    """

    frames: int = 0
    skipped: int = 0
    bytes: int = 0
    encode_ns: int = 0
    target_bps: int = 0
    viewers: int = 0
    keyframes: dict[str, int] = field(default_factory=dict)


class _FanOut:
    """Subscriptions, counters, and one encode at a time."""

    def __init__(self, frames_max: int, bytes_max: int, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._limits = (frames_max, bytes_max)
        self._subscriptions: list[Subscription] = []
        self._counters = RenditionStats()
        self._turn = asyncio.Lock()
        self._closed = False

    def subscribe(self) -> Subscription:
        """Return a new viewer's queue; closed at once if this is."""
        subscription = Subscription(*self._limits, self._waits, self._unsubscribe)
        if self._closed:
            subscription.close()
        else:
            self._subscriptions.append(subscription)
            self._waits(subscription, "viewer")
        return subscription

    @property
    def viewers(self) -> int:
        """How many queues take frames."""
        return sum(subscription.active for subscription in self._subscriptions)

    def close(self) -> None:
        """End every queue; later pushes do nothing."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()

    def left(self, frame: EncodedFrame, now_ns: int) -> None:
        """Note that a frame's first packet left for a viewer."""
        if not frame.first_packet_ns:
            frame.first_packet_ns = now_ns
            self._first_left(frame)

    def _deliver(self, frame: EncodedFrame, began_ns: int) -> None:
        self._counters.frames += 1
        self._counters.bytes += frame.size_bytes
        self._counters.encode_ns += frame.encoded_ns - began_ns
        for subscription in list(self._subscriptions):
            subscription.put(frame)

    def _unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def _waits(self, subscription: Subscription, reason: KeyframeReason) -> None:
        """React to a viewer that waits for a keyframe."""

    def _first_left(self, frame: EncodedFrame) -> None:
        """React to a frame's first packet."""


async def _finished(pool: Executor, work: Callable[[], EncodedFrame]) -> EncodedFrame:
    """Run `work` in the pool to its end, also when cancelled: encoder and picture are in use till then."""
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        return await asyncio.shield(future)
    finally:
        if not future.done():
            await asyncio.wait({future})


class VideoRendition(_FanOut):
    """The picture. Its bitrate is the least that any viewer worth following can take.

    Nothing is encoded while nobody watches.

    Args:
        pool: threads for encoding, shared by all sessions; see `video_pool`.
        settings: of the encoder; its highest bitrate comes from `rates`.
        rates: limits of the bitrate.
        on_first_packet: called with each frame when its first packet leaves for the first viewer.
        now_ns: the monotonic clock.
    """

    kind: Literal["video"] = "video"
    clock_rate_hz = 90_000

    def __init__(
        self,
        pool: Executor,
        settings: VideoSettings = _VIDEO_SETTINGS,
        rates: RateOptions = _RATES,
        *,
        on_first_packet: Callable[[EncodedFrame], None] | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(VIDEO_QUEUE_FRAMES, VIDEO_QUEUE_BYTES, now_ns)
        self.rates = rates
        self._pool = pool
        self._encoder = VideoEncoder(replace(settings, most_bps=rates.most_bps))
        self._keyframes = KeyframeLimiter()
        self._on_first_packet = on_first_packet
        self._cap_bps = rates.most_bps
        self._latest = 0
        self._last_position: int | None = None

    async def push(self, image: I420, colour: Colour, position: int) -> EncodedFrame | None:
        """Encode a picture and hand it to the viewers.

        Args:
            image: borrowed until this returns.
            colour: how its bytes are meant.
            position: media position, growing.

        Returns:
            The encoded frame; None if nobody watches, or if the picture was skipped: a newer one was pushed
            while this one waited for the encoder, or the position does not grow.
        """
        self._latest += 1
        ticket = self._latest
        async with self._turn:
            if self._closed or not self.viewers:
                return None
            stale = self._last_position is not None and position <= self._last_position
            if ticket != self._latest or stale:
                self._counters.skipped += 1
                return None
            self._last_position = position
            return await self._encode(image, colour, position)

    async def _encode(self, image: I420, colour: Colour, position: int) -> EncodedFrame:
        began_ns = self._now_ns()
        reason = self._keyframes.due(began_ns)
        target_bps = self.target_bps

        def work() -> EncodedFrame:
            made = self._encoder.encode(
                image, colour, position, target_bps=target_bps, keyframe=reason is not None
            )
            made.encoded_ns = self._now_ns()
            return made

        try:
            frame = await _finished(self._pool, work)
        finally:
            if self._closed:
                self._encoder.close()
        if frame.keyframe:
            self._keyframes.made(frame.encoded_ns, reason, frame.size_bytes, target_bps)
        self._deliver(frame, began_ns)
        return frame

    def close(self) -> None:
        """End every queue, and the encoder as soon as it has done what it is at; later pushes do nothing."""
        super().close()
        if not self._turn.locked():
            self._encoder.close()

    def request_keyframe(self, reason: KeyframeReason = "asked") -> None:
        """Make the next picture a keyframe, unless there was one just now."""
        self._keyframes.request(reason)

    def set_bitrate(self, most_bps: int | None) -> None:
        """Hold the bitrate at or below `most_bps` from the next picture on; None lifts that."""
        most = self.rates.most_bps if most_bps is None else most_bps
        self._cap_bps = min(max(most, self.rates.least_bps), self.rates.most_bps)

    @property
    def target_bps(self) -> int:
        """The bitrate that the next picture is encoded for."""
        told = [s.target_bps for s in self._subscriptions if s.active and s.target_bps is not None]
        unbound = self.rates.least_bps if told else self.rates.most_bps
        worth = min((bps for bps in told if bps >= self.rates.least_bps), default=unbound)
        return min(worth, self._cap_bps)

    def stats(self) -> RenditionStats:
        """Return the counters now."""
        counts: dict[str, int] = {str(reason): count for reason, count in self._keyframes.counts.items()}
        now = {"target_bps": self.target_bps, "viewers": self.viewers, "keyframes": counts}
        return RenditionStats(**{**vars(self._counters), **now})

    def _waits(self, subscription: Subscription, reason: KeyframeReason) -> None:
        self._keyframes.request(reason)

    def _first_left(self, frame: EncodedFrame) -> None:
        if self._on_first_packet is not None:
            self._on_first_packet(frame)


class AudioRendition(_FanOut):
    """The sound: 20 ms at a time.

    Args:
        pool: threads for encoding, other than those of the pictures; see `audio_pool`.
        settings: of the encoder.
        now_ns: the monotonic clock.
    """

    kind: Literal["audio"] = "audio"
    clock_rate_hz = MEDIA_RATE_HZ

    def __init__(
        self,
        pool: Executor,
        settings: AudioSettings = _AUDIO_SETTINGS,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(AUDIO_QUEUE_FRAMES, AUDIO_QUEUE_FRAMES * 1500, now_ns)
        self._pool = pool
        self._encoder = AudioEncoder(settings)

    async def push(self, samples: PCM, position: int) -> EncodedFrame | None:
        """Encode int16 [960] at 48 kHz that plays at `position`, and hand it to the viewers.

        Sound is encoded in the order of the calls, and never skipped while somebody listens.

        Returns:
            The encoded packet; None if nobody listens.
        """
        async with self._turn:
            if self._closed or not self.viewers:
                return None
            began_ns = self._now_ns()

            def work() -> EncodedFrame:
                made = self._encoder.encode(samples, position)
                made.encoded_ns = self._now_ns()
                return made

            try:
                frame = await _finished(self._pool, work)
            finally:
                if self._closed:
                    self._encoder.close()
            self._deliver(frame, began_ns)
            return frame

    def close(self) -> None:
        """End every queue, and the encoder as soon as it has done what it is at; later pushes do nothing."""
        super().close()
        if not self._turn.locked():
            self._encoder.close()

    def stats(self) -> RenditionStats:
        """Return the counters now."""
        return RenditionStats(**{**vars(self._counters), "viewers": self.viewers})


Rendition = VideoRendition | AudioRendition


def video_pool(threads: int = 2) -> ThreadPoolExecutor:
    """Return threads for encoding pictures, to be shared by all sessions of a process."""
    return ThreadPoolExecutor(threads, thread_name_prefix="encode-video")


def audio_pool() -> ThreadPoolExecutor:
    """Return the thread for encoding sound, to be shared by all sessions of a process."""
    return ThreadPoolExecutor(1, thread_name_prefix="encode-audio")
