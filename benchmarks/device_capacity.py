"""How many streams one GPU paints at 25 frames a second: a batch of all of them at every tick of 40 ms.

Only painting is counted: tracking and sound are the host's, and other machines can do them. Every tick
fills in all streams' frames on one thread of the host, launches them as one graph, and waits for each;
latency counts from the tick. Streams are of different actors; more streams than `ACTORS` share some,
which costs the device the same: each has its own memory and its own branch of the graph.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from benchmarks.bench_stages import Frame
from benchmarks.bodies import FRAME_MS, Clock, StreamRun, bench_actor
from benchmarks.common import Settings, summarise
from benchmarks.load import load_between, read_counters
from benchmarks.painters import Variant, opened
from benchmarks.schema import Load, Result
from benchmarks.tries import SUITE, Tries, tried_row
from engine.backends.cuda.batch import BatchGraph
from engine.backends.cuda.driver import Driver
from engine.errors import BackendError
from engine.painting import CUDA_TORCH, GpuPainter, Painter
from engine.painting.gpu import Painting

ACTORS = 8
MOST_STREAMS = 1024
WARM_TICKS = 5
WINDOW_SHARE = 0.5  # of the seconds of a run, for each number of streams that is tried
SPARE_SHARE = 0.9  # of a frame's time, that the first guess fills
_NS_PER_MS, _NS_PER_S = 1e6, 1e9
_CLOCK = Clock()
OpenPainter = Callable[[int, Driver], Painter]


def open_cuda() -> Driver:
    """The first GPU."""
    from engine.backends.cuda.cuda_core import CudaDriver

    return CudaDriver()


@dataclass
class Ticks:
    """What came of a number of ticks.

    Attributes:
        run: every stream's latency from its tick.
        device_ms: of each tick's batch, between its events.
        enqueue_ms: of each tick, until the batch was handed over.
    """

    run: StreamRun = field(default_factory=StreamRun)
    device_ms: list[float] = field(default_factory=list)
    enqueue_ms: list[float] = field(default_factory=list)


def capturing_for(backend: str, driver: Driver) -> Driver:
    """The device as graphs of a backend have to be captured."""
    if backend != CUDA_TORCH:
        return driver
    from engine.backends import cuda_torch

    return cuda_torch.capturing(driver)


class DeviceStreams(Tries):
    """See the module.

    Args:
        variant: how they paint.
        settings: of the run.
        open_driver: the device.
        open_stream: the painter of a stream, by its number.
    """

    def __init__(
        self,
        variant: Variant,
        settings: Settings,
        open_driver: Callable[[], Driver] = open_cuda,
        open_stream: OpenPainter | None = None,
    ) -> None:
        super().__init__(variant, settings)
        self._driver = open_driver()
        self.stack.callback(self._driver.close)
        self._open = open_stream or self._opened
        self._painters: list[GpuPainter] = []
        self._batch = BatchGraph(capturing_for(variant.backend, self._driver))
        self.stack.callback(self._batch.close)
        self._frame = Frame(bench_actor(settings.seed))
        self._tick_ms = 0.0  # with one stream, the host's time

    def _opened(self, number: int, driver: Driver) -> Painter:
        actor = bench_actor(self.settings.seed + number % ACTORS)
        return opened(actor, self.variant.backend, self.variant.precision, driver)

    @property
    def most(self) -> int:
        """No more than any GPU paints."""
        return 2 if self.settings.quick else MOST_STREAMS

    def guess(self) -> int:
        """As many as fit if each costs what one does."""
        return max(1, int(SPARE_SHARE * FRAME_MS / self._tick_ms)) if self._tick_ms else 1

    def holds(self, count: int) -> bool:
        """Paint so many streams' frames at every tick."""
        self.settings.on_progress(f"{SUITE}: {self.variant.label}, {count} at once", len(self.tried), None)
        self._have(count)
        for _ in range(WARM_TICKS):
            self._tick(count)
        seconds = self.settings.seconds * WINDOW_SHARE
        ticks = 3 if self.settings.quick else max(1, round(seconds * 1000 / FRAME_MS))
        before = read_counters()
        done = self.run(count, ticks)
        load = load_between(before, read_counters())
        self.tried += self._rows(count, done, load)
        wall = next(row for row in reversed(self.tried) if row.clock == "wall")
        self.quiet = self.quiet and wall.trusted
        self._tick_ms = self._tick_ms or wall.p50
        self.cpu_ms = self.cpu_ms or 1000 * done.run.cpu_s / len(done.run.latency_ms)
        return wall.p99 <= FRAME_MS

    def run(self, count: int, ticks: int, clock: Clock = _CLOCK) -> Ticks:
        """Ticks every 40 ms, whether the one before is done or not."""
        done, start_ns, cpu_ns = Ticks(), clock.now_ns(), clock.cpu_ns()
        for tick in range(ticks):
            due_ns = start_ns + round(tick * FRAME_MS * _NS_PER_MS)
            early_ns = due_ns - clock.now_ns()
            if early_ns > 0:
                clock.sleep(early_ns / _NS_PER_S)
            handed_ns, finished_ns, device_ms = self._tick(count, clock)
            done.enqueue_ms.append((handed_ns[1] - handed_ns[0]) / _NS_PER_MS)
            done.device_ms.append(device_ms)
            done.run.latency_ms += [(one - due_ns) / _NS_PER_MS for one in finished_ns]
            done.run.at_s += [(due_ns - start_ns) / _NS_PER_S] * count
        done.run.dubbed = len(done.run.latency_ms)
        done.run.cpu_s = (clock.cpu_ns() - cpu_ns) / _NS_PER_S
        done.run.wall_s = (clock.now_ns() - start_ns) / _NS_PER_S
        return done

    def _tick(self, count: int, clock: Clock = _CLOCK) -> tuple[tuple[int, int], list[int], float]:
        """When the batch began and was handed over, when each frame was finished, and the device's time."""
        began_ns = clock.now_ns()
        paintings = [self._filled(painter) for painter in self._painters[:count]]
        failed = self._batch.submit([painting.slot for painting in paintings])
        handed_ns, finished_ns = clock.now_ns(), []
        if failed:
            raise next(iter(failed.values()))
        for painter, painting in zip(self._painters, paintings, strict=False):
            painter.finish(painting)
            finished_ns.append(clock.now_ns())
        return (began_ns, handed_ns), finished_ns, paintings[0].slot.device_ms

    def _filled(self, painter: GpuPainter) -> Painting:
        painting = painter.fill_in(self._frame.image, self._frame.head())
        if painting is None:
            raise BackendError("the made-up face is outside the picture")
        return painting

    def _have(self, count: int) -> None:
        for number in range(len(self._painters), count):
            painter = self._open(number, self._driver)
            self.stack.callback(painter.close)
            if not isinstance(painter, GpuPainter):
                raise BackendError(f"{painter.name} does not paint on a device")
            self._painters.append(painter)
        self._batch.set_members([painter.graph for painter in self._painters[:count]])

    def _rows(self, count: int, done: Ticks, load: Load | None) -> list[Result]:
        wall = tried_row(self.variant, count, done.run, load, WARM_TICKS)
        shared = partial(
            summarise, SUITE, wall.name, warmup=WARM_TICKS, parameters=wall.parameters, load=load
        )
        return [wall, shared(done.device_ms, clock="device"), shared(done.enqueue_ms, clock="enqueue")]
