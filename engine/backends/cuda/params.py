"""What the host and the kernels tell each other about one frame, and how it lies in one mapped block.

Each block begins with what changes from frame to frame and is small: a copy takes it to the device, where
every kernel may read it as often as it likes. The region's planes follow, in and out; kernels read and write
those over the bus, as much of them as the frame's part is large.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from engine.arrays import F32, U8, Array

MAX_SIDE = 1536  # longest side of a square, luma px, even; pitch of every region's luma plane
MAX_PLANES = 256  # half planes of the mask's hull
TEXTURE_CHANNELS = 16
CANVAS_CHANNELS = TEXTURE_CHANNELS + 7  # the texture's, source, reference crop, mask
PICTURE_CHANNELS = 4
ALIGNMENT_BYTES = 256
_COLOUR_AFFINE = (12,)  # rows of a 3 x 4 matrix

# `struct FrameParams` of kernels/common.cuh, which says what the fields mean.
FRAME_PARAMS = np.dtype(
    [
        ("part_x", np.int32),
        ("part_y", np.int32),
        ("part_w", np.int32),
        ("part_h", np.int32),
        ("side", np.int32),
        ("planes", np.int32),
        ("margin_px", np.float32),
        ("slope", np.float32),
        ("level", np.float32),
        ("bends", np.int32),
        ("to_rgb", np.float32, _COLOUR_AFFINE),
        ("to_yuv", np.float32, _COLOUR_AFFINE),
    ],
    align=True,
)


def cells_of(size_px: int) -> int:
    """Side of the grid on which a crop's displacement is given."""
    return max(8, size_px // 4)


def blocks_of(size_px: int) -> int:
    """Side of the grid on which a crop's light is compared."""
    return max(8, size_px // 8)


@dataclass(frozen=True)
class Section:
    """Where an array lies in a block.

    Attributes:
        offset: bytes from the block's start, a multiple of ALIGNMENT_BYTES.
        shape: of the array; () for one record.
        dtype: of its elements.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def size_bytes(self) -> int:
        """Of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def of(self, block: U8) -> Array:
        """The array, in this block [bytes]; shares its memory."""
        return block[self.offset : self.offset + self.size_bytes].view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class FrameLayout:
    """The block of one frame, for a crop's size and a mesh.

    Attributes:
        sections: by the names of the kernels' arguments; `out_y`, `out_u` and `out_v` are what comes back.
        header_bytes: what is copied to the device: params, vertices, half_planes, field.
        size_bytes: of the whole.
    """

    sections: dict[str, Section]
    header_bytes: int
    size_bytes: int

    @classmethod
    def of(cls, size_px: int, vertices: int) -> Self:
        """Lay out a block for crops of [size_px, size_px] and meshes of so many vertices."""
        cells, chroma = cells_of(size_px), MAX_SIDE // 2
        byte, real = np.dtype(np.uint8), np.dtype(np.float32)
        header = (
            ("params", (), FRAME_PARAMS),
            ("vertices", (vertices, 3), real),
            ("half_planes", (MAX_PLANES, 3), real),
            ("field", (cells, cells, 2), real),
        )
        planes = (
            (prefix + name, (side, side), byte)
            for prefix in ("", "out_")
            for name, side in (("y", MAX_SIDE), ("u", chroma), ("v", chroma))
        )
        sections: dict[str, Section] = {}
        end = header_bytes = 0
        for name, shape, dtype in (*header, *planes):
            section = Section(end, shape, dtype)
            sections[name], end = section, aligned(end + section.size_bytes)
            header_bytes = end if name == "field" else header_bytes
        return cls(sections, header_bytes, end)


def aligned(size_bytes: int) -> int:
    """The next multiple of ALIGNMENT_BYTES."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class FrameViews:
    """The arrays of one frame in a mapped block; they share its memory.

    Attributes:
        params: FRAME_PARAMS record, [].
        vertices: float32 [V, 3], crop px; a smaller z is nearer.
        half_planes: float32 [MAX_PLANES, 3], the hull's outward normal and offset, crop px.
        field: float32 [cells, cells, 2], crop px, where each place comes from, relative to itself.
        y, u, v: uint8 [MAX_SIDE, MAX_SIDE] and [MAX_SIDE / 2, MAX_SIDE / 2], the part at the top left.
        out_y, out_u, out_v: likewise, what the device made of it.
    """

    def __init__(self, layout: FrameLayout, block: U8) -> None:
        def view(name: str) -> Array:
            return layout.sections[name].of(block)

        self.params: Array = view("params")
        self.vertices: F32 = view("vertices")
        self.half_planes: F32 = view("half_planes")
        self.field: F32 = view("field")
        self.y: U8 = view("y")
        self.u: U8 = view("u")
        self.v: U8 = view("v")
        self.out_y: U8 = view("out_y")
        self.out_u: U8 = view("out_u")
        self.out_v: U8 = view("out_v")

    def set_to_nothing(self) -> None:
        """Describe a frame in which nothing is drawn: a small part, no mesh, a mask of zeros."""
        self.params[()] = np.zeros((), FRAME_PARAMS)
        for name, value in (("part_w", 16), ("part_h", 16), ("side", 16), ("planes", 1)):
            self.params[name] = value
        self.vertices[:] = 0
        self.half_planes[:] = (0, 0, -1e6)  # everything lies beyond it
        self.field[:] = 0

    def check(self) -> None:
        """Raise unless the kernels can read it without leaving their planes.

        Raises:
            ValueError: a number is out of its range; the message names it.
        """
        part_x, part_y, part_w, part_h, side, planes = (int(value) for value in self.params[()].tolist()[:6])
        if not 0 < side <= MAX_SIDE or side % 2:
            raise ValueError(f"{side = } px must be even and in 2..{MAX_SIDE}")
        for corner, length in ((part_x, part_w), (part_y, part_h)):
            if corner < 0 or corner % 2 or length <= 0 or corner + length > side:
                raise ValueError(
                    f"a part of {length} px at {corner} does not fit a square of {side} px; it begins at an "
                    "even pixel"
                )
        if not 0 <= planes <= MAX_PLANES:
            raise ValueError(f"{planes = } must be in 0..{MAX_PLANES}")
