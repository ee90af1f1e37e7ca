import numpy as np
import pytest

from export.phone_classes import (
    CENTRAL,
    CLASSES,
    CLOSED,
    LIP_TEETH,
    OPEN,
    OTHER,
    PROTRUDED,
    ROUND,
    SILENCE,
    SPREAD,
    lip_labels,
    lips_in,
)
from export.phones import Phone


@pytest.mark.parametrize(
    ("name", "lips"),
    [
        ("p", (CLOSED,)),
        ("pʰ", (CLOSED,)),
        ("p_h", (CLOSED,)),
        ("m", (CLOSED,)),
        ("ɱ", (LIP_TEETH,)),
        ("pf", (CLOSED, LIP_TEETH)),
        ("v", (LIP_TEETH,)),
        ("w", (ROUND,)),
        ("ˈuː", (ROUND,)),
        ("y:", (ROUND,)),
        ("ˈaʊ", (OPEN, ROUND)),
        ("OI", (ROUND, SPREAD)),
        ("a1", (OPEN,)),
        ("9y", (ROUND,)),
        ("o~", (ROUND,)),
        ("iː", (SPREAD,)),
        ("j", (SPREAD,)),
        ("ə", (CENTRAL,)),
        ("@", (CENTRAL,)),
        ("tʃ", (PROTRUDED,)),
        ("dZ", (PROTRUDED,)),
        ("ts", (OTHER,)),
        ("ʰ", (OTHER,)),
        ("ŋ", (OTHER,)),
    ],
)
def test_sounds_have_lips(name: str, lips: tuple[int, ...]) -> None:
    assert lips_in(name) == lips


def test_labels_are_of_the_middle_of_each_hundredth() -> None:
    phones = [Phone("_", 0.0, 0.02), Phone("aʊ", 0.02, 0.06), Phone("m", 0.06, 0.084), Phone("t", 0.084, 0.2)]
    labels = lip_labels(phones, 12)
    assert labels.dtype == np.uint8
    assert [CLASSES[one] for one in labels] == [
        *["silence"] * 2,
        *["open"] * 2,
        *["round"] * 2,
        *["closed"] * 2,
        *["other"] * 4,
    ]
    assert (lip_labels([], 3) == SILENCE).all()
