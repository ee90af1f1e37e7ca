"""What the graphs of frames and of sound share: a network, memory on the device, and slots in turn."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from engine.backends.cuda.driver import Driver, GraphNetwork
from engine.backends.cuda.resources import Resources

SLOTS = 2


class Slot(Protocol):
    """One of a graph's blocks of mapped memory.

    Attributes:
        index: which of the graph's slots.
        in_flight: submitted and not finished yet.
    """

    index: int
    in_flight: bool

    def wait(self) -> None:
        """Wait until the device is done with it.

        Raises:
            BackendError: the device failed.
        """


S = TypeVar("S", bound=Slot)


class SlottedGraph(Generic[S]):
    """A network on a device, fed from slots that are filled in, submitted and finished in turn.

    Args:
        driver: the device; it must outlive the graph, and may be shared.
        network: the graph's from now on.
        owner: whose it is, for messages.
        what: a slot holds, for messages.

    Attributes:
        slots: all of them; set by who allocates them.
    """

    slots: Sequence[S]

    def __init__(self, driver: Driver, network: GraphNetwork, owner: str, what: str) -> None:
        self._driver, self._network, self._what = driver, network, what
        self._resources = Resources(owner)
        self._next = 0

    @property
    def name(self) -> str:
        """Backend and precision."""
        return f"{self._network.name} {self._network.precision}"

    @property
    def closed(self) -> bool:
        """Whether it was closed, by its owner or because the device failed."""
        return self._resources.closed

    def begin(self) -> S:
        """The slot to fill in next; its numbers are those of two turns ago.

        Raises:
            ValueError: all slots are on the device; finish the oldest first.
            BackendError: the graph is closed.
        """
        self._resources.check_open()
        slot = self.slots[self._next]
        if slot.in_flight:
            raise ValueError(f"every slot is on the device: finish the oldest {self._what} first")
        return slot

    def finish(self, slot: S) -> None:
        """Wait for this slot only; then what it has for the caller can be read.

        Raises:
            ValueError: it was not submitted.
            BackendError: the device failed; the graph is closed.
        """
        with self._resources.using():
            if not slot.in_flight:
                raise ValueError(f"the {self._what} was not submitted")
            self._driver.use()
            slot.wait()
        slot.in_flight = False

    def close(self) -> None:
        """Wait for the device and free everything; the second time nothing."""
        self._resources.close()

    def _check_next(self, slot: S) -> None:
        if slot is not self.begin():
            raise ValueError("not the slot that `begin` gave")

    def _submitted(self, slot: S) -> None:
        slot.in_flight, self._next = True, (slot.index + 1) % SLOTS
