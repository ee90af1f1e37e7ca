import numpy as np
import pytest

from engine.expression.manner import Manner
from engine.face.model import aperture, load_face_model

MODEL = load_face_model()
OPENING = aperture(MODEL.basis).astype(np.float32)


def a_manner(widening: float = 0.3) -> Manner:
    """Opens the lips 1.3 times as far, and smiles at nothing."""
    jaw = np.asarray(MODEL.jaw_open / (OPENING @ MODEL.jaw_open), np.float32)
    hold = np.random.default_rng(3).normal(0, 0.2, MODEL.expressions).astype(np.float32)
    rows = np.stack([widening * jaw, hold - (hold @ OPENING) * jaw]).astype(np.float32)
    return Manner.of(rows, MODEL)


def speech(frames: int = 7) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.3, (frames, MODEL.expressions)).astype(np.float32)


def test_lips_open_further_and_closed_lips_stay_closed() -> None:
    said = speech()
    np.testing.assert_allclose(a_manner().apply(said) @ OPENING, 1.3 * (said @ OPENING), atol=1e-5)
    closed = said[0] - (said[0] @ OPENING) * np.asarray(MODEL.jaw_open / (OPENING @ MODEL.jaw_open))
    assert a_manner().apply(closed.astype(np.float32)) @ OPENING == pytest.approx(0, abs=1e-5)


def test_rest_stays_rest_and_the_hold_comes_with_the_voice() -> None:
    manner, rest = a_manner(), np.zeros(MODEL.expressions, np.float32)
    assert not manner.apply(rest, 0.0).any()
    np.testing.assert_allclose(manner.apply(rest, 0.5), manner.hold / 2, rtol=1e-6)


def test_one_expression_is_as_many() -> None:
    manner, said = a_manner(), speech()
    assert manner.apply(said).dtype == np.float32
    np.testing.assert_allclose(manner.apply(said), np.stack([manner.apply(one) for one in said]), atol=1e-6)


def test_the_average_adds_nothing() -> None:
    said = speech()
    np.testing.assert_array_equal(Manner.average(MODEL).apply(said), said)
    assert not Manner.average(MODEL).rows.any()


def test_a_pack_keeps_it() -> None:
    manner = a_manner()
    again = Manner.of(manner.rows, MODEL)
    np.testing.assert_array_equal(again.apply(speech()), manner.apply(speech()))


def test_damage_is_refused() -> None:
    rows = a_manner().rows
    with pytest.raises(ValueError, match="manner"):
        Manner.of(rows[:, 1:], MODEL)
    with pytest.raises(TypeError, match="manner"):
        Manner.of(rows.astype(np.float64), MODEL)
    rows[1] += OPENING
    with pytest.raises(ValueError, match="opens the lips"):
        Manner.of(rows, MODEL)
