"""From a decoder's frame to an upright I420 picture, and back to a frame for the encoder."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame as AvFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation

from engine.arrays import U8
from engine.image.yuv import I420, Colour, Matrix
from engine.media.info import ColourTags

LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
_MATRIX_UNSPECIFIED = 2
_RGB_MATRIX = 0
# ITU-T H.273 table 4. 4 (FCC) differs from BT.601 by 0.01 in the weights, 7 (SMPTE 240M) from BT.709 by 0.03.
_MATRICES: dict[int, Matrix] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
_NUMBERS: dict[Matrix, int] = {"bt709": 1, "bt601": 6, "bt2020": 9}
_SWSCALE_NUMBERS: dict[Matrix, int] = {"bt709": 1, "bt601": 5, "bt2020": 9}
_PLANAR_420 = {"yuv420p", "yuvj420p", "yuva420p"}
# Bit-exact, so that machines agree; chroma is taken from all pixels, not from every second.
_INTERPOLATION = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT
)


@dataclass(frozen=True)
class Orientation:
    """How to make a picture upright: first swap rows and columns, then mirror.

    Attributes:
        transpose: swap rows and columns.
        flip_x: mirror left and right.
        flip_y: mirror top and bottom.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def clockwise_deg(self) -> int:
        """The turn in it; of a mirrored picture, the turn before the mirror."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0


_QUARTER_TURNS = (
    Orientation(),
    Orientation(True, False, True),
    Orientation(False, True, True),
    Orientation(True, True, False),
)  # anticlockwise


def orientation(frame: AvFrame) -> Orientation:
    """Read the display matrix of a frame; angles between are taken to the nearest quarter turn.

    The matrix maps (x, y) to (a x + c y, b x + d y) (libavutil/display.h).
    """
    try:
        side_data = cast(SideDataContainer, frame.side_data)
    except ValueError:  # PyAV 18 has no name for EXIF, which a photo carries; a mirror is then not seen
        return _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return Orientation()
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32)[:5])
    if abs(a) >= abs(b):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def turned(image: I420, turn: Orientation) -> I420:
    """Return the picture made upright, with planes of its own unless nothing was to do.

    A picture of odd size keeps its chroma samples, so after a turn they sit up to one pixel off.
    """
    if turn == Orientation():
        return image
    planes = []
    for plane in (image.y, image.u, image.v):
        view = plane.T if turn.transpose else plane
        view = view[:, ::-1] if turn.flip_x else view
        view = view[::-1] if turn.flip_y else view
        planes.append(np.ascontiguousarray(view))
    return I420(*planes)


def colour_of(frame: AvFrame, upright_height: int) -> tuple[Colour, ColourTags]:
    """Return what the bytes of `to_i420` mean, and the tags to write into a copy."""
    by_height: Matrix = "bt709" if upright_height >= 720 else "bt601"
    tagged = int(frame.colorspace)
    matrix = _MATRICES.get(tagged, by_height)
    colour_range = int(frame.color_range)
    is_rgb, is_grey = frame.format.is_rgb, _is_grey(frame)
    if is_rgb:
        colour_range, tagged = LIMITED, _NUMBERS[matrix]
    elif frame.format.name.startswith("yuvj") or (is_grey and colour_range == 0):
        colour_range = FULL
    elif tagged not in _MATRICES:
        tagged = _MATRIX_UNSPECIFIED
    tags = ColourTags(colour_range, tagged, int(frame.color_primaries), int(frame.color_trc))
    return Colour(matrix, colour_range == FULL), tags


def to_i420(frame: AvFrame, colour: Colour) -> I420:
    """Copy a decoded frame; formats other than 8-bit 4:2:0 go through swscale, with matrix and range kept."""
    if frame.format.name == "gray":
        image = I420.blank(frame.width, frame.height)
        image.y[...] = _plane(frame.planes[0])
        return image
    if frame.format.name not in _PLANAR_420:
        number = _SWSCALE_NUMBERS[colour.matrix]
        to_range = FULL if colour.full_range else LIMITED
        frame = frame.reformat(
            format="yuv420p",
            src_colorspace=number,
            dst_colorspace=number,
            interpolation=_INTERPOLATION,
            src_color_range=FULL if frame.format.is_rgb else to_range,
            dst_color_range=to_range,
            threads=1,
        )
    return I420(*(_plane(plane).copy() for plane in frame.planes[:3]))


def from_i420(image: I420, pixel_format: str) -> AvFrame:
    """Copy a picture into a frame for an encoder; `yuv444p` repeats the chroma samples."""
    frame = AvFrame(image.width, image.height, pixel_format)
    planes = [image.y, image.u, image.v]
    if pixel_format == "yuv444p":
        for index in (1, 2):
            wide = np.repeat(np.repeat(planes[index], 2, axis=0), 2, axis=1)
            planes[index] = wide[: image.height, : image.width]
    for target, source in zip(frame.planes, planes, strict=True):
        _plane(target)[...] = source
    return frame


def _is_grey(frame: AvFrame) -> bool:
    return str(frame.format.name).startswith(("gray", "ya8", "ya16", "mono"))


def _plane(plane: VideoPlane) -> U8:
    """View the pixels of an 8-bit plane, without its padding."""
    rows: U8 = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]
