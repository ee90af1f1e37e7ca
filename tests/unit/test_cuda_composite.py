"""The kernels of composite.cu, compiled for the CPU, against the product's own CPU code."""

import re

import cv2
import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.backends.cuda.compiler import kernel_source
from engine.backends.cuda.kernels import BEFORE_NETWORK, KERNELS
from engine.backends.cuda.params import blocks_of, cells_of
from engine.composite import _kernels
from engine.composite.bend import bend_frame
from engine.composite.blend import STRONGEST, border_window, match_colour, paste
from engine.image.resize import Square
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.render.canvas import split_picture_reference
from engine.render.mask import soft_mask
from tests.support.data import astronaut
from tests.support.host_frame import GARBAGE, HostFrame
from tests.support.kernel_twins import difference, light_offset, part_of, planes_of, widened

SIZE = 96
BT709 = Colour("bt709", full_range=False)
COLOURS = [
    Colour("bt709", full_range=True),
    Colour("bt601", full_range=False),
    Colour("bt601", full_range=True),
]
# of a frame of 401 x 361 px; smaller and larger than the crop, cut by each edge, and as the crop
SQUARES = [
    Square(140, 60, 66),
    Square(140, 60, SIZE),
    Square(120, 40, 130),
    Square(-30, 60, 192),
    Square(330, 70, 150),
    Square(362, 80, 80),
    Square(120, -26, 122),
    Square(100, 290, 200),
    Square(340, 310, 84),
    Square(-40, -20, 450),
]
MATCH = ("split_picture", "ring_difference", "blur_rows", "blur_columns", "add_light")
DRAW = (*MATCH, "bend_region", "blend_region")


def frame(colour: Colour = BT709) -> I420:
    return rgb_to_i420(astronaut()[:361, :401], colour)  # odd sizes


def disc(size_px: int = SIZE) -> F32:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    corners = size_px * (0.5 + 0.36 * np.stack([np.cos(angle), np.sin(angle)], -1)).astype(np.float32)
    return soft_mask(corners, 0.02 * size_px, 0.1 * size_px, size_px, size_px)


def wave(size_px: int = SIZE, strength_px: float = 4.0) -> F32:
    """A displacement inside the disc."""
    cells = cells_of(size_px)
    y, x = (np.mgrid[0:cells, 0:cells] + 0.5) / cells
    shape = np.maximum(0, 1 - 9 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
    field = np.stack([np.sin(7 * y) * shape, np.cos(5 * x) * shape], -1) * strength_px
    return np.asarray(field, np.float32)


def drawn(size_px: int = SIZE) -> F32:
    """What a network might draw: another part of the picture, darker, and an alpha."""
    rgb = cv2.resize(astronaut()[80:176, 180:276], (size_px, size_px)).astype(np.float32) / np.float32(280)
    y, x = np.mgrid[0:size_px, 0:size_px] / np.float32(size_px)
    alpha = np.clip(2.2 - 5 * np.hypot(x - 0.5, y - 0.55), 0, 1)[..., None]
    return np.concatenate([rgb, alpha], -1)[None].astype(np.float32)


def host_of(square: Square, colour: Colour = BT709, *, level: float = 1.0, size_px: int = SIZE) -> HostFrame:
    """A frame whose region, crop, mask, picture and displacement are there."""
    host = HostFrame(size_px)
    host.set_region(frame(colour), square, colour)
    host.set_bend(wave(size_px), level)
    host.arrays["mask"], host.arrays["picture"] = disc(size_px), drawn(size_px)
    host.launch("copy_in", "read_crop", "bend_crop")
    return host


def cpu_steps(host: HostFrame) -> tuple[U8, F32, F32]:
    """What the CPU makes of picture and mask: rgb, alpha and mask."""
    size = host.size_px
    rgb, alpha = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.float32)
    split_picture_reference(host.arrays["picture"][0], host.arrays["mask"], rgb, alpha)
    window = border_window(size)
    return rgb, alpha * window, host.arrays["mask"] * window


def cpu_frame(host: HostFrame, square: Square, colour: Colour, level: float) -> I420:
    """The whole of it on the CPU, from the same crop."""
    image, (rgb, alpha, mask) = frame(colour), cpu_steps(host)
    shift = widened(np.asarray(host.views.field, np.float32), host.size_px)
    bend_frame(image, square, shift * np.float32(level))
    matched = match_colour(rgb, np.asarray(host.arrays["bent"], np.uint8), mask, alpha)
    paste(image, square, colour, matched, alpha * np.float32(level))
    return image


def test_the_table_names_the_arguments_of_every_kernel_as_its_source_does() -> None:
    entry = r'extern "C" __global__ void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(([^)]*)\)'
    found = re.findall(entry, kernel_source())
    parameters = {name: tuple(p.split()[-1].lstrip("*") for p in text.split(",")) for name, text in found}
    assert {spec.name: spec.arguments for spec in KERNELS} == parameters
    assert all(spec.blocks >= 1 and spec.threads in {32, 64, 128, 256} for spec in KERNELS)
    assert BEFORE_NETWORK[-1].arguments[-3:] == ("canvas", "mask", "S")


@pytest.mark.parametrize("half", [False, True])
def test_a_picture_is_split_as_on_the_cpu(half: bool) -> None:
    host = HostFrame(SIZE, half=half)
    host.arrays["mask"] = disc()
    host.arrays["picture"] = drawn().astype(np.float16 if half else np.float32)
    host.launch("split_picture")
    rgb, alpha, mask = cpu_steps(host)
    np.testing.assert_array_equal(host.arrays["rgb"], rgb)
    np.testing.assert_allclose(host.arrays["alpha"], alpha, atol=1e-6)
    np.testing.assert_allclose(host.arrays["wmask"], mask, atol=1e-6)
    for name, expected in (("alpha", alpha), ("wmask", mask)):
        np.testing.assert_array_equal(host.arrays[name] == 0, expected == 0)


@pytest.mark.parametrize("size_px", [64, SIZE, 100, 224])
def test_the_ring_is_compared_as_on_the_cpu(size_px: int) -> None:
    """Sum by sum in the CPU's order: the same bits."""
    random, host, small = np.random.default_rng(0), HostFrame(size_px), blocks_of(size_px)
    for name in ("rgb", "bent"):
        host.arrays[name] = random.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    host.arrays["wmask"] = disc(size_px) * border_window(size_px)
    host.arrays["alpha"] = random.uniform(0, 1, (size_px, size_px)).astype(np.float32)
    host.launch("ring_difference")
    expected = np.empty((small, small, 4), np.float32)
    rgb, bent, mask, alpha = (host.arrays[name] for name in ("rgb", "bent", "wmask", "alpha"))
    _kernels.ring_difference(rgb, bent, mask, alpha, np.float32(STRONGEST), expected)
    assert expected.any()
    np.testing.assert_array_equal(host.arrays["sums"], expected)


@pytest.mark.parametrize("size_px", [64, SIZE, 224, 384])
def test_the_light_is_smoothed_as_on_the_cpu(size_px: int) -> None:
    host, small = HostFrame(size_px), blocks_of(size_px)
    sums = np.random.default_rng(0).uniform(0, 9, (small, small, 4)).astype(np.float32)
    sums[..., :3] -= 3
    sums[:, small // 2 :] = 0
    host.arrays["sums"] = sums
    host.launch("blur_rows", "blur_columns")
    np.testing.assert_allclose(host.arrays["offset"], light_offset(sums), atol=1e-4)


@pytest.mark.parametrize("square", SQUARES[:4])
def test_the_light_is_matched_as_on_the_cpu(square: Square) -> None:
    host = host_of(square)
    host.launch(*MATCH)
    rgb, alpha, mask = cpu_steps(host)
    expected = match_colour(rgb, np.asarray(host.arrays["bent"], np.uint8), mask, alpha)
    most, mean = difference(host.arrays["matched"], expected)
    assert most <= 1
    assert mean < 0.01
    assert np.abs(expected.astype(int) - rgb).max() > 3


@pytest.mark.parametrize("level", [1.0, 0.4])
@pytest.mark.parametrize("square", SQUARES, ids=str)
def test_skin_is_bent_as_on_the_cpu(square: Square, level: float) -> None:
    host, image = host_of(square, level=level), frame()
    host.launch("bend_region")
    before = [plane.copy() for plane in planes_of(image, part_of(image, square))]
    bend_frame(image, square, widened(wave(), SIZE) * np.float32(level))
    moved = False
    for got, old, new in zip(host.region("b"), before, planes_of(image, part_of(image, square)), strict=True):
        most, mean = difference(got, new)
        assert most <= 1
        assert mean < 0.02
        moved |= bool((got != old).any())
    assert moved


def test_what_shall_not_bend_is_copied() -> None:
    host = host_of(SQUARES[2])
    host.views.params["bends"] = 0
    host.launch("bend_region")
    for got, came in zip(host.region("b"), host.region("r"), strict=True):
        np.testing.assert_array_equal(got, came)


@pytest.mark.parametrize("level", [1.0, 0.4])
@pytest.mark.parametrize("square", SQUARES, ids=str)
def test_a_picture_is_blended_as_on_the_cpu(square: Square, level: float) -> None:
    """From the same matched picture, on the frame as it came."""
    host, image = host_of(square, level=level), frame()
    host.views.params["bends"] = 0
    host.launch("bend_region")
    random = np.random.default_rng(3)
    host.arrays["matched"] = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    host.arrays["alpha"] = disc()
    host.launch("blend_region")
    paste(image, square, BT709, np.asarray(host.arrays["matched"], np.uint8), disc() * np.float32(level))
    for got, expected in zip(host.region("b"), planes_of(image, part_of(image, square)), strict=True):
        most, mean = difference(got, expected)
        assert most <= 1
        assert mean < 0.02


def check_whole(host: HostFrame, square: Square, colour: Colour, level: float) -> None:
    image = frame(colour)
    host.launch(*DRAW, "copy_out")
    host.write_back(image, square)
    expected = cpu_frame(host, square, colour, level)
    for got, plane in ((image.y, expected.y), (image.u, expected.u), (image.v, expected.v)):
        most, mean = difference(got, plane)
        assert most <= 2
        assert mean < 0.05
    assert (image.y != frame(colour).y).any()


@pytest.mark.parametrize(
    ("square", "colour", "level"),
    [(square, BT709, 1.0) for square in SQUARES]
    + [(SQUARES[i], colour, 0.7) for colour in COLOURS for i in (0, 3)],
    ids=str,
)
def test_the_whole_region_is_the_cpus(square: Square, colour: Colour, level: float) -> None:
    check_whole(host_of(square, colour, level=level), square, colour, level)


@pytest.mark.parametrize("size_px", [224, 384])
def test_so_it_is_at_the_sizes_of_real_crops(size_px: int) -> None:
    square = Square(-20, 10, 300)
    check_whole(host_of(square, size_px=size_px), square, BT709, 1.0)


@pytest.mark.parametrize("square", SQUARES, ids=str)
def test_what_neither_mask_nor_movement_touches_keeps_its_bytes(square: Square) -> None:
    """Those pixels, and chroma samples, that the CPU leaves alone too."""
    host, image = host_of(square), frame()
    host.launch(*DRAW, "copy_out")
    host.write_back(image, square)
    side, part = square.side_px, part_of(image, square)
    shift = np.abs(widened(wave(), SIZE)).max(-1)
    touched = np.maximum(host.arrays["alpha"], shift) > 0
    near = cv2.dilate(touched.astype(np.uint8), np.ones((5, 5), np.uint8))  # the reach of the resizing
    large = cv2.resize(near, (side, side), interpolation=cv2.INTER_LINEAR_EXACT) > 0
    large = (
        cv2.dilate(large.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    )  # the other pixels of a chroma's four
    left, top = part.x - square.x, part.y - square.y
    for step, got, came in zip((1, 2, 2), host.region("b"), host.region("r"), strict=True):
        mask = large[top : top + part.height : step, left : left + part.width : step]
        assert (~mask).any()
        np.testing.assert_array_equal(got[~mask], came[~mask])


def test_only_the_part_comes_back() -> None:
    host = host_of(Square(-40, 250, 300))
    host.launch(*DRAW, "copy_out")
    width, height = int(host.views.params["part_w"]), int(host.views.params["part_h"])
    assert (host.views.out_y[height:] == GARBAGE).all()
    assert (host.views.out_y[:, -(-width // 16) * 16 :] == GARBAGE).all()
    for got, made in zip(
        (host.views.out_y, host.views.out_u, host.views.out_v), host.region("b"), strict=True
    ):
        np.testing.assert_array_equal(got[: made.shape[0], : made.shape[1]], made)


def test_with_a_mask_of_zeros_every_byte_is_kept() -> None:
    host, image = host_of(SQUARES[3]), frame()
    host.arrays["mask"] = np.zeros((SIZE, SIZE), np.float32)
    host.set_bend(np.zeros_like(wave()), 1.0)
    host.launch(*DRAW, "copy_out")
    host.write_back(image, SQUARES[3])
    for plane in ("y", "u", "v"):
        np.testing.assert_array_equal(getattr(image, plane), getattr(frame(), plane))


@pytest.mark.parametrize("square", [SQUARES[0], SQUARES[3]], ids=str)
def test_the_order_of_threads_and_the_launch_are_nothing_to_the_bytes(square: Square) -> None:
    results = []
    for backwards, shape in ((False, None), (True, None), (False, (1, 1)), (True, (3, 7))):
        host = host_of(square, level=0.8)
        host.launch(*DRAW, backwards=backwards, shape=shape)
        results.append(host.region("b"))
    for other in results[1:]:
        for got, plane in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, plane)
