from collections.abc import Iterator

import numpy as np
import pytest

from engine.backends.cuda.frame import FrameConstants, FrameGraph
from engine.backends.cuda.kernels import AFTER_NETWORK, BEFORE_NETWORK
from engine.backends.cuda.params import FRAME_PARAMS, MAX_SIDE, FrameLayout, FrameViews
from engine.backends.cuda.slots import SLOTS
from engine.backends.network import TensorSpec
from engine.errors import BackendError
from tests.support.fake_cuda import FREE, MADE, FakeDriver, failing_at, failing_from
from tests.support.fake_network import FakeNetwork
from tests.support.host_cuda import host_kernels

SIZE_PX, VERTICES = 32, 5
STEPS = [
    "copy",
    *(f"launch {spec.name}" for spec in BEFORE_NETWORK),
    "network",
    *(f"launch {spec.name}" for spec in AFTER_NETWORK),
]


def constants(size_px: int = SIZE_PX) -> FrameConstants:
    random = np.random.default_rng(0)
    return FrameConstants(
        triangles=np.array([[0, 1, 2], [2, 3, 4]], np.int32),
        layers=np.zeros(2, np.int32),
        uv=random.uniform(0, 1, (VERTICES, 2)).astype(np.float32),
        reference=random.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8),
        texture=random.uniform(-1, 1, (16, 8, 8)).astype(np.float16),
    )


def network(driver: FakeDriver, size_px: int = SIZE_PX, dtype: type = np.float32) -> FakeNetwork:
    canvas = TensorSpec("canvas", (1, size_px, size_px, 23), np.dtype(dtype))
    picture = TensorSpec("picture", (1, size_px, size_px, 4), np.dtype(dtype))
    return FakeNetwork(driver, [canvas], [picture])


@pytest.fixture
def driver() -> Iterator[FakeDriver]:
    driver = FakeDriver()
    yield driver
    assert driver.violations == []


def opened(driver: FakeDriver) -> FrameGraph:
    return FrameGraph(driver, constants(), network(driver))


def since(driver: FakeDriver, start: int) -> list[str]:
    return driver.log[start:]


def captures(log: list[str]) -> list[list[str]]:
    """What was called within each capture."""
    begins = [at for at, call in enumerate(log) if call == "begin capture"]
    return [log[begin + 1 : log.index("end capture", begin)] for begin in begins]


class TestOpening:
    def test_all_steps_run_and_are_waited_for_before_the_first_capture(self, driver: FakeDriver) -> None:
        opened(driver)
        before = driver.log[: driver.log.index("begin capture")]
        ran = [call for call in before if call in STEPS]
        assert ran == STEPS * SLOTS
        assert before[-1] == "synchronize"

    def test_each_slot_has_a_graph_of_all_steps_in_their_order(self, driver: FakeDriver) -> None:
        opened(driver)
        assert captures(driver.log) == [STEPS] * SLOTS

    def test_nothing_is_made_freed_or_uploaded_once_capturing_has_begun(self, driver: FakeDriver) -> None:
        opened(driver)
        later = driver.calls[driver.log.index("begin capture") :]
        assert {str(call) for call in later if call.kind in (MADE, FREE, "upload")} == {"make graph"}

    def test_addresses_are_bound_once_and_before_the_first_run(self, driver: FakeDriver) -> None:
        opened(driver)
        assert driver.log.count("bind") == 1
        assert driver.log.index("bind") < driver.log.index("network")

    def test_the_slots_share_no_mapped_memory(self, driver: FakeDriver) -> None:
        slots = opened(driver).slots
        assert len(slots) == SLOTS
        assert not np.shares_memory(slots[0].y, slots[1].y)
        assert slots[0].block.address != slots[1].block.address

    def test_constants_are_on_the_device(self, driver: FakeDriver) -> None:
        graph, wanted = opened(driver), constants()
        assert np.array_equal(graph.read("triangles", (2, 3), np.int32), wanted.triangles)
        assert np.array_equal(graph.read("reference", (SIZE_PX, SIZE_PX, 3), np.uint8), wanted.reference)

    def test_the_texture_is_split_into_four(self) -> None:
        parts = constants().textures()
        assert [part.shape for part in parts] == [(8, 8, 4)] * 4
        assert np.array_equal(np.concatenate(parts, -1).transpose(2, 0, 1), constants().texture)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_the_kernels_are_compiled_for_the_networks_types(self, driver: FakeDriver, dtype: type) -> None:
        FrameGraph(driver, constants(), network(driver, dtype=dtype))
        assert f"program {np.dtype(dtype)} {np.dtype(dtype)}" in driver.log

    def test_a_network_of_another_size_is_refused_and_closed(self, driver: FakeDriver) -> None:
        other = network(driver, 64)
        with pytest.raises(ValueError, match=r"\[1, 32, 32, 23\]"):
            FrameGraph(driver, constants(), other)
        assert other.closed == 1

    def test_a_mesh_that_names_no_vertex_is_refused(self) -> None:
        known = constants()
        with pytest.raises(ValueError, match="vertex"):
            FrameConstants(known.triangles + 3, known.layers, known.uv, known.reference, known.texture)


class TestAFrame:
    def test_makes_frees_and_uploads_nothing(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        start, free_bytes = len(driver.calls), driver.free_bytes()
        for _ in range(5):
            slot = graph.begin()
            graph.submit(slot)
            graph.finish(slot)
        assert since(driver, start) == ["use", "record", "graph launch", "record", "use", "event wait"] * 5
        assert driver.free_bytes() == free_bytes

    def test_the_next_one_is_submitted_while_one_is_on_the_device(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        first = graph.begin()
        graph.submit(first)
        second = graph.begin()
        assert second is not first
        graph.submit(second)
        graph.finish(first)
        assert first.times[1].done()
        assert not second.times[1].done()
        assert graph.begin() is first
        graph.finish(second)
        assert second.device_ms > 0

    def test_there_is_no_third_slot(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        for _ in range(SLOTS):
            graph.submit(graph.begin())
        with pytest.raises(ValueError, match="oldest"):
            graph.begin()

    def test_only_what_was_begun_is_submitted_and_what_was_submitted_finished(
        self, driver: FakeDriver
    ) -> None:
        graph = opened(driver)
        with pytest.raises(ValueError, match="begin"):
            graph.submit(graph.slots[1])
        with pytest.raises(ValueError, match="not submitted"):
            graph.finish(graph.begin())

    def test_eagerly_the_same_steps_are_enqueued_one_by_one(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        start = len(driver.calls)
        slot = graph.begin()
        graph.submit(slot, eager=True)
        graph.finish(slot)
        assert [call for call in since(driver, start) if call in STEPS] == STEPS
        assert "graph launch" not in since(driver, start)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"side": MAX_SIDE + 2, "part_w": 8}, "side"),
            ({"side": 15}, "side"),
            ({"part_w": 18}, "does not fit"),
            ({"part_x": 2}, "does not fit"),
            ({"part_x": -2}, "does not fit"),
            ({"part_y": 1, "part_h": 2}, "even"),
            ({"part_h": 0}, "does not fit"),
            ({"planes": 257}, "planes"),
        ],
    )
    def test_numbers_out_of_range_never_reach_the_device(
        self, driver: FakeDriver, changes: dict[str, int], message: str
    ) -> None:
        graph = opened(driver)
        slot = graph.begin()
        start = len(driver.calls)
        for name, value in changes.items():
            slot.params[name] = value
        with pytest.raises(ValueError, match=message):
            graph.submit(slot)
        assert since(driver, start) == []
        assert not graph.closed


class TestClosing:
    def test_frees_everything_once_graphs_first(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        start = len(driver.calls)
        graph.close()
        graph.close()
        assert driver.open == []
        freed = [call.what for call in driver.calls[start:] if call.kind == FREE]
        assert len(freed) == len(driver.made) + 1
        assert freed[:SLOTS] == ["graph"] * SLOTS
        assert freed[-2:] == ["stream", "network"]
        assert since(driver, start)[:2] == ["free graph", "free graph"]
        assert since(driver, start)[2:4] == ["use", "synchronize"]

    def test_waits_for_the_frames_on_the_device(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        slot = graph.begin()
        graph.submit(slot)
        graph.close()
        assert slot.times[1].done()

    def test_afterwards_every_use_is_refused(self, driver: FakeDriver) -> None:
        graph = opened(driver)
        slot = graph.begin()
        graph.close()
        for use in (
            graph.begin,
            lambda: graph.submit(slot),
            lambda: graph.finish(slot),
            lambda: graph.record(graph.stream, 0),
            lambda: graph.read("rgb", (1,), np.uint8),
        ):
            with pytest.raises(BackendError, match="closed"):
                use()

    def test_a_failure_of_any_call_while_opening_leaves_nothing_open(self) -> None:
        whole = FakeDriver()
        opened(whole).close()
        for number in range(whole.log.index("free graph")):
            driver = FakeDriver(fail=failing_at(number))
            with pytest.raises(BackendError, match="failed") as raised:
                opened(driver)
            assert str(driver.calls[number]) in str(raised.value)
            assert driver.open == []
            assert driver.violations == []
            assert driver.log.count("free network") == 1

    @pytest.mark.parametrize("kind", ["use", "record", "graph launch", "event wait"])
    def test_a_failure_with_a_frame_closes_the_graph(self, kind: str) -> None:
        driver = FakeDriver()
        graph = opened(driver)
        driver.fail = failing_from(len(driver.calls), kind)
        with pytest.raises(BackendError, match=f"{kind} failed"):
            _one_frame(graph)
        assert graph.closed
        assert driver.open == []

    def test_a_device_that_refuses_even_to_free_is_given_up_without_another_error(self) -> None:
        driver = FakeDriver()
        graph = opened(driver)
        driver.fail = failing_from(len(driver.calls))
        graph.close()
        assert graph.closed
        assert all(thing.closed for thing in driver.made)


def _one_frame(graph: FrameGraph) -> None:
    slot = graph.begin()
    graph.submit(slot)
    graph.finish(slot)


class TestLayout:
    def test_params_are_the_kernels_struct(self) -> None:
        assert host_kernels().frame_params_dtype() == FRAME_PARAMS

    def test_sections_are_aligned_and_do_not_overlap(self) -> None:
        layout = FrameLayout.of(224, 539)
        ends = 0
        for section in layout.sections.values():
            assert section.offset % 256 == 0
            assert section.offset >= ends
            ends = section.offset + section.size_bytes
        assert ends <= layout.size_bytes
        assert layout.sections["y"].offset == layout.header_bytes

    def test_views_write_to_the_block(self) -> None:
        layout = FrameLayout.of(SIZE_PX, VERTICES)
        block = np.zeros(layout.size_bytes, np.uint8)
        views = FrameViews(layout, block)
        views.params["side"] = 258
        views.out_v[-1, -1] = 7
        assert block[16:18].tolist() == [2, 1]
        assert block[layout.sections["out_v"].offset + (MAX_SIDE // 2) ** 2 - 1] == 7

    def test_a_frame_of_nothing_is_in_range(self) -> None:
        layout = FrameLayout.of(SIZE_PX, VERTICES)
        views = FrameViews(layout, np.full(layout.size_bytes, 255, np.uint8))
        views.set_to_nothing()
        views.check()
        assert views.params["planes"] == 1
