from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine import models
from engine.arrays import U8
from engine.errors import MediaError
from engine.face import track as tracks
from engine.face.track import FaceTrack, track_video
from engine.face.tracker import FaceTracker
from engine.image.yuv import Colour, rgb_to_i420
from engine.media import VideoFrame, VideoInfo, open_video, open_writer
from tests.support.data import data_file, faces_picture, model_file

TICKS = 512  # of a frame
BT709 = Colour("bt709", full_range=False)


@pytest.fixture(autouse=True)
def _models() -> None:
    model_file("face_landmarker")


def picture(x: int) -> U8:
    return faces_picture((x, 150, 1.0, False), width=480, height=300)


def two(x: int) -> U8:
    return faces_picture((120, 150, 0.8, False), (x, 150, 1.0, True), width=480, height=300)


def write(path: Path, pictures: list[U8]) -> Path:
    height, width = pictures[0].shape[:2]
    info = VideoInfo(width, height, Fraction(1, 25 * TICKS), Fraction(25), BT709)
    with open_writer(path, info, audio=None, preset="ultrafast") as video:
        for index, rgb in enumerate(pictures):
            video.write(VideoFrame(rgb_to_i420(rgb, BT709), index * TICKS))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames: a face that moves right, one frame without a face (a cut), and the face again."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 480, 3), dtype=np.uint8)
    pictures = [picture(180 + 4 * i) for i in range(8)] + [noise] + [picture(300 + i) for i in range(3)]
    return write(tmp_path_factory.mktemp("videos") / "face.mp4", pictures)


def test_track_has_every_frame(video: Path) -> None:
    counts: list[int] = []
    track = track_video(video, on_frame=counts.append, cache_dir=None)
    assert counts == list(range(1, 13))
    assert (len(track), track.width_px, track.height_px) == (12, 480, 300)
    assert (np.diff(track.pts) * track.time_base == Fraction(1, 25)).all()
    assert track.found.tolist() == [True] * 8 + [False] + [True] * 3
    assert track.cut.tolist() == [False] * 8 + [True, True] + [False] * 2
    assert np.isnan(track.landmarks[8]).all()
    assert track.confidence[8] == 0
    assert track.confidence[track.found].min() > 0.9
    nose = track.landmarks[:8, 1, 0]
    np.testing.assert_allclose(np.diff(nose), 4, atol=1.5)
    assert "11 with a face" in repr(track)


def test_track_equals_the_tracker_frame_by_frame(video: Path) -> None:
    tracker = FaceTracker()
    track = track_video(video, cache_dir=None)
    with open_video(video) as frames:
        for index, frame in enumerate(frames):
            found = tracker.step(tracks.to_rgb(frame.image, frames.info.colour))
            assert frame.pts == track.pts[index]
            assert (found is not None) == track.found[index]
            if found is not None:
                np.testing.assert_array_equal(found.landmarks, track.landmarks[index])


def test_max_s_counts_from_the_first_frame(video: Path) -> None:
    assert len(track_video(video, max_s=0.2, cache_dir=None)) == 5
    assert len(track_video(video, max_s=0.201, cache_dir=None)) == 6
    with pytest.raises(ValueError, match="max_s"):
        track_video(video, max_s=0, cache_dir=None)
    with pytest.raises(ValueError, match="max_s"):
        track_video(video, max_s=float("nan"), cache_dir=None)


def test_cache_gives_the_same_track(video: Path, tmp_path: Path) -> None:
    first = track_video(video, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    counts: list[int] = []
    again = track_video(video, cache_dir=tmp_path, on_frame=counts.append)
    assert counts == [12]
    assert file.stat().st_mtime_ns == before
    for name in ("landmarks", "confidence", "pts", "cut"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert getattr(first, name).dtype == getattr(again, name).dtype
    assert (first.time_base, first.width_px, first.height_px) == (
        again.time_base,
        again.width_px,
        again.height_px,
    )


def test_default_cache_lies_in_the_cache_folder(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_file("face_landmarker")
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    placed = models.pinned("face_landmarker").path(tmp_path)
    placed.parent.mkdir(parents=True)
    placed.write_bytes(model.read_bytes())
    track_video(video, max_s=0.1)
    assert len(list((tmp_path / "tracks").glob("*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["empty", "cut short", "noise", "other shape", "no metadata"])
def test_damaged_cache_is_made_anew(video: Path, tmp_path: Path, damage: str) -> None:
    first = track_video(video, max_s=0.1, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    damaged = {
        "empty": b"",
        "cut short": whole[:-100],
        "noise": np.random.default_rng(0).bytes(5000),
        "other shape": whole.replace(b"[3,478,3]", b"[478,3,3]"),
        "no metadata": whole[:8]
        + whole[8 : 8 + size].replace(b"time_base", b"time_bass")
        + whole[8 + size :],
    }[damage]
    assert damaged != whole
    file.write_bytes(damaged)
    again = track_video(video, max_s=0.1, cache_dir=tmp_path)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert tracks.load_track(file) is not None
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_cache_that_cannot_be_written_is_no_error(video: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert len(track_video(video, max_s=0.1, cache_dir=tmp_path / "file")) == 3


def test_key_depends_on_content_and_options_only(video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    key = tracks.cache_key(video, None, 1)
    assert tracks.cache_key(copy, None, 1.0) == key
    copy.write_bytes(video.read_bytes() + b"\0")
    others = {
        tracks.cache_key(copy, None, 1),
        tracks.cache_key(video, 1, 1),
        tracks.cache_key(video, None, 2),
        tracks.cache_key(video, None, None),
    }
    assert len(others | {key}) == 5


def test_face_is_passed_on(tmp_path: Path) -> None:
    video = write(tmp_path / "two.mp4", [two(340)] * 2)
    largest = track_video(video, cache_dir=tmp_path)
    leftmost = track_video(video, face=1, cache_dir=tmp_path)
    assert np.abs(largest.landmarks[:, 1, 0] - 340).max() < 20
    assert np.abs(leftmost.landmarks[:, 1, 0] - 120).max() < 20
    with pytest.raises(ValueError, match="face"):
        track_video(video, face=0)


def test_unreadable_videos_are_media_errors(tmp_path: Path) -> None:
    for cache in (tmp_path / "cache", None):
        with pytest.raises(MediaError):
            track_video(tmp_path / "missing.mp4", cache_dir=cache)
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(MediaError):
            track_video(tmp_path / "text.mp4", cache_dir=cache)
    assert not (tmp_path / "cache").exists()


def test_arrays_must_belong_together() -> None:
    track = FaceTrack(
        landmarks=np.zeros((2, 478, 3), np.float32),
        confidence=np.zeros(2, np.float32),
        pts=np.arange(2, dtype=np.int64),
        time_base=Fraction(1, 25),
        width_px=64,
        height_px=64,
        cut=np.zeros(2, np.bool_),
    )
    with pytest.raises(ValueError, match="confidence"):
        replace(track, confidence=np.zeros(3, np.float32))
    with pytest.raises(TypeError, match="pts"):
        replace(track, pts=np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="time_base"):
        replace(track, time_base=Fraction(0))


@pytest.mark.slow
def test_footage_with_a_faceless_shot() -> None:
    """w2l_man shows a man, from frame 318 a landscape in motion, from frame 438 the man again."""
    video = data_file("clips/w2l_man.mp4")
    track = track_video(video, max_s=18.2, cache_dir=None)
    assert np.flatnonzero(track.cut).tolist() == [318, 438]
    assert np.flatnonzero(~track.found).tolist() == list(range(318, 438))
