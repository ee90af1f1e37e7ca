"""Every step of a frame and of 40 ms of sound, one by one: 1280 x 720, a made-up actor.

Steps that no backend changes are measured once; the network, the painting as a whole and the whole frame
for each backend and precision. Painters that draw on a device tell the time between two of its events,
and how long handing the work over takes, beside the host's time.
"""

from collections.abc import Callable, Iterator
from itertools import cycle

import cv2
import numpy as np

from benchmarks.bodies import (
    COLOUR,
    FRAME_MS,
    HEAD_PX_PER_CM,
    LOOK_AHEAD_MS,
    Stream,
    bench_actor,
    head_at,
    moving_frames,
    noise_of_a_frame,
    wall_picture,
)
from benchmarks.common import Settings, results_of
from benchmarks.device import painting_results
from benchmarks.painters import Variant, tracking_skipped, variants
from benchmarks.schema import Result
from engine.actor.pack import ActorPack
from engine.arrays import F32, U8
from engine.audio.logmel import LogMel
from engine.audio.vad import SpeechGate
from engine.backends import load_network, quantised
from engine.composite.bend import bend, bend_frame, displacement
from engine.composite.blend import border_window, match_colour, paste
from engine.expression.audio import MEL_BANDS, MELS_PER_STEP, AudioToExpression
from engine.face.crop import crop_pose, follow
from engine.face.fit import Fitter
from engine.face.model import LANDMARKS
from engine.face.occlusion import CoverWatch
from engine.face.tracker import FaceTracker
from engine.image.resize import read_square
from engine.painting import HeadToPaint
from engine.render.canvas import empty_canvas, fill_canvas, split_picture
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask
from engine.render.raster import rasterise
from engine.render.renderer import EXACT, INPUT, OUTPUT, RANGES, Rendered, open_renderer, renderer_graph
from tests.support.toy_actor import landmarks, opened

SUITE = "stages"
HOST = "any"  # what no backend changes
Stage = tuple[str, str, Callable[[], object]]  # of what it is a part, its name, the work


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
    """
    cv2.setNumThreads(1)
    chosen = list(variants(settings, SUITE, every_precision=True))
    actor = bench_actor(settings.seed)
    results: list[Result] = []
    shared = [*_sound(settings), *_tracking(settings), *Frame(actor).stages()]
    total = len(shared) + len(chosen)
    for index, (part_of, name, work) in enumerate(shared):
        settings.on_progress(f"{SUITE}: {name}", index, total)
        parameters: dict[str, str | int | float] = {
            "part_of": part_of,
            "stage": name,
            "backend": HOST,
            "order": index,
        }
        results += results_of(SUITE, name, settings.measure(work), parameters=parameters)
    for index, variant in enumerate(chosen):
        settings.on_progress(f"{SUITE}: {variant.label}", len(shared) + index, total)
        results += _of_backend(variant, actor, settings)
    return results


def _sound(settings: Settings) -> Iterator[Stage]:
    random = np.random.default_rng(settings.seed)
    sound = noise_of_a_frame(random)
    mel, gate, network = LogMel(), SpeechGate(), AudioToExpression(LOOK_AHEAD_MS)
    mel_state, state = mel.initial_state(1), network.initial_state(1)
    mels = np.zeros((1, MELS_PER_STEP, MEL_BANDS), np.float32)
    yield "sound", "log-mel", lambda: mel.step(sound[None], mel_state)
    yield "sound", "voice detector", lambda: gate.push(sound)
    yield "sound", "audio network", lambda: network.step(mels, state)


def _tracking(settings: Settings) -> Iterator[Stage]:
    stream = Stream(None, seed=settings.seed)
    tracker: FaceTracker | None = stream.tracker
    stream.close()
    if tracker is None:
        tracking_skipped(settings, SUITE)
        return
    frames = cycle(moving_frames())
    yield "frame", "track", lambda: tracker.step_frame(next(frames), COLOUR)


class Frame:
    """One frame's steps on the CPU, in order, each with the true results of those before it.

    Args:
        actor: whose face is drawn.
        scale_px: size of the head, px per cm.
    """

    def __init__(self, actor: ActorPack, scale_px: float = HEAD_PX_PER_CM) -> None:
        renderer = open_renderer(actor)
        self.model, self.neutral, self.size_px = renderer.model, renderer.neutral, renderer.size_px
        self._texture = np.ascontiguousarray(actor.texture.transpose(1, 2, 0), np.float32)
        self._reference = actor.references[0]
        self.image, head = wall_picture(), head_at(0, scale_px)
        self.points = landmarks(head, opened(1.0))
        self.fitter = Fitter(self.model, actor.neutral[:LANDMARKS])
        self.state = self.fitter.fit(self.points)
        self.square = follow(None, self.state.pose).square
        self.pose = crop_pose(self.state.pose, self.square, self.size_px)
        self.wanted: F32 = opened(0.2)
        source = read_square(self.image, self.square, COLOUR, self.size_px)
        if source is None:
            raise ValueError("the made-up face is outside the picture")
        self.source: U8 = source
        self.out = Rendered.empty(self.size_px)
        renderer.render(self.source, self.pose, self.wanted, out=self.out)

    def head(self) -> HeadToPaint:
        """What a painter is told."""
        return HeadToPaint(
            self.square, self.pose, self.source, COLOUR, self.state.expression, self.wanted, level=1.0
        )

    def stages(self) -> Iterator[Stage]:
        """Everything but the network."""
        size, watch = self.size_px, CoverWatch(self.model, self.neutral)
        moves = (self.model, self.neutral, self.state.expression, self.wanted, self.pose, size)
        shift, window = displacement(*moves), border_window(size)
        mask, alpha = self.out.mask * window, self.out.alpha * window
        matched = match_colour(self.out.rgb, self.source, mask, alpha)
        yield "frame", "fit", lambda: self.fitter.fit(self.points)
        yield "frame", "read the crop", lambda: read_square(self.image, self.square, COLOUR, size)
        yield "frame", "watch for cover", lambda: watch.look(self.source, self.pose, self.state, cut=False)
        yield "frame", "how to bend", lambda: displacement(*moves)
        yield "frame", "bend the frame", lambda: bend_frame(self.image, self.square, shift)
        yield "frame", "bend the crop", lambda: bend(self.source, shift)
        yield from self._render_stages()
        yield "frame", "match colour", lambda: match_colour(self.out.rgb, self.source, mask, alpha)
        yield "frame", "paste", lambda: paste(self.image, self.square, COLOUR, matched, alpha)

    def _render_stages(self) -> Iterator[Stage]:
        size, model, pose = self.size_px, self.model, self.pose
        canvas, picture = empty_canvas(self._texture, self._reference), np.zeros((size, size, 4), np.float32)
        vertices = model.vertices(self.neutral, self.wanted, pose)
        corners = hull(model, self.neutral, self.wanted, pose)
        soft = (corners, MARGIN_CM * pose.scale_px, FEATHER_CM * pose.scale_px, size, size)
        mesh = (vertices, model.triangles, model.layers, model.uv, size, size)
        uv_map, mask = rasterise(*mesh), soft_mask(*soft)
        yield (
            "frame",
            "mesh",
            lambda: (
                model.vertices(self.neutral, self.wanted, pose),
                hull(model, self.neutral, self.wanted, pose),
            ),
        )
        yield "frame", "soft mask", lambda: soft_mask(*soft)
        yield "frame", "raster", lambda: rasterise(*mesh)
        yield (
            "frame",
            "sample the texture",
            lambda: fill_canvas(self._texture, uv_map, mask, self.source, canvas[0]),
        )
        yield "frame", "split the picture", lambda: split_picture(picture, mask, self.out.rgb, self.out.alpha)


def _of_backend(variant: Variant, actor: ActorPack, settings: Settings) -> Iterator[Result]:
    frame, runs = Frame(actor), max(1, settings.runs // 2)
    parameters: dict[str, str | int | float] = {
        "backend": variant.backend, "variant": variant.label, "crop_px": frame.square.side_px,
    }  # fmt: skip
    if not variant.on_device:
        name, work = f"{variant.label}: network", _network(variant, actor)
        about = parameters | {"part_of": "frame", "stage": "network"}
        yield from results_of(SUITE, name, settings.measure(work, runs=runs), parameters=about)
    stream = Stream(variant.backend, variant.precision, settings.seed)
    name, about = f"{variant.label}: painting", parameters | {"stage": "painting"}
    yield from painting_results(SUITE, name, stream.painter, (frame.image, frame.head()), settings, about)
    name, about = f"{variant.label}: whole frame and its sound", parameters | {"stage": "whole"}
    timing = settings.measure(stream.frame, runs=runs)
    yield from results_of(SUITE, name, timing, deadline_ms=FRAME_MS, parameters=about)
    stream.close()


def _network(variant: Variant, actor: ActorPack) -> Callable[[], object]:
    """The renderer's network alone, as `open_renderer` opens it."""
    graph = renderer_graph(actor)
    if variant.precision == "int8":
        graph = quantised(graph, np.asarray(actor.extras[RANGES], np.float32), EXACT)
    network = load_network(graph, backend=variant.backend, precision=variant.precision)
    canvas = np.zeros(tuple(size or 1 for size in network.inputs[INPUT].shape), np.float32)
    picture = np.zeros(tuple(size or 1 for size in network.outputs[OUTPUT].shape), np.float32)
    return lambda: network.run_into({INPUT: canvas}, {OUTPUT: picture})
