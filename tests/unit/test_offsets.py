from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import AssetError
from engine.face.model import load_face_model
from export import offsets
from export.dataset import Clip, list_clips
from export.offsets import Offset, _of_windows, judged, measure_offset, with_offset
from export.prepare import pack
from export.sync_net import SyncCurve, load_sync_measure
from export.training_set import open_set, pack_landmarks, pack_mels, write
from tests.support.data import data_file, model_file
from tests.support.toy_set import toy_packed


def curve(peak_ms: float, height: float = 10.0, *, known_up_to_ms: float = 1000.0) -> SyncCurve:
    """A bell 60 ms wide."""
    at = np.arange(-50, 51).astype(np.float64) * 20
    score = height * np.exp(-0.5 * ((at - peak_ms) / 60) ** 2)
    return SyncCurve(0.0, at, np.where(at <= known_up_to_ms, score, -np.inf).astype(np.float32))


def clip(sync: str = "good", lag_ms: float = 0.0, split: str = "train") -> Clip:
    return Clip(Path("a.mp4"), "ada", split, True, sync, lag_ms)


def test_windows_that_agree_give_an_offset_finer_than_a_step() -> None:
    found = _of_windows([curve(-133.0), curve(-128.0), curve(-130.0)])
    assert found.late_ms == pytest.approx(-130, abs=2)
    assert (found.windows, found.agree) == (3, 1.0)
    assert found.confidence == pytest.approx(10, abs=0.2)


def test_windows_that_do_not_agree_are_told() -> None:
    found = _of_windows([curve(at_ms) for at_ms in (-600, -80, 0, 20, 700)])
    assert found.agree == pytest.approx(0.4)
    assert judged(clip(), found).fits is False


def test_the_ends_of_the_sound_do_not_matter() -> None:
    cut = curve(60.0, known_up_to_ms=60.0)
    assert _of_windows([cut, curve(60.0), curve(60.0)]).late_ms == pytest.approx(60)
    assert _of_windows([curve(1000.0)] * 3).late_ms == pytest.approx(1000)


@pytest.mark.parametrize(
    ("told", "lag_ms", "late_ms", "confidence", "fits"),
    [
        ("good", -40.0, -60.0, 5.5, True),
        ("good", 120.0, -30.0, 7.0, False),  # far from what is told needs more
        ("good", 120.0, -30.0, 10.0, True),
        ("weak/unverified", 0.0, 10.0, 7.0, False),
        ("weak/unverified", 0.0, 10.0, 9.0, True),
        ("good", 0.0, -420.0, 12.0, False),
        ("good", 0.0, 0.0, 4.0, False),
    ],
)
def test_far_offsets_need_more(
    told: str, lag_ms: float, late_ms: float, confidence: float, fits: bool
) -> None:
    after = judged(clip(told, lag_ms), Offset(late_ms, 6, 1.0, confidence))
    assert after.fits is fits
    assert after.speaks is fits
    assert after.late_s == (late_ms / 1000 if fits else after.told_late_s)
    assert after.as_told() == clip(told, lag_ms)


def test_of_few_windows_nothing_follows() -> None:
    assert judged(clip("good", 40.0), Offset(-400.0, 2, 0.5, 1.0)) == clip("good", 40.0)
    assert judged(clip(), None) == clip()


def test_held_out_clips_stay_as_told_where_the_measure_finds_nothing() -> None:
    for told, speaks in (("good", True), ("offset", False)):
        after = judged(clip(told, 80.0, "dev"), Offset(0.0, 40, 0.5, 6.0))
        assert (after.fits, after.speaks) == (False, speaks)
        assert after.late_s == after.told_late_s


def test_noise_fits_no_mouth(tmp_path: Path) -> None:
    model, packed = load_face_model(), toy_packed(frames=110)
    found = measure_offset(packed, model, load_sync_measure())
    assert found is not None
    assert found.windows >= 3
    looked_at = with_offset(packed, model)
    assert looked_at.clip.fits is False
    write(tmp_path / "set.safetensors", [looked_at])
    assert open_set(tmp_path / "set.safetensors")[0].clip == looked_at.clip


def test_short_silent_and_faceless_clips_stay_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model, measure = load_face_model(), load_sync_measure()
    short, silent = toy_packed(frames=12), toy_packed(sound=False)
    assert measure_offset(short, model, measure) is None
    assert with_offset(short, model).clip == short.clip
    assert measure_offset(silent, model, measure) is None
    assert with_offset(silent, model) is silent
    glimpse = pack_landmarks(short.all_landmarks()[:1], short.step_px)
    once = replace(short, found=np.eye(1, 12, dtype=np.bool_)[0], landmarks=glimpse)
    assert measure_offset(once, model, measure) is None

    def absent() -> None:
        raise AssetError("the sync measure is not here")

    monkeypatch.setattr(offsets, "load_sync_measure", absent)
    assert with_offset(short, model) is short


def test_sound_that_is_moved_is_found_moved() -> None:
    """Real speech: the sound 120 ms earlier makes the picture 120 ms later."""
    data = data_file("manifest.csv").parent
    path = next(one.path for one in list_clips(data) if one.path.stem == "vidtimit_fadg0")
    model_file("face_landmarker")
    model, measure = load_face_model(), load_sync_measure()
    packed = pack(replace(clip(), path=path), data, model, size_px=None)
    assert packed is not None
    mels = packed.log_mels()
    assert mels is not None
    there = measure_offset(packed, model, measure)
    moved = measure_offset(replace(packed, mels=pack_mels(mels[12:])), model, measure)
    assert there is not None
    assert moved is not None
    assert there.confidence > offsets.SURE_FAR
    assert moved.late_ms - there.late_ms == pytest.approx(120, abs=12)
