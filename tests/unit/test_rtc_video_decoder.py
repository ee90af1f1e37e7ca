import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import MediaError, ProtocolError
from engine.image.yuv import Colour
from streaming.rtc.video_decoder import THREADS, VideoDecoder, decode_pool
from tests.unit.test_rtc_picture_size import encoded, h264


def vp8(width: int, height: int) -> list[bytes]:
    return encoded("libvpx", width, height, deadline="realtime", **{"lag-in-frames": "0"})


@pytest.mark.parametrize(("codec", "frames"), [("H264", h264(322, 190)), ("VP8", vp8(322, 190))])
def test_every_frame_comes_out_at_once_with_its_timestamp(codec: str, frames: list[bytes]) -> None:
    decoder = VideoDecoder(codec, 1920, 1080)
    for number, data in enumerate(frames):
        [picture] = decoder.decode(data, 5_000_000_000 + 3600 * number)
        assert picture.timestamp == 5_000_000_000 + 3600 * number
        assert (picture.image.width, picture.image.height) == (322, 190)
        assert picture.colour == Colour("bt601", False)
        expected = 16 + 40 * number * 219 / 255
        assert float(np.mean(picture.image.y)) == pytest.approx(expected, abs=4)


def test_main_and_high_profile_come_out_at_once_too() -> None:
    for profile in ("main", "high"):
        decoder = VideoDecoder("H264", 1920, 1080)
        counts = [
            len(decoder.decode(data, number)) for number, data in enumerate(h264(320, 192, profile=profile))
        ]
        assert counts == [1, 1, 1]


def test_the_picture_outlives_the_next_frames() -> None:
    decoder, frames = VideoDecoder("H264", 1920, 1080), h264(320, 192)
    [first] = decoder.decode(frames[0], 0)
    mean = first.image.y.mean()
    for data in frames[1:]:
        decoder.decode(data, 1)
    assert first.image.y.mean() == mean


@pytest.mark.parametrize(("codec", "frames"), [("H264", h264(1296, 720)), ("VP8", vp8(1282, 720))])
def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(codec: str, frames: list[bytes]) -> None:
    decoder = VideoDecoder(codec, 1280, 720)
    with pytest.raises(ProtocolError, match=r"the video has 12\d\dx720 px, at most 1280x720 is accepted"):
        decoder.decode(frames[0], 0)


def test_a_picture_that_grows_is_refused_when_it_does() -> None:
    decoder = VideoDecoder("H264", 640, 360)
    assert len(decoder.decode(h264(320, 192)[0], 0)) == 1
    with pytest.raises(ProtocolError, match="at most 640x360"):
        decoder.decode(h264(1280, 720)[0], 1)


def test_a_picture_may_change_its_size_within_the_limits() -> None:
    decoder = VideoDecoder("VP8", 1280, 720)
    sizes = [decoder.decode(vp8(width, 240)[0], 0)[0].image.width for width in (320, 640, 160)]
    assert sizes == [320, 640, 160]


def test_a_header_that_announces_a_huge_picture_allocates_nothing() -> None:
    key = bytearray(vp8(64, 64)[0])
    key[6:10] = (16383).to_bytes(2, "little") * 2
    with pytest.raises(ProtocolError, match="16383x16383"):
        VideoDecoder("VP8", 1920, 1080).decode(bytes(key), 0)


def test_other_kinds_of_pictures_are_refused() -> None:
    key = encoded("libx264", 320, 192, "yuv444p", tune="zerolatency")[0]
    with pytest.raises(ProtocolError, match="4:2:0"):
        VideoDecoder("H264", 1920, 1080).decode(key, 0)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["H264", "VP8"]), st.binary(max_size=200), st.integers(0, 400))
def test_damage_is_a_media_error_or_passes(codec: str, junk: bytes, at: int) -> None:
    frame = bytearray(FRAMES[codec][0])
    frame[at : at + len(junk)] = junk
    decoder = VideoDecoder(codec, 320, 240)
    try:
        pictures = decoder.decode(bytes(frame), 0)
    except (MediaError, ProtocolError):
        pictures = []
    assert all(picture.image.width <= 320 for picture in pictures)


FRAMES = {"H264": h264(320, 192), "VP8": vp8(320, 192)}


def test_the_threads_that_decode_are_few() -> None:
    list(decode_pool().map(lambda _: None, range(50)))
    named = [thread for thread in threading.enumerate() if thread.name.startswith("rtc-decode")]
    assert 0 < len(named) <= THREADS
