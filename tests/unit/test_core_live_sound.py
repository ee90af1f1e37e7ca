import numpy as np
import pytest

from engine.arrays import F32
from engine.audio.blocks import float_from_int16
from streaming.core.convert import SILENCE
from streaming.core.live_sound import LiveSound
from tests.support.live_sim import tone

TONE: F32 = float_from_int16(tone(96_000))


def _play(live: LiveSound, position: int, quanta: int) -> F32:
    return np.concatenate([live.close(position + 960 * n) for n in range(quanta)])


def test_sound_plays_where_it_was_captured_bit_for_bit() -> None:
    live = LiveSound()
    live.push(TONE[:5000], 1000)
    out = _play(live, 0, 5)
    assert not out[:1000].any()
    np.testing.assert_array_equal(out[1000:4800], TONE[:3800])
    assert live.running
    assert live.stalls == 0


def test_between_samples_it_is_interpolated() -> None:
    live = LiveSound()
    live.push(TONE[:9600], 0.5)
    out = _play(live, 0, 9)
    wanted = 8000 / 32_768 * np.sin(2 * np.pi * 440 * (np.arange(out.size) - 0.5) / 48_000)
    assert np.abs(out - wanted)[100:].max() < 2e-4


def test_nothing_is_silence_itself() -> None:
    live = LiveSound()
    assert live.close(0) is SILENCE
    live.push(np.zeros(960, np.float32), 960)
    assert live.close(960) is SILENCE


@pytest.mark.parametrize("shift", [-300, 300])
def test_a_shift_is_corrected_smoothly(shift: int) -> None:
    live = LiveSound()
    out: list[F32] = []
    for n in range(1000):
        begin = (n * 960) % 48_000
        live.push(TONE[begin : begin + 960], n * 960 + (shift if n > 50 else 0))
        out.append(live.close((n - 2) * 960))
    played = np.concatenate(out)
    assert np.abs(np.diff(played)).max() < 0.0145
    cycle = 48_000 / 440
    phase = np.angle(
        np.exp(-2j * np.pi * 440 * np.arange(48_000) / 48_000) @ played[-48_000 - 960 * 48 : -960 * 48]
    )
    moved = (-(phase + np.pi / 2) / (2 * np.pi) * cycle) % cycle
    assert min(abs(moved - shift % cycle), cycle - abs(moved - shift % cycle)) < 2.0


def test_a_gap_of_a_lost_packet_is_silence_of_its_length() -> None:
    live = LiveSound()
    live.push(TONE[:960], 0)
    live.push(TONE[1920:4000], 1920)
    out = _play(live, 0, 4)
    assert not out[1000:1900].any()
    np.testing.assert_array_equal(out[1920:3840], TONE[1920:3840])


def test_late_sound_is_dropped_and_what_follows_is_in_place() -> None:
    live = LiveSound()
    live.push(TONE[:960], 0)
    out = [_play(live, 0, 3)]
    live.push(TONE[960:4800], 960)
    out.append(_play(live, 2880, 2))
    played = np.concatenate(out)
    np.testing.assert_array_equal(played[2880 + 240 : 4800], TONE[2880 + 240 : 4800])
    assert live.late_samples == pytest.approx(1920, abs=4)
    assert live.stalls == 1
    assert np.abs(np.diff(played)).max() < 0.03


def test_repeated_packets_are_ignored_until_the_source_means_it() -> None:
    live = LiveSound()
    live.push(TONE[:9600], 0)
    for _ in range(3):
        live.push(TONE[:960], 0)
    assert live.size == 9600
    for n in range(12):
        live.push(TONE[:960], -48_000 + n * 960)
    assert live.size < 9600


def test_memory_is_bounded() -> None:
    live = LiveSound()
    for n in range(200):
        live.push(TONE[:48_000], n * 48_000)
    assert live.size <= 2 * 48_000


def test_clearing_leaves_silence_and_then_rises() -> None:
    live = LiveSound()
    live.push(TONE[:9600], 0)
    _play(live, 0, 2)
    assert live.clear() == 9600 - 1920
    assert not live.close(1920).any()
    live.push(np.ones(19_200, np.float32), 9600)
    out = _play(live, 9600, 2)
    assert out[0] == 0
    assert out[240:].min() > 0.99
