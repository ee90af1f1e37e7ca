import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clients.speakers import espeak_say
from engine.arrays import F32
from engine.errors import InputError, OutputError
from export.phone_classes import CLOSED, SILENCE
from export.phones import Phone
from export.synthetic_speech import (
    Speaker,
    diphone_speakers,
    espeak_speakers,
    make_set,
    read_speech,
    write_speech,
    write_speech_set,
)
from export.synthetic_words import WORDS, sentence
from export.training_set import HEARD_STEP
from tests.support.voice import voice


def tone(text: str, rate_wpm: int) -> tuple[F32, list[Phone]]:
    """A second of voice, closed in its second half."""
    return voice(1.0), [Phone("a", 0.0, 0.5), Phone("m", 0.5, 1.0)]


def quiet(*_: object) -> None:
    """No progress."""


def test_sets_come_back(tmp_path: Path) -> None:
    speakers = [Speaker("en", "one", False, tone), Speaker("de", "two", True, tone)]
    made = make_set(tmp_path / "s.safetensors", speakers, seed=0, seconds=2.0, on_progress=quiet)
    back = read_speech(tmp_path / "s.safetensors")
    assert [(one.language, one.voice, one.held_out) for one in back] == [
        *[("en", "one", False)] * 2,
        *[("de", "two", True)] * 2,
    ]
    for one, other in zip(made, back, strict=True):
        assert len(one.labels) == len(one.mels)
        assert len(one.mels) % 4 == 0
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.mels, other.mels, atol=0.51 * HEARD_STEP)
    labels = back[0].labels
    assert (labels[:20] == SILENCE).all()
    assert (labels[70:120] == CLOSED).all()
    assert (labels[120:] == SILENCE).all()


def test_equal_seeds_say_equal_things() -> None:
    for language in WORDS:
        assert len(WORDS[language].split()) >= 40
        one, other, third = (sentence(language, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert one == other != third
        assert one[-1] in ".!?"


def test_voices_for_scores_are_no_training_voices() -> None:
    speakers = [*espeak_speakers(espeak_say), *diphone_speakers()]
    kept = {one.voice for one in speakers if one.held_out}
    assert not kept & {one.voice for one in speakers if not one.held_out}
    assert {one.language for one in speakers if one.held_out} == set(WORDS)
    assert len(WORDS) >= 8


def test_espeak_is_closed_where_its_sound_is_weak(tmp_path: Path) -> None:
    """The stops' times are right: the power above 1 kHz is least where labels say closed."""
    few = [one for one in espeak_speakers(espeak_say) if one.voice in {"en-us+m1", "it+m1", "de+m3"}]
    assert len(few) == 3
    made = make_set(tmp_path / "s.safetensors", few, seed=3, seconds=5.0, on_progress=quiet)
    mels = np.concatenate([one.mels for one in made]).astype(np.float64)
    labels = np.concatenate([one.labels for one in made])
    high, closed = np.log(np.exp(mels[:, 25:]).sum(1)), labels == CLOSED
    weak = {late: float(high[np.roll(closed, late)].mean()) for late in (-6, -4, 0, 4, 6)}
    assert min(weak, key=lambda late: weak[late]) == 0
    assert weak[0] < high[(labels != SILENCE) & ~closed].mean() - 0.5


def test_the_whole_set_says_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.synthetic_speech.DIPHONE_VOICES", {})
    monkeypatch.setattr("export.synthetic_speech.WORDS", {"en": WORDS["en"]})
    report = write_speech_set(tmp_path / "s.safetensors", espeak_say, seed=0, seconds=1.0, on_progress=quiet)
    assert (report.languages, report.voices, report.held_out_voices, report.diphone_voices) == (1, 2, 1, 0)
    assert report.minutes == pytest.approx(
        sum(len(u.labels) for u in read_speech(tmp_path / "s.safetensors")) / 6000
    )
    assert 0.03 < report.closed_share < 0.3


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with pytest.raises(InputError, match="speech set"):
        read_speech(path)
    save_file({"a": np.zeros(1, np.float32)}, path, {"format": "livedub-speech-set", "version": "0"})
    with pytest.raises(InputError, match="version 1"):
        read_speech(path)
    about = {"format": "livedub-speech-set", "version": "1", "utterances": json.dumps([{"language": "en"}])}
    save_file({"a": np.zeros(1, np.float32)}, path, about)
    with pytest.raises(InputError, match="speech set"):
        read_speech(path)
    with pytest.raises(OutputError, match="cannot write"):
        write_speech(tmp_path / "absent" / "s.safetensors", [])
