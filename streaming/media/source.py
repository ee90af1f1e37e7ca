"""A programme that is not WebRTC, played into a session: a file, RTMP, RTSP, HLS, or SRT.

One thread reads and decodes. What is pulled is let out at its own pace; what is pushed comes as it comes,
with the network's jitter taken out of its times: see `playout`. A programme of the network that goes away is
asked for again, less and less often, and given up after a minute without a picture: see `patience`. One that
never gave a picture is an error at once.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from engine.errors import LivedubError, MediaError
from engine.image.yuv import I420
from engine.media import frames as pictures
from streaming.media.address import Address
from streaming.media.opening import LostError, opened, read_s, told
from streaming.media.patience import Patience
from streaming.media.playout import ArrivalClock, Burst, Pace
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, PCM, AudioIn, VideoIn

IN_FLIGHT = 3  # pieces handed over and not yet taken; more would be a queue
CLOSE_S = 2.0  # for the thread; one that waits for a server ends when that wait does, in `opening.read_s`
PICTURE_S = 10.0  # with other data, but no picture
LARGEST_PX = 1920 * 1088
_MOST_DECODED_PX = 4096 * 2304  # before memory is taken for it; more than the above, to tell its size
_FRAME_NS = NS_PER_S // 25
_PULLED = {"file", "http", "https"}
_ENDING = {*_PULLED, "rtsp"}  # if they tell a length; the others tell one of live programmes, too


class ProgrammeSource:
    """One programme, from `start` to `close` or its end.

    Args:
        address: what to open, already allowed.
        on_video, on_audio: called in the event loop; the pictures are the callee's.
        on_end: called once, in the event loop, with the reason if it is an error.
        on_change: called in the event loop with the reason when it went away, and with None when it is back.
        loop: begin a file again at its end.
    """

    def __init__(
        self,
        address: Address,
        on_video: Callable[[VideoIn], None],
        on_audio: Callable[[AudioIn], None],
        on_end: Callable[[LivedubError | None], None],
        *,
        on_change: Callable[[str | None], None] = lambda _: None,
        loop: bool = False,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address, self._loops, self._now_ns = address, loop and address.scheme == "file", now_ns
        self._on_video, self._on_audio, self._on_end = on_video, on_audio, on_end
        self._on_change, self._away, self._live = on_change, False, False
        self._stop, self._credit = threading.Event(), threading.BoundedSemaphore(IN_FLIGHT)
        self._thread = threading.Thread(target=self._run, name="programme", daemon=True)
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._patience, self._pace = Patience(), Pace(now_ns())
        self._arrivals, self._burst, self._sound = ArrivalClock(), Burst(), _Sound()

    def start(self) -> None:
        """Begin; to be called in the event loop."""
        self._event_loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """End it; nothing is called afterwards."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, CLOSE_S)

    def _run(self) -> None:
        failure: LivedubError | None = None
        try:
            self._play_all()
        except LivedubError as error:
            failure = error
        except (FFmpegError, OSError, ValueError) as error:
            failure = MediaError(f"{self._address.shown}: {type(error).__name__}")
        self._post(self._on_end, failure)

    def _play_all(self) -> None:
        self._pace.restart(self._now_ns())
        while not self._stop.is_set():
            try:
                if not self._play_once():
                    return
            except LostError as error:
                self._wait(error)
                self._pace.restart(self._now_ns())

    def _wait(self, error: LostError) -> None:
        """Until it makes sense to try again.

        Raises:
            LostError: it does not.
        """
        pause_s = None if self._address.scheme == "file" else self._patience.pause_s(self._now_ns())
        if pause_s is None:
            raise error
        if not self._away:
            self._away = True
            self._post(self._on_change, str(error))
        self._stop.wait(pause_s)

    def _play_once(self) -> bool:
        """Play it from its beginning, or from now on; returns whether there is more of it."""
        with opened(self._address, self._stop.is_set) as container:
            over = self._address.scheme in _ENDING and bool(container.duration)
            if over and self._live:
                return False  # a live HLS playlist that has ended, and would be played from its beginning
            self._live = not over and self._address.scheme != "file"
            self._arrivals, self._burst, self._sound = ArrivalClock(), Burst(), _Sound()
            self._pace.restart()
            self._play(container)
        if self._patience.picture_ns is None and not self._stop.is_set():
            raise MediaError(f"{self._address.shown}: has no picture that can be decoded")
        if self._live and not self._stop.is_set():
            raise LostError(f"{self._address.shown}: it stopped")
        return self._loops

    def _play(self, container: InputContainer) -> None:
        """Let everything out."""
        video = self._video_of(container)
        sounds = [stream for stream in container.streams.audio if stream.codec_context is not None]
        opened_ns = self._now_ns()
        for frame in self._frames(container, [video, *sounds[:1]]):
            if self._stop.is_set():
                return
            self._check_picture(opened_ns)
            captured_ns = self._due_ns(frame)
            if captured_ns is None:
                continue
            if self._address.scheme in _PULLED and self._stop.wait(
                max(0.0, (captured_ns - self._now_ns()) / NS_PER_S)
            ):
                return
            if isinstance(frame, AudioFrame):
                self._give_sound(frame, captured_ns)
            else:
                self._give_picture(frame, captured_ns)

    def _check_picture(self, opened_ns: int) -> None:
        """See that it gives pictures, and not only sound, since it was opened."""
        seen_ns = max(self._patience.picture_ns or 0, opened_ns)
        if self._now_ns() - seen_ns > PICTURE_S * NS_PER_S and self._address.scheme != "file":
            raise LostError(f"{self._address.shown}: no picture came for {PICTURE_S:.0f} s")

    def _video_of(self, container: InputContainer) -> VideoStream:
        video = container.streams.video[0] if container.streams.video else None
        if video is None:
            raise LostError(f"{self._address.shown}: has no video")
        if video.codec_context is None:
            raise MediaError(f"{self._address.shown}: its picture is coded in a way that is not known here")
        self._check_size(video.width, video.height)
        video.codec_context.thread_count = 1
        video.codec_context.options = {"max_pixels": str(_MOST_DECODED_PX)}
        return video

    def _check_size(self, width: int, height: int) -> None:
        if width * height > LARGEST_PX:
            raise MediaError(f"{self._address.shown}: {width}x{height} is too large; 1920x1080 at most")

    def _frames(self, container: InputContainer, streams: list[Any]) -> Iterator[VideoFrame | AudioFrame]:
        """Decoded frames as they come; damaged packets are passed over, as live streams have them."""
        packets = container.demux(*streams)
        while True:
            with told(self._address, read_s(self._address), "went away"):
                packet = next(packets, None)
            if packet is None:
                return
            try:
                yield from packet.decode()
            except FFmpegError:
                continue

    def _due_ns(self, frame: VideoFrame | AudioFrame) -> int | None:
        """When a frame is due, or was taken; None: it is not wanted, or nobody knows."""
        if frame.time is None:
            return None
        stream_ns, now_ns = int(frame.time * NS_PER_S), self._now_ns()
        track = int(isinstance(frame, AudioFrame))
        if self._address.scheme in _PULLED:
            return self._pace.due_ns(stream_ns, _lasts_ns(frame), now_ns, track)
        captured_ns = self._arrivals.local_ns(stream_ns, now_ns, track)
        if isinstance(frame, VideoFrame):
            self._burst.picture(stream_ns, now_ns)
        return captured_ns if self._burst.over else None

    def _give_sound(self, frame: AudioFrame, captured_ns: int) -> None:
        samples = self._sound.of(frame)
        if samples.size:
            self._post(self._on_audio, AudioIn(samples, MEDIA_RATE_HZ, captured_ns))

    def _give_picture(self, frame: VideoFrame, captured_ns: int) -> None:
        received_ns = self._now_ns()
        self._check_size(frame.width, frame.height)
        colour, _ = pictures.colour_of(frame, frame.height)
        image = _even(pictures.turned(pictures.to_i420(frame, colour), pictures.orientation(frame)))
        stamps = {"received": received_ns, "decoded": self._now_ns()}
        if self._patience.picture(received_ns) and self._away:
            self._away = False
            self._post(self._on_change, None)
        self._post(self._on_video, VideoIn(image, colour, captured_ns, stamps))

    def _post(self, callback: Callable[[Any], None], value: object) -> None:
        """Call in the event loop, with at most `IN_FLIGHT` calls outstanding."""
        while not self._credit.acquire(timeout=0.1):
            if self._stop.is_set():
                return

        def taken() -> None:
            self._credit.release()
            if not self._stop.is_set():
                callback(value)

        if self._event_loop is not None and not self._event_loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop ended just now, and nobody listens
                self._event_loop.call_soon_threadsafe(taken)


class _Sound:
    """Any sound as ours, also if it changes on the way."""

    def __init__(self) -> None:
        self._kind: tuple[str, str, int] | None = None
        self._resampler = AudioResampler("s16", "mono", MEDIA_RATE_HZ)

    def of(self, frame: AudioFrame) -> PCM:
        """What a frame has, int16 [T] at 48 kHz."""
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._kind:
            self._kind, self._resampler = kind, AudioResampler("s16", "mono", MEDIA_RATE_HZ)
        parts = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def _lasts_ns(frame: VideoFrame | AudioFrame) -> int:
    if isinstance(frame, AudioFrame):
        return round(frame.samples / frame.sample_rate * NS_PER_S)
    if frame.duration and frame.time_base:
        return round(float(frame.duration * frame.time_base) * NS_PER_S)
    return _FRAME_NS


def _even(image: I420) -> I420:
    """Without the last row or column of an odd size, which WebRTC cannot carry."""
    height, width = image.height // 2 * 2, image.width // 2 * 2
    if (height, width) == (image.height, image.width):
        return image
    return I420(
        image.y[:height, :width], image.u[: height // 2, : width // 2], image.v[: height // 2, : width // 2]
    )
