"""I420 pictures: region of interest to R'G'B' and back, in place.

Chroma samples are taken to sit in the centre of their 2 x 2 luma pixels (JPEG siting), both ways: reading
interpolates bilinearly between those centres, clamped at the frame's edge; writing averages over the 2 x 2
pixels. Every fast function has a float64 twin named `..._reference`, which it meets within one grey level.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, Self

import numpy as np

from engine.arrays import F32, F64, U8, check_array

Matrix = Literal["bt601", "bt709", "bt2020"]

_KR_KB: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),  # ITU-R BT.601-7 §2.5.1
    "bt709": (0.2126, 0.0722),  # ITU-R BT.709-6 §3
    "bt2020": (0.2627, 0.0593),  # ITU-R BT.2020-2, non-constant luminance
}


@dataclass(frozen=True)
class Colour:
    """How 8-bit Y'CbCr maps to R'G'B'.

    Attributes:
        matrix: luma coefficients.
        full_range: luma 0..255 and chroma 0..255 if true, else luma 16..235 and chroma 16..240.
    """

    matrix: Matrix
    full_range: bool


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels inside a frame.

    Attributes:
        x: left edge, px, >= 0.
        y: top edge, px, >= 0.
        width: px, > 0.
        height: px, > 0.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        """Raise ValueError for an empty box or a negative corner."""
        if self.x < 0 or self.y < 0 or self.width <= 0 or self.height <= 0:
            raise ValueError(f"a box needs a corner >= 0 and a size > 0, got {self}")


@dataclass(frozen=True, eq=False, repr=False)
class I420:
    """One picture as three planes of bytes; the chroma planes have half the size, rounded up.

    The planes are borrowed, not copied; whoever holds the picture may write to them.

    Attributes:
        y: uint8 [H, W].
        u: uint8 [ceil(H/2), ceil(W/2)], Cb.
        v: uint8 [ceil(H/2), ceil(W/2)], Cr.
    """

    y: U8
    u: U8
    v: U8

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError unless the planes belong together."""
        check_array("y", self.y, (None, None), np.uint8)
        height, width = self.y.shape
        if height == 0 or width == 0:
            raise ValueError(f"a picture needs a size > 0, got {width}x{height}")
        for name, plane in (("u", self.u), ("v", self.v)):
            check_array(name, plane, ((height + 1) // 2, (width + 1) // 2), np.uint8)

    def __repr__(self) -> str:
        return f"I420({self.width}x{self.height})"

    @classmethod
    def blank(cls, width: int, height: int) -> Self:
        """Return a picture of zero luma and neutral chroma, `width` x `height` px."""
        chroma = ((height + 1) // 2, (width + 1) // 2)
        return cls(
            np.zeros((height, width), np.uint8),
            np.full(chroma, 128, np.uint8),
            np.full(chroma, 128, np.uint8),
        )

    @property
    def height(self) -> int:
        """Height of the picture, px."""
        return int(self.y.shape[0])

    @property
    def width(self) -> int:
        """Width of the picture, px."""
        return int(self.y.shape[1])

    def copy(self) -> "I420":
        """Return a picture with planes of its own, writable and C-contiguous."""
        return I420(*(np.array(plane, order="C") for plane in (self.y, self.u, self.v)))


def roi_to_rgb(image: I420, box: Box, colour: Colour) -> U8:
    """Convert a region of a picture to R'G'B'.

    Args:
        image: the picture; only read.
        box: any region inside the picture, odd corners and sizes allowed.
        colour: how the picture's bytes are meant.

    Returns:
        uint8 [h, w, 3], full range R'G'B', owned by the caller.

    Raises:
        ValueError: the box leaves the picture.
    """
    from engine.image import _yuv_kernels

    _check_inside(image, box)
    out = np.empty((box.height, box.width, 3), np.uint8)
    y_offset, rgb_matrix = _to_rgb_matrix(colour)
    _yuv_kernels.roi_to_rgb(
        image.y, image.u, image.v, box.x, box.y, np.float32(y_offset), rgb_matrix.astype(np.float32), out
    )
    return out


def sparse_to_rgb(image: I420, step_y: int, step_x: int, colour: Colour) -> U8:
    """Convert every so manieth pixel: `whole[step_y // 2 :: step_y, step_x // 2 :: step_x]` of the picture.

    Args:
        image: the picture; only read.
        step_y: px between rows, at least 1.
        step_x: px between columns, at least 1.
        colour: how the picture's bytes are meant.

    Returns:
        uint8 [h, w, 3], the same bytes as `roi_to_rgb` gives there, owned by the caller.
    """
    from engine.image import _yuv_kernels

    rows, columns = (len(range(s // 2, n, s)) for n, s in zip(image.y.shape, (step_y, step_x), strict=True))
    out = np.empty((rows, columns, 3), np.uint8)
    y_offset, matrix = _to_rgb_matrix(colour)
    _yuv_kernels.sparse_to_rgb(
        image.y, image.u, image.v, step_y, step_x, np.float32(y_offset), matrix.astype(np.float32), out
    )
    return out


def write_roi(image: I420, box: Box, rgb: U8, alpha: F32, colour: Colour) -> None:
    """Blend R'G'B' into a region of a picture, in place.

    Luma: `y + alpha (Y(rgb) - y)`. Chroma: the same blend at each of the 2 x 2 pixels, then their mean. Where
    alpha is 0 (or not a number) luma keeps its exact bytes, and so does chroma where all its pixels have
    alpha 0.

    Args:
        image: the picture; written.
        box: region with even corner and size; the size may be odd where the box ends at an odd frame's edge.
        rgb: uint8 [h, w, 3], full range R'G'B'.
        alpha: float32 [h, w], 0 keeps the picture, 1 takes `rgb`; values outside are clipped.
        colour: how the picture's bytes are meant.

    Raises:
        ValueError: the box leaves the picture or is not aligned, a shape is wrong, or it is read-only.
        TypeError: a dtype is wrong.
    """
    from engine.image import _yuv_kernels

    _check_write(image, box, rgb, alpha)
    offset, matrix = _from_rgb_matrix(colour)
    _yuv_kernels.write_roi(
        image.y,
        image.u,
        image.v,
        box.x,
        box.y,
        np.ascontiguousarray(rgb),
        np.ascontiguousarray(alpha),
        np.float32(offset),
        matrix.astype(np.float32),
    )


def rgb_to_i420(rgb: U8, colour: Colour) -> I420:
    """Convert a whole picture, uint8 [H, W, 3] full range R'G'B', to a new I420."""
    check_array("rgb", rgb, (None, None, 3), np.uint8)
    height, width = rgb.shape[:2]
    image = I420.blank(width, height)
    write_roi(image, Box(0, 0, width, height), rgb, np.ones((height, width), np.float32), colour)
    return image


def roi_to_rgb_reference(image: I420, box: Box, colour: Colour) -> U8:
    """Do what `roi_to_rgb` does, slowly and in float64."""
    _check_inside(image, box)
    rows = slice(box.y, box.y + box.height)
    columns = slice(box.x, box.x + box.width)
    planes = [image.y[rows, columns].astype(np.float64)]
    for plane in (image.u, image.v):
        full = _upsample_axis(_upsample_axis(plane.astype(np.float64), 0, image.height), 1, image.width)
        planes.append(full[rows, columns])
    y_offset, matrix = _to_rgb_matrix(colour)
    ycc = np.stack(planes, axis=-1) - np.array([y_offset, 128.0, 128.0])
    return _to_bytes(ycc @ matrix.T)


def write_roi_reference(image: I420, box: Box, rgb: U8, alpha: F32, colour: Colour) -> None:
    """Do what `write_roi` does, slowly and in float64."""
    _check_write(image, box, rgb, alpha)
    offset, matrix = _from_rgb_matrix(colour)
    weight = np.clip(np.nan_to_num(alpha.astype(np.float64), nan=0.0), 0.0, 1.0)
    ycc = rgb.astype(np.float64) @ matrix.T + np.array([offset, 128.0, 128.0])
    luma = image.y[box.y : box.y + box.height, box.x : box.x + box.width]
    luma[...] = _to_bytes(luma + weight * (ycc[..., 0] - luma))
    for index, plane in ((1, image.u), (2, image.v)):
        top, left = box.y // 2, box.x // 2
        part = plane[top : top + (box.height + 1) // 2, left : left + (box.width + 1) // 2]
        old = np.repeat(np.repeat(part, 2, axis=0), 2, axis=1)[: box.height, : box.width].astype(np.float64)
        change = _mean_2x2(weight * (ycc[..., index] - old))
        part[...] = _to_bytes(part + change)


def _to_bytes(values: F64) -> U8:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _upsample_axis(plane: F64, axis: int, length: int) -> F64:
    """Interpolate chroma to `length` luma positions: three quarters of the near sample, one of the far."""
    position = np.arange(length)
    near = position // 2
    far = np.clip(near - 1 + 2 * (position % 2), 0, plane.shape[axis] - 1)
    return np.asarray(0.75 * plane.take(near, axis) + 0.25 * plane.take(far, axis))


def _mean_2x2(values: F64) -> F64:
    """Mean over 2 x 2 pixels; where an odd size cuts the square, over the pixels there are."""
    height, width = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2)))
    count = np.pad(np.ones_like(values), ((0, height % 2), (0, width % 2)))
    shape = (padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
    return np.asarray(padded.reshape(shape).sum(axis=(1, 3)) / count.reshape(shape).sum(axis=(1, 3)))


def _from_rgb_matrix(colour: Colour) -> tuple[float, F64]:
    """Luma offset and the 3 x 3 matrix from R'G'B' 0..255 to Y', Cb-128, Cr-128 in bytes."""
    kr, kb = _KR_KB[colour.matrix]
    luma = np.array([kr, 1.0 - kr - kb, kb])
    blue = (np.array([0.0, 0.0, 1.0]) - luma) / (2.0 * (1.0 - kb))
    red = (np.array([1.0, 0.0, 0.0]) - luma) / (2.0 * (1.0 - kr))
    matrix = np.stack([luma, blue, red])
    if colour.full_range:
        return 0.0, matrix
    return 16.0, matrix * np.array([[219.0], [224.0], [224.0]]) / 255.0


def _to_rgb_matrix(colour: Colour) -> tuple[float, F64]:
    """Luma offset and the 3 x 3 matrix from Y'-offset, Cb-128, Cr-128 in bytes to R'G'B' 0..255."""
    offset, matrix = _from_rgb_matrix(colour)
    return offset, np.linalg.inv(matrix).astype(np.float64)


@cache
def to_rgb_affine(colour: Colour) -> F64:
    """Rows of the map from (Y', Cb, Cr, 1), in bytes, to R'G'B' 0..255: float64 [3, 4], read-only."""
    offset, matrix = _to_rgb_matrix(colour)
    return _frozen(np.column_stack([matrix, -matrix @ [offset, 128.0, 128.0]]))


@cache
def from_rgb_affine(colour: Colour) -> F64:
    """Rows of the map from (R', G', B', 1) 0..255 to Y'CbCr in bytes: float64 [3, 4], read-only."""
    offset, matrix = _from_rgb_matrix(colour)
    return _frozen(np.column_stack([matrix, [offset, 128.0, 128.0]]))


def _frozen(matrix: F64) -> F64:
    matrix.setflags(write=False)
    return matrix


def _check_inside(image: I420, box: Box) -> None:
    if box.x + box.width > image.width or box.y + box.height > image.height:
        raise ValueError(f"{box} leaves the picture of {image.width}x{image.height} px")


def _check_write(image: I420, box: Box, rgb: U8, alpha: F32) -> None:
    _check_inside(image, box)
    for start, size, end in ((box.x, box.width, image.width), (box.y, box.height, image.height)):
        if start % 2 or (size % 2 and start + size != end):
            raise ValueError(f"{box} must have an even corner and size")
    check_array("rgb", rgb, (box.height, box.width, 3), np.uint8)
    check_array("alpha", alpha, (box.height, box.width), np.float32)
    if not (image.y.flags.writeable and image.u.flags.writeable and image.v.flags.writeable):
        raise ValueError("the picture is read-only; write to a copy()")
