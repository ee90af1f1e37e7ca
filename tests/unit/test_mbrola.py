import numpy as np
import pytest

from engine.errors import BackendUnavailable
from export import mbrola
from export.phones import Phone

NOTES = """; a comment
p_h\t105
A\t92\t 0 100 80 90
y\t50;
_\t0
_ 10
"""


def test_notes_are_names_and_durations() -> None:
    phones = mbrola.read_notes(NOTES, {"y": "j"})
    assert [(one.name, round(one.start_s, 3), round(one.end_s, 3)) for one in phones] == [
        ("p_h", 0.0, 0.105),
        ("A", 0.105, 0.197),
        ("j", 0.197, 0.247),
        ("_", 0.247, 0.257),
    ]
    assert phones[0].closes
    assert phones[-1].silent


def test_voices_that_are_not_there_are_told() -> None:
    assert not mbrola.installed("xx9")
    with pytest.raises(BackendUnavailable, match="mbrola-xx9"):
        mbrola.say("hello", "xx9", 150)


@pytest.mark.skipif(not mbrola.installed("us1"), reason="needs espeak-ng, mbrola and mbrola-us1")
def test_lips_are_closed_where_the_sound_is_weak() -> None:
    samples, phones = mbrola.say("Papa, a happy pepper.", "us1", 150)
    assert phones[-1].end_s == pytest.approx(len(samples) / 16_000, abs=0.03)
    power = np.diff(samples) ** 2

    def level(phone: Phone) -> float:
        return float(power[int(phone.start_s * 16_000) : int(phone.end_s * 16_000)].mean())

    stops = [level(one) for one in phones if one.name.startswith("p")]
    vowels = [level(one) for one in phones if one.name in {"A", "@", "i", "E", "{"}]
    assert np.median(stops) < 0.1 * np.median(vowels)
