"""The lips' part of an evaluation: a made-up head with a known motion, and real footage against itself."""

from pathlib import Path

import numpy as np
import pytest

from clients.demo.speech import write_wav
from engine.arrays import F32, F64
from engine.errors import AssetError, NoFaceError
from engine.expression.audio import LOOK_AHEADS_MS
from engine.face.track import track_video
from engine.timing import AUDIO_RATE_HZ
from export import evaluate as evaluation
from export import sync_net
from export.lips_report import OTHER_WORDS, ROWS, LipReport, lips_report, predicted_rows
from tests.support.data import data_file, model_file
from tests.support.toy_actor import landmarks, opened
from tests.support.toy_clip import head

FRAMES = 110
Mouth = tuple[Path, F32, F64]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.wav"
    samples = np.random.default_rng(0).normal(0, 0.05, FRAMES * AUDIO_RATE_HZ // 25).astype(np.float32)
    write_wav(path, samples, AUDIO_RATE_HZ)
    return path


def mouth(sound: Path, *, late: int = 0, gain: float = 1.0) -> Mouth:
    """A head whose mouth opens at random."""
    knots = np.random.default_rng(5).uniform(0, 1, 60)
    opening = np.interp(np.arange(FRAMES) - late, np.arange(60) * 3, knots) * gain
    points = np.stack([landmarks(head(i), opened(float(one))) for i, one in enumerate(opening)])
    return sound, points.astype(np.float32), np.arange(FRAMES) / 25


def test_a_mouth_against_itself(sound: Path) -> None:
    report, notes = lips_report(mouth(sound), mouth(sound))
    assert report.correlation == pytest.approx(1)
    assert (report.lve_mm, report.range_ratio) == (0, 1)
    assert report.sync_ratio is None or report.sync_ratio == pytest.approx(1)
    assert report.sync_confidence == report.sync_reference
    assert report.phone_closures is None
    assert notes == []
    assert [one.look_ahead_ms for one in report.predicted] == list(LOOK_AHEADS_MS)
    assert all(one.sync_confidence is not None and one.correlation is not None for one in report.predicted)
    names = [name for name, *_ in predicted_rows(report)]
    assert names[:2] == ["sound alone, 0 ms: r", "sound alone, 0 ms: sync"]
    assert len(names) == 2 * len(LOOK_AHEADS_MS)


def test_late_and_small_motion_shows(sound: Path) -> None:
    report, _ = lips_report(mouth(sound, late=3, gain=0.6), mouth(sound))
    assert report.lag_ms == pytest.approx(120, abs=15)
    assert report.range_ratio == pytest.approx(0.6, abs=0.08)


def test_a_mouth_that_moves_otherwise_is_not_held_to_have_the_same_words(sound: Path) -> None:
    path, points, time_s = mouth(sound)
    _, notes = lips_report((path, np.repeat(points[:1], FRAMES, 0), time_s), mouth(sound))
    assert OTHER_WORDS in notes


def test_known_sounds_are_looked_for(sound: Path) -> None:
    phones = sound.with_suffix(".lab")
    phones.write_text("0 10000000 a\n10000000 11000000 p\n11000000 30000000 e\n")
    report, _ = lips_report(mouth(sound), mouth(sound), phones)
    assert report.phone_closures == 1
    assert report.phone_recall in {0, 1}


def test_a_short_clip_and_a_lost_face_are_said(sound: Path) -> None:
    path, points, time_s = mouth(sound)
    short = path, points[:40], time_s[:40]
    report, notes = lips_report(short, short)
    assert report.sync_confidence is None
    assert notes == [
        "sync_confidence: needs 3 s of one face and sound",
        "sync_reference: needs 3 s of one face and sound",
    ]
    with pytest.raises(NoFaceError, match="two frames"):
        lips_report((path, points * np.nan, time_s), mouth(sound))


def test_without_the_measure_the_rest_is_there(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise AssetError("it is not here")

    monkeypatch.setattr(sync_net, "load_sync_measure", gone)
    report, notes = lips_report(mouth(sound), mouth(sound))
    assert report.sync_confidence is None
    assert report.correlation == pytest.approx(1)
    assert notes == ["sync_confidence: it is not here"]
    assert {one.sync_confidence for one in report.predicted} == {None}


def test_every_row_is_a_number_of_the_report() -> None:
    assert {name for name, *_ in ROWS} <= set(LipReport.__struct_fields__)


def test_real_footage_with_its_own_sound_and_with_it_late() -> None:
    model_file("face_landmarker")
    path = data_file("clips/gs_avatar6_2.mp4")
    track = track_video(path)
    time_s = track.pts.astype(np.float64) * float(track.time_base)
    late = path, track.landmarks, time_s + 0.2
    report, notes = lips_report(late, (path, track.landmarks, time_s))
    assert notes == []
    assert report.sync_offset_ms is not None
    assert report.sync_offset_reference_ms is not None
    assert report.sync_offset_ms - report.sync_offset_reference_ms == pytest.approx(200, abs=20)
    assert report.lag_ms == pytest.approx(200, abs=5)
    assert report.sync_hits_reference == 1
    assert report.sync_hits == 0


def test_evaluate_reports_lips_when_asked() -> None:
    model_file("face_landmarker")
    path = data_file("clips/gs_avatar6_2.mp4")
    plain = evaluation.evaluate(path, path, max_frames=4)
    assert plain.lips is None
    report = evaluation.evaluate(path, path, max_frames=4, audio=True)
    assert report.lips is not None
    assert report.lips.lve_mm == 0
    assert any(note.startswith("sync_confidence") for note in report.notes)
