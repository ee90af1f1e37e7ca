"""The frames of many streams, of different actors, as one CUDA graph.

Different actors have different weights, so a batch is no bigger tensor but parallel branches: the graph forks
to every member's steps and joins. It is captured anew when members come or go, not from frame to frame. A
member that has no frame of its own is drawn all the same, what its slot says, and nobody looks at it.

    batch.set_members([a, b])          # frame graphs
    slot = a.begin()                   # ... fill it in; the same for b, or not
    failed = batch.submit([slot])      # one launch
    a.finish(slot)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from engine.backends.cuda.driver import Driver, Event, Graph
from engine.backends.cuda.frame import FrameGraph, FrameSlot
from engine.backends.cuda.resources import Resources
from engine.backends.cuda.slots import SLOTS
from engine.errors import BackendError


class BatchGraph:
    """Draws the frames of its members together; see the module. Not for use by two threads at a time.

    A member's frames are begun and finished with the member and submitted with the batch. Whoever made a
    member closes it, whenever it likes; that takes it out of the batch.

    Args:
        driver: the members' device; it must outlive the batch.

    Raises:
        BackendError: the device failed.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._resources = Resources("batch")
        self._members: list[FrameGraph] = []
        self._graphs: list[Graph] = []  # one for each slot; none: to be captured
        self._branch_ends: list[Event] = []
        self._next = 0
        keep = self._resources.keep
        with self._resources.opening():
            driver.use()
            self._stream, self._fork = keep(driver.stream()), keep(driver.event())
            self._times = [(keep(driver.event()), keep(driver.event())) for _ in range(SLOTS)]
            self._resources.before_closing(self._forget_graphs)

    @property
    def members(self) -> Sequence[FrameGraph]:
        """Who is drawn."""
        return tuple(self._members)

    @property
    def closed(self) -> bool:
        """Whether it was closed, by its owner or because the device failed."""
        return self._resources.closed

    def set_members(self, members: Sequence[FrameGraph]) -> None:
        """Say who is drawn from now on; waits for the frames on the device if that changes anything.

        Raises:
            ValueError: a new member has frames on the device, or is in a batch already, or is named twice.
            BackendError: the device failed, or the batch or a new member is closed.
        """
        if len(set(members)) != len(members):
            raise ValueError("a frame graph can be a batch's member only once")
        if list(members) == self._members:
            return
        with self._resources.using():
            self._forget_graphs()
        for member in self.members:
            if member not in members:
                member.leave_batch()
                self._members.remove(member)
        for member in members:
            if member not in self._members:
                member.join_batch(self._next, self._leave)
                self._members.append(member)
        self._members = list(members)

    def submit(self, slots: Sequence[FrameSlot]) -> dict[FrameGraph, BackendError]:
        """Let the device draw what was filled in; returns at once.

        Args:
            slots: from `FrameGraph.begin`, at most one of each member.

        Returns:
            Why members failed, each of them alone: those are closed and no members any more, and what they
            filled in is not drawn.

        Raises:
            ValueError: a slot is not the next of a member.
            BackendError: the device failed; the batch and all its members are closed.
        """
        self._resources.check_open()
        owners = {member.slots[self._next]: member for member in self._members}
        if any(slot not in owners or slot.in_flight for slot in slots):
            raise ValueError("not the next slot of a member")
        failed = _misfits({owners[slot]: slot for slot in slots})
        with self._failing_together():
            self._driver.use()
            failed |= self._capture()
            started, done = self._times[self._next]
            started.record(self._stream)
            if self._graphs:
                self._graphs[self._next].launch(self._stream)
            done.record(self._stream)
        for member in self._members:
            slot = member.slots[self._next]
            member.taken(slot, (started, done), idle=slot not in slots)
        self._next = (self._next + 1) % SLOTS
        return failed

    def close(self) -> None:
        """Wait for the device and free what the batch has; the members are open and free to go."""
        self._resources.close()
        for member in self._members:
            member.leave_batch()
        self._members = []

    def _leave(self, member: FrameGraph) -> None:
        """A member is being closed: what it has must not be in use."""
        self._members.remove(member)
        self._forget_graphs()

    def _forget_graphs(self) -> None:
        """Wait for the device, and let the graphs be captured anew."""
        graphs, self._graphs = self._graphs, []
        if graphs:
            self._driver.use()
            self._stream.synchronize()
        for graph in graphs:
            graph.close()

    def _capture(self) -> dict[FrameGraph, BackendError]:
        """Capture the graphs unless they are there; leaves out and closes the members that fail."""
        failed: dict[FrameGraph, BackendError] = {}
        while self._members and not self._graphs:
            while len(self._branch_ends) < len(self._members):
                self._branch_ends.append(self._resources.keep(self._driver.event()))
            culprits: list[FrameGraph] = []
            try:
                for index in range(SLOTS):
                    record = partial(self._record, index, culprits)
                    self._graphs.append(self._driver.capture(self._stream, record))
            except BackendError as error:
                self._forget_graphs()
                if not culprits:
                    raise
                failed[culprits[0]] = error
                culprits[0].close()
        return failed

    def _record(self, index: int, culprits: list[FrameGraph]) -> None:
        """Fork, every member's steps, join; a member that fails becomes a culprit."""
        ends = self._branch_ends[: len(self._members)]
        self._fork.record(self._stream)
        for member, end in zip(self._members, ends, strict=True):
            member.stream.wait_for(self._fork)
            try:
                member.record(member.stream, index)
            except BackendError:
                culprits.append(member)
                raise
            end.record(member.stream)
        for end in ends:
            self._stream.wait_for(end)

    @contextmanager
    def _failing_together(self) -> Iterator[None]:
        try:
            yield
        except BackendError:
            members = self.members
            self.close()
            for member in members:
                member.close()
            raise


def _misfits(slots: Mapping[FrameGraph, FrameSlot]) -> dict[FrameGraph, BackendError]:
    """Close the members whose numbers are out of range, and say why."""
    failed: dict[FrameGraph, BackendError] = {}
    for member, slot in slots.items():
        try:
            slot.check()
        except ValueError as error:
            failed[member] = BackendError(f"a frame cannot be drawn: {error}")
            member.close()
    return failed
