"""What is held out, what is learned from, and of whom."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.experiments import data, parts, scale, speed
from benchmarks.experiments.footage import Footage, choose_clips, collect, held_out_frames, mean_residual
from benchmarks.experiments.priors import read_prior, shipped_prior
from benchmarks.experiments.quick import FPS, TIER, toy_footage, toy_prior
from benchmarks.experiments.schema import PHOTO_S
from benchmarks.experiments.score import pasted
from engine.errors import AssetError, InputError
from engine.face.fit import Fitter, person_neutral
from engine.face.model import INNER_LIPS, LIPS, load_face_model
from engine.image.resize import Square
from export.dataset import Clip
from tests.support.data import data_file
from tests.support.toy_actor import landmarks, opened
from tests.support.toy_clip import head, opening, picture

HEADER = "file,identity,split,has_audio,sync,sync_best_lag_ms\n"


@pytest.fixture(scope="module")
def footage() -> Footage:
    return toy_footage(load_face_model())


def test_the_end_is_held_out_whatever_is_learned(footage: Footage) -> None:
    assert (footage.held_from, len(footage.crops)) == (16, 24)
    assert footage.scored.tolist() == [16, 23]
    for seconds, first in ((PHOTO_S, 15), (2.0, 8), (4.0, 0)):
        frames = footage.learned_from(seconds)
        assert (frames[0], frames[-1]) == (first, 15), "it ends where the held-out part begins"
        fitted = footage.fitted(seconds, load_face_model())
        np.testing.assert_array_equal(fitted.clip.crops[fitted.held_out], footage.crops[[16, 23]])
        np.testing.assert_array_equal(fitted.clip.crops[fitted.frames_to_learn], footage.crops[frames])


def test_more_than_there_is(footage: Footage) -> None:
    with pytest.raises(ValueError, match=r"toy has 4\.0 s to learn from, not 5"):
        footage.learned_from(5.0)


@pytest.mark.parametrize(
    ("frames", "fps", "held"), [(500, 25, 125), (150, 25, 50), (1500, 25, 250), (60, 25, 30), (2, 25, 1)]
)
def test_how_much_is_held_out(frames: int, fps: float, held: int) -> None:
    assert held_out_frames(frames, fps) == held


def test_a_face_at_rest_is_learned_from_those_seconds_alone(footage: Footage) -> None:
    model = load_face_model()
    used = footage.landmarks[8:16]
    neutral = person_neutral(model, used)
    shape = model.extend(neutral + mean_residual(model, Fitter(model, neutral), used))
    np.testing.assert_array_equal(footage.fitted(2.0, model).clip.neutral, shape)
    assert np.abs(shape - footage.fitted(4.0, model).clip.neutral).max() > 0


def test_lips_keep_their_rest(footage: Footage) -> None:
    model = load_face_model()
    fitter = Fitter(model, person_neutral(model, footage.landmarks))
    kept = mean_residual(model, fitter, footage.landmarks + np.float32(0.01))
    assert np.abs(kept[[*LIPS, *INNER_LIPS]]).max() == 0


def test_frames_without_a_face_do_not_count() -> None:
    points = np.stack([landmarks(head(index), opened(opening(index))) for index in range(24)])
    points[4:8] = np.nan
    pictures = [picture(one if np.isfinite(one).all() else points[0], 0.0) for one in points]
    footage = collect("toy", "ada", pictures, points, FPS, load_face_model(), 32, scored_frames=3)
    assert len(footage.crops) == len(footage.landmarks) == len(footage.squares) == 20
    assert sorted(footage.pictures) == footage.scored.tolist() == [12, 15, 19]
    np.testing.assert_array_equal(footage.pictures[12], pictures[16])


def test_pasting_the_same_changes_nothing(footage: Footage) -> None:
    frame = int(footage.scored[0])
    whole, crop = footage.pictures[frame], footage.crops[frame]
    np.testing.assert_array_equal(pasted(whole, footage.squares[frame], crop, crop), whole)
    lighter = pasted(
        whole, footage.squares[frame], np.minimum(crop, 200) + np.uint8(9), np.minimum(crop, 200)
    )
    changed = np.abs(lighter.astype(int) - whole).max(-1)
    assert set(np.unique(changed)) == {0, 9}
    outside = Square(10_000, 0, 16)
    assert pasted(whole, outside, crop, crop) is whole


def folder_of(tmp_path: Path, *rows: tuple[str, str, str]) -> Path:
    lines = [f"{name}.mp4,{identity},{split},yes,good,0\n" for name, identity, split in rows]
    (tmp_path / "manifest.csv").write_text(HEADER + "".join(lines))
    return tmp_path


def test_people_of_the_dev_split_are_chosen(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ("a", "p1", "dev"), ("b", "p1", "dev-silent"), ("c", "p2", "train"))
    assert [clip.identity for clip in choose_clips(folder, ["b", "a"])] == ["p1", "p1"]
    with pytest.raises(InputError, match="no clip d, e"):
        choose_clips(folder, ["a", "d", "e"])


def test_a_prior_refuses_whom_it_knows() -> None:
    clip = Clip(Path("x.mp4"), "bob", "dev", True, "", 0.0)
    with pytest.raises(InputError, match="was trained on bob: evaluate somebody else"):
        toy_prior().check([clip])
    assert toy_prior().people == 1


def test_the_default_clips_show_nobody_whom_a_prior_knows() -> None:
    folder = data_file("manifest.csv").parent
    names = {name for one in (data, speed, parts, scale) for name in one.EXPERIMENT.clips}
    clips = choose_clips(folder, sorted(names))
    assert {clip.path.stem for clip in clips} == names
    shipped_prior().check(clips)


def test_people_that_a_prior_may_know_are_refused() -> None:
    folder = data_file("clips/tv_19_30_2.mp4").parents[1]
    with pytest.raises(InputError, match="tv_19_30_2 shows p002, of whom tv_19_30_2 is there to train"):
        choose_clips(folder, ["tv_19_30_2"])


def test_a_folder_without_a_prior(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="holds no prior of tier cpu"):
        read_prior(tmp_path)


def test_toy_prior_fits_its_tier() -> None:
    assert toy_prior().name == toy_prior().name
    assert toy_prior().untrained().tier == TIER
