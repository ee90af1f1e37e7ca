"""Packing footage: what is kept of whom, and how faithfully."""

import shutil
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.errors import MediaError
from engine.face.model import load_face_model
from engine.face.track import to_rgb, track_video
from engine.image.resize import cut
from engine.image.yuv import Colour, rgb_to_i420
from engine.media import DubAudio, VideoFrame, VideoInfo, open_video, open_writer
from export.dataset import cut_crops, list_clips
from export.heard import VARIANTS
from export.prepare import MIN_FRAMES, encode_film, pack, prepare, with_heard, write_training_set
from export.training_set import HEARD_STEP, SIZE_PX, decode_film, face_clips, open_data, open_set
from tests.support.data import data_file, faces_picture, model_file
from tests.support.media import tone

LARGE, SMALL = 2.0, 1.0  # 184 and 92 px
COLOUR = Colour("bt601", full_range=False)


def write_video(path: Path, scale: float, frames: int, *, sound: bool = True) -> Path:
    """Somebody who drifts by 2 px in a frame."""
    info = VideoInfo(640, 480, Fraction(1, 25), Fraction(25), COLOUR)
    audio = DubAudio(tone(frames / 25, 16_000), 16_000) if sound else None
    with open_writer(path, info, audio=audio, preset="ultrafast") as writer:
        for index in range(frames):
            rgb = faces_picture((300 + 2 * index, 240, scale, False), width=640, height=480)
            writer.write(VideoFrame(rgb_to_i420(rgb, COLOUR), index, 1))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_file("face_landmarker")
    data = tmp_path_factory.mktemp("footage")
    large = write_video(data / "large.mp4", LARGE, MIN_FRAMES + 2)
    shutil.copy(large, data / "kept.mp4")
    write_video(data / "small.mp4", SMALL, 8, sound=False)
    write_video(data / "nobody.mp4", 0.01, 3)
    (data / "broken.mp4").write_bytes(b"no video")
    rows = [
        "large.mp4,ada,train,yes,good,40",
        "large.mp4,ada,train,yes,good,40",
        "kept.mp4,bob,dev,yes,good,0",
        "small.mp4,cem,train-aux-lowres,yes,ok,",
        "nobody.mp4,dee,train,yes,good,0",
        "broken.mp4,eva,train,yes,good,0",
        "absent.mp4,fay,train,yes,good,0",
    ]
    header = "file,identity,split,has_audio,sync,sync_best_lag_ms"
    (data / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return data


def test_folder_becomes_one_file(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    report = write_training_set(
        folder, tmp_path / "s.safetensors", size_px=96, on_progress=lambda *now: seen.append(now)
    )
    packed = open_set(tmp_path / "s.safetensors")
    assert seen[-1] == ("pack", 6, 6)
    assert [(one.clip.path.as_posix(), one.clip.identity) for one in packed] == [
        ("large.mp4", "ada"),
        ("kept.mp4", "bob"),
        ("small.mp4", "cem"),
    ]
    assert (report.clips, report.people, report.held_out_people) == (3, 3, 1)
    assert (report.clips_with_crops, report.crops, report.frames) == (
        2,
        2 * (MIN_FRAMES + 2),
        2 * (MIN_FRAMES + 2) + 8,
    )
    assert report.minutes_of_sound == pytest.approx(2 * (MIN_FRAMES + 2) / 25 / 60, rel=0.05)
    assert report.file_mb == pytest.approx((tmp_path / "s.safetensors").stat().st_size / 1e6)
    large, _, small = packed
    assert large.clip.audio_lag_ms == 40
    assert (report.clips_that_speak, report.offsets_measured, report.clips_out_of_sync) == (2, 0, 0)
    assert len(large.frames) == MIN_FRAMES + 2
    assert not len(small.film)
    assert small.found.all()
    assert not small.clip.has_audio, "the list says so, the file has no sound"


def test_packed_is_as_tracked(folder: Path) -> None:
    model, clip = load_face_model(), list_clips(folder)[0]
    packed = pack(clip, folder, model, size_px=96)
    assert packed is not None
    track = track_video(clip.path)
    np.testing.assert_allclose(packed.all_landmarks(), track.landmarks, atol=0.51 * packed.step_px)
    assert packed.step_px == pytest.approx(184 / 1024, rel=0.15)
    np.testing.assert_allclose(packed.time_s, np.arange(len(track)) / 25)
    mels = packed.log_mels()
    assert mels is not None
    assert len(mels) % 4 == 0
    assert len(mels) == pytest.approx(100 * len(track) / 25, abs=8)
    fitted = face_clips([packed], model, size_px=96)[0]
    assert fitted.spoken is not None
    assert np.isfinite(fitted.spoken).all()


def test_who_speaks_and_is_learned_from_is_heard_otherwise(folder: Path) -> None:
    clips = list(prepare(folder, size_px=None, on_progress=lambda *_: None))
    assert [len(one.heard_mels()) for one in clips] == [VARIANTS, 0, 0], "bob is held out, cem is silent"
    mels = clips[0].log_mels()
    assert mels is not None
    for other in clips[0].heard_mels():
        assert other.shape == mels.shape
        assert np.abs(other - mels).mean() > HEARD_STEP
    again = with_heard(clips[0], folder)
    np.testing.assert_array_equal(again.heard, clips[0].heard)


def test_crops_can_be_left_out(folder: Path) -> None:
    packed = open_data(folder, size_px=None, on_progress=lambda *_: None)
    assert [len(one.film) for one in packed] == [0, 0, 0]


def test_folder_without_a_face_is_named(tmp_path: Path) -> None:
    model_file("face_landmarker")
    write_video(tmp_path / "nobody.mp4", 0.01, 2)
    with pytest.raises(MediaError, match="shows a face"):
        write_training_set(tmp_path, tmp_path / "s.safetensors", on_progress=lambda *_: None)
    assert not (tmp_path / "s.safetensors").exists()
    with pytest.raises(MediaError, match="no video in"):
        list(prepare(tmp_path / "absent", on_progress=lambda *_: None))


def test_film_of_smooth_pictures() -> None:
    rows, columns = np.mgrid[0:64, 0:64]
    pictures = np.stack(
        [np.stack([90 + rows + i, 120 + columns, 200 - rows - i], -1) for i in range(5)]
    ).astype(np.uint8)
    back = decode_film(encode_film(pictures))
    assert back.shape == pictures.shape
    assert np.abs(back.astype(int) - pictures).mean() < 2.5


def exact_crops(path: Path, neutral: F32) -> U8:
    """The first crops of a video by the plain way, through whole RGB pictures."""
    track, model = track_video(path), load_face_model()
    with open_video(path) as reader:
        cutters = (partial(cut, to_rgb(frame.image, reader.info.colour)) for frame in reader)
        return cut_crops(islice(cutters, 25), track.landmarks, model, neutral, size_px=SIZE_PX).pictures


def test_real_crops_keep_38_db() -> None:
    data = data_file("manifest.csv").parent
    clip = next(one for one in list_clips(data) if one.path.name == "av2av_11.mp4")
    model_file("face_landmarker")
    model = load_face_model()
    packed = pack(clip, data, model)
    assert packed is not None
    crops = packed.crops()
    assert crops is not None
    exact = exact_crops(clip.path, packed.neutral)
    errors = ((crops.pictures[: len(exact)].astype(np.float32) - exact) ** 2).mean((1, 2, 3))
    assert 10 * np.log10(255**2 / errors.mean()) >= 38
    assert 10 * np.log10(255**2 / errors.max()) >= 38
