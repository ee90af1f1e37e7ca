"""The dub of one frame, stage by stage: 1280 x 720, a made-up actor, everything but tracking and codecs.

`step` is 40 ms of a stream: sound and a frame pushed, a frame dubbed; the other rows are its parts, measured
on their own.
"""

from itertools import count

import cv2
import numpy as np

from benchmarks.common import Settings, measure, results_of
from benchmarks.schema import Result
from engine.composite.bend import bend_frame, displacement
from engine.composite.blend import match_colour, paste
from engine.dubber import Dubber
from engine.expression.audio import AudioToExpression
from engine.expression.speech import STEP_SAMPLES, SpeechToExpression
from engine.face.crop import crop_pose, follow
from engine.face.fit import Fitter
from engine.face.model import LANDMARKS
from engine.image.resize import read_square
from engine.image.yuv import I420, Colour
from engine.painting import CpuPainter
from engine.render.renderer import Rendered, open_renderer
from tests.support.toy_actor import landmarks, opened, pose, toy_actor

SUITE = "dub"
DEADLINE_MS = 40.0  # of a frame at 25 per second
WIDTH_PX, HEIGHT_PX = 1280, 720
LOOK_AHEAD_MS = 120
COLOUR = Colour("bt709", full_range=False)


def run(settings: Settings) -> list[Result]:
    """See the module."""
    cv2.setNumThreads(1)
    actor = toy_actor("random")
    renderer = open_renderer(actor, settings.backend)
    image, head = _picture(), pose(scale_px=24, yaw_deg=5, x_px=640, y_px=300)
    points = landmarks(head, opened(1.0))
    dubber = Dubber(actor, CpuPainter(renderer), COLOUR, look_ahead_ms=LOOK_AHEAD_MS)
    sound = (0.1 * np.random.default_rng(0).standard_normal(STEP_SAMPLES)).astype(np.float32)
    times = count()

    def step() -> None:
        dubber.push_audio(sound)
        dubber.push_video(image, next(times) / 25, points)
        dubber.step()

    fitter = Fitter(renderer.model, actor.neutral[:LANDMARKS])
    state = fitter.fit(points)
    square, size = follow(None, state.pose).square, renderer.size_px
    source = read_square(image, square, COLOUR, size)
    if source is None:
        raise ValueError("the toy actor's face is outside the picture")
    out, crop = Rendered.empty(size), crop_pose(state.pose, square, size)
    renderer.render(source, crop, state.expression, out=out)
    matched = match_colour(out.rgb, source, out.mask, out.alpha)
    speech = SpeechToExpression(AudioToExpression(LOOK_AHEAD_MS))
    bent = (renderer.model, renderer.neutral, state.expression, opened(0.2), crop, size)
    shift = displacement(*bent)
    stages = {
        "step": step,
        "fit": lambda: fitter.fit(points),
        "read the crop": lambda: read_square(image, square, COLOUR, size),
        "how to bend": lambda: displacement(*bent),
        "bend the frame": lambda: bend_frame(image, square, shift),
        "render": lambda: renderer.render(source, crop, state.expression, out=out),
        "match colour": lambda: match_colour(out.rgb, source, out.mask, out.alpha),
        "paste": lambda: paste(image, square, COLOUR, matched, out.alpha),
        "40 ms of sound": lambda: speech.push(sound),
    }
    parameters: dict[str, str | int | float] = {"renderer": renderer.name, "crop_px": square.side_px}
    results = []
    for name, stage in stages.items():
        timing = measure(stage, settings.warmup, settings.runs)
        deadline_ms = DEADLINE_MS if name == "step" else None
        results += results_of(SUITE, name, timing, deadline_ms=deadline_ms, parameters=parameters)
    return results


def _picture() -> I420:
    random = np.random.default_rng(0)
    luma = random.integers(16, 235, (HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    u, v = random.integers(16, 235, (2, HEIGHT_PX // 2, WIDTH_PX // 2), dtype=np.uint8)
    return I420(luma, u.copy(), v.copy())
