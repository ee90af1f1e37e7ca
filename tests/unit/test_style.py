from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from engine.arrays import F32, F64
from engine.audio.logmel import LogMel
from engine.expression.audio import MEL_BANDS, STYLE_SIZE, AudioToExpression, step_time_ms
from engine.face.model import LANDMARKS, Pose, load_face_model
from export import style as style_module
from export.audio_assets import export_audio
from export.style import MIN_FRAMES, fit_style, style_of_footage
from tests.support.toy_audio_net import tiny_audio_net
from tests.support.voice import voice

STEPS, LOOK_AHEAD_MS = 60, 120


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("style") / "audio.onnx"
    export_audio(tiny_audio_net(load_face_model().expressions), path)
    return path.read_bytes()


def mels(seed: int) -> F32:
    return np.random.default_rng(seed).normal(-5, 2, (4 * STEPS, MEL_BANDS)).astype(np.float32)


def style(seed: int) -> F32:
    return np.random.default_rng(seed).normal(0, 1, STYLE_SIZE).astype(np.float32)


def spoken(network: bytes, sound: F32, of: F32 | None) -> tuple[F64, F32]:
    said = AudioToExpression(LOOK_AHEAD_MS, of, model=network).offline(sound[None])[0]
    times_s = np.array([step_time_ms(k, LOOK_AHEAD_MS) / 1000 for k in range(len(said))])
    return times_s, said


def test_a_style_is_found_again_and_serves_other_words(network: bytes) -> None:
    model = load_face_model()
    fit = fit_style(mels(0), *spoken(network, mels(0), style(1)), model, network=network)
    assert fit.style.shape == (STYLE_SIZE,)
    assert fit.style.dtype == np.float32
    assert fit.error < 0.5 * fit.error_average
    truth = spoken(network, mels(9), style(1))[1]
    errors = [
        float(np.square(spoken(network, mels(9), tried)[1] - truth).mean())
        for tried in (fit.style, None, style(2))
    ]
    assert errors[0] < 0.9 * min(errors[1:])


def test_average_speakers_stay_average(network: bytes) -> None:
    fit = fit_style(mels(0), *spoken(network, mels(0), None), load_face_model(), network=network)
    assert np.abs(fit.style).max() < 1e-3


def test_doubt_pulls_towards_the_average(network: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_face_model()
    times_s, said = spoken(network, mels(0), style(1))
    sure = fit_style(mels(0), times_s, said, model, network=network)
    monkeypatch.setattr(style_module, "DOUBT_FRAMES", 300.0)
    doubted = fit_style(mels(0), times_s, said, model, network=network)
    assert 0 < np.linalg.norm(doubted.style) < 0.8 * np.linalg.norm(sure.style)


def test_too_little_footage_says_nothing(network: bytes) -> None:
    times_s, said = spoken(network, mels(0), style(1))
    few = slice(10, 10 + MIN_FRAMES - 10)
    fit = fit_style(mels(0), times_s[few], said[few], load_face_model(), network=network)
    assert not fit.style.any()


def test_wrong_input_is_refused(network: bytes) -> None:
    model = load_face_model()
    times_s, said = spoken(network, mels(0), None)
    with pytest.raises(ValueError, match="look-ahead"):
        fit_style(mels(0), times_s, said, model, network=network, look_ahead_ms=50)
    with pytest.raises(ValueError, match="expression"):
        fit_style(mels(0), times_s[:-1], said, model, network=network)
    with pytest.raises(TypeError, match="mels"):
        fit_style(mels(0).astype(np.float64), times_s, said, model, network=network)


def test_footage_that_does_not_speak_has_the_average_style(network: bytes) -> None:
    model = load_face_model()
    neutral = np.asarray(model.canonical, np.float32)
    landmarks = np.repeat(neutral[None] * 20, 60, 0)  # a still face
    times_s, sound = np.arange(60) / 25, voice(2.4)
    still = style_of_footage(sound, times_s, landmarks, neutral, model, network=network)
    assert still.tolist() == [0] * STYLE_SIZE
    landmarks[20:] = np.nan
    hidden = style_of_footage(sound, times_s, landmarks, neutral, model, network=network)
    assert hidden.tolist() == [0] * STYLE_SIZE
    silent = style_of_footage(sound[:100], times_s, landmarks, neutral, model, network=network)
    assert silent.tolist() == [0] * STYLE_SIZE


def test_footage_of_a_speaker_has_the_style_of_its_own_sound(network: bytes) -> None:
    model = load_face_model()
    sound = voice(2.4)
    mels = LogMel().offline(sound[None])[0]
    times_s, said = spoken(network, mels, style(1))
    neutral, pose = np.asarray(model.canonical, np.float32), Pose(20.0, np.eye(3), np.zeros(3))
    shown = [model.vertices(model.extend(neutral), one, pose)[:LANDMARKS] for one in said]
    seen = times_s >= 0
    landmarks = np.stack(shown)[seen].astype(np.float32)
    found = style_of_footage(sound, times_s[seen], landmarks, neutral, model, network=network)
    fit = fit_style(mels, times_s, said, model, network=network)
    assert np.linalg.norm(found) > 0.05
    assert float(found @ fit.style) > 0.7 * np.linalg.norm(found) * np.linalg.norm(fit.style)
