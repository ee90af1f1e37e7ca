"""From packets to what a session takes: pictures and sound with their capture times."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from engine.errors import MediaError, ProtocolError
from streaming.rtc.audio_buffer import AudioBuffer
from streaming.rtc.capture_clock import CaptureClock, SenderClock
from streaming.rtc.frame_buffer import EncodedFrame, FrameBuffer, VideoPacket
from streaming.rtc.opus import OpusDecoder
from streaming.rtc.receiver import Incoming
from streaming.rtc.video_decoder import IS_KEY, Picture, VideoDecoder, decode_pool
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, AudioIn, VideoIn

LOG = logging.getLogger(__name__)

QUEUE_MAX_FRAMES = 12
"""Encoded frames that wait for the decoder, half a second at 25 per second; then all up to a key frame go."""

_VIDEO_RATE_HZ = 90_000
_RATE_WINDOW_NS = 2 * NS_PER_S


@dataclass(frozen=True)
class VideoLimits:
    """Of the incoming picture.

    Attributes:
        width_max: px; the long side, also of a picture that stands.
        height_max: px.
        fps_max: over two seconds; a quarter more is tolerated.
    """

    width_max: int = 1920
    height_max: int = 1080
    fps_max: int = 60


@dataclass(frozen=True, slots=True)
class _Waiting:
    frame: EncodedFrame
    captured_ns: int


class VideoInlet:
    """Buffers and decodes video, and gives each picture on.

    Args:
        on_video: called on the event loop; the picture is borrowed for the call.
        on_refused: called once, with a plain sentence, if the stream breaks the limits.
        sender: clock of the connection.
        limits: of the picture.
        now_ns: the monotonic clock.

    Attributes:
        codec: of the stream; empty before its first packet.
        size: of the last picture, px.
        decoded: counts pictures.
        damaged: counts frames that the decoder refused.
        overrun: counts frames dropped because the decoder could not follow.
    """

    def __init__(
        self,
        on_video: Callable[[VideoIn], None],
        on_refused: Callable[[str], None],
        sender: SenderClock,
        limits: VideoLimits,
        now_ns: Callable[[], int],
    ) -> None:
        self.codec = ""
        self.size = (0, 0)
        self.decoded = 0
        self.damaged = 0
        self.overrun = 0
        self._on_video = on_video
        self._on_refused = on_refused
        self._sender = sender
        self._limits = limits
        self._now_ns = now_ns
        self._buffer: FrameBuffer | None = None
        self._clock = CaptureClock(_VIDEO_RATE_HZ, sender)
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._window = (0, 0)
        self._round_trip_ns = 0
        self._ended = False

    def packet(self, packet: Incoming) -> None:
        """Take a packet; the frames it completes go to the decoder."""
        if self._ended or packet.codec not in IS_KEY:
            return
        if packet.codec != self.codec:
            self.codec, self._buffer = packet.codec, None
            self._start(VideoDecoder(packet.codec, self._limits.width_max, self._limits.height_max))
        if self._buffer is None:
            self._buffer = FrameBuffer(IS_KEY[packet.codec])
        self._clock.arrived(packet.timestamp, packet.now_ns)
        part = VideoPacket(packet.number, packet.timestamp, packet.last, packet.data, packet.now_ns)
        self._buffer.add(part)
        self._release(packet.now_ns)

    def report(self, ntp: int, timestamp: int, now_ns: int) -> None:
        """Take a sender report."""
        self._clock.report(ntp, timestamp, now_ns)

    def restart(self) -> None:
        """Forget everything: another source begins."""
        self.skip()
        self._clock = CaptureClock(_VIDEO_RATE_HZ, self._sender)

    def skip(self) -> None:
        """Give up what is buffered; the next key frame begins anew."""
        self._buffer = None

    def tick(self, now_ns: int, round_trip_ns: int) -> None:
        """Give up holes that are too old."""
        self._round_trip_ns = round_trip_ns
        if not self._ended:
            self._release(now_ns)

    def wants_key(self, now_ns: int) -> bool:
        """Whether to ask for a key frame now."""
        return self._buffer is not None and not self._ended and self._buffer.wants_key(now_ns)

    def next_number(self) -> int:
        """Packets before it are no longer of use."""
        return 0 if self._buffer is None else self._buffer.next_number

    def end(self) -> None:
        """Take nothing any more; what waits for the decoder is dropped."""
        self._ended = True
        self._stop()

    async def ended(self) -> None:
        """Wait until nothing is decoded any more; a frame in the decoder's hands is finished."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _release(self, now_ns: int) -> None:
        if self._buffer is None:
            return
        for frame in self._buffer.take(now_ns, self._round_trip_ns):
            if self._queue.qsize() >= QUEUE_MAX_FRAMES:
                self._overrun()
                return
            self._count(now_ns)
            self._queue.put_nowait(_Waiting(frame, self._clock.captured_ns(frame.timestamp, now_ns)))

    def _overrun(self) -> None:
        """Drop what waits: the decoder cannot follow, and pictures that are late are of no use."""
        while not self._queue.empty():
            self._queue.get_nowait()
            self.overrun += 1
        if self._buffer is not None:
            self._buffer.lost()

    def _count(self, now_ns: int) -> None:
        begin_ns, count = self._window
        if now_ns - begin_ns > _RATE_WINDOW_NS:
            begin_ns, count = now_ns, 0
        self._window = (begin_ns, count + 1)
        if 4 * self._window[1] > 5 * 2 * self._limits.fps_max:
            self._refuse(f"the video has more than {self._limits.fps_max} frames per second")

    def _refuse(self, reason: str) -> None:
        if not self._ended:
            self.end()
            self._on_refused(reason)

    def _stop(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    def _start(self, decoder: VideoDecoder) -> None:
        """Decode with `decoder` from now on; the one before finishes the frame that it has."""
        self._stop()
        self._queue = asyncio.Queue()
        self._task = asyncio.ensure_future(self._decode(decoder, self._queue, self._task))
        self._task.add_done_callback(self._failed)

    def _failed(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a picture could not be taken", exc_info=error)
            self._refuse("the picture could not be taken: an error of ours")

    async def _decode(
        self,
        decoder: VideoDecoder,
        queue: "asyncio.Queue[_Waiting | None]",
        before: "asyncio.Task[None] | None",
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        loop = asyncio.get_running_loop()
        waiting: dict[int, _Waiting] = {}
        while (item := await queue.get()) is not None:
            waiting[item.frame.timestamp] = item
            job = partial(decoder.decode, item.frame.data, item.frame.timestamp)
            try:
                pictures = await loop.run_in_executor(decode_pool(), job)
            except MediaError:
                self.damaged += 1
                if self._buffer is not None:
                    self._buffer.lost()
                continue
            except ProtocolError as error:
                self._refuse(str(error))
                return
            for picture in pictures:
                source = waiting.pop(picture.timestamp, None)
                if source is not None and not self._ended:
                    self._give(picture, source)
            while len(waiting) > 2 * QUEUE_MAX_FRAMES:
                waiting.pop(next(iter(waiting)))

    def _give(self, picture: Picture, source: _Waiting) -> None:
        self.decoded += 1
        self.size = (picture.image.width, picture.image.height)
        stamps = {"received": source.frame.arrived_ns, "decoded": self._now_ns()}
        self._on_video(VideoIn(picture.image, picture.colour, source.captured_ns, stamps))


class AudioInlet:
    """Buffers and decodes sound, and gives each piece on.

    Args:
        on_audio: called on the event loop.
        sender: clock of the connection.

    Attributes:
        buffer: puts the packets in order.
    """

    def __init__(self, on_audio: Callable[[AudioIn], None], sender: SenderClock) -> None:
        self._decoder = OpusDecoder()
        self.buffer = AudioBuffer(self._decoder)
        self._clock = CaptureClock(MEDIA_RATE_HZ, sender)
        self._on_audio = on_audio
        self._sender = sender
        self._ended = False

    def packet(self, packet: Incoming) -> None:
        """Take a packet."""
        if packet.codec != "opus" or self._ended:
            return
        self._clock.arrived(packet.timestamp, packet.now_ns)
        self.buffer.add(packet.number, packet.timestamp, packet.data, packet.now_ns)
        self._release(packet.now_ns)

    def report(self, ntp: int, timestamp: int, now_ns: int) -> None:
        """Take a sender report."""
        self._clock.report(ntp, timestamp, now_ns)

    def restart(self) -> None:
        """Forget everything: another source begins."""
        if self._ended:
            return
        self._decoder.close()
        self._decoder = OpusDecoder()
        self.buffer = AudioBuffer(self._decoder)
        self._clock = CaptureClock(MEDIA_RATE_HZ, self._sender)

    def skip(self) -> None:
        """Sound is never given up."""

    def tick(self, now_ns: int, round_trip_ns: int) -> None:
        """Conceal what is overdue."""
        if not self._ended:
            self._release(now_ns)

    def wants_key(self, now_ns: int) -> bool:
        """Sound has no key frames."""
        return False

    def next_number(self) -> int:
        """Sound is not asked for again."""
        return 0

    def end(self) -> None:
        """Give nothing any more."""
        self._ended = True
        self._decoder.close()

    def _release(self, now_ns: int) -> None:
        for sound in self.buffer.take(now_ns):
            captured_ns = self._clock.captured_ns(sound.timestamp, now_ns)
            self._on_audio(AudioIn(sound.samples, MEDIA_RATE_HZ, captured_ns))
