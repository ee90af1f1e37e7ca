"""What the suites run: made-up actors, frames, and one stream's work on them.

Nothing here needs footage. A stream's frames show one real face (NASA, public domain) that moves in a circle:
it is tracked, and dubbed by an actor that is made up. Every stream has another actor: its own texture,
weights and network.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import cv2
import numpy as np
import skimage.data

from benchmarks.painters import opened as opened_painter
from engine.actor.pack import ActorPack
from engine.arrays import F32
from engine.backends import WantedPrecision, rounded_tensors
from engine.dubber import Dubber
from engine.errors import AssetError, BackendError
from engine.expression.speech import STEP_SAMPLES
from engine.face.landmarks import COUNT
from engine.face.model import Pose
from engine.face.tracker import FaceTracker
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.painting import Painter
from engine.render.renderer import EXACT, RANGES, renderer_graph
from tests.support.toy_actor import landmarks, opened, pose, toy_actor

WIDTH_PX, HEIGHT_PX = 1280, 720
FRAME_MS = 40.0  # 25 frames a second
LOOK_AHEAD_MS = 120
COLOUR = Colour("bt709", full_range=False)
HEAD_PX_PER_CM = 24.0  # a head of half the height of the picture
CIRCLE_PX, CIRCLE_FRAMES = 20.0, 25
NO_FACE: F32 = np.full((COUNT, 3), np.nan, np.float32)
HEARD_AHEAD_MS = LOOK_AHEAD_MS + FRAME_MS
_NS_PER_S, _NS_PER_MS = 1e9, 1e6


def bench_actor(seed: int = 0) -> ActorPack:
    """A made-up actor of the shipped tier, with ranges for int8; for its time any ranges do."""
    actor = toy_actor("random", seed)
    count = len(rounded_tensors(renderer_graph(actor), EXACT))
    ranges = np.tile(np.array([-4, 4], np.float32), (count, 1))
    return replace(actor, extras={**actor.extras, RANGES: ranges})


def wall_picture(width: int = WIDTH_PX, height: int = HEIGHT_PX) -> I420:
    """A frame without edges: nothing in it can hide a face that is made up."""
    ramp = np.linspace(90, 160, width, dtype=np.float32)[None] + np.linspace(0, 20, height)[:, None]
    luma = np.asarray(ramp, np.uint8)
    half = (height // 2, width // 2)
    return I420(luma, np.full(half, 118, np.uint8), np.full(half, 140, np.uint8))


def head_at(frame: int, scale_px: float = HEAD_PX_PER_CM) -> Pose:
    """Where the head is: on a circle, turning a little."""
    turn = 2 * np.pi * frame / CIRCLE_FRAMES
    return pose(
        scale_px=scale_px,
        yaw_deg=float(5 * np.sin(turn)),
        x_px=WIDTH_PX / 2 + float(CIRCLE_PX * np.cos(turn)),
        y_px=HEIGHT_PX / 2 + float(CIRCLE_PX * np.sin(turn)),
    )


def noise_of_a_frame(random: np.random.Generator) -> F32:
    """40 ms of sound that a voice detector takes for speech often enough, float32 [640]."""
    return np.asarray(0.1 * random.standard_normal(STEP_SAMPLES), np.float32)


@cache
def moving_frames(count: int = CIRCLE_FRAMES) -> tuple[I420, ...]:
    """A face of about 230 px on a circle, one round; read-only by agreement."""
    picture = np.array(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    picture = np.asarray(cv2.resize(picture, (WIDTH_PX, WIDTH_PX)), np.uint8)[:HEIGHT_PX]
    turns = [2 * np.pi * index / CIRCLE_FRAMES for index in range(count)]
    shifts = [(round(CIRCLE_PX * np.sin(turn)), round(CIRCLE_PX * np.cos(turn))) for turn in turns]
    return tuple(rgb_to_i420(np.roll(picture, shift, axis=(0, 1)), COLOUR) for shift in shifts)


@dataclass(frozen=True)
class Clock:
    """Where a stream's time comes from; tests pass their own."""

    now_ns: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep
    cpu_ns: Callable[[], int] = time.process_time_ns


@dataclass
class StreamRun:
    """What came of frames that arrived on time.

    Attributes:
        latency_ms: from each frame's arrival to its dub.
        at_s: arrivals, since the first.
        cpu_ms: CPU time of the process for each frame.
        cpu_s: of the process, meanwhile, with all that is between the frames.
        wall_s: from the first arrival to the last dub.
        dubbed: frames that show the dub.
    """

    latency_ms: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    dubbed: int = 0


class Stream:
    """One stream of one made-up actor: frame by frame, or in real time.

    Args:
        backend: of the painter; None is the default.
        precision: of the painter.
        seed: of actor and sound.
    """

    def __init__(self, backend: str | None, precision: WantedPrecision = "auto", seed: int = 0) -> None:
        cv2.setNumThreads(1)
        actor = bench_actor(seed)
        self.painter: Painter = opened_painter(actor, backend, precision)
        self._dubber = Dubber(actor, self.painter, COLOUR, look_ahead_ms=LOOK_AHEAD_MS)
        self._frames, self._picture = moving_frames(), wall_picture()
        self._random = np.random.default_rng(seed)
        self._count = 0
        for _ in range(round(HEARD_AHEAD_MS / FRAME_MS)):
            self._dubber.push_audio(noise_of_a_frame(self._random))

    @cached_property
    def tracker(self) -> FaceTracker | None:
        """The stream's own; None without its model."""
        try:
            return FaceTracker()
        except (AssetError, BackendError):
            return None

    @cached_property
    def _made_up(self) -> list[F32]:
        """Landmarks for streams without a tracker."""
        return [landmarks(head_at(index), opened(0.5)) for index in range(CIRCLE_FRAMES)]

    def frame(self) -> bool:
        """All the work of the next frame and of the sound that comes with it; whether the dub shows."""
        source = self._frames[self._count % CIRCLE_FRAMES]
        if self.tracker is None:
            points, confidence, cut = self._made_up[self._count % CIRCLE_FRAMES], 1.0, False
        else:
            found = self.tracker.step_frame(source, COLOUR)
            points = NO_FACE if found is None else found.landmarks
            confidence, cut = 0.0 if found is None else found.confidence, self.tracker.cut
        for plane, taken in zip(_planes(self._picture), _planes(source), strict=True):
            np.copyto(plane, taken)
        self._dubber.push_audio(noise_of_a_frame(self._random))
        self._dubber.push_video(self._picture, self._count / 25, points, confidence, cut=cut)
        self._count += 1
        done = self._dubber.step()
        return done is not None and done.shown == "dubbed"

    def run(self, start_ns: int, frames: int, clock: Clock = Clock()) -> StreamRun:
        """Frames that arrive every 40 ms from `start_ns` (monotonic) on, whether we are ready or not."""
        run, cpu_ns, done_ns = StreamRun(), clock.cpu_ns(), start_ns
        for index in range(frames):
            due_ns = start_ns + round(index * FRAME_MS * _NS_PER_MS)
            early_ns = due_ns - clock.now_ns()
            if early_ns > 0:
                clock.sleep(early_ns / _NS_PER_S)
            begun_ns = clock.cpu_ns()
            run.dubbed += self.frame()
            done_ns = clock.now_ns()
            run.cpu_ms.append((clock.cpu_ns() - begun_ns) / _NS_PER_MS)
            run.latency_ms.append((done_ns - due_ns) / _NS_PER_MS)
            run.at_s.append((due_ns - start_ns) / _NS_PER_S)
        run.cpu_s = (clock.cpu_ns() - cpu_ns) / _NS_PER_S
        run.wall_s = (done_ns - start_ns) / _NS_PER_S
        return run

    def close(self) -> None:
        """Let the device go."""
        self.painter.close()


def _planes(image: I420) -> tuple["np.typing.NDArray[np.uint8]", ...]:
    return image.y, image.u, image.v
