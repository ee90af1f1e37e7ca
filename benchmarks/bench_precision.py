"""The renderer's network in f32, bf16 and int8 on each backend: time of a frame, and what the picture loses.

Loss is measured where a viewer looks: the drawn face composited into the crop, against the same drawn in f32,
and against the real picture (self-reenactment). Two variables of the environment choose the person:

    LIVEDUB_BENCH_ACTOR=name.actor LIVEDUB_BENCH_VIDEO=clip.mp4 python -m benchmarks precision

where the video is of the actor, best with frames that the actor was not adapted on. Without them the prior's
mean texture is drawn on made-up heads: times are right, losses only those against f32, and milder.

int8 takes the actor's own ranges; where there are none, those of the first third of the frames, which are not
measured. What OpenVINO does on a CPU without AMX can be seen on one that has it with ONEDNN_MAX_CPU_ISA set
to AVX512_CORE_VNNI.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import Settings, measure, results_of, summarise
from benchmarks.schema import Result
from engine.actor.pack import ActorPack, read_pack
from engine.arrays import F32, U8
from engine.backends import (
    Network,
    Precision,
    available,
    backend_names,
    load_network,
    quantised,
    with_weights,
)
from engine.composite.blend import border_window, match_colour
from engine.errors import AssetError
from engine.face.model import LANDMARKS, FaceModel, Pose, load_face_model
from engine.face.track import to_rgb, track_video
from engine.media import open_video
from engine.render.canvas import empty_canvas, fill_canvas, split_picture
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask
from engine.render.raster import rasterise
from engine.render.renderer import EXACT, INPUT, OUTPUT, RANGES, prior_graph
from export.metrics import psnr_db, ssim
from export.quantise import measure_ranges

SUITE = "precision"
ACTOR, VIDEO = "LIVEDUB_BENCH_ACTOR", "LIVEDUB_BENCH_VIDEO"
DEADLINE_MS = 40.0  # of a frame at 25 per second
CALIBRATION = 16  # canvases that the integers' ranges are taken from
FRAMES = 32  # that losses are measured on

Distance = Callable[[U8, U8], float]


@dataclass(frozen=True)
class Shot:
    """One frame to draw.

    Attributes:
        canvas: float32 [1, S, S, C + 7], the network's input.
        mask: float32 [S, S], what may be redrawn.
        source: uint8 [S, S, 3], the crop of the frame.
        real: whether `source` is also what should come out.
    """

    canvas: F32
    mask: F32
    source: U8
    real: bool


@dataclass(frozen=True)
class Variant:
    """One way to run the network."""

    backend: str
    precision: Precision

    @property
    def name(self) -> str:
        """For tables: the backend and what it computes in."""
        return f"{self.backend} {self.precision}"


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
        LivedubError: the actor or the video cannot be used, or a backend is missing.
    """
    chosen = list(_variants(settings.backend))
    actor = _actor()
    graph = prior_graph("cpu") if actor is None else with_weights(prior_graph("cpu"), actor.weights)
    calibration, frames = (2, 2) if settings.quick else (CALIBRATION, FRAMES)
    shots = _shots(actor, calibration + frames)
    integers = _quantised(actor, graph, shots[:calibration])
    shots = shots[calibration:] or shots
    exact = load_network(graph, backend="onnxruntime", precision="f32")
    wanted = [_shown(exact, shot) for shot in shots]
    distance = None if settings.quick else _perceptual()
    results = []
    for variant in chosen:
        network = load_network(
            integers if variant.precision == "int8" else graph,
            backend=variant.backend,
            precision=variant.precision,
        )
        results += _measured(variant, network, shots, wanted, distance, settings)
        print(f"  {variant.name}: {results[-1].name} {results[-1].p50:.2f}", file=sys.stderr)
    return results


def _variants(backend: str | None) -> Iterator[Variant]:
    if backend is not None and backend not in backend_names():
        raise ValueError(f"unknown backend '{backend}'; known: {', '.join(backend_names())}")
    for status in available():
        wanted = status.name != "reference" if backend is None else status.name == backend
        if status.available and wanted:
            for precision in status.precisions:
                yield Variant(status.name, precision)


def _measured(
    variant: Variant,
    network: Network,
    shots: list[Shot],
    wanted: list[U8],
    distance: Distance | None,
    settings: Settings,
) -> list[Result]:
    feeds = {INPUT: shots[0].canvas}
    out = network.run(feeds)
    timing = measure(lambda: network.run_into(feeds, out), settings.warmup, settings.runs)
    parameters: dict[str, str | int | float] = {
        "backend": variant.backend,
        "precision": variant.precision,
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
    }
    results = results_of(
        SUITE, f"{variant.name} time", timing, deadline_ms=DEADLINE_MS, parameters=parameters
    )
    for (quantity, unit), values in _losses(network, shots, wanted, distance).items():
        name = f"{variant.name} {quantity}"
        results.append(summarise(SUITE, name, values, unit=unit, parameters=parameters))
    return results


def _losses(
    network: Network, shots: list[Shot], wanted: list[U8], distance: Distance | None
) -> dict[tuple[str, str], list[float]]:
    """Samples of each quantity, one a frame, by name and unit."""
    found: dict[tuple[str, str], list[float]] = {}

    def count(quantity: str, unit: str, value: float | None) -> None:
        if value is not None:
            found.setdefault((quantity, unit), []).append(value)

    for shot, exact in zip(shots, wanted, strict=True):
        shown = _shown(network, shot)
        inside = shot.mask > 0.5
        count("to f32", "dB", psnr_db(shown[inside][None], exact[inside][None]))
        count("to f32, worst pixel", "levels", float(np.abs(shown.astype(int) - exact).max()))
        if shot.real:
            count("face PSNR", "dB", psnr_db(shown, shot.source))
            count("face SSIM", "", ssim(shown, shot.source))
        if shot.real and distance is not None:
            count("face ST-LPIPS", "", distance(shown, shot.source))
    return {(quantity, unit or "1"): values for (quantity, unit), values in found.items()}


def _shown(network: Network, shot: Shot) -> U8:
    """The crop as a viewer sees it, uint8 [S, S, 3]."""
    picture = np.ascontiguousarray(network.run({INPUT: shot.canvas})[OUTPUT][0], np.float32)
    rgb, alpha = np.empty(shot.source.shape, np.uint8), np.empty(shot.mask.shape, np.float32)
    if picture.shape[-1] == 3:  # a prior without an alpha of its own
        picture = np.concatenate([picture, np.ones_like(picture[..., :1])], -1)
    split_picture(picture, shot.mask, rgb, alpha)
    window = border_window(len(alpha))
    alpha *= window
    rgb = match_colour(rgb, shot.source, shot.mask * window, alpha)
    mixed = rgb * alpha[..., None] + shot.source * (1 - alpha[..., None])
    return np.asarray(np.rint(mixed), np.uint8)


def _quantised(actor: ActorPack | None, graph: bytes, shots: list[Shot]) -> bytes:
    ranges = actor.extras.get(RANGES) if actor else None
    if ranges is None:
        ranges = measure_ranges(graph, [shot.canvas for shot in shots])
    return quantised(graph, ranges, EXACT)


def _perceptual() -> Distance | None:
    try:
        from export.perceptual import load_perceptual

        return load_perceptual().distance
    except (ImportError, AssetError) as error:
        print(f"  no perceptual distance: {error}", file=sys.stderr)
        return None


def _actor() -> ActorPack | None:
    path = os.environ.get(ACTOR)
    return read_pack(Path(path)) if path else None


def _shots(actor: ActorPack | None, count: int) -> list[Shot]:
    video = os.environ.get(VIDEO)
    if actor is None or not video:
        return list(_made_up(actor, count))
    return list(_filmed(actor, Path(video), count))


def _filmed(actor: ActorPack, video: Path, count: int) -> Iterator[Shot]:
    """Frames of the actor's own footage, evenly spread."""
    from export.dataset import crop_clip

    size_px, model = actor.manifest.image_size_px, load_face_model()
    track = track_video(video)
    with open_video(video) as frames:
        pictures = (to_rgb(frame.image, frames.info.colour) for frame in frames)
        clip = crop_clip(
            "actor",
            pictures,
            track.landmarks,
            model,
            size_px=size_px,
            neutral=actor.neutral[:LANDMARKS],
            stride=max(1, len(track) // count),
        )
    texture = np.ascontiguousarray(actor.texture.transpose(1, 2, 0), np.float32)
    shape = np.asarray(actor.neutral + actor.mean_residual, np.float32)
    for i in range(min(count, len(clip))):
        look = texture, actor.references[0]
        yield _shot(model, look, shape, clip.crops[i], clip.pose(i), clip.expression[i], real=True)


def _made_up(actor: ActorPack | None, count: int) -> Iterator[Shot]:
    """Heads that nod and speak before a smooth picture; nobody's, unless an actor is given."""
    from tests.support import toy_actor

    model, size_px = load_face_model(), toy_actor.SIZE_PX
    texture = _mean_texture() if actor is None else np.asarray(actor.texture, np.float32)
    look = np.ascontiguousarray(texture.transpose(1, 2, 0), np.float32), _smooth(size_px, 0.0)
    if actor is not None:
        look = look[0], actor.references[0]
    for i in range(count):
        pose = toy_actor.crop_head(size_px, yaw_deg=8 * np.sin(0.9 * i), roll_deg=4 * np.sin(0.5 * i))
        expression = toy_actor.opened(0.8 + 0.8 * float(np.sin(0.7 * i)))
        source = _smooth(size_px, 0.3 * i)
        yield _shot(model, look, toy_actor.resting_face(), source, pose, expression, real=False)


def _shot(
    model: FaceModel,
    look: tuple[F32, U8],
    shape: F32,
    source: U8,
    pose: Pose,
    expression: F32,
    *,
    real: bool,
) -> Shot:
    size_px = source.shape[0]
    corners = hull(model, shape, expression, pose)
    margin_px, feather_px = MARGIN_CM * pose.scale_px, FEATHER_CM * pose.scale_px
    mask = soft_mask(corners, margin_px, feather_px, size_px, size_px)
    vertices = model.vertices(shape, expression, pose)
    uv_map = rasterise(vertices, model.triangles, model.layers, model.uv, size_px, size_px)
    canvas = empty_canvas(*look)
    fill_canvas(look[0], uv_map, mask, source, canvas[0])
    return Shot(canvas, mask, source, real)


def _mean_texture() -> F32:
    from importlib import resources

    from safetensors.numpy import load

    data = resources.files("engine.assets").joinpath("prior_cpu_texture.safetensors").read_bytes()
    return np.asarray(load(data)["texture"], np.float32)


def _smooth(size_px: int, turn: float) -> U8:
    """Skin-coloured shading, uint8 [S, S, 3]."""
    y, x = np.mgrid[0:size_px, 0:size_px] / size_px
    light = 0.6 + 0.3 * np.cos(turn + 2 * x) * np.cos(turn + y)
    return np.asarray(np.clip(light[..., None] * [200, 150, 130], 0, 255), np.uint8)
