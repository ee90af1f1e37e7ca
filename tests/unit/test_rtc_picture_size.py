from fractions import Fraction

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.rtc.picture_size import (
    PictureSize,
    h264_is_key,
    h264_sizes,
    vp8_is_key,
    vp8_sizes,
)


def encoded(codec: str, width: int, height: int, pix_fmt: str = "yuv420p", **options: str) -> list[bytes]:
    """Three frames: a key frame and what refers to it."""
    context = CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, pix_fmt
    context.framerate = Fraction(25)
    context.options = options
    packets = []
    for number in range(3):
        rgb = np.full((height, width, 3), 40 * number, np.uint8)
        picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)
        picture.pts = number
        packets += context.encode(picture)
    packets += context.encode(None)
    return [bytes(packet) for packet in packets]


def h264(width: int, height: int, **options: str) -> list[bytes]:
    return encoded("libx264", width, height, tune="zerolatency", **options)


@pytest.mark.parametrize("profile", ["baseline", "main", "high"])
@pytest.mark.parametrize(("width", "height"), [(320, 192), (1280, 720), (1920, 1080), (98, 50)])
def test_the_size_of_h264_is_read_before_decoding(profile: str, width: int, height: int) -> None:
    key, later, _ = h264(width, height, profile=profile)
    expected = PictureSize(-(-width // 16) * 16, -(-height // 16) * 16)
    assert list(h264_sizes(key)) == [expected]
    assert list(h264_sizes(later)) == []


def test_interlaced_h264_has_twice_the_height_of_a_field() -> None:
    key = encoded("libx264", 320, 192, **{"x264-params": "interlaced=1:bframes=0:keyint=1"})[0]
    assert list(h264_sizes(key)) == [PictureSize(320, 192)]


def test_h264_that_is_not_8_bit_420_is_refused() -> None:
    for pix_fmt, says in (("yuv444p", "4:2:0"), ("yuv422p", "4:2:0"), ("yuv420p10le", "8-bit")):
        key = encoded("libx264", 320, 192, pix_fmt, tune="zerolatency")[0]
        with pytest.raises(ValueError, match=says):
            list(h264_sizes(key))


def test_vp8_sizes_and_key_frames() -> None:
    key, later, _ = encoded("libvpx", 642, 358, deadline="realtime", **{"lag-in-frames": "0"})
    assert list(vp8_sizes(key)) == [PictureSize(642, 358)]
    assert list(vp8_sizes(later)) == []
    assert vp8_is_key(key)
    assert not vp8_is_key(later)
    assert not vp8_is_key(key[1:])
    assert not vp8_is_key(key[:9])


def test_h264_key_frames_are_known_if_their_beginning_is_there() -> None:
    key, later, _ = h264(320, 192)
    assert h264_is_key(key)
    assert not h264_is_key(later)
    assert not h264_is_key(key[5:])
    assert not h264_is_key(b"")


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((1920, 1080), True),
        ((1920, 1088), True),
        ((1088, 1920), True),
        ((1936, 1088), False),
        ((1920, 1104), False),
        ((1104, 1104), False),
        ((16, 16), True),
    ],
)
def test_a_size_fits_lying_or_standing(size: tuple[int, int], fits: bool) -> None:
    assert PictureSize(*size).within(1920, 1080) is fits


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=60))
def test_damaged_headers_give_sizes_or_a_value_error(data: bytes) -> None:
    sps = b"\x00\x00\x00\x01\x67" + data
    try:
        sizes = list(h264_sizes(sps))
    except ValueError:
        sizes = []
    assert all(size.width > 0 and size.height > 0 for size in sizes)
    assert all(size.width <= 0x3FFF for size in vp8_sizes(data))


@settings(deadline=None, max_examples=50)
@given(st.integers(5, 40), st.integers(0, 255))
def test_a_real_parameter_set_with_one_wrong_byte_gives_a_size_or_a_value_error(at: int, value: int) -> None:
    key = bytearray(h264(64, 64, profile="high")[0])
    key[at] = value
    try:
        sizes = list(h264_sizes(bytes(key)))
    except ValueError:
        sizes = []
    assert all(size.width > 0 and size.height > 0 for size in sizes)
