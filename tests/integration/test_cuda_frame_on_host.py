"""A frame by the GPU's kernels, compiled for the CPU, and the network between them; against `CpuPainter`.

What the GPU adds to that (half precision, its texture unit's rounding, threads at once) is not seen here.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from engine.actor.pack import ActorPack
from engine.arrays import F32
from engine.backends import Network, load_network
from engine.backends.cuda.kernels import AFTER_NETWORK, BEFORE_NETWORK
from engine.composite.bend import coarse_displacement
from engine.face.crop import crop_pose
from engine.face.model import Pose, load_face_model
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.painting.cpu import CpuPainter
from engine.painting.protocol import HeadToPaint
from engine.render.renderer import open_renderer, renderer_graph
from tests.support.data import astronaut
from tests.support.host_frame import HostFrame
from tests.support.kernel_twins import difference
from tests.support.toy_actor import SIZE_PX, crop_head, opened, toy_actor

BT709 = Colour("bt709", full_range=False)
SHOWN_CM, WANTED_CM = 0.3, 1.1


@dataclass(frozen=True)
class Actor:
    """A pack, opened both ways."""

    pack: ActorPack
    network: Network
    painter: CpuPainter


@pytest.fixture(scope="module")
def actor() -> Actor:
    pack = toy_actor("random", seed=4)
    network = load_network(renderer_graph(pack), backend="onnxruntime", threads=1, precision="f32")
    return Actor(pack, network, CpuPainter(open_renderer(pack, "onnxruntime", precision="f32")))


def frame(colour: Colour = BT709) -> I420:
    return rgb_to_i420(astronaut()[:361, :451], colour)  # odd sizes


def head_in(
    image: I420, square: Square, colour: Colour, level: float, pose: Pose | None = None
) -> HeadToPaint:
    source = read_square(image, square, colour, SIZE_PX)
    assert source is not None
    pose = crop_head(yaw_deg=12, roll_deg=5) if pose is None else pose
    return HeadToPaint(
        square, pose, source, colour, opened(SHOWN_CM), opened(WANTED_CM), level, keep_debug=True
    )


def painted_by_kernels(actor: Actor, image: I420, head: HeadToPaint, *, half: bool = False) -> HostFrame:
    """What a frame graph does, in place."""
    model, neutral = load_face_model(), actor.painter.neutral
    host = HostFrame(SIZE_PX, len(neutral), half=half)
    host.set_actor(model, actor.pack.references[0], actor.pack.texture)
    host.set_region(image, head.square, head.colour)
    host.set_head(model, neutral, head.wanted, head.pose)
    if head.shown is not None:
        field = coarse_displacement(model, neutral, head.shown, head.wanted, head.pose, SIZE_PX)
        host.set_bend(field, head.level)
    host.views.params["level"] = head.level
    host.launch_all(BEFORE_NETWORK)
    picture: F32 = np.empty(host.arrays["picture"].shape, np.float32)
    actor.network.run_into({"canvas": host.arrays["canvas"].astype(np.float32)}, {"picture": picture})
    host.arrays["picture"][:] = picture
    host.launch_all(AFTER_NETWORK)
    host.write_back(image, head.square)
    return host


CASES = [
    (Square(110, 20, 224), BT709, 1.0),
    (Square(160, 50, 130), Colour("bt601", full_range=True), 0.6),
    (Square(60, -40, 380), BT709, 1.0),
    (Square(-70, 60, 260), Colour("bt709", full_range=True), 1.0),
    (Square(300, 190, 226), Colour("bt601", full_range=False), 0.8),
]


@pytest.mark.parametrize(("square", "colour", "level"), CASES, ids=str)
def test_a_frame_is_painted_as_on_the_cpu(actor: Actor, square: Square, colour: Colour, level: float) -> None:
    came, expected, got = frame(colour), frame(colour), frame(colour)
    head = head_in(came, square, colour, level)
    debug = actor.painter.paint(expected, head)
    host = painted_by_kernels(actor, got, head)
    assert debug is not None
    assert difference(host.arrays["bent"], debug.source)[1] < 0.1
    np.testing.assert_allclose(host.arrays["alpha"], debug.alpha, atol=1e-3)
    for name, picture in (("rgb", debug.rendered), ("matched", debug.matched)):
        most, mean = difference(host.arrays[name], picture)
        assert most <= 3
        assert mean < 0.1
    for name in ("y", "u", "v"):
        most, mean = difference(getattr(got, name), getattr(expected, name))
        assert most <= 3
        assert mean < 0.3
    assert (got.y != came.y).mean() > 0.02


def test_outside_the_mask_and_the_movement_the_frame_keeps_its_bytes(actor: Actor) -> None:
    square = Square(60, -40, 380)
    came, expected, got = frame(), frame(), frame()
    head = head_in(came, square, BT709, 1.0)
    actor.painter.paint(expected, head)
    painted_by_kernels(actor, got, head)
    for name in ("y", "u", "v"):
        before, by_cpu, by_kernels = (getattr(image, name) for image in (came, expected, got))
        near = cv2.dilate((by_cpu != before).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert 0.02 < near.mean() < 0.5
        np.testing.assert_array_equal(by_kernels[~near], before[~near])


def test_half_precision_is_as_good_for_the_eye(actor: Actor) -> None:
    """Canvas and picture in half precision, the network between in single."""
    square = Square(60, -40, 380)
    expected, got = frame(), frame()
    head = head_in(expected, square, BT709, 1.0)
    actor.painter.paint(expected, head)
    painted_by_kernels(actor, got, head, half=True)
    for name in ("y", "u", "v"):
        most, mean = difference(getattr(got, name), getattr(expected, name))
        assert most <= 4
        assert mean < 0.3


def test_a_frame_driven_by_its_own_expression_is_not_bent(actor: Actor) -> None:
    square = Square(110, 20, 224)
    expected, got = frame(), frame()
    head = head_in(expected, square, BT709, 1.0)
    tracked = HeadToPaint(square, head.pose, head.source, BT709, None, head.wanted, 1.0)
    actor.painter.paint(expected, tracked)
    host = painted_by_kernels(actor, got, tracked)
    np.testing.assert_array_equal(host.arrays["bent"], host.arrays["crop"])
    most, mean = difference(got.y, expected.y)
    assert most <= 3
    assert mean < 0.3


def test_a_head_in_the_frame_is_found_in_the_crop(actor: Actor) -> None:
    """The pose as the dubber gives it: in the frame, then in the crop; partly beyond the frame's edge."""
    in_frame, square = crop_head(300), Square(200, 150, 300)
    moved = Pose(
        in_frame.scale_px, in_frame.rotation, in_frame.translation_px + np.array([200.0, 150.0, 0.0])
    )
    expected, got = frame(), frame()
    head = head_in(expected, square, BT709, 1.0, crop_pose(moved, square, SIZE_PX))
    actor.painter.paint(expected, head)
    painted_by_kernels(actor, got, head)
    most, mean = difference(got.y, expected.y)
    assert most <= 3
    assert mean < 0.3
    assert (got.y[-1] != frame().y[-1]).any()
