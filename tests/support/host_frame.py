"""One frame's arrays and the GPU's kernels on the CPU, launched as a frame graph launches them."""

from collections.abc import Mapping, Sequence

import numpy as np

from engine.arrays import F32, Array
from engine.backends.cuda.kernels import KERNELS, KernelSpec
from engine.backends.cuda.params import (
    CANVAS_CHANNELS,
    MAX_SIDE,
    PICTURE_CHANNELS,
    FrameLayout,
    FrameViews,
    blocks_of,
    cells_of,
)
from engine.face.model import FaceModel, Pose
from engine.image.resize import Square
from engine.image.yuv import I420, Colour, from_rgb_affine, to_rgb_affine
from engine.render.mask import FEATHER_CM, MARGIN_CM, half_planes, hull
from tests.support.host_cuda import HostTexture, host_kernels
from tests.support.kernel_twins import part_of, planes_of

FILES = ("geometry.cu", "crop.cu", "composite.cu")
BY_NAME = {spec.name: spec for spec in KERNELS}
GARBAGE = 0xA5  # what memory holds that nobody has written


class HostFrame:
    """The memory of one frame, with the names of `engine.backends.cuda.kernels`.

    Attributes:
        arrays: everything but the mapped block's, by name.
        views: the mapped block.
    """

    def __init__(self, size_px: int, vertices: int = 1, *, half: bool = False) -> None:
        kind = np.float16 if half else np.float32
        name = "__half" if half else "float"
        self.size_px = size_px
        self.kernels = host_kernels(*FILES, canvas=name, picture=name)
        layout = FrameLayout.of(size_px, vertices)
        self.views = FrameViews(layout, _garbage((layout.size_bytes,), np.uint8))
        self.views.set_to_nothing()
        square, plane = (size_px, size_px), (MAX_SIDE, MAX_SIDE)
        grid = (blocks_of(size_px),) * 2
        self.arrays: dict[str, Array] = {
            **{p + c: _garbage(plane, np.uint8) for p in "rb" for c in "y"},
            **{p + c: _garbage((MAX_SIDE // 2,) * 2, np.uint8) for p in "rb" for c in "uv"},
            **{name: _garbage((*square, 3), np.uint8) for name in ("crop", "bent", "rgb", "matched")},
            "vis": _garbage(square, np.uint64),
            "teeth": _garbage(square, np.uint32),
            "canvas": _garbage((1, *square, CANVAS_CHANNELS), kind),
            "picture": _garbage((1, *square, PICTURE_CHANNELS), kind),
            **{name: _garbage(square, np.float32) for name in ("mask", "alpha", "wmask")},
            **{name: _garbage((*grid, 4), np.float32) for name in ("sums", "rows")},
            "offset": _garbage((*grid, 3), np.float32),
        }

    def set_actor(self, model: FaceModel, reference: Array, texture: Array) -> None:
        """Give it an actor: the face model, reference crop uint8 [S, S, 3], texture float16 [16, h, w]."""
        self.arrays |= {"triangles": model.triangles, "layers": model.layers, "uv": model.uv}
        self.arrays["reference"] = reference
        self._textures = [HostTexture(part.transpose(1, 2, 0)) for part in np.split(texture, 4)]

    def set_head(self, model: FaceModel, neutral: F32, expression: F32, pose: Pose) -> None:
        """Fill in the mesh and its mask, of a head in crop px."""
        params = self.views.params
        self.views.vertices[:] = model.vertices(neutral, expression, pose)
        normals, offsets = half_planes(hull(model, neutral, expression, pose))
        params["planes"] = len(normals)
        self.views.half_planes[: len(normals)] = np.column_stack([normals, offsets])
        params["margin_px"] = MARGIN_CM * pose.scale_px
        params["slope"] = 1 / (FEATHER_CM * pose.scale_px)

    def set_region(self, image: I420, square: Square, colour: Colour) -> None:
        """Fill in the square's part of a frame, and how it is meant."""
        part, params = part_of(image, square), self.views.params
        for name, value in (
            ("part_x", part.x - square.x),
            ("part_y", part.y - square.y),
            ("part_w", part.width),
            ("part_h", part.height),
            ("side", square.side_px),
        ):
            params[name] = value
        params["to_rgb"], params["to_yuv"] = to_rgb_affine(colour).ravel(), from_rgb_affine(colour).ravel()
        for view, plane in zip(
            (self.views.y, self.views.u, self.views.v), planes_of(image, part), strict=True
        ):
            view[: plane.shape[0], : plane.shape[1]] = plane

    def set_bend(self, field: F32, level: float) -> None:
        """Fill in a displacement, and how much of the dub shows."""
        self.views.field[:] = field
        self.views.params["bends"], self.views.params["level"] = field.any(), level

    def launch(
        self,
        *names: str,
        backwards: bool = False,
        shape: tuple[int, int] | None = None,
    ) -> None:
        """Run kernels; `shape`: blocks and threads other than the frame graph's."""
        values = self._values()
        for spec in (BY_NAME[name] for name in names):
            blocks, threads = shape or (spec.blocks, spec.threads)
            arguments = [values[name] for name in spec.arguments]
            self.kernels.launch(spec.name, blocks, threads, *arguments, backwards=backwards)

    def launch_all(self, steps: Sequence[KernelSpec]) -> None:
        """Run these, as a frame graph does."""
        self.launch(*(spec.name for spec in steps))

    def write_back(self, image: I420, square: Square) -> None:
        """Put what came out into the frame."""
        out = (self.views.out_y, self.views.out_u, self.views.out_v)
        for view, plane in zip(out, planes_of(image, part_of(image, square)), strict=True):
            plane[:] = view[: plane.shape[0], : plane.shape[1]]

    def region(self, prefix: str) -> tuple[Array, Array, Array]:
        """The part's planes on the device: of "r" or "b"."""
        width, height = int(self.views.params["part_w"]), int(self.views.params["part_h"])
        chroma = slice(0, (height + 1) // 2), slice(0, (width + 1) // 2)
        return (
            self.arrays[prefix + "y"][:height, :width],
            self.arrays[prefix + "u"][chroma],
            self.arrays[prefix + "v"][chroma],
        )

    def _values(self) -> Mapping[str, "Array | int | HostTexture"]:
        views, size = self.views, self.size_px
        sections = ("params", "vertices", "half_planes", "field", "y", "u", "v", "out_y", "out_u", "out_v")
        mapped = {name: getattr(views, name) for name in sections}
        numbers = {"S": size, "n": size**2, "s": blocks_of(size), "cells": cells_of(size)}
        textures = {f"t{i}": texture for i, texture in enumerate(getattr(self, "_textures", ()))}
        mesh = {"count": len(self.arrays["layers"])} if "layers" in self.arrays else {}
        return {**self.arrays, **mapped, **numbers, **textures, **mesh}


def _garbage(shape: tuple[int, ...], kind: type) -> Array:
    array: Array = np.empty(shape, kind)
    array.view(np.uint8)[...] = GARBAGE
    return array
