"""What goes into the server: a real person's picture with numbers burned in, and a voice with beeps.

Encoded once, before anything is measured. The clip goes forth and back, so that it never jumps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from safetensors.numpy import load_file, save_file

from benchmarks.live import pattern
from engine.arrays import U8
from engine.errors import MediaError
from engine.image.yuv import I420
from engine.media import open_video, read_audio
from engine.media.frames import from_i420
from streaming.rtc.encoder import AUDIO_BLOCK_SAMPLES, AudioEncoder

WIDTH_PX, HEIGHT_PX, RATE = 1280, 720, Fraction(25)
KEY_EVERY = 25
ENCODER = {"preset": "veryfast", "tune": "zerolatency", "profile": "baseline", "threads": "1"}
BITRATE_BPS = 3_000_000


@dataclass(frozen=True, eq=False)
class Programme:
    """A round of a programme.

    Attributes:
        pictures: H.264, Annex B; picture k shows the number k, and flashes at the start of each second.
        voice: Opus, 20 ms each, a beep at the start of each second; as long as the pictures.
    """

    pictures: tuple[bytes, ...]
    voice: tuple[bytes, ...]

    @property
    def seconds(self) -> float:
        """Length of the round."""
        return float(len(self.pictures) / RATE)


def save(programme: Programme, path: Path) -> None:
    """Write a programme as a safetensors file."""
    held = {}
    for name, parts in (("pictures", programme.pictures), ("voice", programme.voice)):
        held[name] = np.frombuffer(b"".join(parts), np.uint8)
        held[f"{name}_ends"] = np.cumsum([len(part) for part in parts])
    save_file(held, path)


def load(path: Path) -> Programme:
    """Read what `save` wrote."""
    held = load_file(path)

    def parts(name: str) -> tuple[bytes, ...]:
        whole, ends = held[name].tobytes(), [0, *held[f"{name}_ends"].tolist()]
        return tuple(whole[a:b] for a, b in pairwise(ends))

    return Programme(parts("pictures"), parts("voice"))


def make_programme(
    video: Path,
    voice: Path,
    *,
    seconds: int,
    clip_s: float = 20.0,
    size_px: tuple[int, int] = (WIDTH_PX, HEIGHT_PX),
) -> Programme:
    """Make a round of whole seconds.

    Args:
        video: of the actor; its first `clip_s` seconds are shown, forth and back.
        voice: what shall be said, round and round.
        seconds: of the round.
        clip_s: of the video to use.
        size_px: width and height of the pictures; both even, at least 400 wide.

    Raises:
        MediaError: a file cannot be used.
    """
    pictures = tuple(_encoded(_numbered(_clip(video, clip_s, size_px), seconds), size_px))
    return Programme(pictures, tuple(_voice(voice, seconds)))


def _voice(path: Path, seconds: int) -> Iterator[bytes]:
    speech = read_audio(path, pattern.SOUND_RATE_HZ)
    if not len(speech):
        raise MediaError(f"{path}: has no sound")
    whole = pattern.with_beeps(np.resize(speech, seconds * pattern.SOUND_RATE_HZ))
    samples, encoder = np.asarray(np.round(whole * 32767), np.int16), AudioEncoder()
    for at in range(0, len(samples), AUDIO_BLOCK_SAMPLES):
        yield encoder.encode(samples[at : at + AUDIO_BLOCK_SAMPLES], at).data


def _clip(path: Path, clip_s: float, size_px: tuple[int, int]) -> list[I420]:
    """Pictures at 25 per second, the clip's own cut to the shape."""
    images: list[I420] = []
    with open_video(path) as reader:
        for frame in reader:
            time_s = float(frame.pts * reader.info.time_base)
            if time_s >= clip_s:
                break
            while len(images) <= time_s * RATE:
                images.append(_sized(frame.image, size_px))
    return images


def _sized(image: I420, size_px: tuple[int, int]) -> I420:
    width_px, height_px = size_px
    scale = max(width_px / image.width, height_px / image.height)
    planes = []
    for plane, part in ((image.y, 1), (image.u, 2), (image.v, 2)):
        width, height = width_px // part, height_px // part
        size = (round(plane.shape[1] * scale), round(plane.shape[0] * scale))
        resized: U8 = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)
        left, top = (resized.shape[1] - width) // 2, (resized.shape[0] - height) // 4
        planes.append(np.ascontiguousarray(resized[top : top + height, left : left + width]))
    return I420(*planes)


def _numbered(images: list[I420], seconds: int) -> Iterator[I420]:
    period = max(1, 2 * len(images) - 2)
    for number in range(int(seconds * RATE)):
        at = number % period
        image = images[at if at < len(images) else period - at].copy()
        pattern.draw(image.y, number, flash=number % RATE < pattern.FLASH_FRAMES)
        image.u[: pattern.NUMBER_HEIGHT_PX // 2, : pattern.NUMBER_WIDTH_PX // 2] = 128
        image.v[: pattern.NUMBER_HEIGHT_PX // 2, : pattern.NUMBER_WIDTH_PX // 2] = 128
        yield image


def _encoded(images: Iterator[I420], size_px: tuple[int, int]) -> Iterator[bytes]:
    context = av.CodecContext.create("libx264", "w")
    if not isinstance(context, VideoCodecContext):
        raise MediaError("this FFmpeg has no libx264")
    context.width, context.height, context.pix_fmt = *size_px, "yuv420p"
    context.time_base, context.framerate = 1 / RATE, RATE
    context.bit_rate = BITRATE_BPS
    context.options = ENCODER | {"maxrate": str(BITRATE_BPS), "bufsize": str(BITRATE_BPS // 2)}
    context.gop_size = KEY_EVERY
    for index, image in enumerate(images):
        frame = from_i420(image, "yuv420p")
        frame.pts, frame.time_base = index, 1 / RATE
        if index % KEY_EVERY == 0:
            frame.pict_type = PictureType.I
        yield b"".join(bytes(packet) for packet in context.encode(frame))
