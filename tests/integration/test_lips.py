"""Lips against speech whose phonemes are known: closed on /p b m/ and in silence, open on wide vowels."""

import numpy as np
import pytest

from clients.demo.speech import Speech, speak
from engine.arrays import F32
from engine.audio.resample import Resampler
from engine.expression.audio import LOOK_AHEADS_MS, AudioToExpression
from engine.expression.speech import SpeechToExpression
from engine.face.model import aperture, load_face_model
from engine.timing import AUDIO_RATE_HZ

pytest.importorskip("espeakng_loader")
STRESS = "ˈˌ"
SENTENCES = {
    "en-us": "My mama may buy a map. Papa, pass a bag. Bobby, pop a balloon.",
    "de": "Mama malt am Abend. Papa packt am Samstag. Das Baby mag Bananen.",
    "es": "Mi mamá ama la mañana. Papá compra pan para Ana.",
}


@pytest.fixture(scope="module", params=SENTENCES)
def speech(request: pytest.FixtureRequest) -> Speech:
    return speak(SENTENCES[request.param], request.param)


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS[2:])
def test_lips_close_on_p_b_m_and_open_on_a(speech: Speech, look_ahead_ms: int) -> None:
    times_s, opening = openings(at_16_khz(speech), look_ahead_ms)
    closed = [extreme(times_s, opening, p.start_ms, np.min) for p in speech.phonemes if sound(p.ipa) in "pbm"]
    wide = [extreme(times_s, opening, p.start_ms, np.max) for p in speech.phonemes if sound(p.ipa) in "aɑæɐ"]
    assert len(closed) >= 5
    assert len(wide) >= 5
    assert np.median(closed) < 0.35 * np.median(wide)
    assert np.median(wide) > 0.5  # canonical units, about cm


def test_lips_rest_in_silence_and_noise() -> None:
    noise = (0.003 * np.random.default_rng(0).standard_normal(3 * AUDIO_RATE_HZ)).astype(np.float32)
    for samples in (np.zeros_like(noise), noise):
        _, opening = openings(samples, 120)
        assert np.abs(opening[:100]).max() < 0.1
        assert np.abs(opening[100:]).max() < 0.02


def openings(samples: F32, look_ahead_ms: int) -> tuple[F32, F32]:
    """Times, s, every 10 ms, and how far the lips are apart."""
    talking = SpeechToExpression(AudioToExpression(look_ahead_ms))
    talking.push(np.pad(samples, (0, AUDIO_RATE_HZ)))
    times = np.arange(0, len(samples) / AUDIO_RATE_HZ, 0.01)
    of = aperture(load_face_model().basis)
    opening = [float(talking.at(float(t)).expression @ of) for t in times]
    return times.astype(np.float32), np.array(opening, np.float32)


def sound(ipa: str) -> str:
    return ipa.strip(STRESS)[:1] or "-"


def extreme(times_s: F32, opening: F32, start_ms: int, of: object) -> float:
    near = (times_s >= start_ms / 1000 - 0.02) & (times_s <= start_ms / 1000 + 0.12)
    return float(of(opening[near]))  # type: ignore[operator]


def at_16_khz(speech: Speech) -> F32:
    resampler = Resampler(speech.rate_hz, AUDIO_RATE_HZ)
    block = resampler.spec.block_size
    whole = np.pad(speech.samples, (0, -len(speech.samples) % block))
    return np.asarray(resampler.offline(whole[None])[0], np.float32)
