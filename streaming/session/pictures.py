"""The pictures of a session: slots of shared memory, each held by whoever still needs it."""

from engine.errors import InputError
from engine.image.yuv import I420, Colour
from streaming.worker.slots import SlotRing, ring_bytes, write

MOST_BYTES = 2 << 30
_STRIDE = 1 << 16  # between the references of two rings


class Pictures:
    """Takes pictures in, and knows when a slot is free again. Belongs to the event loop.

    A reference stays good when pictures of another size come: those of the former size drain. The core holds
    a reference from `take` to `let_go`; `hold` and `let_go` are for who sends it meanwhile.

    Args:
        width, height: of the pictures to begin with, px.
        slots: how many there can be at once.

    Attributes:
        ring: the shared memory of the present size.

    Raises:
        InputError: they need more memory than a session may have.
    """

    def __init__(self, width: int, height: int, slots: int) -> None:
        self._rings: dict[int, SlotRing] = {}
        self._holders: dict[int, int] = {}
        self._colours: dict[int, Colour] = {}
        self._slots, self._present = slots, -1
        self.resize(width, height)

    @property
    def ring(self) -> SlotRing:
        """The shared memory of the present size."""
        return self._rings[self._present]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height now, px."""
        return self.ring.width, self.ring.height

    def resize(self, width: int, height: int) -> None:
        """Take pictures of another size from now on.

        Raises:
            InputError: they need more memory than a session may have; nothing has changed then.
        """
        needed = ring_bytes(width, height, self._slots)
        if needed > MOST_BYTES:
            raise InputError(
                f"{self._slots} pictures of {width}x{height} need {needed >> 20} MB, of {MOST_BYTES >> 20} "
                "MB at most: hold the original for a shorter time, or send a smaller picture"
            )
        self._rings[self._present + 1] = SlotRing(width, height, self._slots)
        before, self._present = self._present, self._present + 1
        self._drop_if_drained(before)

    def take(self, image: I420, colour: Colour) -> int | None:
        """Copy a picture of the present size in; its reference, or None if there is no room."""
        slot = self.ring.take()
        if slot is None:
            return None
        write(image, self.ring.view(slot))
        reference = self._present * _STRIDE + slot
        self._colours[reference], self._holders[reference] = colour, 1
        return reference

    def is_present(self, reference: int) -> bool:
        """Whether a picture is of the present size."""
        return reference // _STRIDE == self._present

    def slot(self, reference: int) -> int:
        """Where a picture lies in the present ring, for its worker.

        Raises:
            ValueError: it is of a former size.
        """
        if not self.is_present(reference):
            raise ValueError(f"picture {reference} is of a former size")
        return reference % _STRIDE

    def colour(self, reference: int) -> Colour:
        """How the bytes of a picture are meant."""
        return self._colours[reference]

    def picture(self, reference: int, *, dubbed: bool) -> I420:
        """What to show; borrowed while it is held."""
        ring, slot = self._rings[reference // _STRIDE], reference % _STRIDE
        return ring.dubbed(slot) if dubbed else ring.view(slot)

    def hold(self, reference: int) -> None:
        """Somebody else needs the picture, too."""
        self._holders[reference] += 1

    def let_go(self, reference: int) -> None:
        """One of its holders does not need the picture any more."""
        self._holders[reference] -= 1
        if self._holders[reference]:
            return
        del self._holders[reference], self._colours[reference]
        generation = reference // _STRIDE
        self._rings[generation].give_back(reference % _STRIDE)
        self._drop_if_drained(generation)

    def close(self) -> None:
        """Let all memory go."""
        for ring in self._rings.values():
            ring.close()

    def _drop_if_drained(self, generation: int) -> None:
        held = any(reference // _STRIDE == generation for reference in self._holders)
        if generation in self._rings and generation != self._present and not held:
            self._rings.pop(generation).close()
