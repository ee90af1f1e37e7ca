"""Clips and sounds made up for tests, written with PyAV itself so that they do not lean on our writer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from engine.arrays import F32, U8
from engine.image.yuv import I420

LOSSLESS_H264 = {"qp": "0", "preset": "ultrafast"}


@dataclass(frozen=True)
class ClipSpec:
    """A clip to make up.

    Attributes:
        width: px.
        height: px.
        frames: how many.
        rate: frames per second; also the time base unless `time_base` is given.
        time_base: seconds per tick of `pts`.
        pts: ticks, one for each frame; None: 0, 1, 2...
        codec: FFmpeg's name of the encoder.
        options: of the encoder.
        pixel_format: FFmpeg's name; the pattern is made in 8-bit yuv420p and converted by swscale if another.
        rotation_deg: counter-clockwise, into the display matrix.
        colour: AVColorRange, AVColorSpace, AVColorPrimaries, AVColorTransferCharacteristic.
        aspect: sample aspect ratio.
        tone: the sound, float32 [C, T], None for a silent clip.
        tone_rate_hz: its rate.
        audio_codec: FFmpeg's name of the encoder.
        container_options: of the muxer.
    """

    width: int = 64
    height: int = 48
    frames: int = 8
    rate: Fraction = Fraction(25)
    time_base: Fraction | None = None
    pts: tuple[int, ...] | None = None
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: dict(LOSSLESS_H264))
    pixel_format: str = "yuv420p"
    rotation_deg: float | None = None
    colour: tuple[int, int, int, int] = (0, 2, 2, 2)
    aspect: Fraction = Fraction(1)
    tone: F32 | None = None
    tone_rate_hz: int = 48_000
    audio_codec: str = "aac"
    container_options: dict[str, str] = field(default_factory=dict)


def pattern(width: int, height: int, index: int) -> I420:
    """Return a picture that differs from frame to frame and has no symmetry; bytes within limited range."""
    rows, columns = np.mgrid[0:height, 0:width]
    luma = 30 + (rows * 90) // max(1, height) + (columns * 60) // max(1, width)
    side = max(1, min(width, height) // 4)
    top, left = (3 * index) % max(1, height - side), (5 * index) % max(1, width - side)
    luma[top : top + side, left : left + side] = 220
    half_rows, half_columns = np.mgrid[0 : (height + 1) // 2, 0 : (width + 1) // 2]
    blue = 90 + (half_columns * 60) // max(1, (width + 1) // 2)
    red = 170 - (half_rows * 60) // max(1, (height + 1) // 2) - index % 8
    return I420(luma.astype(np.uint8), blue.astype(np.uint8), red.astype(np.uint8))


def tone(seconds: float, rate_hz: int = 48_000, hz: float = 440.0, channels: int = 1) -> F32:
    """Return a sine at half scale, float32 [C, T]."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.tile(0.5 * np.sin(2 * np.pi * hz * time_s), (channels, 1)).astype(np.float32)


def noise_burst(seconds: float, rate_hz: int, seed: int = 0) -> F32:
    """Return low-passed noise with silence at both ends, float32 [1, T]: its place can be found again."""
    count = round(seconds * rate_hz)
    wide = np.random.default_rng(seed).standard_normal(count)
    smooth = np.convolve(wide, np.ones(24) / 24, "same")
    smooth[: count // 8] = 0.0
    smooth[-count // 4 :] = 0.0
    return smooth[None].astype(np.float32)


def lag_samples(heard: F32, expected: F32) -> int:
    """Return by how many samples `heard` [T] comes later than `expected` [T]."""
    length = min(len(heard), len(expected))
    product = np.fft.rfft(heard[:length], 2 * length) * np.conj(np.fft.rfft(expected[:length], 2 * length))
    lag = int(np.argmax(np.fft.irfft(product)))
    return lag - 2 * length if lag > length else lag


def write_clip(path: Path, spec: ClipSpec | None = None) -> Path:
    """Write a clip of the moving pattern and return its path."""
    spec = spec or ClipSpec()
    with av.open(str(path), "w", options=spec.container_options) as container:
        time_base = spec.time_base or 1 / spec.rate
        video = _video_stream(container, spec, time_base)
        audio = None if spec.tone is None else _audio_stream(container, spec)
        container.start_encoding()
        for index, pts in enumerate(spec.pts or range(spec.frames)):
            frame = av_frame(pattern(spec.width, spec.height, index), spec.pixel_format)
            frame.pts, frame.time_base = pts, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and spec.tone is not None:
            write_sound_to(container, audio, spec.tone, spec.tone_rate_hz)
    return path


def write_sound(
    path: Path, samples: F32, rate_hz: int, codec: str = "pcm_s16le", layout: str | None = None
) -> Path:
    """Write a file of sound alone, float32 [C, T]."""
    spec = ClipSpec(tone=samples, tone_rate_hz=rate_hz, audio_codec=codec)
    with av.open(str(path), "w") as container:
        write_sound_to(container, _audio_stream(container, spec, layout), samples, rate_hz, layout)
    return path


def write_sound_to(
    container: OutputContainer,
    stream: AudioStream,
    samples: F32,
    rate_hz: int,
    layout: str | None = None,
    start: int = 0,
) -> None:
    """Encode float32 [C, T] into an open container and flush."""
    layout = layout or ("mono" if len(samples) == 1 else "stereo")
    for at in range(0, samples.shape[1], 1024):
        block = np.ascontiguousarray(samples[:, at : at + 1024])
        frame = AudioFrame.from_ndarray(block, "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start + at, Fraction(1, rate_hz)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def av_frame(image: I420, pixel_format: str = "yuv420p") -> VideoFrame:
    """Copy a picture into a frame of PyAV, converted by swscale unless it is 8-bit 4:2:0."""
    planar = pixel_format if pixel_format in ("yuv420p", "yuvj420p") else "yuv420p"
    frame = VideoFrame(image.width, image.height, planar)
    for plane, pixels in zip(frame.planes, (image.y, image.u, image.v), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height]
        rows.reshape(plane.height, plane.line_size)[:, : plane.width] = pixels
    return frame if planar == pixel_format else frame.reformat(format=pixel_format)


def same_picture(one: I420, other: I420) -> bool:
    """Say whether all bytes are equal."""
    return all(np.array_equal(a, b) for a, b in zip(planes(one), planes(other), strict=True))


def planes(image: I420) -> tuple[U8, U8, U8]:
    """Return y, u and v."""
    return image.y, image.u, image.v


def times(pts: Iterable[int], time_base: Fraction) -> list[Fraction]:
    """Return seconds."""
    return [p * time_base for p in pts]


def _video_stream(container: OutputContainer, spec: ClipSpec, time_base: Fraction) -> VideoStream:
    stream = cast(VideoStream, container.add_stream(spec.codec, rate=spec.rate, options=spec.options))
    stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pixel_format
    stream.time_base = time_base
    codec = stream.codec_context
    codec.time_base, codec.sample_aspect_ratio = time_base, spec.aspect
    codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc = spec.colour
    if spec.rotation_deg is not None:
        stream.set_display_rotation(spec.rotation_deg)
    return stream


def _audio_stream(container: OutputContainer, spec: ClipSpec, layout: str | None = None) -> AudioStream:
    stream = cast(AudioStream, container.add_stream(spec.audio_codec, rate=spec.tone_rate_hz))
    channels = 1 if spec.tone is None else len(spec.tone)
    stream.codec_context.layout = layout or ("mono" if channels == 1 else "stereo")
    return stream
