from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from engine.arrays import Array
from engine.backends import load_network
from engine.backends.cuda.audio import AudioGraph
from engine.backends.cuda.slots import SLOTS
from engine.backends.network import TensorSpec
from engine.errors import BackendError
from engine.expression.audio import LOOK_AHEADS_MS, AudioToExpression, shipped_model
from tests.support.fake_cuda import FREE, MADE, FakeDriver, failing_at, failing_from
from tests.support.fake_network import FakeNetwork, on_cpu

ROWS = 3
INITIAL = {"sum": np.array([10.0, 20.0], np.float32), "count": np.zeros((), np.float32)}


def add_up(feeds: Mapping[str, Array]) -> dict[str, Array]:
    total, count = feeds["sum"] + feeds["x"], feeds["count"] + 1
    return {"mean": total / count[:, None], "next_sum": total, "next_count": count}


def specs(*shapes: tuple[str, tuple[int | None, ...]]) -> list[TensorSpec]:
    return [TensorSpec(name, shape, np.dtype(np.float32)) for name, shape in shapes]


def adder(
    driver: FakeDriver, outputs: Sequence[tuple[str, tuple[int | None, ...]]] | None = None
) -> FakeNetwork:
    pair, one = (ROWS, 2), (ROWS,)
    made = outputs or (("mean", pair), ("next_sum", pair), ("next_count", one))
    return FakeNetwork(driver, specs(("x", pair), ("sum", pair), ("count", one)), specs(*made), add_up)


@pytest.fixture
def driver() -> Iterator[FakeDriver]:
    driver = FakeDriver()
    yield driver
    assert driver.violations == []


def opened(driver: FakeDriver) -> AudioGraph:
    return AudioGraph(driver, adder(driver), INITIAL)


def step(graph: AudioGraph, x: float, rows: list[int] | None = None) -> Array:
    slot = graph.begin()
    slot.inputs["x"][:] = x
    graph.submit(slot, rows)
    graph.finish(slot)
    return slot.outputs["mean"].copy()


class TestState:
    def test_it_goes_from_step_to_step_on_the_device(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        start = len(driver.calls)
        means = np.stack([step(graph, x)[0] for x in (2.0, 4.0, 6.0)])
        np.testing.assert_allclose(means, [[12.0, 22.0], [8.0, 13.0], [22 / 3, 32 / 3]], rtol=1e-6)
        assert not {"download", "upload"} & set(driver.log[start:])

    def test_warming_up_leaves_no_trace(self, driver: FakeDriver) -> None:
        state = opened(driver).state()
        assert state["sum"].tolist() == [[10.0, 20.0]] * ROWS
        assert state["count"].tolist() == [0.0] * ROWS

    def test_rows_that_take_no_step_keep_it(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        step(graph, 1.0)
        mean = step(graph, 3.0, rows=[1])
        assert mean[1].tolist() == [7.0, 12.0]
        assert graph.state()["sum"].tolist() == [[11.0, 21.0], [14.0, 24.0], [11.0, 21.0]]
        assert graph.state()["count"].tolist() == [1.0, 2.0, 1.0]

    def test_rows_begin_again(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        step(graph, 1.0)
        graph.reset([2])
        assert graph.state()["count"].tolist() == [1.0, 1.0, 0.0]
        graph.reset()
        assert graph.state()["sum"].tolist() == [[10.0, 20.0]] * ROWS

    def test_a_reset_comes_after_the_steps_before_it(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        slot = graph.begin()
        graph.submit(slot)
        graph.reset()
        graph.finish(slot)
        assert graph.state()["count"].tolist() == [0.0] * ROWS

    def test_it_can_be_taken_out_and_put_back(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        step(graph, 1.0)
        kept = graph.state()
        expected = step(graph, 5.0)
        graph.set_state(kept)
        assert np.array_equal(step(graph, 5.0), expected)
        with pytest.raises(ValueError, match="states are"):
            graph.set_state({"sum": kept["sum"]})
        with pytest.raises(ValueError, match="'sum'"):
            graph.set_state(kept | {"sum": kept["sum"][:1]})

    def test_there_are_only_so_many_rows(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        with pytest.raises(ValueError, match="rows"):
            graph.reset([ROWS])
        with pytest.raises(ValueError, match="rows"):
            graph.submit(graph.begin(), [-1])
        assert not graph.closed


class TestGraph:
    def test_a_step_is_copied_in_run_and_copied_out_in_one_launch(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        begin = driver.log.index("begin capture")
        assert driver.log[begin + 1 : driver.log.index("end capture")] == ["copy", "network", "copy", "copy"]
        start = len(driver.calls)
        step(graph, 1.0)
        assert driver.log[start:] == ["use", "record", "graph launch", "record", "use", "event wait"]

    def test_the_network_runs_and_is_waited_for_before_the_first_capture(self, driver: FakeDriver) -> None:
        opened(driver)
        before = driver.log[: driver.log.index("begin capture")]
        assert before.count("network") == SLOTS
        assert before[-1] == "synchronize"
        assert driver.log.count("bind") == 1
        later = driver.log[len(before) :]
        assert {call for call in later if call.startswith((MADE, FREE, "upload"))} == {"make graph"}

    def test_the_next_step_is_filled_in_while_one_is_on_the_device(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        first = graph.begin()
        first.inputs["x"][:] = 1
        graph.submit(first)
        second = graph.begin()
        second.inputs["x"][:] = 5
        graph.submit(second)
        with pytest.raises(ValueError, match="oldest"):
            graph.begin()
        graph.finish(first)
        assert not second.done.done()
        assert first.outputs["mean"][0].tolist() == [11.0, 21.0]
        graph.finish(second)
        assert second.outputs["mean"][0].tolist() == [8.0, 13.0]
        assert second.device_ms > 0

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            ([("mean", (ROWS, 2)), ("next_sum", (ROWS, 3)), ("next_count", (ROWS,))], "next"),
            ([("mean", (2, 2)), ("next_sum", (ROWS, 2)), ("next_count", (ROWS,))], "first axis"),
            ([("mean", (None, 2)), ("next_sum", (ROWS, 2)), ("next_count", (ROWS,))], "static"),
            ([("mean", (ROWS, 2)), ("next_sum", (ROWS, 2))], "states are"),
        ],
    )
    def test_tensors_that_do_not_fit_are_refused(
        self, driver: FakeDriver, outputs: list[tuple[str, tuple[int | None, ...]]], message: str
    ) -> None:
        network = adder(driver, outputs)
        with pytest.raises(ValueError, match=message):
            AudioGraph(driver, network, INITIAL)
        assert network.closed == 1


class TestClosing:
    def test_frees_everything_once(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        graph.submit(graph.begin())
        graph.close()
        graph.close()
        assert driver.open == []
        assert driver.log.count("free network") == 1

    def test_afterwards_every_use_is_refused(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        slot = graph.begin()
        graph.close()
        for use in (graph.begin, graph.state, graph.reset, lambda: graph.finish(slot)):
            with pytest.raises(BackendError, match="closed"):
                use()

    def test_a_failure_of_any_call_while_opening_leaves_nothing_open(self) -> None:
        whole = FakeDriver()
        opened(whole)
        for number in range(len(whole.calls)):
            driver = FakeDriver(fail=failing_at(number))
            with pytest.raises(BackendError, match="failed"):
                opened(driver)
            assert driver.open == []
            assert driver.violations == []
            assert driver.log.count("free network") == 1

    @pytest.mark.parametrize("kind", ["graph launch", "event wait", "copy"])
    def test_a_failure_with_a_step_closes_the_graph(self, kind: str) -> None:
        driver = FakeDriver()
        graph = opened(driver)
        driver.fail = failing_from(len(driver.calls), kind)
        with pytest.raises(BackendError, match=f"{kind} failed"):
            step(graph, 1.0, rows=[0])
        assert graph.closed
        assert driver.open == []


class TestTheProductsNetwork:
    def test_two_streams_on_the_device_say_what_each_says_alone(self, driver: FakeDriver) -> None:
        steps, look_ahead_ms = 4, LOOK_AHEADS_MS[1]
        random = np.random.default_rng(1)
        mels = random.normal(-6, 2, (2, 4 * steps, 80)).astype(np.float32)
        alone = AudioToExpression(look_ahead_ms)
        network = load_network(shipped_model(), backend="onnxruntime", threads=1, precision="f32")
        initial = {name: array[0] for name, array in alone.initial_state(1).items()}
        graph = AudioGraph(driver, on_cpu(driver, network, rows=2), initial)
        for row in (0, 1):
            for slot in graph.slots:
                slot.inputs["code"][row] = np.array(LOOK_AHEADS_MS) == look_ahead_ms
        said = []
        for at in range(steps):
            slot = graph.begin()
            slot.inputs["mels"][:] = mels[:, 4 * at : 4 * at + 4]
            graph.submit(slot)
            graph.finish(slot)
            said.append(slot.outputs["expression"].copy())
        expected, _ = alone.step(mels, alone.initial_state(2))
        np.testing.assert_allclose(np.concatenate(said, 1), expected, atol=1e-5)
