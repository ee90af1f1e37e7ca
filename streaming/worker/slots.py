"""Pictures in memory that edge and worker share.

The memory has no name in any file system: it is a descriptor that the edge makes and hands to its workers, so
nothing is left behind however either of them ends. Every slot has two pictures: the edge writes the source,
which nobody else touches, and the worker writes the dub. So the source can leave at any moment, also while a
worker draws or after it was killed in the middle of a mouth, and there is nothing to restore.
"""

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.arrays import U8
from engine.image.yuv import I420

_ALIGN_BYTES = 64
_PICTURES = 2  # source and dub


def ring_bytes(width: int, height: int, slots: int) -> int:
    """Size of the memory of so many slots."""
    return slots * _PICTURES * _picture_bytes(width, height)


def _picture_bytes(width: int, height: int) -> int:
    chroma = ((width + 1) // 2) * ((height + 1) // 2)
    return -(-(width * height + 2 * chroma) // _ALIGN_BYTES) * _ALIGN_BYTES


@dataclass(frozen=True)
class SlotPictures:
    """The pictures of a ring as views on its memory: `source[i]` and `dub[i]`, I420."""

    source: tuple[I420, ...]
    dub: tuple[I420, ...]

    @classmethod
    def of(cls, fd: int, width: int, height: int, slots: int) -> "SlotPictures":
        """Map the memory behind a descriptor, which may be closed afterwards.

        Raises:
            ValueError: it is smaller than the pictures.
        """
        size = ring_bytes(width, height, slots)
        memory = np.frombuffer(mmap.mmap(fd, size), np.uint8)
        step = _picture_bytes(width, height)
        pictures = [_picture(memory[i * step : (i + 1) * step], width, height) for i in range(2 * slots)]
        return cls(tuple(pictures[:slots]), tuple(pictures[slots:]))


def _picture(memory: U8, width: int, height: int) -> I420:
    columns, rows = (width + 1) // 2, (height + 1) // 2
    luma, chroma = width * height, columns * rows
    return I420(
        memory[:luma].reshape(height, width),
        memory[luma : luma + chroma].reshape(rows, columns),
        memory[luma + chroma : luma + 2 * chroma].reshape(rows, columns),
    )


def write(image: I420, into: I420) -> None:
    """Copy a picture into another of its size."""
    into.y[:], into.u[:], into.v[:] = image.y, image.u, image.v


class SlotRing:
    """The edge's side of the memory, and who holds which slot.

    A slot that the edge gives back while a worker has it is free only when the worker is done with it. Not
    to be used by two threads at once.

    Attributes:
        width, height: of every picture, px.
        fd: descriptor of the memory, for workers; closed by `close`.
        on_abandoned: called with a slot that the edge gave back while the worker has it.
    """

    def __init__(self, width: int, height: int, slots: int) -> None:
        """Make the memory.

        Raises:
            ValueError: a size that is not positive.
        """
        if min(width, height, slots) < 1:
            raise ValueError(f"a ring needs sizes > 0, got {width}x{height} px and {slots} slots")
        self.width, self.height = width, height
        self.fd = _anonymous_file(ring_bytes(width, height, slots))
        self._pictures = SlotPictures.of(self.fd, width, height, slots)
        self._count, self._free = slots, list(range(slots))
        self._edge: set[int] = set()
        self._worker: set[int] = set()
        self.on_abandoned: Callable[[int], None] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return len(self._free)

    def take(self) -> int | None:
        """A slot that nobody holds, now the edge's; None if there is none."""
        if not self._free:
            return None
        slot = self._free.pop(0)
        self._edge.add(slot)
        return slot

    def view(self, slot: int) -> I420:
        """The source picture: the edge writes it before the frame is given, and may read it at any time."""
        return self._pictures.source[slot]

    def dubbed(self, slot: int) -> I420:
        """The worker's picture, whole from its answer on until the slot is given back."""
        return self._pictures.dub[slot]

    def give_back(self, slot: int) -> None:
        """The edge needs a slot no longer; allowed while the worker has it. Twice is once."""
        if slot not in self._edge:
            return
        self._edge.discard(slot)
        if slot not in self._worker:
            self._free.append(slot)
        elif self.on_abandoned is not None:
            self.on_abandoned(slot)

    def lend(self, slot: int) -> None:
        """The worker has a slot from now on.

        Raises:
            ValueError: it is not the edge's, or the worker has it already.
        """
        if slot not in self._edge or slot in self._worker:
            raise ValueError(f"slot {slot} is not the edge's to give")
        self._worker.add(slot)

    def returned(self, slot: int) -> None:
        """The worker needs a slot no longer."""
        if slot in self._worker:
            self._worker.discard(slot)
            if slot not in self._edge:
                self._free.append(slot)

    def worker_gone(self) -> None:
        """There is no worker any more: it has no slots."""
        for slot in tuple(self._worker):
            self.returned(slot)

    def close(self) -> None:
        """Let the memory go, at once if nobody has a view; views that somebody still has stay good."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._pictures = SlotPictures((), ())


def _anonymous_file(size_bytes: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("livedub", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size_bytes)
    return fd
