from collections.abc import Callable, Sequence

import numpy as np
import pytest

from engine.arrays import Array
from engine.backends.network import CheckedNetwork, TensorSpec, library_errors
from engine.errors import BackendError

F32 = np.dtype(np.float32)
SPEC = TensorSpec("x", (1, None), F32)


class Doubler(CheckedNetwork):
    """Hands out one buffer of its own again and again, as inference libraries do."""

    def __init__(self) -> None:
        super().__init__("doubler", "f32", [SPEC], [TensorSpec("y", (1, None), F32)])
        self.seen: list[Array] = []
        self._buffer: Array = np.zeros((1, 0), np.float32)

    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        self.seen.append(feeds["x"])
        self._buffer = np.resize(self._buffer, feeds["x"].shape)
        self._buffer[:] = feeds["x"] * 2
        return [self._buffer]


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def test_results_are_copies() -> None:
    network = Doubler()
    first = network.run({"x": ones(1, 3)})["y"]
    network.run({"x": 5 * ones(1, 3)})
    np.testing.assert_array_equal(first, 2 * ones(1, 3))


def test_feeds_arrive_contiguous() -> None:
    network = Doubler()
    network.run({"x": np.arange(6, dtype=np.float32)[None, ::2]})
    assert network.seen[0].flags.c_contiguous


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"needs input \['x'\]"),
        ({"x": ones(1, 2), "z": ones(1)}, r"no input named \['z'\]"),
        ({"x": ones(2, 2)}, r"'x' must have shape \[1, any\], got \[2, 2\]"),
        ({"x": ones(1)}, r"'x' must have shape \[1, any\], got \[1\]"),
        ({"x": ones(1, 2).astype(np.float64)}, "'x' must be an array of float32, got float64"),
        ({"x": [[1.0]]}, "'x' must be an array of float32, got list"),
    ],
)
def test_wrong_feeds_are_named(feeds: dict[str, Array], message: str) -> None:
    network = Doubler()
    with pytest.raises(ValueError, match=message):
        network.run(feeds)
    assert network.seen == []


def frozen() -> Array:
    array = ones(1, 2)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("z", lambda: ones(1, 2), r"no output named \['z'\]"),
        ("y", lambda: ones(1, 3), r"'y' must be writeable and have shape \[1, 2\], got \[1, 3\]"),
        ("y", lambda: ones(2, 2), r"'y' must have shape \[1, any\]"),
        ("y", lambda: ones(1, 2).astype(np.float16), "'y' must be an array of float32, got float16"),
        ("y", frozen, "'y' must be writeable"),
    ],
)
def test_wrong_out_is_named_and_not_written(name: str, make: Callable[[], Array], message: str) -> None:
    out = make()
    before = out.copy()
    with pytest.raises(ValueError, match=message):
        Doubler().run_into({"x": 4 * ones(1, 2)}, {name: out})
    np.testing.assert_array_equal(out, before)


def test_run_into_writes_strided_memory_in_place() -> None:
    memory = np.zeros((1, 6), np.float32)
    Doubler().run_into({"x": ones(1, 3)}, {"y": memory[:, ::2]})
    np.testing.assert_array_equal(memory, [[2, 0, 2, 0, 2, 0]])


def test_specs_are_ordered_and_read_only() -> None:
    network = Doubler()
    assert list(network.inputs) == ["x"]
    with pytest.raises(TypeError):
        network.inputs["x"] = SPEC  # type: ignore[index]


def test_repr_shows_shapes() -> None:
    assert repr(Doubler()) == "<Network doubler f32 (x: float32 [1, None]) -> (y: float32 [1, None])>"


@pytest.mark.parametrize(("text", "reason"), [("first\n\nlast words\n", "last words"), ("", "RuntimeError")])
def test_library_errors_keep_the_reason(text: str, reason: str) -> None:
    expected = pytest.raises(BackendError, match=f"lib failed while running: {reason}")
    with expected, library_errors("lib", "running", (RuntimeError,)):
        raise RuntimeError(text)


def test_other_errors_pass_through() -> None:
    with pytest.raises(KeyError), library_errors("lib", "running", (RuntimeError,)):
        raise KeyError("a bug of ours")
