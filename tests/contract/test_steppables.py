"""Each Steppable of the audio front end through the contract; the contract through models that break it."""

from fractions import Fraction

import numpy as np
import pytest

from engine.arrays import Array
from engine.audio.logmel import LogMel
from engine.audio.resample import Resampler
from engine.audio.vad import Hysteresis
from engine.steppable import State, Steppable, StepSpec, run_steps
from tests.support.contract import verify_contract


class Leaky:
    """A correct Steppable, y[t] = 0.5 y[t-1] + x[t], from which the faulty ones are made."""

    def __init__(self, receptive_field: int | None = None) -> None:
        self._spec = StepSpec(4, Fraction(1), 0, receptive_field)

    @property
    def spec(self) -> StepSpec:
        return self._spec

    def initial_state(self, batch: int) -> State:
        return {"y": np.zeros((batch, 1), np.float64)}

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        y = np.empty_like(x)
        last = state["y"][:, 0]
        for t in range(x.shape[1]):
            last = 0.5 * last + x[:, t]
            y[:, t] = last
        return y, {"y": last[:, None].copy()}

    def offline(self, x: Array) -> Array:
        return run_steps(self, x, 4096)


class HalfPrecisionState(Leaky):
    def step(self, x: Array, state: State) -> tuple[Array, State]:
        y, state = super().step(x, state)
        return y, {"y": state["y"].astype(np.float16).astype(np.float64)}


class WholeClipNormalisation(Leaky):
    def offline(self, x: Array) -> Array:
        y: Array = super().offline(x)
        return np.asarray(y - y.mean(axis=1, keepdims=True))


class LooksAheadEverywhere(WholeClipNormalisation):
    """Normalises in `step` too, so that one step over everything equals offline."""

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        y, state = super().step(x, state)
        return np.asarray(y - y.mean(axis=1, keepdims=True)), state

    def offline(self, x: Array) -> Array:
        return run_steps(self, x, 4096)


class MixesRows(Leaky):
    def step(self, x: Array, state: State) -> tuple[Array, State]:
        return super().step(x + 1e-3 * x.mean(axis=0, keepdims=True), state)


class WritesItsInput(Leaky):
    def step(self, x: Array, state: State) -> tuple[Array, State]:
        y, following = super().step(x, state)
        x[:] = 0
        return y, following


class WritesItsState(Leaky):
    def step(self, x: Array, state: State) -> tuple[Array, State]:
        y, following = super().step(x, state)
        state["y"][:] = following["y"]
        return y, following


class AliasesItsInput(Leaky):
    def initial_state(self, batch: int) -> State:
        return super().initial_state(batch) | {"last": np.zeros((batch, 4), np.float64)}

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        y, following = super().step(x, state)
        return y, following | {"last": x[:, -4:]}


class GrowsItsState(Leaky):
    def step(self, x: Array, state: State) -> tuple[Array, State]:
        y, following = super().step(x, state)
        return y, following | {"y": np.concatenate([state["y"][:, -1:], following["y"]], axis=1)[:, -2:]}


class HiddenState(Leaky):
    calls = 0

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        self.calls += 1
        y, state = super().step(x, state)
        return y + 1e-3 * (self.calls % 7), state


class DropsTheEnd(Leaky):
    def offline(self, x: Array) -> Array:
        return super().offline(x)[:, :-1]


def noise(rows: int, steps: int) -> Array:
    return np.random.default_rng(0).standard_normal((rows, steps))


def test_a_correct_model_passes() -> None:
    verify_contract(Leaky(), noise(2, 24))


@pytest.mark.parametrize(
    ("model", "clause"),
    [
        (HalfPrecisionState(), "stepwise != offline"),
        (WholeClipNormalisation(), "stepwise != offline"),
        (LooksAheadEverywhere(), "stepwise != offline"),
        (MixesRows(), "batch rows"),
        (WritesItsInput(), "wrote its input"),
        (WritesItsState(), "wrote its state"),
        (AliasesItsInput(), "shares memory"),
        (GrowsItsState(), "state structure"),
        (HiddenState(), "no function of its arguments"),
        (DropsTheEnd(), "output length"),
        (Leaky(receptive_field=4), "receptive field"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Leaky) else None,
)
def test_the_contract_catches(model: Steppable, clause: str) -> None:
    with pytest.raises(AssertionError, match=clause):
        verify_contract(model, noise(2, 24))


def test_the_contract_catches_look_ahead_that_both_ways_share() -> None:
    class Peeks(Leaky):
        """Its step is right; its offline is right on finite input and reads the future all the same."""

        def offline(self, x: Array) -> Array:
            return np.asarray(super().offline(x) + 0.0 * x.sum(axis=1, keepdims=True))

    with pytest.raises(AssertionError, match="causality"):
        verify_contract(Peeks(), noise(2, 24), atol=1e-12)


def test_log_mel() -> None:
    x = (np.random.default_rng(1).standard_normal((3, 160 * 9)) * 0.2).astype(np.float32)
    verify_contract(LogMel(), x)


@pytest.mark.parametrize(
    ("source_hz", "target_hz"),
    [
        (48_000, 16_000),
        (44_100, 16_000),
        (22_050, 16_000),
        (8_000, 16_000),
        (16_000, 48_000),
        (16_000, 16_000),
    ],
)
def test_resampler(source_hz: int, target_hz: int) -> None:
    model = Resampler(source_hz, target_hz)
    x = (np.random.default_rng(2).standard_normal((2, 7 * model.spec.block_size)) * 0.3).astype(np.float32)
    verify_contract(model, x)


def test_hysteresis() -> None:
    x = (np.random.default_rng(3).random((3, 60)) < 0.7).astype(np.float32)
    verify_contract(Hysteresis(attack_ms=30, release_ms=40), x)


@pytest.mark.parametrize(
    ("block_size", "ratio", "latency", "receptive_field"),
    [
        (0, Fraction(1), 0, 1),
        (3, Fraction(1, 2), 0, 1),
        (2, Fraction(0), 0, 1),
        (2, Fraction(1), -1, 1),
        (2, Fraction(1), 0, 0),
    ],
)
def test_a_spec_that_cannot_be_stepped_is_refused(
    block_size: int, ratio: Fraction, latency: int, receptive_field: int
) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        StepSpec(block_size, ratio, latency, receptive_field)


def test_a_spec_counts_blocks() -> None:
    spec = StepSpec(441, Fraction(160, 441), 10, 400)
    assert spec.output_block == 160
    assert spec.blocks_in(882) == 2
    with pytest.raises(ValueError, match="not a whole number of blocks"):
        spec.blocks_in(883)


def test_run_steps_refuses_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to step"):
        run_steps(Leaky(), noise(1, 0), 1)
    with pytest.raises(ValueError, match="nothing to step"):
        run_steps(Leaky(), noise(1, 4), 0)
