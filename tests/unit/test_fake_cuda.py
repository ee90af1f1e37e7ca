"""The tests' device in memory keeps CUDA's rules: what the orchestration tests prove rests on it."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.errors import BackendError
from tests.support.fake_cuda import FakeBuffer, FakeDriver


def copying(driver: FakeDriver, source: FakeBuffer, target: FakeBuffer) -> tuple[int, int, int]:
    return target.address, source.address, source.size_bytes


def test_nothing_has_happened_until_somebody_waits() -> None:
    driver = FakeDriver()
    stream, event = driver.stream(), driver.event()
    source, target = driver.mapped(4), driver.mapped(4)
    source.host[:] = 5
    driver.copy(stream, *copying(driver, source, target))
    event.record(stream)
    driver.copy(stream, *copying(driver, target, source))
    assert not target.host.any()
    event.wait()
    assert target.host.tolist() == [5] * 4
    assert len(stream.queue) == 1


def test_a_stream_waits_for_another_ones_event() -> None:
    driver = FakeDriver()
    first, second, event = driver.stream(), driver.stream(), driver.event()
    a, b, c = (driver.mapped(1) for _ in range(3))
    a.host[:] = 9
    driver.copy(first, *copying(driver, a, b))
    event.record(first)
    second.wait_for(event)
    driver.copy(second, *copying(driver, b, c))
    second.synchronize()
    assert c.host.tolist() == [9]


def test_a_capture_runs_nothing_and_its_graph_runs_it_each_time() -> None:
    driver = FakeDriver()
    stream, source, target = driver.stream(), driver.mapped(1), driver.mapped(1)
    graph = driver.capture(stream, lambda: driver.copy(stream, *copying(driver, source, target)))
    assert not stream.queue
    for value in (3, 4):
        source.host[:] = value
        graph.launch(stream)
        stream.synchronize()
        assert target.host.tolist() == [value]


@pytest.mark.parametrize(
    "act",
    [
        lambda driver, stream: driver.buffer(1),
        lambda driver, stream: stream.synchronize(),
        lambda driver, stream: driver.made[1].close(),
        lambda driver, stream: driver.upload(driver.made[1], np.zeros(1, np.uint8)),
    ],
    ids=["allocate", "wait", "free", "upload"],
)
def test_what_a_capture_forbids(act: Callable[[FakeDriver, object], None]) -> None:
    driver = FakeDriver()
    stream, _ = driver.stream(), driver.buffer(1)
    with pytest.raises(BackendError, match="while a stream is captured"):
        driver.capture(stream, lambda: act(driver, stream))
    assert driver.violations
    assert driver.capturing is None


def test_a_branch_that_nobody_joins_is_refused() -> None:
    driver = FakeDriver()
    stream, branch, event, end = driver.stream(), driver.stream(), driver.event(), driver.event()
    buffer = driver.buffer(1)

    def forked(joins: bool) -> None:
        event.record(stream)
        branch.wait_for(event)
        end.record(branch)
        driver.copy(branch, *copying(driver, buffer, buffer))  # after what `end` marks
        if joins:
            end.record(branch)
        stream.wait_for(end)

    driver.capture(stream, lambda: forked(True))
    with pytest.raises(BackendError, match="not joined"):
        driver.capture(stream, lambda: forked(False))


@pytest.mark.parametrize("captured", [True, False])
def test_memory_in_use_is_not_to_be_freed(captured: bool) -> None:
    driver = FakeDriver()
    stream, buffer = driver.stream(), driver.buffer(1)
    if captured:
        driver.capture(stream, lambda: driver.copy(stream, *copying(driver, buffer, buffer)))
    else:
        driver.copy(stream, *copying(driver, buffer, buffer))
    buffer.close()
    assert len(driver.violations) == 1


def test_a_copy_stays_within_its_buffers() -> None:
    driver = FakeDriver()
    stream, buffer = driver.stream(), driver.buffer(4)
    with pytest.raises(BackendError, match="leaves its buffer"):
        driver.copy(stream, buffer.address, buffer.address, 5)
