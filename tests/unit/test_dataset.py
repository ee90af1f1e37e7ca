from pathlib import Path

import numpy as np
import pytest

from engine.errors import MediaError, NoFaceError
from engine.face.model import LANDMARKS, load_face_model
from export.dataset import Clip, Crops, crop_clip, list_clips
from tests.support.data import data_file
from tests.support.toy_actor import landmarks, resting_face
from tests.support.toy_clip import head, picture, toy_clip

MANIFEST = """file,identity,split,has_audio,sync,sync_best_lag_ms
clips/a.mp4,p1,train,yes,good,-80
clips/b.mp4,p2,dev,yes,weak,
clips/c.mp4,p2,train,no,,
clips/d.mp4,p3,dev-silent,no,,40
clips/e.mp4,p3,train,no,,
clips/f.mp4,p1,train,no,,
"""


def test_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    clips = list_clips(tmp_path)
    assert clips[0] == Clip(tmp_path / "clips/a.mp4", "p1", "train", True, "good", -80.0)
    assert [clip.path.name for clip in clips] == ["a.mp4", "b.mp4", "d.mp4", "f.mp4"]
    assert clips[1].audio_lag_ms == 0


def test_dev_people_are_never_trained_on(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    clips = list_clips(tmp_path)
    trained = {clip.identity for clip in clips if not clip.split.startswith("dev")}
    held_out = {clip.identity for clip in clips if clip.split.startswith("dev")}
    assert trained == {"p1"}
    assert held_out == {"p2", "p3"}


def test_development_footage_keeps_people_apart() -> None:
    clips = list_clips(data_file("manifest.csv").parent)
    trained = {clip.identity for clip in clips if not clip.split.startswith("dev")}
    held_out = {clip.identity for clip in clips if clip.split.startswith("dev")}
    assert trained
    assert held_out
    assert not trained & held_out


def test_plain_folder_is_one_person_a_file(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.mov", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.webm").touch()
    clips = list_clips(tmp_path)
    assert [(clip.identity, clip.split) for clip in clips] == [("a", "train"), ("b", "train"), ("c", "train")]


def test_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no video in"):
        list_clips(tmp_path)


def test_crops_and_poses_belong_together() -> None:
    clip, model = toy_clip(frames=6, size_px=64), load_face_model()
    assert len(clip) == 6
    assert clip.crops.shape == (6, 64, 64, 3)
    for index in range(6):
        vertices = model.vertices(clip.neutral, clip.expression[index], clip.pose(index))
        x, y = vertices[[0, 17], :2].mean(0)
        r, g, b = clip.crops[index, int(y), int(x)].astype(int)
        assert r > 100 > max(g, b), "the lips are where the geometry says"


def test_frames_without_a_face_and_strides() -> None:
    points = np.stack([landmarks(head(i)) for i in range(7)])
    points[2] = np.nan
    pictures = [picture(landmarks(head(i)), 0) for i in range(7)]
    neutral = resting_face()[:LANDMARKS]
    clip = crop_clip("ada", pictures, points, load_face_model(), size_px=32, neutral=neutral, stride=2)
    assert clip.frames.tolist() == [0, 4, 6]


def test_person_who_is_never_seen_is_named() -> None:
    points = np.full((3, 478, 3), np.nan, np.float32)
    pictures = [picture(landmarks(head(0)), 0)] * 3
    with pytest.raises(NoFaceError, match="ada"):
        crop_clip("ada", pictures, points, load_face_model(), size_px=32, neutral=resting_face()[:LANDMARKS])


def test_drawn_shape_can_differ_from_the_fitted_neutral() -> None:
    points = np.stack([landmarks(head(i)) for i in range(2)])
    pictures = [picture(one, 0) for one in points]
    neutral = resting_face()[:LANDMARKS]
    shape = neutral + np.float32(0.1)
    clip = crop_clip("a", pictures, points, load_face_model(), size_px=32, neutral=neutral, shape=shape)
    np.testing.assert_array_equal(clip.neutral[:LANDMARKS], shape)
    assert np.abs(clip.expression).max() < 0.05


@pytest.mark.parametrize(
    ("split", "has_audio", "sync", "lag_ms", "held_out", "speaks", "late_s"),
    [
        ("train", True, "good", 80.0, False, True, 0.08),
        ("train", True, "ok", -160.0, False, True, -0.16),
        ("train", True, "good", 400.0, False, True, 0.0),
        ("train-aux-lowres", True, "weak/unverified", 40.0, False, False, 0.0),
        ("train", True, "", 40.0, False, True, 0.0),
        ("train", False, "good", 0.0, False, False, 0.0),
        ("dev-silent", False, "n/a", 0.0, True, False, 0.0),
        ("test", True, "good", 0.0, True, True, 0.0),
    ],
)
def test_what_a_list_says_of_sound_and_split(
    split: str, has_audio: bool, sync: str, lag_ms: float, held_out: bool, speaks: bool, late_s: float
) -> None:
    clip = Clip(Path("a.mp4"), "ada", split, has_audio, sync, lag_ms)
    assert (clip.held_out, clip.speaks, clip.late_s) == (held_out, speaks, late_s)


def test_crops_of_another_size_show_the_same() -> None:
    rows, columns = np.mgrid[0:64, 0:64]
    pictures = np.stack([np.stack([2 * rows, 2 * columns, rows + columns], -1)] * 2).astype(np.uint8)
    crops = Crops(np.array([0, 3], np.int32), np.array([[4, 6, 100]] * 2, np.int32), pictures)
    small = crops.resized(32)
    assert crops.resized(64) is crops
    assert small.pictures.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(small.squares, crops.squares)
    assert np.abs(small.pictures.astype(int) - pictures[:, ::2, ::2]).max() <= 2
