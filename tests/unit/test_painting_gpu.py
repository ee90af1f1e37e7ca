"""The host's part of painting on a GPU, and the whole of it with the kernels run on the CPU.

The bounds are how far the two pictures may differ anywhere in the frame: 3 levels, and 0.3 in the mean.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from engine.actor.pack import ActorPack
from engine.backends import load_network
from engine.backends.cuda.cuda_core import CudaDriver
from engine.backends.cuda.params import MAX_SIDE
from engine.backends.cuda.slots import SLOTS
from engine.dubber import Dubber
from engine.errors import ActorPackError, BackendError, BackendUnavailable
from engine.face.crop import crop_pose
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.painting import (
    GPU_BACKENDS,
    CpuPainter,
    GpuPainter,
    HeadToPaint,
    open_gpu_painter,
    open_painter,
)
from engine.render.renderer import open_renderer, renderer_graph
from tests.support.data import astronaut
from tests.support.fake_cuda import FakeDriver, failing_from
from tests.support.fake_network import FakeNetwork, on_cpu
from tests.support.host_cuda import host_kernels
from tests.support.toy_actor import landmarks, opened, pose, toy_actor
from tests.support.voice import voice

BT709, BT601 = Colour("bt709", full_range=False), Colour("bt601", full_range=True)
ACTOR = toy_actor("random")
PLANES = ("y", "u", "v")
MOST, MEAN = 3, 0.3


def gpu_painter(driver: FakeDriver, actor: ActorPack = ACTOR, **how: Any) -> GpuPainter:
    network = load_network(renderer_graph(actor), backend="onnxruntime", precision="f32")
    return GpuPainter(actor, driver, on_cpu(driver, network), **how)


@pytest.fixture(scope="module")
def on_gpu() -> Iterator[GpuPainter]:
    driver = FakeDriver(kernels=host_kernels("geometry.cu", "crop.cu", "composite.cu"))
    painter = gpu_painter(driver)
    yield painter
    painter.close()
    assert driver.violations == []
    assert driver.open == []


@pytest.fixture(scope="module")
def on_cpu_alone() -> CpuPainter:
    return CpuPainter(open_renderer(ACTOR, "onnxruntime", precision="f32"))


def photograph(width: int, height: int, colour: Colour = BT709) -> I420:
    rgb = astronaut()
    return rgb_to_i420(np.ascontiguousarray(cv2.resize(rgb, (width, height))), colour)


def head_in(image: I420, square: Square, *, colour: Colour = BT709, **changes: Any) -> HeadToPaint:
    """A head in the middle of the square that speaks."""
    size = ACTOR.manifest.image_size_px
    scale = square.side_px / 18.5
    middle = pose(
        scale_px=scale,
        yaw_deg=4,
        roll_deg=3,
        x_px=square.x + square.side_px / 2,
        y_px=square.y + square.side_px * 0.42,
    )
    source = read_square(image, square, colour, size)
    assert source is not None
    head = crop_pose(middle, square, size)
    return replace(HeadToPaint(square, head, source, colour, opened(0.3), opened(1.3), 1.0), **changes)


def distances(a: I420, b: I420) -> tuple[int, float]:
    """The largest difference anywhere, and the mean one of the plane that differs most."""
    apart = [np.abs(getattr(a, plane).astype(int) - getattr(b, plane)) for plane in PLANES]
    return int(max(plane.max() for plane in apart)), float(max(plane.mean() for plane in apart))


@pytest.mark.parametrize(
    ("square", "size", "changes"),
    [
        (Square(120, 60, 260), (480, 360), {}),
        (Square(120, 60, 260), (480, 360), {"shown": None}),
        (Square(120, 60, 260), (480, 360), {"level": 0.4}),
        (Square(150, 100, 120), (480, 360), {}),
        (Square(100, 20, 224), (480, 360), {"colour": BT601}),
        (Square(-80, 40, 300), (480, 360), {}),
        (Square(300, -60, 240), (481, 361), {}),
        (Square(-20, 200, 300), (301, 387), {}),
        (Square(20, 10, 700), (800, 720), {}),
    ],
    ids=["shrinks", "not bent", "fades", "grows", "same size", "left", "odd corner", "odd bottom", "large"],
)
def test_the_device_paints_what_the_cpu_paints(
    on_gpu: GpuPainter,
    on_cpu_alone: CpuPainter,
    square: Square,
    size: tuple[int, int],
    changes: dict[str, Any],
) -> None:
    before = photograph(*size, changes.get("colour", BT709))
    head = head_in(before, square, **changes)
    got, want = before.copy(), before.copy()
    assert on_gpu.paint(got, head) is None
    on_cpu_alone.paint(want, head)
    most, mean = distances(got, want)
    assert distances(want, before)[0] > 10
    assert most <= MOST
    assert mean <= MEAN


def test_a_head_larger_than_the_device_holds_is_painted_shrunk(
    on_gpu: GpuPainter, on_cpu_alone: CpuPainter
) -> None:
    """As on the CPU but for the finest detail; what is not painted keeps its bytes."""
    square = Square(-200, -100, MAX_SIDE + 400)
    before = photograph(1500, 1400)
    head = head_in(before, square, shown=None)
    got, want = before.copy(), before.copy()
    on_gpu.paint(got, head)
    on_cpu_alone.paint(want, head)
    drawn = want.y != before.y
    assert drawn.sum() > 100_000
    assert np.abs(got.y.astype(int) - want.y)[drawn].mean() < 1.5
    beyond = cv2.dilate(drawn.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    np.testing.assert_array_equal(got.y[beyond], before.y[beyond])


def test_a_head_outside_the_frame_is_left_alone(on_gpu: GpuPainter) -> None:
    image = photograph(480, 360)
    before = image.copy()
    head = replace(head_in(image, Square(120, 60, 260)), square=Square(900, 60, 260))
    assert on_gpu.paint(image, head) is None
    assert distances(image, before) == (0, 0)


def test_nothing_shows_at_level_0(on_gpu: GpuPainter) -> None:
    image = photograph(480, 360)
    before = image.copy()
    on_gpu.paint(image, head_in(image, Square(120, 60, 260), level=0.0))
    assert distances(image, before) == (0, 0)


def test_debug_pictures_are_those_of_the_cpu(on_gpu: GpuPainter, on_cpu_alone: CpuPainter) -> None:
    image = photograph(480, 360)
    head = head_in(image, Square(120, 60, 260), keep_debug=True)
    got, want = on_gpu.paint(image.copy(), head), on_cpu_alone.paint(image.copy(), head)
    assert got is not None
    assert want is not None
    for name in ("source", "rendered", "matched"):
        apart = np.abs(getattr(got, name).astype(int) - getattr(want, name))
        assert apart.max() <= MOST, name
        assert apart.mean() <= MEAN, name
    np.testing.assert_allclose(got.alpha, want.alpha, atol=0.01)
    np.testing.assert_array_equal(got.expression, want.expression)


def test_the_last_picture_is_never_shown_again(on_gpu: GpuPainter) -> None:
    image = photograph(480, 360)
    fresh, other = image.copy(), image.copy()
    head = head_in(image, Square(120, 60, 260))
    on_gpu.paint(fresh, head)
    on_gpu.paint(image.copy(), replace(head, wanted=opened(0.0)))
    on_gpu.paint(other, replace(head, again=True))
    assert distances(fresh, other) == (0, 0)


def test_two_frames_may_be_on_the_device(on_gpu: GpuPainter) -> None:
    alone, together = ([photograph(480, 360), photograph(500, 400)] for _ in range(2))
    heads = [head_in(alone[0], Square(120, 60, 260)), head_in(alone[1], Square(60, 90, 300), level=0.5)]
    for image, head in zip(alone, heads, strict=True):
        on_gpu.paint(image, head)
    submitted = [on_gpu.submit(image, head) for image, head in zip(together, heads, strict=True)]
    with pytest.raises(ValueError, match="every slot"):
        on_gpu.submit(photograph(480, 360), heads[0])
    assert len(submitted) == SLOTS
    for painting in submitted:
        assert painting is not None
        on_gpu.finish(painting)
    for one, other in zip(alone, together, strict=True):
        assert distances(one, other) == (0, 0)


def stream(painter: GpuPainter | CpuPainter, *, tracked: bool) -> list[I420]:
    """What a dubber makes of a few frames."""
    dubber = Dubber(ACTOR, painter, BT709, look_ahead_ms=0, tracked=tracked)
    dubber.push_audio(voice(1.0))
    images = []
    for index in range(6):
        head = pose(scale_px=14, yaw_deg=3, x_px=230 + 2 * index, y_px=150 + index)
        dubber.push_video(photograph(480, 360), index / 25, landmarks(head, opened(abs(np.sin(index)))))
        frame = dubber.step()
        assert frame is not None
        images.append(frame.image)
    return images


@pytest.mark.parametrize("tracked", [False, True])
def test_a_whole_stream_is_dubbed_as_on_the_cpu(
    on_gpu: GpuPainter, on_cpu_alone: CpuPainter, tracked: bool
) -> None:
    streams = (stream(painter, tracked=tracked) for painter in (on_gpu, on_cpu_alone))
    for got, want in zip(*streams, strict=True):
        most, mean = distances(got, want)
        assert distances(want, photograph(480, 360))[0] > 10
        assert most <= MOST
        assert mean <= MEAN


def test_a_frame_allocates_nothing_on_the_device() -> None:
    driver = FakeDriver()
    painter = gpu_painter(driver)
    image = photograph(480, 360)
    head = head_in(image, Square(120, 60, 260))
    start, made = len(driver.calls), len(driver.made)
    for _ in range(3):
        painter.paint(image, head)
    assert len(driver.made) == made
    kinds = {call.kind for call in driver.calls[start:]}
    assert kinds <= {"use", "record", "graph launch", "event wait"}
    painter.close()
    assert driver.open == []


class TestFailing:
    @pytest.mark.parametrize("kind", ["graph launch", "event wait"])
    def test_a_device_that_fails_closes_the_painter_and_leaves_the_frame(self, kind: str) -> None:
        driver = FakeDriver()
        painter = gpu_painter(driver, owns_driver=True)
        image = photograph(480, 360)
        before, head = image.copy(), head_in(image, Square(120, 60, 260))
        painter.paint(image.copy(), head)
        driver.fail = failing_from(len(driver.calls), kind)
        with pytest.raises(BackendError, match="CUDA"):
            painter.paint(image, head)
        assert distances(image, before) == (0, 0)
        assert driver.open == []
        assert driver.log[-1] == "close"
        with pytest.raises(BackendError, match="the painter is closed"):
            painter.paint(image, head)

    def test_a_driver_of_others_stays_open(self) -> None:
        driver = FakeDriver()
        painter = gpu_painter(driver)
        painter.close()
        painter.close()
        assert driver.open == []
        assert "close" not in driver.log

    def test_an_actor_that_does_not_fit_leaves_nothing_open(self) -> None:
        driver = FakeDriver()
        shapes = load_network(renderer_graph(ACTOR), backend="onnxruntime", precision="f32")
        network: FakeNetwork = on_cpu(driver, shapes)
        wrong = replace(ACTOR, texture=ACTOR.texture[:8])
        with pytest.raises(ActorPackError, match="8 channels"):
            GpuPainter(wrong, driver, network, owns_driver=True)
        assert network.closed
        assert driver.open == []
        assert driver.log[-1] == "close"

    def test_a_device_without_memory_leaves_nothing_open(self) -> None:
        driver = FakeDriver()
        driver.fail = failing_from(0, "make")
        with pytest.raises(BackendError):
            gpu_painter(driver, owns_driver=True)
        assert driver.open == []
        assert driver.log[-1] == "close"


class TestOpening:
    def test_without_a_gpu_nothing_is_opened_instead(self) -> None:
        for backend in GPU_BACKENDS:
            try:
                CudaDriver().close()
            except BackendUnavailable:
                with pytest.raises(BackendUnavailable, match="GPU"):
                    open_painter(ACTOR, backend)
            else:
                pytest.skip("there is a GPU here")

    @pytest.mark.parametrize(
        ("backend", "precision", "error", "why"),
        [
            ("tensorrt", "auto", BackendError, "livedub export"),
            ("cuda-torch", "auto", BackendUnavailable, "needs an NVIDIA GPU"),
            ("cuda-torch", "int8", BackendUnavailable, "not int8"),
        ],
    )
    def test_what_cannot_be_opened_lets_the_device_go(
        self, monkeypatch: pytest.MonkeyPatch, backend: str, precision: Any, error: Any, why: str
    ) -> None:
        driver = FakeDriver()
        monkeypatch.setattr("engine.backends.cuda.cuda_core.CudaDriver", lambda: driver)
        with pytest.raises(error, match=why):
            open_painter(ACTOR, backend, precision=precision)
        assert driver.log[-1] == "close"
        assert driver.open == []

    def test_an_actor_on_torch_is_captured_by_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = FakeDriver()
        shapes = load_network(renderer_graph(ACTOR), backend="onnxruntime", precision="f32")
        network, made = on_cpu(driver, shapes), []

        def captured(wrapped: FakeDriver) -> FakeDriver:
            made.append(wrapped)
            return wrapped

        monkeypatch.setattr("engine.backends.cuda_torch.open_graph_network", lambda *_: network)
        monkeypatch.setattr("engine.backends.cuda_torch.capturing", captured)
        painter = open_gpu_painter(ACTOR, driver, "cuda-torch")
        assert made == [driver]
        assert painter.size_px == ACTOR.manifest.image_size_px
        assert painter.name == painter.graph.name
        painter.close()
        assert driver.open == []
        assert "close" not in driver.log
