"""Ways of speaking: found again where they are planted, and left average where nothing says otherwise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from engine.arrays import F32, F64
from engine.audio.logmel import LogMel
from engine.expression.audio import MEL_BANDS, STYLE_SIZE, AudioToExpression, step_time_ms
from engine.expression.manner import Manner
from engine.face.model import LANDMARKS, Pose, aperture, load_face_model
from export import style as style_module
from export.audio_assets import export_audio
from export.style import MIN_FRAMES, Speech, Way, WayReport, errors_of, fit_way, way_of_footage
from tests.support.toy_audio_net import tiny_audio_net
from tests.support.voice import voice

STEPS, LOOK_AHEAD_MS = 60, 120
MODEL = load_face_model()
NEUTRAL = np.asarray(MODEL.canonical, np.float32)
LONG_S = 6.4


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("style") / "audio.onnx"
    export_audio(tiny_audio_net(MODEL.expressions), path)
    return path.read_bytes()


def mels(seed: int) -> F32:
    return np.random.default_rng(seed).normal(-5, 2, (4 * STEPS, MEL_BANDS)).astype(np.float32)


def style(seed: int) -> F32:
    return np.random.default_rng(seed).normal(0, 1, STYLE_SIZE).astype(np.float32)


def spoken(network: bytes, sound: F32, of: F32 | None) -> tuple[F64, F32]:
    said = AudioToExpression(LOOK_AHEAD_MS, of, model=network).offline(sound[None])[0]
    times_s = np.array([step_time_ms(k, LOOK_AHEAD_MS) / 1000 for k in range(len(said))])
    return times_s, said


def speech(network: bytes, seed: int = 0, of: F32 | None = None, manner: Manner | None = None) -> Speech:
    times_s, said = spoken(network, mels(seed), of)
    shown = said if manner is None else manner.apply(said)
    return Speech(mels(seed), times_s, shown, MODEL, network)


def a_manner() -> Manner:
    jaw = np.asarray(MODEL.jaw_open / (aperture(MODEL.basis) @ MODEL.jaw_open), np.float32)
    hold = np.random.default_rng(3).normal(0, 0.2, MODEL.expressions)
    hold -= (aperture(MODEL.basis) @ hold) * jaw
    return Manner.of(np.stack([0.3 * jaw, hold]).astype(np.float32), MODEL)


def test_a_style_is_found_again_and_serves_other_words(network: bytes) -> None:
    fit = fit_way(speech(network, of=style(1)))
    assert fit.way.style.shape == (STYLE_SIZE,)
    assert fit.way.style.dtype == np.float32
    assert fit.error < 0.5 * fit.error_average
    others = [Way(tried, Manner.average(MODEL)) for tried in (np.zeros(STYLE_SIZE, np.float32), style(2))]
    own, average, other = errors_of([fit.way, *others], speech(network, 9, of=style(1)))
    assert own < 0.9 * min(average, other)


def test_a_manner_is_found_again_and_serves_other_words(
    network: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style_module, "DOUBT_FRAMES", 1e6)  # no style that explains some of it
    monkeypatch.setattr(style_module, "DOUBT_S", 0.2)
    way = fit_way(speech(network, manner=a_manner())).way
    apart = np.linalg.norm(way.manner.hold - a_manner().hold) / np.linalg.norm(a_manner().hold)
    assert apart < 0.2
    own, average = errors_of([way, Way.average(MODEL)], speech(network, 9, manner=a_manner()))
    assert own < 0.3 * average
    closed = np.zeros(MODEL.expressions, np.float32)
    assert abs(way.manner.apply(closed) @ aperture(MODEL.basis)) < 1e-4


def test_average_speakers_stay_average(network: bytes) -> None:
    way = fit_way(speech(network)).way
    assert np.abs(way.style).max() < 1e-3
    assert np.abs(way.manner.rows).max() < 1e-3


def test_doubt_pulls_towards_the_average(network: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    one = speech(network, of=style(1), manner=a_manner())
    sure = fit_way(one).way
    monkeypatch.setattr(style_module, "DOUBT_FRAMES", 300.0)
    monkeypatch.setattr(style_module, "DOUBT_S", 40.0)
    doubted = fit_way(one).way
    assert 0 < np.linalg.norm(doubted.style) < 0.8 * np.linalg.norm(sure.style)
    assert 0 < np.linalg.norm(doubted.manner.hold) < 0.5 * np.linalg.norm(sure.manner.hold)


def test_too_little_footage_says_nothing(network: bytes) -> None:
    few = speech(network, of=style(1)).part(slice(10, MIN_FRAMES))
    fit = fit_way(few)
    assert not fit.way.style.any()
    assert not fit.way.manner.rows.any()
    with pytest.raises(ValueError, match="too short"):
        errors_of([fit.way], few.part(slice(0, 2)))


def test_wrong_input_is_refused(network: bytes) -> None:
    whole = speech(network)
    with pytest.raises(ValueError, match="look-ahead"):
        replace(whole, look_ahead_ms=50)
    with pytest.raises(ValueError, match="expression"):
        replace(whole, time_s=whole.time_s[:-1])
    with pytest.raises(TypeError, match="mels"):
        replace(whole, mels=whole.mels.astype(np.float64))


def footage(network: bytes, seconds: float, manner: Manner) -> tuple[F32, F64, F32]:
    """Sound, times and landmarks of a head that says what the network hears, in a manner."""
    sound = voice(seconds)
    times_s, said = spoken(network, LogMel().offline(sound[None])[0], None)
    pose = Pose(20.0, np.eye(3), np.zeros(3))
    shown = [MODEL.vertices(MODEL.extend(NEUTRAL), one, pose)[:LANDMARKS] for one in manner.apply(said)]
    seen = times_s >= 0
    return sound, times_s[seen], np.stack(shown)[seen].astype(np.float32)


def found(network: bytes, sound: F32, times_s: F64, landmarks: F32) -> tuple[Way, WayReport]:
    return way_of_footage(sound, times_s, landmarks, NEUTRAL, MODEL, network=network)


def test_footage_of_a_speaker_has_the_way_of_its_own_sound(network: bytes) -> None:
    way, report = found(network, *footage(network, LONG_S, a_manner()))
    assert report.learned
    assert report.why == ""
    assert report.speech_s > 5
    assert report.held_out_error is not None
    assert report.held_out_error < 0.9
    likeness = way.manner.hold @ a_manner().hold / np.linalg.norm(a_manner().hold)
    assert likeness > 0.25 * np.linalg.norm(a_manner().hold)


def test_where_nothing_is_known_a_person_speaks_as_the_average(network: bytes) -> None:
    sound, times_s, landmarks = footage(network, LONG_S, a_manner())
    still = np.repeat(landmarks[:1], len(landmarks), 0)
    short = times_s < 3
    hidden = landmarks.copy()
    hidden[20:] = np.nan
    cases = {
        "needed": [
            (sound, times_s[short], landmarks[short]),
            (sound, times_s, hidden),
            (sound[:100], times_s, still),
        ],
        "does not fit the lips": [(sound, times_s, still)],
    }
    for why, tries in cases.items():
        for one in tries:
            way, report = found(network, *one)
            assert not report.learned
            assert why in report.why
            assert not way.style.any()
            assert not way.manner.rows.any()


def test_what_does_not_hold_at_the_end_is_not_believed(network: bytes) -> None:
    """A mouth that is held in another way at the end."""
    sound, times_s, landmarks = footage(network, LONG_S, a_manner())
    other = Manner(-a_manner().stretch, -2 * a_manner().hold, a_manner().opening)
    later = footage(network, LONG_S, other)[2]
    end = times_s > 0.6 * LONG_S
    landmarks[end] = later[end]
    way, report = found(network, sound, times_s, landmarks)
    assert not report.learned
    assert "does not hold" in report.why
    assert report.held_out_error is not None
    assert report.held_out_error >= 1
    assert not way.manner.rows.any()
