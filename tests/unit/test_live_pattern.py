import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.live import pattern
from benchmarks.live.network import CASES, Case, Gate


@given(st.integers(0, (1 << pattern.BITS) - 1), st.booleans(), st.integers(0, 40))
def test_a_number_is_read_back_through_noise(number: int, flash: bool, noise: int) -> None:
    luma = np.random.default_rng(1).integers(0, 255, (720, 1280), dtype=np.uint8)
    pattern.draw(luma, number, flash=flash)
    worn = luma.astype(int) + np.random.default_rng(2).integers(-noise - 1, noise + 1, luma.shape)
    assert pattern.read(worn.clip(0, 255).astype(np.uint8)) == number


def test_a_picture_without_a_number_has_none() -> None:
    assert pattern.read(np.zeros((720, 1280), np.uint8)) is None
    assert pattern.read(np.full((720, 100), 255, np.uint8)) is None


def test_beeps_are_found_and_speech_is_not_taken_for_one() -> None:
    speech = np.random.default_rng(0).normal(0, 0.3, 5 * pattern.SOUND_RATE_HZ).astype(np.float32)
    found = pattern.beeps_in(pattern.with_beeps(speech))
    assert len(found) == 5
    assert np.abs(np.diff(found) - pattern.SOUND_RATE_HZ).max() < 10
    assert pattern.beeps_in(speech * 0.1 / np.abs(speech).max()) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_line_does_what_its_case_says(case: Case) -> None:
    line = case.forth
    gate, out = Gate(line, random.Random(3)), []
    for k in range(5000):
        leaves = gate.admit(k * 0.004, 1200)
        if leaves is not None:
            out.append((k * 0.004, leaves))
    delays_ms = np.array([1000 * (leaves - came) for came, leaves in out])
    assert abs(gate.lost / 5000 - line.loss) < 0.01
    assert delays_ms.min() >= line.delay_ms - 1e-6
    assert np.diff([leaves for _, leaves in out]).min() >= 0
    if line.rate_bps:
        rate = 8 * 1200 * len(out) / (out[-1][1] - out[0][1])
        assert rate == pytest.approx(line.rate_bps, rel=0.02)
        assert gate.dropped > 0
        assert delays_ms.max() <= line.delay_ms + line.queue_ms + 10
    else:
        assert delays_ms.max() <= line.delay_ms + line.jitter_ms + 50
