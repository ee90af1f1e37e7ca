from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clients.demo.footage import MAX_SIDE_PX, RATE, SWAY_S, duration_s, fit, prepare
from engine.errors import MediaError
from engine.image.yuv import I420
from engine.media import open_video, probe, read_audio
from tests.support.media import ClipSpec, tone, write_clip


def pictures(path: Path) -> list[I420]:
    with open_video(path) as reader:
        assert reader.info.rate == RATE
        return [frame.image for frame in reader]


def closest(image: I420, among: list[I420]) -> int:
    """Which picture it is; copies are coded with loss."""
    errors = [np.abs(image.y.astype(int) - other.y).mean() for other in among]
    return int(np.argmin(errors))


def test_frames_come_at_a_constant_rate_whatever_the_clip_had(tmp_path: Path) -> None:
    ten_a_second = write_clip(tmp_path / "ten.mp4", ClipSpec(frames=30, rate=Fraction(10)))
    done = prepare(ten_a_second, tmp_path / "out.mp4")
    originals = []
    with open_video(ten_a_second) as reader:
        originals = [frame.image for frame in reader]
    shown = [closest(image, originals) for image in pictures(tmp_path / "out.mp4")]
    assert shown == [int(index / 25 * 10 + 1e-9) for index in range(len(shown))]
    assert (done.frames, done.cut_short) == (len(shown), False)
    assert abs(done.seconds - 2.9) < 0.08


def test_a_gap_in_the_clip_holds_the_picture_before_it(tmp_path: Path) -> None:
    ticks = (*range(40), 50, *range(51, 60))
    clip = write_clip(tmp_path / "gap.mp4", ClipSpec(frames=50, pts=ticks))
    prepare(clip, tmp_path / "out.mp4")
    made = pictures(tmp_path / "out.mp4")
    assert len(made) == 60
    assert all(closest(made[index], made[:40]) == 39 for index in range(40, 50))


def test_large_and_odd_pictures_become_moderate_and_even(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "wide.mp4", ClipSpec(width=1922, height=300, frames=52))
    prepare(clip, tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as reader:
        assert (reader.info.width, reader.info.height) == (MAX_SIDE_PX, 200)


def test_pixels_become_square_and_sideways_pictures_upright(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", ClipSpec(frames=52, aspect=Fraction(2), rotation_deg=90))
    with open_video(clip) as reader:
        shape = float(reader.info.width * reader.info.sample_aspect_ratio / reader.info.height)
    prepare(clip, tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as reader:
        assert reader.info.sample_aspect_ratio == 1
        assert reader.info.width / reader.info.height == pytest.approx(shape, rel=0.1)


def test_the_clip_keeps_its_sound(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", ClipSpec(frames=60, tone=tone(2.4)))
    prepare(clip, tmp_path / "b.mp4")
    fit(tmp_path / "b.mp4", tmp_path / "c.mp4", 3.0)
    heard = read_audio(tmp_path / "c.mp4")
    assert np.abs(heard[1600:32_000]).max() > 0.3
    assert np.abs(heard[42_000:]).max() < 0.05


def test_a_clip_of_less_than_two_seconds_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "short.mp4", ClipSpec(frames=20))
    with pytest.raises(MediaError, match=r"only 0\.8 s"):
        prepare(clip, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["short.mp4"]


def test_more_than_a_minute_is_cut_and_said(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.mp4", ClipSpec(width=32, height=32, frames=310, rate=Fraction(5)))
    done = prepare(clip, tmp_path / "out.mp4")
    assert (done.frames, done.seconds, done.cut_short) == (1500, 60.0, True)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(MediaError):
        prepare(tmp_path / "a.mp4", tmp_path / "out.mp4")


@pytest.mark.parametrize("seconds", [0.4, 2.4, 10.0])
def test_it_becomes_exactly_as_long_as_asked(tmp_path: Path, seconds: float) -> None:
    prepare(write_clip(tmp_path / "a.mp4", ClipSpec(frames=60)), tmp_path / "b.mp4")
    fit(tmp_path / "b.mp4", tmp_path / "c.mp4", seconds)
    assert len(pictures(tmp_path / "c.mp4")) == round(seconds * 25)
    assert probe(tmp_path / "c.mp4").audio is None
    assert duration_s(tmp_path / "c.mp4") == pytest.approx(seconds, abs=0.05)


def test_a_short_clip_sways_on_without_a_jump(tmp_path: Path) -> None:
    frames = 60
    prepare(write_clip(tmp_path / "a.mp4", ClipSpec(frames=frames)), tmp_path / "b.mp4")
    fit(tmp_path / "b.mp4", tmp_path / "c.mp4", 6.0)
    originals = pictures(tmp_path / "b.mp4")
    shown = [closest(image, originals) for image in pictures(tmp_path / "c.mp4")]
    assert frames < SWAY_S * RATE
    assert shown == [min(index % 118, 118 - index % 118) for index in range(150)]
