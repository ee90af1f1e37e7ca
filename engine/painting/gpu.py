"""Painting on a GPU: the host fills in one frame's numbers, one graph does the rest.

What depends on the face model stays on the host, where it is small: where the vertices are, the mask's hull,
and the coarse displacement. Everything that touches pixels happens on the device.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from engine.actor.pack import ActorPack
from engine.arrays import F32
from engine.backends.cuda.driver import Driver, GraphNetwork
from engine.backends.cuda.frame import INPUT, FrameConstants, FrameGraph, FrameSlot
from engine.backends.cuda.params import MAX_SIDE
from engine.composite.bend import STILL_PX, coarse_displacement
from engine.errors import BackendError
from engine.face.model import FaceModel, load_face_model
from engine.image.yuv import I420, from_rgb_affine, to_rgb_affine
from engine.painting.protocol import DebugPictures, HeadToPaint
from engine.painting.region import Region
from engine.render.mask import FEATHER_CM, MARGIN_CM, half_planes, hull
from engine.render.renderer import check_shapes


@dataclass(frozen=True, slots=True)
class Painting:
    """A head that the device paints now; the frame must not be touched until it is finished."""

    head: HeadToPaint
    region: Region
    slot: FrameSlot


class GpuPainter:
    """A `Painter` on a CUDA device; see `engine.painting.protocol` and the module.

    Every picture is drawn anew, also where the last may be shown again: drawing costs less than moving it.

    Args:
        actor: the pack.
        driver: the device; may be shared.
        network: the actor's, canvas to picture; the painter's from now on, also if opening fails.
        owns_driver: close the driver with the painter, also if opening fails.

    Raises:
        ActorPackError: the pack does not fit the network.
        BackendError: the device failed, or has no memory left.
    """

    def __init__(
        self, actor: ActorPack, driver: Driver, network: GraphNetwork, *, owns_driver: bool = False
    ) -> None:
        self.model: FaceModel = load_face_model()
        self.neutral: F32 = np.asarray(actor.neutral + actor.mean_residual, np.float32)
        self.size_px = actor.manifest.image_size_px
        self._driver, self._closed = driver if owns_driver else None, False
        try:
            check_shapes(actor, self.model, network.inputs[INPUT].shape)
            self.graph = FrameGraph(driver, self._constants(actor), network)
        except BaseException:
            with suppress(BackendError):
                network.close()
            self._let_driver_go()
            raise
        self.name = self.graph.name

    def _constants(self, actor: ActorPack) -> FrameConstants:
        model = self.model
        return FrameConstants(
            triangles=model.triangles,
            layers=model.layers,
            uv=model.uv,
            reference=np.ascontiguousarray(actor.references[0]),
            texture=np.ascontiguousarray(actor.texture, np.float16),
        )

    def paint(self, image: I420, head: HeadToPaint) -> DebugPictures | None:
        """See `Painter.paint`."""
        painting = self.submit(image, head)
        return None if painting is None else self.finish(painting)

    def submit(self, image: I420, head: HeadToPaint) -> Painting | None:
        """Let the device begin; None if the head's square lies outside the frame.

        Raises:
            BackendError: the device failed; the painter is closed.
            ValueError: the painter's frames are all on the device: finish the oldest first.
        """
        painting = self.fill_in(image, head)
        if painting is not None:
            self._try_submit(painting)
        return painting

    def fill_in(self, image: I420, head: HeadToPaint) -> Painting | None:
        """Fill in the next slot of `graph` without submitting it, which a batch of painters does.

        Raises:
            BackendError, ValueError: as for `submit`.
        """
        if self._closed:
            raise BackendError("the painter is closed")
        region = Region.of(image, head.square, MAX_SIDE)
        if region is None:
            return None
        slot = self.graph.begin()
        self._fill(slot, head)
        for name in ("x", "y"):
            slot.params[f"part_{name}"] = getattr(region, name)
        slot.params["part_w"], slot.params["part_h"] = region.width, region.height
        slot.params["side"] = region.side
        region.take(image, (slot.y, slot.u, slot.v))
        return Painting(head, region, slot)

    def finish(self, painting: Painting) -> DebugPictures | None:
        """Wait for the device and write what it painted into the frame.

        Raises:
            BackendError: the device failed; the painter is closed, and the frame is as it came.
        """
        slot, head = painting.slot, painting.head
        try:
            self.graph.finish(slot)
            debug = self._debug(head) if head.keep_debug else None
        except BackendError:
            self.close()
            raise
        painting.region.put_back((slot.y, slot.u, slot.v), (slot.out_y, slot.out_u, slot.out_v))
        return debug

    def close(self) -> None:
        """See `Painter.close`."""
        if not self._closed:
            self._closed = True
            self.graph.close()
            self._let_driver_go()

    def _let_driver_go(self) -> None:
        if self._driver is not None:
            with suppress(BackendError):  # a device that has failed refuses this too
                self._driver.close()

    def _try_submit(self, painting: Painting) -> None:
        try:
            self.graph.submit(painting.slot)
        except BackendError:
            self.close()
            raise

    def _fill(self, slot: FrameSlot, head: HeadToPaint) -> None:
        """What the face model and the colours say about a frame."""
        model, neutral, pose, params = self.model, self.neutral, head.pose, slot.params
        slot.vertices[:] = model.vertices(neutral, head.wanted, pose)
        normals, offsets = half_planes(hull(model, neutral, head.wanted, pose))
        count = len(offsets)
        slot.half_planes[:count, :2], slot.half_planes[:count, 2] = normals, offsets
        params["planes"] = count
        params["margin_px"], params["slope"] = MARGIN_CM * pose.scale_px, 1 / (FEATHER_CM * pose.scale_px)
        params["level"] = min(max(head.level, 0.0), 1.0)
        params["to_rgb"] = to_rgb_affine(head.colour).ravel()
        params["to_yuv"] = from_rgb_affine(head.colour).ravel()
        params["bends"] = 0
        if head.shown is not None:
            slot.field[:] = coarse_displacement(model, neutral, head.shown, head.wanted, pose, self.size_px)
            params["bends"] = np.abs(slot.field).max() >= STILL_PX

    def _debug(self, head: HeadToPaint) -> DebugPictures:
        side = self.size_px
        bent, rgb, matched = (
            self.graph.read(name, (side, side, 3), np.uint8) for name in ("bent", "rgb", "matched")
        )
        alpha = self.graph.read("alpha", (side, side), np.float32)
        return DebugPictures(head.square, head.pose, head.wanted, bent, rgb, matched, alpha)
