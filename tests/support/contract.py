"""The one check that every Steppable must pass; its clauses are the rules of `engine.steppable`."""

import numpy as np

from engine.arrays import Array
from engine.steppable import State, Steppable, run_steps


def verify_contract(model: Steppable, x: Array, *, atol: float = 0.0, rtol: float = 0.0) -> None:
    """Raise AssertionError, naming the clause, unless `model` keeps the contract on `x`.

    Args:
        model: what is checked.
        x: float [B >= 2, n * block_size, ...] with n >= 4 blocks, finite.
        atol: largest allowed absolute difference between two ways to the same output.
        rtol: the same, relative.
    """
    blocks = model.spec.blocks_in(x.shape[1])
    assert x.shape[0] >= 2, "the check needs two rows and four blocks"
    assert blocks >= 4, "the check needs two rows and four blocks"
    _check_state_and_purity(model, x)
    _check_length(model, x)
    _check_steps_equal_offline(model, x, atol, rtol)
    _check_causality(model, x, atol, rtol)
    _check_receptive_field(model, x, atol, rtol)
    _check_rows_are_strangers(model, x, atol, rtol)


def _check_length(model: Steppable, x: Array) -> None:
    spec = model.spec
    for length in (spec.block_size, 3 * spec.block_size, x.shape[1]):
        y = model.offline(x[:, :length])
        want = (x.shape[0], length * spec.output_ratio)
        assert y.shape[:2] == want, f"output length: {y.shape[:2]} for {length} steps in, expected {want}"


def _check_steps_equal_offline(model: Steppable, x: Array, atol: float, rtol: float) -> None:
    whole = model.offline(x)
    blocks = model.spec.blocks_in(x.shape[1])
    for blocks_per_step in (1, 2, 3, blocks):
        _same(
            f"stepwise != offline at {blocks_per_step} blocks a step",
            run_steps(model, x, blocks_per_step),
            whole,
            atol,
            rtol,
        )
    _same("stepwise != offline at uneven cuts", _uneven_steps(model, x), whole, atol, rtol)


def _uneven_steps(model: Steppable, x: Array) -> Array:
    size = model.spec.block_size
    random = np.random.default_rng(0)
    state = model.initial_state(x.shape[0])
    parts: list[Array] = []
    start = 0
    while start < x.shape[1]:
        stop = start + size * int(random.integers(1, 4))
        y, state = model.step(x[:, start:stop], state)
        parts.append(y)
        start = stop
    return np.concatenate(parts, axis=1)


def _check_state_and_purity(model: Steppable, x: Array) -> None:
    size = model.spec.block_size
    state = model.initial_state(x.shape[0])
    first = _structure(state)
    for name, array in state.items():
        assert array.shape[:1] == x.shape[:1], f"state {name!r} has no leading batch axis: {array.shape}"
    for start in (0, size, 2 * size):
        block = x[:, start : start + size].copy()
        given, kept = {name: array.copy() for name, array in state.items()}, block.copy()
        y, following = model.step(block, given)
        again, _ = model.step(block, given)
        assert np.array_equal(block, kept), "step wrote its input"
        assert given.keys() == state.keys(), "step wrote its state"
        assert all(np.array_equal(given[k], state[k], equal_nan=True) for k in state), "step wrote its state"
        assert np.array_equal(y, again, equal_nan=True), "step is no function of its arguments"
        assert _structure(following) == first, f"state structure: {first} became {_structure(following)}"
        before = {name: array.copy() for name, array in following.items()}
        block.fill(np.nan)
        for array in given.values():
            array.fill(0)
        assert all(np.array_equal(before[k], following[k], equal_nan=True) for k in before), (
            "the next state shares memory with the arguments of step"
        )
        state = following
    whole = x.copy()
    model.offline(whole)
    assert np.array_equal(whole, x), "offline wrote its input"


def _check_causality(model: Steppable, x: Array, atol: float, rtol: float) -> None:
    whole = model.offline(x)
    spec = model.spec
    for cut in range(1, spec.blocks_in(x.shape[1])):
        poisoned = x.copy()
        poisoned[:, cut * spec.block_size :] = np.nan
        y = model.offline(poisoned)[:, : cut * spec.output_block]
        _same(f"causality: block {cut} reached earlier output", y, whole[:, : y.shape[1]], atol, rtol)


def _check_receptive_field(model: Steppable, x: Array, atol: float, rtol: float) -> None:
    spec = model.spec
    if spec.receptive_field is None:
        return
    poisoned = x.copy()
    poisoned[:, : max(x.shape[1] - spec.receptive_field, 0)] = np.nan
    whole, y = model.offline(x), model.offline(poisoned)
    last = slice(whole.shape[1] - spec.output_block, None)
    _same("receptive field is larger than declared", y[:, last], whole[:, last], atol, rtol)


def _check_rows_are_strangers(model: Steppable, x: Array, atol: float, rtol: float) -> None:
    whole = model.offline(x)
    poisoned = x.copy()
    poisoned[1:] = np.nan
    _same("batch rows: a NaN row reached its neighbour", model.offline(poisoned)[:1], whole[:1], atol, rtol)
    stepped = run_steps(model, poisoned, 1)[:1]
    _same("batch rows: a NaN row reached its neighbour in a step", stepped, whole[:1], atol, rtol)
    alone = run_steps(model, x[:1], 1)
    _same("batch rows: the result depends on the batch it rode in", alone, whole[:1], atol, rtol)


def _structure(state: State) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (array.shape, str(array.dtype)) for name, array in state.items()}


def _same(clause: str, got: Array, want: Array, atol: float, rtol: float) -> None:
    assert got.shape == want.shape, f"{clause}: shape {got.shape}, expected {want.shape}"
    assert np.isfinite(got).all(), f"{clause}: {np.count_nonzero(~np.isfinite(got))} values not finite"
    worst = float(np.max(np.abs(got.astype(np.float64) - want), initial=0.0))
    assert np.allclose(got, want, atol=atol, rtol=rtol), (
        f"{clause}: differs by {worst:.3g} ({atol = }, {rtol = })"
    )
