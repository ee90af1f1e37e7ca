from pathlib import Path

import numpy as np
import pytest

from clients.demo.speech import (
    LEAD_IN_MS,
    LEAD_OUT_MS,
    MAX_TEXT,
    checked_text,
    speak,
    voices,
    write_wav,
)
from engine.errors import InputError
from engine.media import read_audio

GREETINGS = {
    "en": "Good morning to all of you.",
    "de": "Guten Morgen an euch alle.",
    "es": "Buenos días a todos.",
    "fr": "Bonjour à tous.",
    "it": "Buongiorno a tutti.",
    "pt": "Bom dia a todos.",
    "pl": "Dzień dobry wszystkim.",
    "ru": "Доброе утро всем.",
    "zh": "大家早上好。",
    "ja": "みなさん、おはよう。",
    "hi": "आप सबको सुप्रभात।",
    "ar": "صباح الخير جميعا.",
}


@pytest.mark.parametrize("voice", GREETINGS)
def test_every_promised_language_is_spoken(voice: str) -> None:
    speech = speak(GREETINGS[voice], voice)
    assert 1.0 < speech.duration_s < 6.0
    assert np.abs(speech.samples).max() > 0.1
    assert len(speech.phonemes) >= 8


def test_a_longer_text_takes_longer_and_a_higher_rate_less_time() -> None:
    one, three = speak("Tomorrow it will rain."), speak("Tomorrow it will rain. " * 3)
    fast = speak("Tomorrow it will rain. " * 3, rate_wpm=330)
    assert 2.2 < (three.duration_s - 0.6) / (one.duration_s - 0.6) < 4.0
    assert fast.duration_s < 0.75 * three.duration_s


def test_it_begins_and_ends_with_silence() -> None:
    speech = speak("Hello.")
    assert not speech.samples[: LEAD_IN_MS * speech.rate_hz // 1000].any()
    assert not speech.samples[-LEAD_OUT_MS * speech.rate_hz // 1000 :].any()


def test_phonemes_lie_where_they_sound() -> None:
    speech = speak("Papa.", "de")
    starts = [phoneme.start_ms for phoneme in speech.phonemes]
    heard_ms = 1000 * np.flatnonzero(np.abs(speech.samples) > 0.02) / speech.rate_hz
    assert starts == sorted(starts)
    assert speech.phonemes[0].ipa == "p"
    assert abs(starts[0] - heard_ms[0]) < 80
    assert starts[-1] < heard_ms[-1]


@pytest.mark.parametrize("voice", ["en-us", "en-us+f3", "de+whisper"])
def test_two_runs_say_the_same(voice: str) -> None:
    assert np.array_equal(speak("Once more.", voice).samples, speak("Once more.", voice).samples)


def test_mark_up_and_control_characters_do_not_reach_the_synthesiser() -> None:
    assert checked_text("  a\x00b\n\tc  ") == "a b c"
    assert speak("one <mark name='x'/> two").duration_s > speak("one two").duration_s  # read out, not obeyed


@pytest.mark.parametrize("voice", ["xx", "", "../../etc/passwd", "en-us+nobody", "en us", "en;ls"])
def test_an_unknown_voice_is_an_input_error(voice: str) -> None:
    with pytest.raises(InputError, match="voice"):
        speak("Hello.", voice)


@pytest.mark.parametrize("text", ["", " \n", "...", "a" * (MAX_TEXT + 1)])
def test_nothing_to_say_and_too_much_are_input_errors(text: str) -> None:
    with pytest.raises(InputError):
        speak(text)


def test_a_text_that_would_take_minutes_is_refused() -> None:
    with pytest.raises(InputError, match="shorten"):
        speak("internationally " * 60, rate_wpm=80)


def test_a_rate_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="80 to 450"):
        speak("Hello.", rate_wpm=5)


def test_voices_are_named_and_unique() -> None:
    found = voices()
    codes = [voice.code for voice in found]
    assert len(codes) == len(set(codes)) > 100
    assert {"de", "es", "it", "pt-br", "ru", "cmn", "ja", "hi", "ar"} <= set(codes)
    assert all(voice.name for voice in found)


def test_a_written_wav_reads_back_the_same(tmp_path: Path) -> None:
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 0.25], np.float32)
    write_wav(tmp_path / "a.wav", samples, 16_000)
    assert np.allclose(read_audio(tmp_path / "a.wav", 16_000), samples, atol=2 / 32768)
