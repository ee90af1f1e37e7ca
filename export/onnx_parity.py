"""Whether an exported graph computes what livedub does: held to the numpy reference, on a frame and on sound.

The frame is the actor's own: the reference crop as source, the head upright in the middle, the mouth open.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engine.actor.pack import ActorPack
from engine.arrays import F32, Array
from engine.backends import Network, load_network
from engine.errors import LivedubError
from engine.expression.audio import LOOK_AHEADS_MS, MEL_BANDS, MELS_PER_STEP, SILENCE, STATES, STYLE_SIZE
from engine.face.crop import CENTRE_CM, SIDE_CM
from engine.face.model import Pose, load_face_model
from engine.render.canvas import empty_canvas, fill_canvas_reference
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask
from engine.render.raster import UvMap, rasterise
from engine.render.renderer import INPUT, OUTPUT, renderer_graph
from export.onnx_graphs import ExportPrecision

# Most that a value may be off, and most of its rms: of pictures in 0..1, of expressions in cm. Beside them:
# the worst of three actors and of the shipped audio network (onnxruntime 1.31.1, openvino 2026.4.1).
LIMITS: dict[tuple[str, ExportPrecision], tuple[float, float]] = {
    ("renderer", "f32"): (1e-4, 1e-5),  # 1.8e-6, 2.5e-7
    ("renderer", "f16"): (5e-3, 1e-3),  # 8.8e-4, 1.9e-4 (75 dB)
    ("renderer", "bf16"): (6e-2, 3.2e-3),  # 2.4e-2, 2.0e-3 (54 dB)
    ("audio", "f32"): (1e-4, 1e-5),  # 1.4e-6, 1.9e-7
    ("audio", "f16"): (2e-2, 3e-3),  # 6.6e-3, 1.1e-3
    ("audio", "bf16"): (2e-1, 3e-2),  # 6.7e-2, 1.1e-2
}
STEPS = 8
OPEN_CM = 1.0
_SOUND = 6.0, 3.0  # mean (below 0) and spread of log-mels of speech
_DELAYED = 2  # which look-ahead the steps ask for


@dataclass(frozen=True)
class Parity:
    """How far a graph is from the reference.

    Attributes:
        worst: greatest absolute difference.
        rms: root of the mean squared difference.
    """

    worst: float
    rms: float

    @property
    def rms_db(self) -> float | None:
        """The rms below 1, dB; None if there is no difference."""
        return -20 * math.log10(self.rms) if self.rms else None


@dataclass(frozen=True)
class ExampleFrame:
    """A frame of the actor, ready for either form of the renderer.

    Attributes:
        feeds: of the whole form.
        canvas: of the cut form, float32 [1, S, S, 23], filled by the reference.
    """

    feeds: Mapping[str, F32]
    canvas: F32


def runner_of(model: bytes, precision: ExportPrecision) -> Network:
    """Who runs an exported graph here: ONNX Runtime has no convolutions of bfloat16, OpenVINO has."""
    if precision == "bf16":
        return load_network(model, backend="openvino", precision="bf16")
    return load_network(model, backend="onnxruntime", precision="f32")


def example_frame(pack: ActorPack) -> ExampleFrame:
    """The actor's head with its mouth open, in the middle of a crop."""
    model, size = load_face_model(), pack.manifest.image_size_px
    scale_px = size / SIDE_CM
    middle = np.array([size / 2, size / 2, 0.0]) - scale_px * CENTRE_CM
    pose = Pose(scale_px, np.eye(3), middle)
    neutral = np.asarray(pack.neutral + pack.mean_residual, np.float32)
    expression = np.asarray(OPEN_CM * model.jaw_open, np.float32)
    vertices = model.vertices(neutral, expression, pose)
    shown = rasterise(vertices, model.triangles, model.layers, model.uv, size, size)
    corners = hull(model, neutral, expression, pose)
    mask = soft_mask(corners, MARGIN_CM * scale_px, FEATHER_CM * scale_px, size, size)
    return _filled(pack, shown, mask)


def _filled(pack: ActorPack, shown: UvMap, mask: F32) -> ExampleFrame:
    texture = np.ascontiguousarray(pack.texture.transpose(1, 2, 0), np.float32)
    reference = pack.references[0]
    canvas = empty_canvas(texture, reference)
    fill_canvas_reference(texture, shown, mask, reference, canvas[0])
    picture = (reference.astype(np.float32) / 255)[None]
    feeds = {
        "texture": np.asarray(pack.texture, np.float32)[None],
        "uv": shown.uv[None],
        "cover": (shown.layer >= 0).astype(np.float32)[None, ..., None],
        "source": picture,
        "reference": picture,
        "mask": mask[None, ..., None],
    }
    return ExampleFrame(feeds, canvas)


def check_renderer(
    pack: ActorPack, cut: bytes, whole: bytes | None, precision: ExportPrecision
) -> dict[str, Parity]:
    """Compare the renderer's exported forms with the reference on a frame of the actor.

    Returns:
        How far each form is off, by its name: "cut" and, if it is given, "whole".

    Raises:
        LivedubError: one is too far off.
    """
    frame = example_frame(pack)
    graph = renderer_graph(pack)
    want = load_network(graph, backend="reference", precision="f32").run({INPUT: frame.canvas})[OUTPUT]
    network = runner_of(cut, precision)
    given = frame.canvas.astype(network.inputs[INPUT].dtype)
    found = {"cut": _difference(network.run({INPUT: given})[OUTPUT], want)}
    if whole is not None:
        found["whole"] = _difference(runner_of(whole, precision).run(frame.feeds)[OUTPUT], want)
    for form, parity in found.items():
        _hold(f"the renderer ({form})", parity, LIMITS["renderer", precision])
    return found


def check_audio(model: bytes, step: bytes, precision: ExportPrecision) -> Parity:
    """Compare exported steps of audio-to-expression with the shipped network's, each with its own state.

    Args:
        model: the network as livedub ships it.
        step: the exported one.
        precision: of `step`.

    Raises:
        LivedubError: it is too far off.
    """
    want = load_network(model, backend="reference", precision="f32")
    pairs = zip(_answers(runner_of(step, precision)), _answers(want), strict=True)
    have, expected = (np.concatenate(side) for side in zip(*pairs, strict=True))
    parity = _difference(have, expected)
    _hold("audio-to-expression", parity, LIMITS["audio", precision])
    return parity


def _answers(network: Network) -> Iterator[F32]:
    """Everything that each step gives, in one row."""
    random = np.random.default_rng(0)
    state: dict[str, Array] = {name: np.zeros((1, *shape), np.float32) for name, shape in STATES.items()}
    state["mel_history"] += np.float32(SILENCE)
    code = np.eye(len(LOOK_AHEADS_MS), dtype=np.float32)[[_DELAYED]]
    style = random.uniform(-1, 1, (1, STYLE_SIZE)).astype(np.float32)
    quiet, spread = _SOUND
    for _ in range(STEPS):
        mels = spread * random.standard_normal((1, MELS_PER_STEP, MEL_BANDS)) - quiet
        result = network.run({"mels": mels.astype(np.float32), "code": code, "style": style, **state})
        state = {name: result[f"next_{name}"] for name in STATES}
        yield np.asarray(np.concatenate([result["expression"].ravel(), state["memory"].ravel()]), np.float32)


def _difference(have: Array, want: Array) -> Parity:
    away = np.abs(have.astype(np.float64) - want)
    return Parity(float(away.max()), float(np.sqrt((away**2).mean())))


def _hold(what: str, parity: Parity, limits: tuple[float, float]) -> None:
    worst, rms = limits
    if not (parity.worst <= worst and parity.rms <= rms):  # a NaN is never within
        raise LivedubError(
            f"the export of {what} differs from the reference by {parity.worst:.2g} (rms {parity.rms:.2g}),"
            f" more than {worst:.2g} ({rms:.2g})"
        )
