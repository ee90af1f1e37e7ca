"""A worker whose device fails after a few pictures: `python -m tests.support.failing_worker FD`."""

from typing import Any

from engine.arrays import F32
from engine.errors import BackendError
from engine.face.model import FaceModel
from engine.image.yuv import I420
from engine.painting import DebugPictures, HeadToPaint, Painter, open_painter
from streaming.worker import actor
from streaming.worker.actor import WARM_FRAMES
from streaming.worker.start import main

WHY = "CUDA: waiting for an event failed: CUDA_ERROR_ILLEGAL_ADDRESS"
PICTURES = 12  # until it fails, beside those of the rehearsal


class FailingPainter:
    """A painter, until its device fails.

    Args:
        painter: does the work.
        pictures: how many it paints.
    """

    def __init__(self, painter: Painter, pictures: int) -> None:
        self.painter, self.left, self.closed = painter, pictures, 0
        self.model: FaceModel = painter.model
        self.neutral: F32 = painter.neutral
        self.size_px, self.name = painter.size_px, painter.name

    def paint(self, image: I420, head: HeadToPaint) -> DebugPictures | None:
        """Paint, or fail half-way."""
        if self.left == 0:
            image.y[: image.height // 2] = 0
            self.close()
            raise BackendError(WHY)
        self.left -= 1
        return self.painter.paint(image, head)

    def close(self) -> None:
        """Close it."""
        self.closed += 1
        self.painter.close()


def open_failing(*args: Any, **how: Any) -> Painter:
    """As `open_painter`."""
    return FailingPainter(open_painter(*args, **how), WARM_FRAMES + PICTURES)


if __name__ == "__main__":
    vars(actor)["open_painter"] = open_failing
    main()
