"""Different actors in one graph, with the kernels compiled for the CPU: each is painted as it is alone."""

import numpy as np

from engine.backends import load_network
from engine.backends.cuda.batch import BatchGraph
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.painting import GpuPainter, HeadToPaint
from engine.render.renderer import renderer_graph
from tests.support.data import astronaut
from tests.support.fake_cuda import FakeDriver
from tests.support.fake_network import on_cpu
from tests.support.host_cuda import host_kernels
from tests.support.toy_actor import SIZE_PX, crop_head, opened, toy_actor

BT709 = Colour("bt709", full_range=False)
SQUARES = [Square(110, 20, 224), Square(60, -40, 380)]


def frame() -> I420:
    return rgb_to_i420(astronaut()[:361, :451], BT709)


def head_in(image: I420, square: Square, wanted_cm: float) -> HeadToPaint:
    source = read_square(image, square, BT709, SIZE_PX)
    assert source is not None
    return HeadToPaint(square, crop_head(yaw_deg=8), source, BT709, opened(0.3), opened(wanted_cm), 1.0)


def test_a_batch_gives_what_each_gives_alone() -> None:
    driver = FakeDriver(kernels=host_kernels("geometry.cu", "crop.cu", "composite.cu"))
    painters = []
    for seed in (1, 2):
        actor = toy_actor("random", seed)
        network = load_network(renderer_graph(actor), backend="onnxruntime", precision="f32")
        painters.append(GpuPainter(actor, driver, on_cpu(driver, network)))
    heads = [head_in(frame(), square, 1.2) for square in SQUARES]
    alone, together = [frame() for _ in painters], [frame() for _ in painters]
    for painter, image, head in zip(painters, alone, heads, strict=True):
        painter.paint(image, head)
    batch = BatchGraph(driver)
    batch.set_members([painter.graph for painter in painters])
    paintings = [
        painter.fill_in(image, head) for painter, image, head in zip(painters, together, heads, strict=True)
    ]
    assert batch.submit([painting.slot for painting in paintings if painting is not None]) == {}
    for painter, painting in zip(painters, paintings, strict=True):
        assert painting is not None
        painter.finish(painting)
    for one, other in zip(alone, together, strict=True):
        assert (one.y != frame().y).any()
        for plane in ("y", "u", "v"):
            np.testing.assert_array_equal(getattr(one, plane), getattr(other, plane))
    assert (alone[0].y != alone[1].y).any()
    for painter in painters:
        painter.close()
    batch.close()
    assert driver.open == []
    assert driver.violations == []
