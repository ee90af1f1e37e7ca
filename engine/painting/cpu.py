"""Painting on the CPU, step by step: bend, render, match the light, paste."""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32
from engine.composite.bend import bend, bend_frame, displacement
from engine.composite.blend import border_window, match_colour, paste
from engine.errors import BackendError
from engine.face.model import FaceModel, Pose
from engine.image.yuv import I420
from engine.painting.protocol import DebugPictures, HeadToPaint
from engine.render.again import moved, turned_little
from engine.render.renderer import Rendered, Renderer


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The picture that the network drew last: for which head and mouth."""

    pose: Pose
    expression: F32


class CpuPainter:
    """A `Painter` on a renderer; see `engine.painting.protocol`.

    Args:
        renderer: the actor, opened; may be shared by painters that take turns.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer: Renderer | None = renderer
        self.model: FaceModel = renderer.model
        self.neutral: F32 = renderer.neutral
        self.size_px, self.name = renderer.size_px, renderer.name
        self._out = Rendered.empty(renderer.size_px)
        self._drawn: _Drawn | None = None  # what is in it; None: the next picture must be drawn

    def paint(self, image: I420, head: HeadToPaint) -> DebugPictures | None:
        """See `Painter.paint`."""
        if self._renderer is None:
            raise BackendError("the painter is closed")
        pose, source, wanted = head.pose, head.source, head.wanted
        last, self._drawn = self._drawn if head.again else None, None
        again = last is not None and turned_little(last.pose, pose)
        if again and last is not None:
            wanted = last.expression
        if head.shown is not None:
            shift = displacement(self.model, self.neutral, head.shown, wanted, pose, self.size_px)
            bend_frame(image, head.square, shift * np.float32(head.level))
            source = np.asarray(bend(source, shift), np.uint8)
        if again and last is not None:
            drawn = moved(self._out, last.pose, pose)
        else:
            drawn = self._out
            try:
                self._renderer.render(source, pose, wanted, out=drawn)
            except BackendError:
                self.close()
                raise
            self._drawn = _Drawn(pose, wanted)
        window = border_window(self.size_px)
        mask, alpha = drawn.mask * window, drawn.alpha * window
        rgb = match_colour(drawn.rgb, source, mask, alpha)
        paste(image, head.square, head.colour, rgb, alpha * np.float32(head.level))
        if not head.keep_debug:
            return None
        return DebugPictures(head.square, pose, wanted, source, drawn.rgb.copy(), rgb, alpha)

    def close(self) -> None:
        """See `Painter.close`."""
        self._renderer = None
