"""What paints a mouth into a frame, however it does it."""

from dataclasses import dataclass
from typing import Protocol

from engine.arrays import F32, U8
from engine.face.model import FaceModel, Pose
from engine.image.resize import Square
from engine.image.yuv import I420, Colour


@dataclass(frozen=True, slots=True)
class HeadToPaint:
    """One head in one frame, and what it shall show.

    Attributes:
        square: the crop around it, in the frame; even-aligned.
        pose: of the head, in crop px.
        source: uint8 [S, S, 3], the crop as `read_square` reads it; only read.
        colour: how the frame's bytes are meant.
        shown: float32 [E], the expression that the frame shows; None: the wanted one, nothing is bent.
        wanted: float32 [E].
        level: 0..1, how much of the painted mouth shows.
        again: the picture that was painted last may be shown a second time, if the head has hardly turned
            since and it was not shown so already.
        keep_debug: return the steps' pictures.
    """

    square: Square
    pose: Pose
    source: U8
    colour: Colour
    shown: F32 | None
    wanted: F32
    level: float
    again: bool = False
    keep_debug: bool = False


@dataclass(frozen=True, slots=True)
class DebugPictures:
    """What one frame went through.

    Attributes:
        square: the crop, in the frame; pose: in crop px; expression: float32 [E], as drawn.
        source, rendered, matched: uint8 [S, S, 3], the crop bent to the expression, as drawn, and with the
            frame's light.
        alpha: float32 [S, S], how much of it shows.
    """

    square: Square
    pose: Pose
    expression: F32
    source: U8
    rendered: U8
    matched: U8
    alpha: F32


class Painter(Protocol):
    """One actor on one device, for one stream at a time. Not for use by two threads at a time."""

    @property
    def model(self) -> FaceModel:
        """The face model that poses and expressions are of."""

    @property
    def neutral(self) -> F32:
        """The actor's resting face, float32 [V, 3] cm."""

    @property
    def size_px(self) -> int:
        """Side of the crop that it paints on."""

    @property
    def name(self) -> str:
        """Backend and precision."""

    def paint(self, image: I420, head: HeadToPaint) -> DebugPictures | None:
        """Paint the actor's mouth on a head, in place; only bytes inside the mask change.

        Args:
            image: the frame, writable.
            head: where and what.

        Raises:
            BackendError: the device failed. The painter is closed then, and the frame is as it came or
                painted in part: show its source.
        """

    def close(self) -> None:
        """Let the device's memory go; nothing can be painted afterwards. A second call does nothing."""
