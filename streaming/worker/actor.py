"""Opening an actor in a worker so that its first real frame costs no more than any other."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from engine.actor.consent import require_consent
from engine.actor.pack import ActorPack, Manifest, read_pack
from engine.arrays import F32
from engine.backends import WantedPrecision, rounded_tensors
from engine.dubber import Dubber
from engine.errors import LivedubError
from engine.expression.audio import STYLE_SIZE
from engine.face.detector import Region
from engine.face.landmarks import COUNT
from engine.face.model import ASSET as FACE_MODEL_ASSET
from engine.face.model import Pose, load_face_model
from engine.face.tracker import FaceTracker
from engine.image.yuv import I420, Colour
from engine.painting import Painter, open_painter
from engine.render.renderer import EXACT, PRIOR_ASSETS, RANGES, asset_sha256, prior_graph
from engine.timing import AUDIO_RATE_HZ
from streaming.types import NS_PER_S
from streaming.worker.wire import Measure, Open

WARM_FRAMES = 6  # enough to be past the fade-in
MEASURED_FRAMES = 30
FRAME_S = 0.04
REGION_CM = 25.0
FACE_SHARE = 0.03  # scale of the head in a picture's height, per cm: a face of half the height
MADE_UP_TIER, MADE_UP_SIZE_PX, MADE_UP_TEXTURE_PX, MADE_UP_CHANNELS = "cpu", 224, 256, 16
MADE_UP_RANGE = (-8.0, 8.0)  # of every tensor that int8 rounds
_COLOUR = Colour("bt709", full_range=False)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedActor:
    """An actor that is ready to be dubbed.

    Attributes:
        painter: compiled, and warm; the caller's to close.
        tracker: for one stream; warm, and without a memory.
        make_dubber: a new dubber, for one stream.
        warning: what the operator must be told: a consent that was overridden.
    """

    painter: Painter
    tracker: FaceTracker
    make_dubber: Callable[[], Dubber]
    warning: str | None


def open_actor(order: Open) -> OpenedActor:
    """Open a pack as it was ordered, and draw a few pictures with it.

    Raises:
        InputError: the pack cannot be used, or has no consent that holds.
        AssetError: the face models are missing.
        BackendError: the painter cannot run here.
    """
    pack = read_pack(Path(order.actor))
    warning = require_consent(pack, order.now_iso, override=order.override_consent)
    precision = cast(WantedPrecision, order.precision)
    painter = open_painter(pack, order.backend, precision=precision)

    def make_dubber() -> Dubber:
        return Dubber(pack, painter, _COLOUR, look_ahead_ms=order.look_ahead_ms, silence=order.idle)

    with ExitStack() as opened:
        opened.callback(painter.close)
        rehearsal = Rehearsal(pack, make_dubber(), order.width, order.height)
        for _ in range(WARM_FRAMES):
            rehearsal.step()
        opened.pop_all()
    tracker = rehearsal.tracker
    tracker.reset()
    return OpenedActor(painter, tracker, make_dubber, warning)


def warm_up() -> Iterator[None]:
    """Load and compile, in pieces, all that does not depend on the actor; he shows what is missing."""
    try:
        pack = made_up_pack()
        yield
        with closing(open_painter(pack)) as painter:
            yield
            dubber = Dubber(pack, painter, _COLOUR)
            yield
            rehearsal = Rehearsal(pack, dubber, 320, 240)
            for _ in range(2):
                yield
                rehearsal.step()
    except LivedubError as error:
        log.warning("a worker could not warm up: %s", error)


def measure_frame_s(order: Measure, clock_ns: Callable[[], int]) -> float:
    """Seconds of CPU that a frame takes, tracking and sound included; the median of some.

    Raises:
        InputError, AssetError, BackendError: as for `open_actor`.
    """
    pack = made_up_pack() if order.actor is None else read_pack(Path(order.actor))
    times = []
    with closing(open_painter(pack)) as painter:
        rehearsal = Rehearsal(pack, Dubber(pack, painter, _COLOUR), order.width, order.height)
        for _ in range(WARM_FRAMES + MEASURED_FRAMES):
            began_ns = clock_ns()
            rehearsal.step()
            times.append((clock_ns() - began_ns) / NS_PER_S)
    return float(np.median(times[WARM_FRAMES:]))


def made_up_pack() -> ActorPack:
    """An actor that nobody is: the face model's mean, grey, with the prior as it is shipped.

    It can be drawn in every precision, as adapted ones can: what is measured is what sessions will use.
    """
    model = load_face_model()
    neutral = model.extend(model.canonical)
    rounded = len(rounded_tensors(prior_graph(MADE_UP_TIER), EXACT))
    grey = (1, MADE_UP_SIZE_PX, MADE_UP_SIZE_PX, 3)
    manifest = Manifest(
        name="nobody",
        created="2000-01-01T00:00:00+00:00",
        face_model_sha256=asset_sha256(FACE_MODEL_ASSET),
        prior_sha256=asset_sha256(PRIOR_ASSETS[MADE_UP_TIER]),
        tier=MADE_UP_TIER,
        image_size_px=MADE_UP_SIZE_PX,
        seconds_used=0.0,
        rights="made up",
        consent=None,
        metrics={},
    )
    return ActorPack(
        manifest=manifest,
        neutral=neutral,
        mean_residual=np.zeros_like(neutral),
        texture=np.zeros((MADE_UP_CHANNELS, MADE_UP_TEXTURE_PX, MADE_UP_TEXTURE_PX), np.float16),
        style=np.zeros(STYLE_SIZE, np.float32),
        references=np.full(grey, 128, np.uint8),
        weights={},
        extras={RANGES: np.tile(np.array(MADE_UP_RANGE, np.float32), (rounded, 1))},
    )


class Rehearsal:
    """Frames of an actor who speaks noise before a grey wall, through all that a real frame goes through.

    The tracker does a followed face's work; the landmarks are then made up, as a grey wall has none.
    """

    def __init__(self, pack: ActorPack, dubber: Dubber, width: int, height: int) -> None:
        self.tracker = FaceTracker()
        self.tracker.step_frame(I420.blank(width, height), _COLOUR)  # the detector's first run
        self._dubber, self._count = dubber, 0
        self._image = I420.blank(width, height)
        scale = FACE_SHARE * height
        head = Pose(scale, np.eye(3), np.array([width / 2, height / 2, 0.0]))
        self._points: F32 = np.zeros((COUNT, 3), np.float32)
        skin = head.apply(pack.neutral[: COUNT - 10])
        self._points[: len(skin)] = skin
        self._region = Region(width / 2, height / 2, REGION_CM * scale, 0.0)
        self._noise = np.random.default_rng(0)

    def step(self) -> None:
        """One frame and its sound."""
        self.tracker.rehearse(self._image, _COLOUR, self._region)
        samples = self._noise.standard_normal(round(FRAME_S * AUDIO_RATE_HZ)) * 0.1
        self._dubber.push_audio(samples.astype(np.float32))
        self._dubber.push_video(self._image, FRAME_S * self._count, self._points)
        self._dubber.step()
        self._count += 1
