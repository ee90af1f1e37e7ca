"""Streams in real time: open loop, how many fit, and a process of its own."""

import time

import pytest

from benchmarks.bench_capacity import largest
from benchmarks.bodies import FRAME_MS, Clock, Stream, StreamRun, bench_actor, moving_frames
from benchmarks.stream import Child, Go
from engine.errors import BackendError

NS_PER_MS = 1_000_000


class Fake:
    """A clock, and a stream whose frames take as long as they are told."""

    def __init__(self, *works_ms: float) -> None:
        self.now_ns, self.cpu_ns, self.slept_ms = 1_000_000_000, 0, 0.0
        self._works_ms = iter(works_ms)
        self.clock = Clock(lambda: self.now_ns, self.sleep, lambda: self.cpu_ns)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept_ms += 1000 * seconds
        self.now_ns += round(seconds * 1e9)

    def frame(self) -> bool:
        work_ns = round(next(self._works_ms) * NS_PER_MS)
        self.now_ns += work_ns
        self.cpu_ns += work_ns // 2
        return True


def run(*works_ms: float, monkeypatch: pytest.MonkeyPatch) -> tuple[StreamRun, Fake]:
    fake = Fake(*works_ms)
    stream = Stream.__new__(Stream)
    monkeypatch.setattr(stream, "frame", fake.frame)
    return stream.run(fake.now_ns + 5 * NS_PER_MS, len(works_ms), fake.clock), fake


def test_frames_that_are_quick_wait_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    done, fake = run(10, 20, 30, monkeypatch=monkeypatch)
    assert done.latency_ms == pytest.approx([10, 20, 30])
    assert done.at_s == pytest.approx([0, 0.04, 0.08])
    assert done.cpu_ms == pytest.approx([5, 10, 15])
    assert fake.slept_ms == pytest.approx(5 + 30 + 20)
    assert (done.wall_s, done.cpu_s) == pytest.approx((0.11, 0.03))
    assert done.dubbed == 3


def test_a_late_frame_delays_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done, fake = run(100, 10, 10, 10, monkeypatch=monkeypatch)
    assert done.latency_ms == pytest.approx([100, 70, 40, 10])
    assert fake.slept_ms == pytest.approx(5)


@pytest.mark.parametrize("true", [0, 1, 2, 3, 7, 40, 200])
@pytest.mark.parametrize("guess", [1, 3, 40, 300])
def test_the_largest_number_is_found(true: int, guess: int) -> None:
    asked = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count <= true

    assert largest(holds, guess, most=256) == (true, True)
    assert len(set(asked)) == len(asked) <= 32
    assert all(1 <= count <= 256 for count in asked)


@pytest.mark.parametrize("guess", [1, 5, 100])
def test_where_nothing_fails_it_is_a_lower_bound(guess: int) -> None:
    assert largest(lambda count: True, guess, most=32) == (32, False)


def test_actors_are_different_and_have_their_ranges() -> None:
    one, other = bench_actor(0), bench_actor(1)
    assert (one.texture != other.texture).any()
    assert set(one.extras) == {"int8.ranges"}
    assert len(moving_frames()) == round(1000 / FRAME_MS)


def test_a_stream_is_tracked_and_dubbed() -> None:
    stream = Stream("openvino", "auto")
    shown = [stream.frame() for _ in range(8)]
    stream.close()
    assert shown[-1]
    assert sum(shown) >= 4


def test_a_child_says_when_it_is_ready_and_runs_on_demand() -> None:
    with Child("openvino", "auto", seed=1, steady=2) as child:
        ready = child.ready()
        assert ready.name.startswith("openvino")
        assert list(ready.wall_ms) == ["import", "open the actor", "first frame"]
        assert len(ready.steady_ms) == 2
        assert ready.spent_s > 0
        for frames in (2, 3):
            child.go(Go(time.monotonic_ns(), frames))
            assert len(child.ran().latency_ms) == frames


def test_a_child_that_cannot_open_says_why() -> None:
    with (
        Child("tpu", "auto", seed=0, steady=1) as child,
        pytest.raises(BackendError, match="unknown backend"),
    ):
        child.ready()
