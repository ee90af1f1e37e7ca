"""A programme that is not WebRTC, played into a session: a file, RTMP, RTSP, HLS, or SRT.

One thread reads and decodes. A file is let out at its own pace; what is live comes as it comes, and the
network's jitter is taken out of its times: the packet that was fastest so far says how times map.
"""

import asyncio
import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame

from engine.errors import BackendUnavailable, LivedubError, MediaError
from engine.image.yuv import I420
from engine.media import frames as pictures
from streaming.media.address import Address
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, AudioIn, VideoIn

IN_FLIGHT = 3  # pieces handed over and not yet taken; more would be a queue
OPEN_S, READ_S = 10.0, 5.0  # without an answer, without data
LARGEST_PX = 1920 * 1088
DRIFT_NS_PER_S = 500_000  # the fastest packet is forgotten at this rate: clocks differ by up to 500 ppm


class ArrivalClock:
    """Maps times of a live stream to local ones, jitter taken out. Pure: times are given."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_ns = 0

    def local_ns(self, stream_ns: int, now_ns: int) -> int:
        """When something with time `stream_ns`, which arrived at `now_ns`, would have come without delay."""
        offset = now_ns - stream_ns
        if self._offset_ns is not None:
            slack = (now_ns - self._last_ns) * DRIFT_NS_PER_S // NS_PER_S
            offset = min(offset, self._offset_ns + slack)
        self._offset_ns, self._last_ns = offset, now_ns
        return stream_ns + offset


class ProgrammeSource:
    """One programme, from `start` to `close` or its end.

    Args:
        address: what to open, already allowed.
        on_video, on_audio: called in the event loop; the pictures are the callee's.
        on_end: called once, in the event loop, with the reason if it is an error.
        loop: begin a file again at its end.
    """

    def __init__(
        self,
        address: Address,
        on_video: Callable[[VideoIn], None],
        on_audio: Callable[[AudioIn], None],
        on_end: Callable[[LivedubError | None], None],
        *,
        loop: bool = False,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address, self._loops, self._now_ns = address, loop and address.scheme == "file", now_ns
        self._on_video, self._on_audio, self._on_end = on_video, on_audio, on_end
        self._stop, self._credit = threading.Event(), threading.BoundedSemaphore(IN_FLIGHT)
        self._thread = threading.Thread(target=self._run, name="programme", daemon=True)
        self._event_loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin; to be called in the event loop."""
        self._event_loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """End it; nothing is called afterwards."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, READ_S + 1)

    def _run(self) -> None:
        failure: LivedubError | None = None
        try:
            self._play_all()
        except LivedubError as error:
            failure = error
        except (FFmpegError, OSError, ValueError) as error:
            failure = MediaError(f"{self._address.shown}: {error}")
        self._post(self._on_end, failure)

    def _play_all(self) -> None:
        start_ns = self._now_ns()
        while not self._stop.is_set():
            with _opened(self._address, self._stop) as container:
                start_ns = self._play(container, start_ns)
            if not self._loops:
                return

    def _play(self, container: InputContainer, start_ns: int) -> int:
        """Let everything out; returns when a next round should begin."""
        video = container.streams.video[0] if container.streams.video else None
        if video is None:
            raise MediaError(f"{self._address.shown}: has no video")
        if video.width * video.height > LARGEST_PX:
            raise MediaError(
                f"{self._address.shown}: {video.width}x{video.height} is too large; 1920x1080 at most"
            )
        video.codec_context.thread_count = 1
        streams: list[Any] = [video, *container.streams.audio[:1]]
        resampler = AudioResampler("s16", "mono", MEDIA_RATE_HZ)
        clock, first_ns, end_ns = ArrivalClock(), None, start_ns
        for frame in _frames(container, streams):
            if self._stop.is_set():
                break
            stream_ns = int((frame.time or 0.0) * NS_PER_S)
            if first_ns is None:
                first_ns = stream_ns
            if self._address.scheme == "file":
                captured_ns = start_ns + stream_ns - first_ns
                if self._stop.wait(max(0.0, (captured_ns - self._now_ns()) / NS_PER_S)):
                    break
            else:
                captured_ns = clock.local_ns(stream_ns, self._now_ns())
            end_ns = max(end_ns, captured_ns + self._give(frame, captured_ns, resampler))
        return end_ns

    def _give(self, frame: VideoFrame | AudioFrame, captured_ns: int, resampler: AudioResampler) -> int:
        """Hand one frame over; returns how long it lasts, ns."""
        received_ns = self._now_ns()
        if isinstance(frame, AudioFrame):
            samples = np.concatenate(
                [part.to_ndarray()[0] for part in resampler.resample(frame)] or [_NO_SOUND]
            )
            self._post(self._on_audio, AudioIn(samples, MEDIA_RATE_HZ, captured_ns))
            return round(frame.samples / frame.sample_rate * NS_PER_S)
        colour, _ = pictures.colour_of(frame, frame.height)
        image = _even(pictures.turned(pictures.to_i420(frame, colour), pictures.orientation(frame)))
        stamps = {"received": received_ns, "decoded": self._now_ns()}
        self._post(self._on_video, VideoIn(image, colour, captured_ns, stamps))
        duration = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.04
        return round(duration * NS_PER_S)

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


_NO_SOUND = np.zeros(0, np.int16)


def _even(image: I420) -> I420:
    """Without the last row or column of an odd size, which WebRTC cannot carry."""
    height, width = image.height // 2 * 2, image.width // 2 * 2
    if (height, width) == (image.height, image.width):
        return image
    return I420(
        image.y[:height, :width], image.u[: height // 2, : width // 2], image.v[: height // 2, : width // 2]
    )


def _frames(container: InputContainer, streams: list[Any]) -> Iterator[VideoFrame | AudioFrame]:
    """Decoded frames as they come; damaged packets are passed over, as live streams have them."""
    for packet in container.demux(*streams):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


@contextlib.contextmanager
def _opened(address: Address, stop: threading.Event) -> Iterator[InputContainer]:
    with contextlib.ExitStack() as stack:
        if address.scheme == "srt":
            yield stack.enter_context(av.open(stack.enter_context(_srt(address)), format="mpegts"))
            return
        options = {"protocol_whitelist": address.protocols}
        if address.scheme in ("rtsp",):
            options["rtsp_transport"] = "tcp"
        try:
            container = av.open(address.name, options=options, timeout=(OPEN_S, READ_S))
        except (FFmpegError, OSError) as error:
            raise MediaError(f"{address.shown}: cannot be opened: {error}") from error
        yield stack.enter_context(container)


@contextlib.contextmanager
def _srt(address: Address) -> Iterator[Any]:
    """The transport stream that ffmpeg receives by SRT, which PyAV's own FFmpeg cannot."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise BackendUnavailable("SRT needs the program ffmpeg: on Debian and Ubuntu, apt install ffmpeg")
    command = [
        program,
        "-nostdin",
        "-loglevel",
        "error",
        "-i",
        address.name,
        "-c",
        "copy",
        "-f",
        "mpegts",
        "-",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
