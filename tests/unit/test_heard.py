import numpy as np
import pytest

from engine.arrays import F64
from engine.audio.logmel import LogMel
from export.heard import heard, in_room, lost_packets, pitched, with_noise
from tests.support.voice import voice


def sweep_bursts() -> F64:
    """Half a second of tone, three times, with silence between."""
    said = voice(3.0).astype(np.float64)
    gate = (np.arange(len(said)) % 16_000) < 8_000
    return np.asarray(said * gate, np.float64)


def loudness(samples: F64) -> F64:
    mels = LogMel().offline(samples.astype(np.float32)[None])[0]
    return np.asarray(mels.mean(1), np.float64)


def pitch_hz(samples: F64) -> float:
    middle = samples[20_000:22_048]
    r = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    return 16_000 / (50 + int(r[50:320].argmax()))


@pytest.mark.parametrize("semitones", [-4.0, 0.0, 4.0])
def test_pitch_moves_and_time_does_not(semitones: float) -> None:
    said = voice(3.0).astype(np.float64)
    moved = pitched(said, semitones)
    assert moved.shape == said.shape
    assert pitch_hz(moved) / pitch_hz(said) == pytest.approx(2 ** (semitones / 12), rel=0.05)
    before, after = loudness(sweep_bursts()), loudness(pitched(sweep_bursts(), semitones))
    agree = [np.corrcoef(before[20:-20], after[20 + k : len(after) - 20 + k])[0, 1] for k in range(-5, 6)]
    assert abs(int(np.argmax(agree)) - 5) <= 1
    assert max(agree) > 0.9


def test_a_room_rings_on_and_begins_with_the_direct_sound() -> None:
    click = np.zeros(16_000)
    click[1_000] = 1
    room = in_room(click, np.random.default_rng(0), decay_s=0.5, wet_db=-6)
    assert not np.abs(room[:999]).max() > 1e-9
    assert int(np.abs(room).argmax()) == 1_000
    assert not np.abs(room[1_001:1_039]).max() > 1e-9
    early, late = room[1_040:2_600], room[7_000:8_600]
    assert 10 * np.log10((early**2).sum() / (late**2).sum()) > 20
    assert np.sqrt((room**2).mean()) == pytest.approx(np.sqrt((click**2).mean()), rel=1e-6)


def test_noise_is_as_far_below_as_is_asked() -> None:
    said = voice(1.0).astype(np.float64)
    noise = with_noise(said, np.random.default_rng(1), snr_db=10) - said
    assert 10 * np.log10((said**2).mean() / (noise**2).mean()) == pytest.approx(10, abs=0.01)


def test_packets_are_lost_in_bursts_as_often_as_is_asked() -> None:
    lost = lost_packets(20_000, 0.05, np.random.default_rng(0))
    assert len(lost) / 20_000 == pytest.approx(0.05, abs=0.01)
    bursts = sum(index - 1 not in lost for index in lost)
    assert len(lost) / bursts == pytest.approx(2, abs=0.3)
    assert lost_packets(100, 0.0, np.random.default_rng(0)) == set()


def test_everything_together_keeps_length_and_timing() -> None:
    said = sweep_bursts().astype(np.float32)
    before = loudness(said.astype(np.float64))
    rng = np.random.default_rng(5)
    for _ in range(8):
        other = heard(said, rng)
        assert other.shape == said.shape
        assert other.dtype == np.float32
        assert np.abs(other).max() <= 1
        after = loudness(other.astype(np.float64))
        agree = [np.corrcoef(before[20:-20], after[20 + k : len(after) - 20 + k])[0, 1] for k in range(-5, 6)]
        assert abs(int(np.argmax(agree)) - 5) <= 2
        assert np.abs(after - before).mean() > 0.1


def test_equal_seeds_are_heard_equally() -> None:
    one, other = (heard(voice(1.0), np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
