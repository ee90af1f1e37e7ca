"""Painting step by step: what a frame shows, against the steps written out, and what failure leaves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.arrays import F32
from engine.composite.bend import bend, bend_frame, displacement
from engine.composite.blend import border_window, match_colour, paste
from engine.errors import BackendError
from engine.face.crop import crop_pose
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour
from engine.painting import CpuPainter, HeadToPaint, open_painter
from engine.render.renderer import Rendered, open_renderer
from tests.support.toy_actor import crop_head, opened, pose, toy_actor

WIDTH, HEIGHT = 480, 360
BT709 = Colour("bt709", full_range=False)
ACTOR = toy_actor("random")
SQUARE = Square(100, 40, 260)
PLANES = ("y", "u", "v")


@pytest.fixture(scope="module")
def painter() -> CpuPainter:
    return CpuPainter(open_renderer(ACTOR, "onnxruntime", precision="f32"))


def picture() -> I420:
    random = np.random.default_rng(3)
    chroma = (HEIGHT // 2, WIDTH // 2)
    return I420(
        random.integers(60, 200, (HEIGHT, WIDTH), dtype=np.uint8),
        random.integers(100, 150, chroma, dtype=np.uint8),
        random.integers(100, 150, chroma, dtype=np.uint8),
    )


def wanted(image: I420, painter: CpuPainter, **changes: Any) -> HeadToPaint:
    """A head in the middle of the square that opens its mouth."""
    head = crop_pose(pose(scale_px=14, yaw_deg=3, x_px=230, y_px=150), SQUARE, painter.size_px)
    source = read_square(image, SQUARE, BT709, painter.size_px)
    assert source is not None
    return replace(HeadToPaint(SQUARE, head, source, BT709, opened(0.2), opened(1.2), 0.8), **changes)


def same(a: I420, b: I420) -> bool:
    return all(np.array_equal(getattr(a, plane), getattr(b, plane)) for plane in PLANES)


def by_hand(image: I420, head: HeadToPaint) -> None:
    """The steps, one after the other."""
    renderer = open_renderer(ACTOR, "onnxruntime", precision="f32")
    size, level, source = renderer.size_px, np.float32(head.level), head.source
    if head.shown is not None:
        shift = displacement(renderer.model, renderer.neutral, head.shown, head.wanted, head.pose, size)
        bend_frame(image, head.square, shift * level)
        source = np.asarray(bend(source, shift), np.uint8)
    out = Rendered.empty(size)
    renderer.render(source, head.pose, head.wanted, out=out)
    window = border_window(size)
    rgb = match_colour(out.rgb, source, out.mask * window, out.alpha * window)
    paste(image, head.square, head.colour, rgb, out.alpha * window * level)


@pytest.mark.parametrize("shown", [None, opened(0.2)])
def test_paints_what_the_steps_give(painter: CpuPainter, shown: F32 | None) -> None:
    got, want = picture(), picture()
    head = wanted(got, painter, shown=shown)
    assert painter.paint(got, head) is None
    by_hand(want, head)
    assert same(got, want)
    assert not same(got, picture())


def test_debug_pictures_are_the_callers(painter: CpuPainter) -> None:
    image = picture()
    head = wanted(image, painter, keep_debug=True)
    first = painter.paint(image.copy(), head)
    assert first is not None
    kept = first.rendered.copy()
    second = painter.paint(image.copy(), replace(head, wanted=opened(0.0)))
    assert second is not None
    np.testing.assert_array_equal(first.rendered, kept)
    assert (second.rendered != kept).any()
    assert first.square == SQUARE


def drawn(painter: CpuPainter, **changes: Any) -> F32:
    """The expression that one more frame shows."""
    image = picture()
    debug = painter.paint(image, wanted(image, painter, keep_debug=True, **changes))
    assert debug is not None
    return debug.expression


def test_a_picture_is_shown_again_once(painter: CpuPainter) -> None:
    first, second, third = opened(1.0), opened(0.5), opened(0.2)
    np.testing.assert_array_equal(drawn(painter, wanted=first), first)
    np.testing.assert_array_equal(drawn(painter, wanted=second, again=True), first)
    np.testing.assert_array_equal(drawn(painter, wanted=third, again=True), third)
    np.testing.assert_array_equal(drawn(painter, wanted=second), second)
    turned = drawn(painter, wanted=first, again=True, pose=crop_head(yaw_deg=20))
    np.testing.assert_array_equal(turned, first)


def test_a_device_that_fails_closes_the_painter(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = open_renderer(ACTOR, "onnxruntime", precision="f32")
    painter, calls = CpuPainter(renderer), []

    def fail(*_: object, **__: object) -> None:
        calls.append(1)
        raise BackendError("the device is gone")

    image = picture()
    head = wanted(image, painter)
    monkeypatch.setattr(renderer, "render", fail)
    with pytest.raises(BackendError, match="the device is gone"):
        painter.paint(image, head)
    with pytest.raises(BackendError, match="the painter is closed"):
        painter.paint(image, head)
    assert calls == [1]


@pytest.mark.parametrize("end", [CpuPainter.close, lambda painter: (painter.close(), painter.close())])
def test_a_closed_painter_paints_nothing(end: Callable[[CpuPainter], object]) -> None:
    painter = CpuPainter(open_renderer(ACTOR, "onnxruntime", precision="f32"))
    image = picture()
    head = wanted(image, painter)
    end(painter)
    with pytest.raises(BackendError, match="closed"):
        painter.paint(image, head)
    assert same(image, picture())


def test_open_painter_opens_on_the_cpu() -> None:
    painter = open_painter(ACTOR, "onnxruntime", precision="f32")
    assert isinstance(painter, CpuPainter)
    assert painter.name == "onnxruntime f32"
    assert painter.neutral.shape == ACTOR.neutral.shape
    assert painter.size_px == ACTOR.manifest.image_size_px
    painter.close()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        open_painter(ACTOR, "nonsense")
