"""Encoded frames to pictures, within limits that are checked before the decoder sees them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import av.error
import numpy as np
from av.codec.context import Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from engine.arrays import U8
from engine.errors import MediaError, ProtocolError
from engine.image.yuv import I420, Colour
from engine.media.frames import colour_of
from streaming.rtc.picture_size import h264_is_key, h264_sizes, vp8_is_key, vp8_sizes

THREADS = 2
IS_KEY = {"H264": h264_is_key, "VP8": vp8_is_key}
_SIZES = {"H264": h264_sizes, "VP8": vp8_sizes}
_NAMES = {"H264": "h264", "VP8": "vp8"}
_TIME_BASE = Fraction(1, 90_000)


@cache
def decode_pool() -> ThreadPoolExecutor:
    """Return the threads that decode for every publisher of the process."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="rtc-decode")


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded frame.

    Attributes:
        image: views of the decoder's memory, valid while this object lives; only read.
        colour: how its bytes are meant.
        timestamp: of the encoded frame, 90 kHz.
        owner: keeps the memory alive.
    """

    image: I420
    colour: Colour
    timestamp: int
    owner: VideoFrame


class VideoDecoder:
    """Decodes one stream, one frame after the other, from any thread.

    Args:
        codec: "H264" or "VP8".
        width_max: px, of the long side if the picture stands.
        height_max: px.
    """

    def __init__(self, codec: str, width_max: int, height_max: int) -> None:
        self._sizes = _SIZES[codec]
        self._limits = (width_max, height_max)
        context = av.CodecContext.create(_NAMES[codec], "r")
        if not isinstance(context, VideoCodecContext):
            raise MediaError(f"FFmpeg's {codec} is not a video decoder")
        context.thread_count = 1
        context.flags |= Flags.low_delay
        context.options = {"max_pixels": str((width_max + 16) * (height_max + 16))}
        self._context = context

    def decode(self, data: bytes, timestamp: int) -> list[Picture]:
        """Decode a frame.

        Args:
            data: Annex B for H.264.
            timestamp: 90 kHz; comes out with the picture.

        Raises:
            ProtocolError: it announces a picture that is too large or of another kind than 8-bit 4:2:0.
            MediaError: it is damaged.
        """
        self._check(data)
        packet = Packet(data)
        packet.pts, packet.time_base = timestamp, _TIME_BASE
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            raise MediaError(f"a video frame cannot be decoded: {error}") from error
        return [self._picture(frame) for frame in frames]

    def _check(self, data: bytes) -> None:
        try:
            sizes = list(self._sizes(data))
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        for size in sizes:
            if not size.within(*self._limits):
                most = "x".join(map(str, self._limits))
                raise ProtocolError(
                    f"the video has {size.width}x{size.height} px, at most {most} is accepted"
                )

    def _picture(self, frame: VideoFrame) -> Picture:
        if frame.format.name not in ("yuv420p", "yuvj420p") or frame.pts is None:
            raise ProtocolError(f"only 8-bit 4:2:0 video is supported, got {frame.format.name}")
        image = I420(*(_view(plane) for plane in frame.planes))
        return Picture(image, colour_of(frame, frame.height)[0], frame.pts, frame)


def _view(plane: VideoPlane) -> U8:
    rows: U8 = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]
