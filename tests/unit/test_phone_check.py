import numpy as np
import pytest

from engine.audio.logmel import LogMel
from engine.media import read_audio
from export.phone_check import belong, vowels_are_loud
from export.phones import Phone, phones_beside, read_phones
from tests.support.data import data_file

PHONES = [Phone("AA1", 0.1, 0.3), Phone("t", 0.3, 0.4), Phone("ɪ", 0.4, 0.6), Phone("sil", 0.6, 0.9)]


def spoken(late_s: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    mels = rng.normal(-6, 1, (100, 80)).astype(np.float32)
    for phone in (PHONES[0], PHONES[2]):
        mels[round((phone.start_s + late_s) * 100) : round((phone.end_s + late_s) * 100)] += 5
    return mels


def test_vowels_that_are_loud_belong_even_if_slightly_late() -> None:
    for late_s in (0.0, 0.02):
        assert vowels_are_loud(PHONES, spoken(late_s)) == pytest.approx(1.0)
        assert belong(PHONES, spoken(late_s))


def test_other_times_do_not_belong() -> None:
    assert not belong(PHONES, spoken(0.3))
    noise = np.random.default_rng(1).normal(size=(100, 80)).astype(np.float32)
    share = vowels_are_loud(PHONES, noise)
    assert share == pytest.approx(0.5, abs=0.15)


def test_without_vowels_nothing_belongs() -> None:
    assert vowels_are_loud(PHONES[1:2], spoken(0.0)) is None
    assert not belong([], spoken(0.0))


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("en_arctic_a0009", True),
        ("en_mfa_cold_corpus", True),
        ("en_sb_spk1_1", False),
        ("en_sb_spk2_2", False),
    ],
)
def test_of_real_times_some_were_never_aligned(name: str, fits: bool) -> None:
    path = data_file(f"audio/{name}.wav")
    beside = phones_beside(path)
    assert beside is not None
    samples = read_audio(path)
    mels = LogMel().offline(samples[None, : len(samples) // 160 * 160])[0]
    assert belong(read_phones(beside), mels) is fits
