"""The shipped audio-to-expression network through the streaming contract, whatever it has learned."""

from fractions import Fraction

import numpy as np
import pytest

from engine.arrays import F32
from engine.expression.audio import (
    LOOK_AHEADS_MS,
    MEL_BANDS,
    MELS_PER_STEP,
    SILENCE,
    STYLE_SIZE,
    AudioToExpression,
    step_time_ms,
)
from engine.face.model import load_face_model
from tests.support.contract import verify_contract

STEPS = 8


def mels(rows: int = 2, steps: int = STEPS, seed: int = 0) -> F32:
    rng = np.random.default_rng(seed)
    return rng.normal(-5, 2.5, (rows, MELS_PER_STEP * steps, MEL_BANDS)).astype(np.float32)


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS)
def test_keeps_the_contract(look_ahead_ms: int) -> None:
    verify_contract(AudioToExpression(look_ahead_ms), mels(), atol=2e-5)


def test_openvino_keeps_it_too() -> None:
    verify_contract(AudioToExpression(120, backend="openvino"), mels(steps=4), atol=2e-5)


def test_backends_agree() -> None:
    one, other = (
        AudioToExpression(120, backend=name).offline(mels()) for name in ("onnxruntime", "openvino")
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS)
def test_look_ahead_is_the_latency(look_ahead_ms: int) -> None:
    model = AudioToExpression(look_ahead_ms)
    assert model.spec.latency * 10 == look_ahead_ms
    assert model.spec.output_ratio == Fraction(1, 4)
    y = model.offline(mels())
    assert y.shape == (2, STEPS, load_face_model().expressions)
    assert y.dtype == np.float32
    assert [step_time_ms(k, look_ahead_ms) for k in (0, 9)] == [40 - look_ahead_ms, 400 - look_ahead_ms]


def test_sound_and_style_matter() -> None:
    plain = AudioToExpression(120)
    assert np.abs(plain.offline(mels()) - plain.offline(mels(seed=1))).max() > 1e-3
    average = AudioToExpression(120, np.zeros(STYLE_SIZE, np.float32))
    np.testing.assert_array_equal(average.offline(mels()), plain.offline(mels()))


def test_rows_of_a_batch_may_have_styles_of_their_own() -> None:
    average, same_words = AudioToExpression(120), np.repeat(mels(1), 2, 0)
    styles = np.stack([np.zeros(STYLE_SIZE), np.full(STYLE_SIZE, 0.3)]).astype(np.float32)
    both = average.with_style(styles).offline(same_words)
    alone = average.with_style(styles[1]).offline(same_words[:1])
    np.testing.assert_allclose(both[1], alone[0], atol=2e-5)
    np.testing.assert_allclose(both[0], average.offline(same_words)[0], atol=2e-5)
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_fresh_state_is_silence() -> None:
    state = AudioToExpression(0).initial_state(3)
    assert {array.shape[0] for array in state.values()} == {3}
    assert (state["mel_history"] == np.float32(SILENCE)).all()


@pytest.mark.parametrize("look_ahead_ms", [-1, 40, 121, 1000])
def test_unknown_look_ahead_is_refused(look_ahead_ms: int) -> None:
    with pytest.raises(ValueError, match="look-ahead must be one of"):
        AudioToExpression(look_ahead_ms)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (np.zeros((1, 4, 79), np.float32), ValueError),
        (np.zeros((1, 5, MEL_BANDS), np.float32), ValueError),
        (np.zeros((1, 4, MEL_BANDS)), TypeError),
    ],
)
def test_wrong_input_is_refused(wrong: np.ndarray, error: type[Exception]) -> None:
    model = AudioToExpression(0)
    with pytest.raises(error):
        model.step(wrong, model.initial_state(1))
