from collections.abc import Iterator, Sequence

import pytest

from engine.backends.cuda.batch import BatchGraph
from engine.backends.cuda.frame import FrameGraph
from engine.backends.cuda.slots import SLOTS
from engine.errors import BackendError
from tests.support.fake_cuda import FREE, MADE, Call, FakeDriver, FakeGraph, failing_at, failing_from
from tests.unit.test_cuda_frame import STEPS, captures, constants, network


@pytest.fixture
def driver() -> Iterator[FakeDriver]:
    driver = FakeDriver()
    yield driver
    assert driver.violations == []


def frame_graph(driver: FakeDriver, size_px: int = 32) -> FrameGraph:
    return FrameGraph(driver, constants(size_px), network(driver, size_px))


def batch_of(driver: FakeDriver, members: Sequence[FrameGraph]) -> BatchGraph:
    batch = BatchGraph(driver)
    batch.set_members(members)
    return batch


def one_round(batch: BatchGraph, drawn: Sequence[FrameGraph]) -> dict[FrameGraph, BackendError]:
    slots = [member.begin() for member in drawn]
    failed = batch.submit(slots)
    for member, slot in zip(drawn, slots, strict=True):
        if member not in failed:
            member.finish(slot)
    return failed


class TestCapture:
    def test_it_forks_to_every_members_steps_and_joins(self, driver: FakeDriver) -> None:
        members = [frame_graph(driver), frame_graph(driver, 64)]  # different actors
        start = len(driver.calls)
        one_round(batch_of(driver, members), members)
        branch = ["wait for event", *STEPS, "record"]
        joins = ["wait for event"] * 2
        assert captures(driver.log[start:]) == [["record", *branch, *branch, *joins]] * SLOTS

    def test_the_graph_is_launched_once_for_all(self, driver: FakeDriver) -> None:
        members = [frame_graph(driver) for _ in range(3)]
        batch = batch_of(driver, members)
        one_round(batch, members)
        start = len(driver.calls)
        one_round(batch, members)
        assert driver.log[start:].count("graph launch") == 1

    def test_each_member_has_its_own_memory_and_network(self, driver: FakeDriver) -> None:
        members = [frame_graph(driver), frame_graph(driver)]
        batch = batch_of(driver, members)
        one_round(batch, members)
        used = [thing.uses for thing in driver.made if isinstance(thing, FakeGraph)]
        first, second = used[0], used[SLOTS]
        assert not first & second
        assert used[-SLOTS] == first | second

    def test_nothing_is_captured_made_or_freed_from_round_to_round(self, driver: FakeDriver) -> None:
        members = [frame_graph(driver), frame_graph(driver)]
        batch = batch_of(driver, members)
        one_round(batch, members)
        start = len(driver.calls)
        for _ in range(4):
            one_round(batch, members)
        later = driver.log[start:]
        assert "begin capture" not in later
        assert not any(call.startswith((MADE, FREE, "upload")) for call in later)
        assert later[:4] == ["use", "record", "graph launch", "record"]

    def test_it_is_captured_anew_when_members_come_or_go(self, driver: FakeDriver) -> None:
        first, second = frame_graph(driver), frame_graph(driver)
        batch = batch_of(driver, [first])
        one_round(batch, [first])
        for members in ([first, second], [second]):
            start = len(driver.calls)
            batch.set_members(members)
            one_round(batch, members)
            found = captures(driver.log[start:])
            assert [inside.count("network") for inside in found] == [len(members)] * SLOTS
        batch.set_members([second])  # no change
        start = len(driver.calls)
        one_round(batch, [second])
        assert captures(driver.log[start:]) == []

    def test_an_empty_batch_draws_nothing(self, driver: FakeDriver) -> None:
        batch = BatchGraph(driver)
        assert batch.submit([]) == {}
        assert "graph launch" not in driver.log


class TestRounds:
    def test_the_next_round_is_submitted_while_one_is_on_the_device(self, driver: FakeDriver) -> None:
        members = [frame_graph(driver), frame_graph(driver)]
        batch = batch_of(driver, members)
        first = [member.begin() for member in members]
        batch.submit(first)
        second = [member.begin() for member in members]
        batch.submit(second)
        members[0].finish(first[0])
        assert first[1].times[1].done()  # one event for all of a round
        assert not second[0].times[1].done()
        with pytest.raises(ValueError, match="oldest"):
            members[1].begin()

    def test_a_member_without_a_frame_needs_no_finishing(self, driver: FakeDriver) -> None:
        busy, idle = frame_graph(driver), frame_graph(driver)
        batch = batch_of(driver, [busy, idle])
        for _ in range(3):
            one_round(batch, [busy])
        one_round(batch, [busy, idle])
        assert not any(slot.in_flight for slot in busy.slots)

    def test_a_member_is_not_submitted_alone(self, driver: FakeDriver) -> None:
        member = frame_graph(driver)
        batch = batch_of(driver, [member])
        with pytest.raises(ValueError, match="with the batch"):
            member.submit(member.begin())
        batch.set_members([])
        slot = member.begin()
        member.submit(slot)
        member.finish(slot)
        assert slot.device_ms > 0

    def test_only_the_members_next_slots_are_taken(self, driver: FakeDriver) -> None:
        member, stranger = frame_graph(driver), frame_graph(driver)
        batch = batch_of(driver, [member])
        for slot in (stranger.begin(), member.slots[1]):
            with pytest.raises(ValueError, match="next slot"):
                batch.submit([slot])

    def test_a_graph_with_frames_on_the_device_cannot_join(self, driver: FakeDriver) -> None:
        member = frame_graph(driver)
        member.submit(member.begin())
        with pytest.raises(ValueError, match="cannot join"):
            batch_of(driver, [member])

    def test_a_graph_is_in_one_batch_at_a_time(self, driver: FakeDriver) -> None:
        member = frame_graph(driver)
        batch_of(driver, [member])
        with pytest.raises(ValueError, match="cannot join"):
            batch_of(driver, [member])
        with pytest.raises(ValueError, match="only once"):
            batch_of(driver, [member, member])


class TestFailures:
    def test_a_member_that_fails_is_left_out_and_told_alone(self, driver: FakeDriver) -> None:
        well, ill = frame_graph(driver), frame_graph(driver)
        batch = batch_of(driver, [well, ill])
        first_network = len(driver.calls)

        def second_network(at: int, call: Call) -> bool:
            ran = [c for c in driver.calls[first_network:] if c.kind == "network"]
            return call.kind == "network" and len(ran) == 2

        driver.fail = second_network
        failed = one_round(batch, [well, ill])
        assert list(failed) == [ill]
        assert "network failed" in str(failed[ill])
        assert ill.closed
        assert not well.closed
        assert batch.members == (well,)
        driver.fail = failing_at(-1)
        assert one_round(batch, [well]) == {}

    def test_numbers_out_of_range_fail_their_member_alone(self, driver: FakeDriver) -> None:
        well, ill = frame_graph(driver), frame_graph(driver)
        batch = batch_of(driver, [well, ill])
        one_round(batch, [well, ill])
        slots = [well.begin(), ill.begin()]
        slots[1].params["side"] = 15
        failed = batch.submit(slots)
        assert list(failed) == [ill]
        assert "side" in str(failed[ill])
        assert ill.closed
        well.finish(slots[0])
        assert one_round(batch, [well]) == {}

    @pytest.mark.parametrize("kind", ["graph launch", "end capture", "use"])
    def test_a_failing_device_closes_the_batch_and_all_members(self, kind: str) -> None:
        driver = FakeDriver()
        members = [frame_graph(driver), frame_graph(driver)]
        batch = batch_of(driver, members)
        slots = [member.begin() for member in members]
        driver.fail = failing_from(len(driver.calls), kind)
        with pytest.raises(BackendError, match=f"{kind} failed"):
            batch.submit(slots)
        assert batch.closed
        assert all(member.closed for member in members)
        assert driver.open == []
        assert driver.violations == []

    def test_a_failure_of_any_call_while_opening_leaves_nothing_open(self) -> None:
        whole = FakeDriver()
        BatchGraph(whole)
        for number in range(len(whole.calls)):
            driver = FakeDriver(fail=failing_at(number))
            with pytest.raises(BackendError, match="failed"):
                BatchGraph(driver)
            assert driver.open == []


class TestClosing:
    def test_a_member_may_be_closed_while_the_batch_is_on_the_device(self, driver: FakeDriver) -> None:
        goes, stays = frame_graph(driver), frame_graph(driver)
        batch = batch_of(driver, [goes, stays])
        slots = [goes.begin(), stays.begin()]
        batch.submit(slots)
        goes.close()  # the fake would see memory freed that a graph or the device has
        stays.finish(slots[1])
        assert batch.members == (stays,)
        assert one_round(batch, [stays]) == {}

    def test_the_members_outlive_the_batch(self, driver: FakeDriver) -> None:
        member = frame_graph(driver)
        batch = batch_of(driver, [member])
        slot = member.begin()
        batch.submit([slot])
        batch.close()
        batch.close()
        member.finish(slot)
        slot = member.begin()
        member.submit(slot)
        member.finish(slot)
        member.close()
        assert driver.open == []

    def test_afterwards_every_use_is_refused(self, driver: FakeDriver) -> None:
        member = frame_graph(driver)
        batch = BatchGraph(driver)
        batch.close()
        with pytest.raises(BackendError, match="closed"):
            batch.set_members([member])
        with pytest.raises(BackendError, match="closed"):
            batch.submit([])

    def test_a_closed_graph_is_no_member(self, driver: FakeDriver) -> None:
        member, closed = frame_graph(driver), frame_graph(driver)
        closed.close()
        batch = BatchGraph(driver)
        with pytest.raises(BackendError, match="closed"):
            batch.set_members([member, closed])
        assert batch.members == (member,)
        assert not batch.closed
