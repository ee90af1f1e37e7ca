import sys

import numpy as np
import pytest

from engine.arrays import F32
from engine.audio.vad import Hysteresis, SpeechDetector, SpeechGate
from engine.errors import BackendUnavailable


def voice(duration_s: float) -> F32:
    """A buzz at 120 Hz through two formants that move: what a vowel is to the detector."""
    count = int(duration_s * 16_000)
    t = np.arange(count) / 16_000
    source = (np.diff(np.floor(t * (120 + 10 * np.sin(2 * np.pi * 3 * t))), prepend=0) > 0).astype(np.float64)
    y = np.zeros(count)
    for centre_hz in (600 + 200 * np.sin(2 * np.pi * 2 * t), 1400 + 400 * np.sin(2 * np.pi * 1.5 * t)):
        band = np.zeros(count)
        for i in range(2, count):
            pole = 0.97 * np.cos(2 * np.pi * centre_hz[i] / 16_000)
            band[i] = source[i] + 2 * pole * band[i - 1] - 0.97**2 * band[i - 2]
        y += band
    return np.asarray(0.5 * y / np.abs(y).max(), np.float32)


def hiss(duration_s: float) -> F32:
    random = np.random.default_rng(0)
    return (random.standard_normal(int(duration_s * 16_000)) * 3e-4).astype(np.float32)


def flags(text: str) -> F32:
    return np.array([[character == "#" for character in text]], np.float32)


def test_a_voice_is_speech_and_hiss_is_not() -> None:
    assert SpeechDetector().detect(voice(1.0)).mean() > 0.9
    assert SpeechDetector().detect(hiss(1.0)).mean() == 0
    assert SpeechDetector().detect(np.zeros(1600, np.float32)).mean() == 0


def test_the_gate_opens_with_the_voice_and_closes_after_it() -> None:
    sound = np.concatenate([hiss(0.5), voice(1.0), hiss(1.0)])
    gate = SpeechGate(attack_ms=30, release_ms=200).push(sound)
    assert gate.dtype == np.float32
    assert gate.shape == (250,)
    assert set(np.unique(gate)) == {0.0, 1.0}
    opened, closed = int(np.argmax(gate)), 250 - int(np.argmax(gate[::-1]))
    assert 50 <= opened <= 58
    assert 165 <= closed <= 185
    assert gate[opened:closed].all()


def test_any_cut_gives_the_same_gate() -> None:
    sound = np.concatenate([hiss(0.2), voice(0.5), hiss(0.3)])
    whole, gate = SpeechGate().push(sound), SpeechGate()
    pieces = [gate.push(sound[start : start + 480]) for start in range(0, sound.size, 480)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize(
    ("given", "gate"),
    [
        ("....####....", "......####.."),
        ("##.##.##.##.", "............"),
        ("#####.#####.", "..##########"),
        ("####...#....", "..####......"),
    ],
)
def test_hysteresis(given: str, gate: str) -> None:
    y = Hysteresis(attack_ms=30, release_ms=30).offline(flags(given))
    assert "".join("#" if flag else "." for flag in y[0]) == gate


def test_attack_and_release_of_one_step_pass_flags_through() -> None:
    given = flags("#.##..#")
    np.testing.assert_array_equal(Hysteresis(10, 10).offline(given), given)


@pytest.mark.parametrize("duration_ms", [0, -10, 15])
def test_durations_are_multiples_of_a_step(duration_ms: int) -> None:
    with pytest.raises(ValueError, match="multiple of 10"):
        Hysteresis(attack_ms=duration_ms)
    with pytest.raises(ValueError, match="multiple of 10"):
        Hysteresis(release_ms=duration_ms)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="aggressiveness = 4"):
        SpeechDetector(4)
    with pytest.raises(ValueError, match="not a whole number of 160"):
        SpeechDetector().detect(np.zeros(161, np.float32))
    with pytest.raises(TypeError, match="float32"):
        SpeechDetector().detect(np.zeros(160))  # type: ignore[arg-type]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(BackendUnavailable, match="pip install webrtcvad-wheels"):
        SpeechDetector()
