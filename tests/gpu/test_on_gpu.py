"""What only a device can prove. Skipped without one, unless LIVEDUB_REQUIRE_CUDA=1: then they fail.

    LIVEDUB_REQUIRE_CUDA=1 python -m pytest tests/gpu -m gpu
    compute-sanitizer --tool memcheck --error-exitcode 1 python -m pytest tests/gpu -k "not Backends"
    compute-sanitizer --tool racecheck --error-exitcode 1 python -m pytest tests/gpu -k "not Backends"

The kernels are held to themselves compiled for the CPU, stage by stage, then whole frames to `CpuPainter`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pytest

from benchmarks.painters import opened as opened_here
from engine.actor.pack import ActorPack
from engine.arrays import U8, Array
from engine.backends.cuda.audio import AudioGraph
from engine.backends.cuda.batch import BatchGraph
from engine.backends.cuda.cuda_core import CudaDriver
from engine.backends.cuda.driver import Driver, GraphNetwork
from engine.backends.cuda.params import CANVAS_CHANNELS, PICTURE_CHANNELS, blocks_of
from engine.backends.cuda_torch import capturing, open_graph_network
from engine.backends.network import Precision, TensorSpec
from engine.errors import BackendError, BackendUnavailable
from engine.expression.audio import LOOK_AHEADS_MS, AudioToExpression, shipped_model
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.painting import CpuPainter, GpuPainter, HeadToPaint
from engine.render.renderer import open_renderer
from tests.conftest import REQUIRE_CUDA
from tests.support.data import astronaut
from tests.support.fake_cuda import FakeDriver
from tests.support.fake_network import FakeNetwork
from tests.support.host_cuda import host_kernels
from tests.support.toy_actor import SIZE_PX, crop_head, opened, toy_actor

pytestmark = pytest.mark.gpu

BT709 = Colour("bt709", full_range=False)
SQUARES = [Square(110, 20, 224), Square(160, 50, 130), Square(60, -40, 380), Square(300, 190, 226)]
PLANES = ("y", "u", "v")
SMALL = blocks_of(SIZE_PX)


class Bound(NamedTuple):
    """How far a stage may be from its twin: at most, and in the mean."""

    most: float
    mean: float


class Stage(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any  # None: the network's
    bound: Bound


# Set from the arithmetic, before any run on a device: a level where a rounding may fall the other way, half
# precision's 5e-4, and 1.8 bit weights of the texture unit (at most 1.4e-2 for a texture of noise).
STAGES = {
    "crop": Stage((SIZE_PX, SIZE_PX, 3), np.uint8, Bound(1, 0.01)),
    "bent": Stage((SIZE_PX, SIZE_PX, 3), np.uint8, Bound(1, 0.01)),
    "mask": Stage((SIZE_PX, SIZE_PX), np.float32, Bound(1e-5, 1e-6)),
    "canvas": Stage((SIZE_PX, SIZE_PX, CANVAS_CHANNELS), None, Bound(2e-2, 1e-3)),
    "rgb": Stage((SIZE_PX, SIZE_PX, 3), np.uint8, Bound(1, 0.01)),
    "alpha": Stage((SIZE_PX, SIZE_PX), np.float32, Bound(1e-5, 1e-6)),
    "sums": Stage((SMALL, SMALL, 4), np.float32, Bound(30, 0.3)),
    "offset": Stage((SMALL, SMALL, 3), np.float32, Bound(0.05, 0.01)),
    "matched": Stage((SIZE_PX, SIZE_PX, 3), np.uint8, Bound(1, 0.02)),
}
REGION = Bound(2, 0.02)
WHOLE: dict[Precision, Bound] = {"f32": Bound(3, 0.3), "f16": Bound(4, 0.3)}  # against CpuPainter in float32
SPEECH = 2e-3  # expression of the audio network, float32


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    device = CudaDriver()
    yield device
    device.close()


@dataclass(frozen=True)
class Place:
    """Memory of somebody else's."""

    address: int
    size_bytes: int

    def close(self) -> None: ...


class FixedNetwork:
    """A network whose picture is always the same."""

    name = "fixed"

    def __init__(self, driver: Driver, picture: Array) -> None:
        self.precision: Precision = "f32"
        shape = (1, SIZE_PX, SIZE_PX, CANVAS_CHANNELS)
        self.inputs = {"canvas": TensorSpec("canvas", shape, picture.dtype)}
        self.outputs = {"picture": TensorSpec("picture", picture.shape, picture.dtype)}
        self._driver, self._picture = driver, picture

    def bind(self, addresses: Mapping[str, int]) -> None:
        self._driver.upload(Place(addresses["picture"], self._picture.nbytes), self._picture)

    def enqueue(self, stream_handle: int) -> None: ...

    def close(self) -> None: ...


def some_picture(dtype: type) -> Array:
    random = np.random.default_rng(3)
    return random.uniform(0, 1, (1, SIZE_PX, SIZE_PX, PICTURE_CHANNELS)).astype(dtype)


def twin_of(actor: ActorPack, picture: Array) -> GpuPainter:
    """The same kernels compiled for the CPU."""
    kind = "__half" if picture.dtype == np.float16 else "float"
    files = ("geometry.cu", "crop.cu", "composite.cu")
    driver = FakeDriver(kernels=host_kernels(*files, canvas=kind, picture=kind))
    fixed = FixedNetwork(driver, picture)
    network = FakeNetwork(
        driver, [*fixed.inputs.values()], [*fixed.outputs.values()], lambda feeds: {"picture": picture}
    )
    return GpuPainter(actor, driver, network)


def frame() -> I420:
    return rgb_to_i420(astronaut()[:361, :451], BT709)  # odd sizes


def head_in(image: I420, square: Square, level: float = 0.9, wanted_cm: float = 1.1) -> HeadToPaint:
    source = read_square(image, square, BT709, SIZE_PX)
    assert source is not None
    pose = crop_head(yaw_deg=12, roll_deg=5)
    return HeadToPaint(square, pose, source, BT709, opened(0.3), opened(wanted_cm), level)


def painted(painter: GpuPainter | CpuPainter, square: Square, **changes: float) -> I420:
    image = frame()
    painter.paint(image, head_in(image, square, **changes))
    return image


def assert_near(what: str, got: Array, expected: Array, bound: Bound) -> None:
    off = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    assert np.isfinite(off).all(), what
    assert off.max() <= bound.most, f"{what}: {off.max()} at most"
    assert off.mean() <= bound.mean, f"{what}: {off.mean()} in the mean"


def same_bytes(a: I420, b: I420) -> bool:
    return all(np.array_equal(getattr(a, plane), getattr(b, plane)) for plane in PLANES)


@pytest.fixture(scope="module", params=[np.float16, np.float32], ids=["half", "single"])
def pair(driver: Driver, request: pytest.FixtureRequest) -> Iterator[tuple[GpuPainter, GpuPainter]]:
    """The same actor and network on the device, and its twin."""
    actor, picture = toy_actor("random"), some_picture(request.param)
    painter = GpuPainter(actor, driver, FixedNetwork(driver, picture))
    yield painter, twin_of(actor, picture)
    painter.close()


class TestKernels:
    @pytest.mark.parametrize("square", SQUARES, ids=str)
    def test_every_stage_is_as_on_the_cpu(self, pair: tuple[GpuPainter, GpuPainter], square: Square) -> None:
        (on_device, twin), dtype = pair, pair[0].graph.canvas_dtype.type
        got, expected = painted(on_device, square), painted(twin, square)
        for name, stage in STAGES.items():
            kind = stage.dtype or dtype
            result = on_device.graph.read(name, stage.shape, kind)
            assert_near(name, result, twin.graph.read(name, stage.shape, kind), stage.bound)
        for plane in PLANES:
            assert_near(plane, getattr(got, plane), getattr(expected, plane), REGION)
        assert not same_bytes(got, frame())


class TestGraph:
    def test_a_replay_gives_what_the_steps_give_one_by_one(self, pair: tuple[GpuPainter, GpuPainter]) -> None:
        painter, square = pair[0], SQUARES[2]
        outputs: list[list[U8]] = []
        for eager in (False, True, False):
            image = frame()
            painting = painter.fill_in(image, head_in(image, square))
            assert painting is not None
            painter.graph.submit(painting.slot, eager=eager)
            painter.graph.finish(painting.slot)
            assert painting.slot.device_ms > 0
            outputs.append([getattr(painting.slot, f"out_{plane}").copy() for plane in PLANES])
        for other in outputs[1:]:
            for one, again in zip(outputs[0], other, strict=True):
                np.testing.assert_array_equal(one[:300, :300], again[:300, :300])

    def test_two_frames_on_the_device_do_not_disturb_each_other(
        self, pair: tuple[GpuPainter, GpuPainter]
    ) -> None:
        painter = pair[0]
        alone = [painted(painter, square) for square in SQUARES[:2]]
        images = [frame(), frame()]
        paintings = [
            painter.submit(image, head_in(image, square))
            for image, square in zip(images, SQUARES, strict=False)
        ]
        for painting in paintings:
            assert painting is not None
            painter.finish(painting)
        assert all(same_bytes(a, b) for a, b in zip(images, alone, strict=True))

    def test_frames_of_every_size_allocate_nothing(self, driver: Driver) -> None:
        counting = Counting(driver)
        painter = GpuPainter(toy_actor("random"), counting, FixedNetwork(driver, some_picture(np.float16)))
        painted(painter, SQUARES[0])
        made, free_bytes = counting.made, driver.free_bytes()
        for _ in range(25):
            for square in SQUARES:
                painted(painter, square)
        assert counting.made == made > 0
        assert driver.free_bytes() == free_bytes
        painter.close()

    def test_opening_and_closing_leaks_nothing(self, driver: Driver) -> None:
        def once() -> int:
            fixed = FixedNetwork(driver, some_picture(np.float16))
            GpuPainter(toy_actor("random"), driver, fixed).close()
            return driver.free_bytes()

        once()
        after_one = once()
        for _ in range(8):
            last = once()
        assert last >= after_one

    def test_a_batch_gives_what_each_gives_alone(self, driver: Driver) -> None:
        painters = [
            GpuPainter(toy_actor("random", seed), driver, FixedNetwork(driver, some_picture(np.float16)))
            for seed in range(3)
        ]
        alone = [painted(painter, square) for painter, square in zip(painters, SQUARES, strict=False)]
        batch = BatchGraph(driver)
        batch.set_members([painter.graph for painter in painters])
        for _ in range(3):
            images = [frame() for _ in painters]
            paintings = [
                painter.fill_in(image, head_in(image, square))
                for painter, image, square in zip(painters, images, SQUARES, strict=False)
            ]
            assert batch.submit([painting.slot for painting in paintings if painting is not None]) == {}
            for painter, painting in zip(painters, paintings, strict=True):
                assert painting is not None
                painter.finish(painting)
            assert all(same_bytes(a, b) for a, b in zip(images, alone, strict=True))
        batch.close()
        for painter in painters:
            painter.close()


class Counting:
    """A driver that counts what is made."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self.made = driver, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driver, name)
        if name not in {"buffer", "mapped", "texture", "event", "stream", "capture", "upload"}:
            return found
        return self._counted(found)

    def _counted(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.made += 1
            return make(*arguments)

        return counted


def missing(error: BackendError) -> NoReturn:
    """A backend that is not here: told, and a failure on a machine that is said to have all."""
    if REQUIRE_CUDA:
        pytest.fail(f"LIVEDUB_REQUIRE_CUDA=1, but {error}")
    pytest.skip(str(error))


class TestBackends:
    @pytest.mark.parametrize("precision", ["f32", "f16"])
    @pytest.mark.parametrize("backend", ["cuda-torch", "tensorrt"])
    def test_a_whole_frame_is_as_on_the_cpu(self, driver: Driver, backend: str, precision: Precision) -> None:
        actor = toy_actor("random")
        reference = CpuPainter(open_renderer(actor, "onnxruntime", precision="f32"))
        try:
            painter = opened_here(actor, backend, precision, driver)
        except BackendError as error:
            missing(error)
        assert isinstance(painter, GpuPainter)
        for square in SQUARES:
            got, expected = painted(painter, square), painted(reference, square)
            for plane in PLANES:
                assert_near(plane, getattr(got, plane), getattr(expected, plane), WHOLE[precision])
        painter.close()

    def test_the_audio_network_says_the_same(self, driver: Driver) -> None:
        try:
            network: GraphNetwork = open_graph_network(shipped_model(), "f32", driver)
        except BackendUnavailable as error:
            missing(error)
        said, expected = speech(capturing(driver), network)
        np.testing.assert_allclose(said, expected, atol=SPEECH)


def speech(driver: Driver, network: GraphNetwork) -> tuple[Array, Array]:
    """Ten steps of one stream, on the device and on the CPU."""
    steps, look_ahead_ms = 10, LOOK_AHEADS_MS[1]
    mels = np.random.default_rng(1).normal(-6, 2, (1, 4 * steps, 80)).astype(np.float32)
    alone = AudioToExpression(look_ahead_ms)
    initial = {name: array[0] for name, array in alone.initial_state(1).items()}
    graph, said = AudioGraph(driver, network, initial), []
    for at in range(steps):
        slot = graph.begin()
        slot.inputs["code"][:] = np.array(LOOK_AHEADS_MS) == look_ahead_ms
        slot.inputs["style"][:] = 0
        slot.inputs["mels"][:] = mels[:, 4 * at : 4 * at + 4]
        graph.submit(slot)
        graph.finish(slot)
        said.append(slot.outputs["expression"].copy())
    graph.close()
    expected, _ = alone.step(mels, alone.initial_state(1))
    return np.concatenate(said, 1), expected
