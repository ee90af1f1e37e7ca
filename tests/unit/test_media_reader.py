import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from engine.errors import MediaError
from engine.image.yuv import I420, Colour
from engine.media import ColourTags, VideoFrame, VideoInfo, open_video, probe
from tests.support.media import ClipSpec, av_frame, pattern, planes, same_picture, tone, write_clip

VFR_PTS = (7, 1007, 4010, 5511, 5512, 50_512, 50_600, 90_000)
FFV1 = ClipSpec(codec="ffv1", options={})


def read(path: Path) -> tuple[VideoInfo, list[VideoFrame]]:
    with open_video(path) as reader:
        return reader.info, list(reader)


def largest_difference(one: I420, other: I420) -> int:
    return max(
        int(np.abs(a.astype(int) - b.astype(int)).max())
        for a, b in zip(planes(one), planes(other), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("h264.mp4", ClipSpec()),
        ("h264.mov", ClipSpec()),
        ("h264.ts", ClipSpec()),
        ("h264.flv", ClipSpec()),
        ("raw.h264", ClipSpec()),
        ("full.mp4", ClipSpec(colour=(2, 1, 1, 1))),
        ("vp9.webm", ClipSpec(codec="libvpx-vp9", options={"lossless": "1"})),
        ("ffv1.mkv", FFV1),
        ("odd.mkv", replace(FFV1, width=63, height=47)),
        ("odd.webm", ClipSpec(width=63, height=47, codec="libvpx-vp9", options={"lossless": "1"})),
        ("tiny.mkv", replace(FFV1, width=1, height=1)),
        ("raw.avi", ClipSpec(codec="rawvideo", options={})),
    ],
)
def test_planar_420_comes_through_byte_for_byte(name: str, spec: ClipSpec, tmp_path: Path) -> None:
    info, frames = read(write_clip(tmp_path / name, spec))
    assert (info.width, info.height) == (spec.width, spec.height)
    assert len(frames) == spec.frames
    for index, frame in enumerate(frames):
        assert same_picture(frame.image, pattern(spec.width, spec.height, index))


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "mjpeg", "libx265"])
def test_lossy_codecs_give_what_the_decoder_gives(codec: str, tmp_path: Path) -> None:
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_clip(tmp_path / "clip.mkv", ClipSpec(codec=codec, options={}, pixel_format=pixel_format))
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format=frame.format.name) for frame in container.decode(video=0)]
    _, frames = read(path)
    assert len(frames) == len(decoded)
    for frame, wanted in zip(frames, decoded, strict=True):
        got = np.concatenate([plane.ravel() for plane in planes(frame.image)])
        assert np.array_equal(got, wanted.ravel())


@pytest.mark.parametrize(
    ("name", "pixel_format", "codec", "full_range"),
    [
        ("yuv422p.mp4", "yuv422p", "libx264", False),
        ("yuv444p.mp4", "yuv444p", "libx264", False),
        ("ten-bit.mp4", "yuv420p10le", "libx264", False),
        ("ten-bit-422.mov", "yuv422p10le", "prores_ks", False),
        ("yuvj444p.avi", "yuvj444p", "mjpeg", True),
    ],
)
def test_other_chroma_and_depth(
    name: str, pixel_format: str, codec: str, full_range: bool, tmp_path: Path
) -> None:
    options = {"qp": "0", "preset": "ultrafast"} if codec == "libx264" else {}
    path = tmp_path / name
    spec = ClipSpec(codec=codec, options=options, pixel_format=pixel_format)
    if codec == "mjpeg":
        spec = replace(spec, options={"qmin": "1", "qmax": "1"})
    info, frames = read(write_clip(path, spec))
    assert info.colour == Colour("bt601", full_range)
    assert info.pixel_format == pixel_format
    wanted = pattern(64, 48, 2)
    if full_range:  # the support code's conversion from limited range stretches it
        assert frames[2].image.y.max() > wanted.y.max()
    else:
        assert largest_difference(frames[2].image, wanted) <= 1


@pytest.mark.parametrize(("width", "matrix"), [(64, "bt601"), (1280, "bt709")])
@pytest.mark.parametrize(
    ("codec", "pixel_format"), [("ffv1", "bgr0"), ("qtrle", "rgb24"), ("libx264rgb", "rgb24")]
)
def test_rgb_becomes_limited_range_of_the_height_s_matrix(
    width: int, matrix: str, codec: str, pixel_format: str, tmp_path: Path
) -> None:
    path, height = tmp_path / "rgb.mov", width * 9 // 16
    if codec == "ffv1":
        path = tmp_path / "rgb.mkv"
    with av.open(str(path), "w") as container:
        options = {"qp": "0"} if "264" in codec else {}
        stream = cast(VideoStream, container.add_stream(codec, rate=25, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        red = np.zeros((height, width, 3), np.uint8)
        red[..., 0] = 255
        frame = av.VideoFrame.from_ndarray(red, "rgb24").reformat(format=pixel_format)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info, frames = read(path)
    assert info.colour == Colour("bt601" if matrix == "bt601" else "bt709", False)
    assert info.tags.matrix == (6 if matrix == "bt601" else 1)
    wanted = (81, 90, 240) if matrix == "bt601" else (63, 102, 240)
    got = [int(plane[8, 8]) for plane in planes(frames[0].image)]
    assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= 1


@pytest.mark.parametrize(("pixel_format", "loss"), [("gray", 0), ("gray10le", 1)])
def test_grey_is_full_range_without_colour(pixel_format: str, loss: int, tmp_path: Path) -> None:
    path = tmp_path / "grey.mkv"
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        container.mux(stream.encode(av.VideoFrame.from_ndarray(ramp, "gray").reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    info, frames = read(path)
    image = frames[0].image
    assert info.colour.full_range
    assert np.abs(image.y.astype(int) - ramp).max() <= loss
    assert (image.u == 128).all()
    assert (image.v == 128).all()


@pytest.mark.parametrize(
    ("tags", "colour"),
    [
        ((0, 2, 2, 2), Colour("bt601", False)),
        ((1, 1, 1, 1), Colour("bt709", False)),
        ((1, 5, 5, 6), Colour("bt601", False)),
        ((2, 6, 6, 6), Colour("bt601", True)),
        ((1, 9, 9, 16), Colour("bt2020", False)),
        ((1, 7, 7, 7), Colour("bt709", False)),
    ],
)
def test_colour_tags(tags: tuple[int, int, int, int], colour: Colour, tmp_path: Path) -> None:
    info, _ = read(write_clip(tmp_path / "clip.mp4", ClipSpec(colour=tags)))
    assert info.colour == colour
    assert info.tags == ColourTags(*tags)


@pytest.mark.parametrize(("height", "matrix"), [(718, "bt601"), (720, "bt709")])
def test_unspecified_matrix_goes_by_height(height: int, matrix: str, tmp_path: Path) -> None:
    info, _ = read(write_clip(tmp_path / "clip.mp4", ClipSpec(height=height, frames=1)))
    assert info.colour.matrix == matrix
    assert info.tags.matrix == 2


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_frames_come_out_upright(codec: str, turns: int, tmp_path: Path) -> None:
    """A display matrix of so many counter-clockwise quarter turns is carried out."""
    spec = ClipSpec(rotation_deg=90.0 * turns, aspect=Fraction(4, 3))
    if codec == "ffv1":
        # PyAV cannot store a pixel aspect that the codec itself does not carry.
        spec = replace(spec, codec=codec, options={}, width=63, height=47, aspect=Fraction(1))
    name = "clip.mp4" if codec == "libx264" else "clip.mkv"
    info, frames = read(write_clip(tmp_path / name, spec))
    wanted = I420(*(np.rot90(plane, turns) for plane in planes(pattern(spec.width, spec.height, 3))))
    assert (info.width, info.height) == (wanted.width, wanted.height)
    assert info.rotation_deg == (-90 * turns) % 360
    assert info.sample_aspect_ratio == (spec.aspect if turns % 2 == 0 else 1 / spec.aspect)
    assert same_picture(frames[3].image, wanted)


def test_a_mirrored_picture_is_mirrored_back(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        container.mux(stream.encode(av_frame(pattern(64, 48, 0))))
        container.mux(stream.encode(None))
    _, frames = read(path)
    wanted = I420(*(plane[:, ::-1] for plane in planes(pattern(64, 48, 0))))
    assert same_picture(frames[0].image, wanted)


@pytest.mark.parametrize(
    "rate",
    [Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(60)],
)
def test_constant_rates(rate: Fraction, tmp_path: Path) -> None:
    info, frames = read(write_clip(tmp_path / "clip.mp4", ClipSpec(rate=rate, frames=20)))
    assert [frame.pts * info.time_base for frame in frames] == [index / rate for index in range(20)]
    assert info.frame_count == 20
    assert info.rate is not None
    assert abs(info.rate / rate - 1) < 0.06  # the maker of the clip leaves the last duration open


def test_variable_rate_keeps_every_pts(tmp_path: Path) -> None:
    spec = ClipSpec(
        time_base=Fraction(1, 90_000), pts=VFR_PTS, container_options={"movie_timescale": "90000"}
    )
    info, frames = read(write_clip(tmp_path / "clip.mp4", spec))
    assert info.time_base == Fraction(1, 90_000)
    assert [frame.pts for frame in frames] == list(VFR_PTS)


def test_a_clock_that_starts_anywhere_is_set_to_zero(tmp_path: Path) -> None:
    spec = ClipSpec(time_base=Fraction(1, 90_000), pts=tuple(900_000 + 3600 * i for i in range(8)))
    _, frames = read(write_clip(tmp_path / "clip.ts", spec))
    assert [frame.pts for frame in frames] == [3600 * i for i in range(8)]


def test_a_clip_cut_out_with_its_times_left_starts_at_zero(tmp_path: Path) -> None:
    """Else a dub, which starts at zero, would be over before the picture begins."""
    spec = ClipSpec(time_base=Fraction(1, 90_000), pts=tuple(900_000 + pts for pts in VFR_PTS))
    late = replace(spec, container_options={"movie_timescale": "90000"})
    _, frames = read(write_clip(tmp_path / "clip.mp4", late))
    assert [frame.pts for frame in frames] == [pts - VFR_PTS[0] for pts in VFR_PTS]
    _, frames = read(write_clip(tmp_path / "sound.mp4", replace(late, tone=tone(0.5))))
    assert [frame.pts for frame in frames] == [900_000 + pts for pts in VFR_PTS]


def test_a_container_without_times_gets_increasing_ones(tmp_path: Path) -> None:
    """AVI has no pts; with B-frames FFmpeg gives them out of order."""
    spec = ClipSpec(frames=20, options={"preset": "medium"})
    _, frames = read(write_clip(tmp_path / "clip.avi", spec))
    pts = [frame.pts for frame in frames]
    assert len(pts) == 20
    assert pts == sorted(set(pts))


def test_a_recording_that_starts_between_key_frames(tmp_path: Path) -> None:
    spec = ClipSpec(frames=30, options={"preset": "ultrafast", "g": "10", "qp": "0"})
    path = write_clip(tmp_path / "clip.ts", spec)
    data = path.read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 6) :])
    _, frames = read(path)
    assert 15 <= len(frames) <= 29


def test_a_change_of_size_is_an_error(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.h264").read_bytes()
    other = write_clip(tmp_path / "b.h264", ClipSpec(width=96, height=80)).read_bytes()
    path = tmp_path / "both.h264"
    path.write_bytes(whole + other)
    with pytest.raises(MediaError, match="size changes at frame 8, from 64x48 to 96x80"):
        read(path)


def test_frames_belong_to_the_caller(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    with open_video(path) as reader:
        first, second = next(reader), next(reader)
        for plane in planes(first.image):
            plane[...] = 0
        assert same_picture(second.image, pattern(64, 48, 1))
    assert second.image.y.flags.writeable
    assert second.image.y.flags.c_contiguous


def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    with open_video(write_clip(tmp_path / "clip.mp4")) as reader:
        next(reader)
    with pytest.raises(StopIteration):
        next(reader)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", ClipSpec(width=640, height=480, frames=60))
    tracemalloc.start()
    with open_video(path) as reader:
        count = sum(1 for _ in reader)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60
    assert peak_bytes < 5 * 640 * 480 * 1.5


def test_8k(tmp_path: Path) -> None:
    path, wanted = tmp_path / "8k.mp4", I420.blank(7680, 4320)
    wanted.y[1000:1004, 7000:7004] = 200
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuv420p"
        container.mux(stream.encode(av_frame(wanted)))
        container.mux(stream.encode(None))
    _, frames = read(path)
    assert same_picture(frames[0].image, wanted)


def test_probe_says_what_open_says(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", ClipSpec(frames=25, tone=tone(1.0, channels=2)))
    info = probe(path)
    with open_video(path) as reader:
        assert info.video == reader.info
    assert info.duration_s == pytest.approx(1.0, abs=0.05)
    assert info.audio is not None
    assert (info.audio.rate_hz, info.audio.channels, info.audio.codec) == (48_000, 2, "aac")
    assert info.video is not None
    assert (info.video.codec, info.video.pixel_format) == ("h264", "yuv420p")
