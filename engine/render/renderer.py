"""One actor opened for rendering: geometry and a source crop in, a picture of the lower face out.

`fast` kernels (numba, and the network on OpenVINO or ONNX Runtime) do the work; `reference` (numpy
throughout) is the slow twin that every other backend is held to.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from engine.arrays import F32, U8, Array, check_array
from engine.backends import (
    Network,
    WantedPrecision,
    choose_precision,
    default_backend,
    load_network,
    quantised,
    with_weights,
)
from engine.errors import ActorPackError
from engine.face.model import ASSET as FACE_MODEL_ASSET
from engine.face.model import FaceModel, Pose, load_face_model
from engine.render.canvas import (
    OTHER_CHANNELS,
    empty_canvas,
    fill_canvas,
    fill_canvas_reference,
    split_picture,
    split_picture_reference,
)
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask, soft_mask_reference
from engine.render.raster import rasterise, rasterise_reference

if TYPE_CHECKING:  # reading packs takes a package that training the prior does without
    from engine.actor.pack import ActorPack

PRIOR_ASSETS = {"cpu": "prior_cpu.onnx"}
INPUT, OUTPUT = "canvas", "picture"
PICTURE_CHANNELS = 4  # red, green, blue, alpha
WEIGHTS = "net."  # how the names of the graph's learned tensors begin
EXACT = ("net.head.weight",)  # the convolution that makes the picture is never rounded to 8 bits
RANGES = "int8.ranges"  # extra of an actor pack: float32 [N, 2] for `quantised`, keeping `EXACT`


@dataclass(frozen=True)
class Rendered:
    """What one frame's rendering needs of its caller: three buffers, written in full.

    Attributes:
        rgb: uint8 [S, S, 3].
        alpha: float32 [S, S] in 0..1, how much of the picture to show; learned, 0 where the mask is.
        mask: float32 [S, S] in 0..1, the soft mask of what may be redrawn.
    """

    rgb: U8
    alpha: F32
    mask: F32

    @classmethod
    def empty(cls, size_px: int) -> "Rendered":
        """Buffers for a crop of this size."""
        plane = (size_px, size_px)
        return cls(np.zeros((*plane, 3), np.uint8), np.zeros(plane, np.float32), np.zeros(plane, np.float32))


class Renderer:
    """One actor on one device. Not for use by two threads at a time. Open with `open_renderer`."""

    def __init__(
        self, actor: "ActorPack", network: Network, model: FaceModel, *, reference: bool = False
    ) -> None:
        self.size_px = actor.manifest.image_size_px
        self.model = model
        self.neutral = np.asarray(actor.neutral + actor.mean_residual, np.float32)
        self._network, self._reference = network, reference
        self._texture = np.ascontiguousarray(actor.texture.transpose(1, 2, 0), np.float32)
        self._canvas = empty_canvas(self._texture, actor.references[0])
        self._picture = np.empty((1, self.size_px, self.size_px, PICTURE_CHANNELS), np.float32)
        self._split = split_picture_reference if reference else split_picture

    @property
    def name(self) -> str:
        """Backend and precision."""
        return f"{self._network.name} {self._network.precision}"

    def render(self, source: U8, pose: Pose, expression: F32, *, out: Rendered) -> None:
        """Draw the actor's lower face with an expression on the head of a source crop.

        Args:
            source: uint8 [S, S, 3], RGB crop of the frame; only what lies outside the mask is used.
            pose: the head's pose in crop px.
            expression: float32 [E].
            out: the caller's buffers.

        Raises:
            BackendError: the inference library failed.
        """
        check_array("source", source, (self.size_px, self.size_px, 3), np.uint8)
        check_array("expression", expression, (self.model.expressions,), np.float32)
        canvas = self.canvas(source, pose, expression, out.mask)
        self._network.run_into({INPUT: canvas}, {OUTPUT: self._picture})
        self._split(self._picture[0], out.mask, out.rgb, out.alpha)

    def canvas(self, source: U8, pose: Pose, expression: F32, mask_out: F32) -> F32:
        """What the network is given to draw a frame: float32 [1, S, S, C + 7], good until the next call.

        Args:
            source: as for `render`.
            pose: as for `render`.
            expression: as for `render`.
            mask_out: float32 [S, S], the caller's; the soft mask is written to it.
        """
        vertices = self.model.vertices(self.neutral, expression, pose)
        corners = hull(self.model, self.neutral, expression, pose)
        self._fill_canvas(vertices, corners, pose.scale_px, source, mask_out)
        return self._canvas

    def _fill_canvas(self, vertices: F32, corners: F32, scale_px: float, source: U8, mask_out: F32) -> None:
        margin, feather, size = MARGIN_CM * scale_px, FEATHER_CM * scale_px, self.size_px
        mesh = (vertices, self.model.triangles, self.model.layers, self.model.uv, size, size)
        texture, canvas = self._texture, self._canvas[0]
        if self._reference:
            mask_out[:] = soft_mask_reference(corners, margin, feather, size, size)
            fill_canvas_reference(texture, rasterise_reference(*mesh), mask_out, source, canvas)
        else:
            mask_out[:] = soft_mask(corners, margin, feather, size, size)
            fill_canvas(texture, rasterise(*mesh), mask_out, source, canvas)


def open_renderer(
    actor: "ActorPack",
    backend: str | None = None,
    *,
    threads: int = 1,
    precision: WantedPrecision = "auto",
) -> Renderer:
    """Open an actor on this machine.

    Args:
        actor: the pack.
        backend: "openvino", "onnxruntime" or "reference"; None takes the best one installed.
        threads: of the network.
        precision: of the network; `auto` is the backend's fastest on this CPU, int8 only with a pack that
            has ranges for it.

    Raises:
        ActorPackError: the pack belongs to another face model or prior than this livedub's, is damaged, or
            lacks the ranges for int8.
        BackendUnavailable: that backend is not installed, or has not this precision.
        ValueError: no backend or precision of that name is known.
    """
    model = load_face_model()
    graph = renderer_graph(actor)
    name = backend or default_backend()
    ranges = actor.extras.get(RANGES)
    integers = None if ranges is None else _integers(graph, ranges)
    chosen = choose_precision(name, precision, integers=integers is not None)
    if chosen == "int8":
        if integers is None:
            raise ActorPackError("the actor pack has no ranges for int8: run `livedub adapt` again")
        graph = integers
    network = load_network(graph, backend=name, threads=threads, precision=chosen)
    check_shapes(actor, model, network.inputs[INPUT].shape)
    return Renderer(actor, network, model, reference=name == "reference")


def renderer_graph(actor: "ActorPack") -> bytes:
    """An actor's network in float32, serialized ONNX: the prior with the actor's weights.

    Raises:
        ActorPackError: the pack belongs to another face model or prior than this livedub's, or is damaged.
    """
    if actor.manifest.tier not in PRIOR_ASSETS:
        raise ActorPackError(
            f"this livedub has no renderer of tier {actor.manifest.tier!r}; it has: {', '.join(PRIOR_ASSETS)}"
        )
    for what, want, asset in (
        ("face model", actor.manifest.face_model_sha256, FACE_MODEL_ASSET),
        ("prior", actor.manifest.prior_sha256, PRIOR_ASSETS[actor.manifest.tier]),
    ):
        if asset_sha256(asset) != want:
            raise ActorPackError(f"the actor pack was made with another {what}: run `livedub adapt` again")
    if strange := [name for name in actor.weights if not name.startswith(WEIGHTS)]:
        raise ActorPackError(f"the actor pack changes what is no weight of the renderer: {strange[0]}")
    try:
        return with_weights(prior_graph(actor.manifest.tier), actor.weights)
    except ValueError as error:
        raise ActorPackError(f"the actor pack's weights do not fit the renderer: {error}") from error


def _integers(graph: bytes, ranges: Array) -> bytes:
    """The graph in 8-bit integers; made also where it is not used: damage shows on every machine."""
    try:
        return quantised(graph, ranges, EXACT)
    except (ValueError, TypeError) as error:
        raise ActorPackError(
            f"the actor pack's ranges for int8 are damaged ({error}): run `livedub adapt` again"
        ) from error


def check_shapes(actor: "ActorPack", model: FaceModel, canvas: tuple[int | None, ...]) -> None:
    """Check that an actor's arrays fit a face model, and a network whose input has this shape.

    Raises:
        ActorPackError: they do not.
    """
    size = actor.manifest.image_size_px
    if (size, len(actor.texture) + OTHER_CHANNELS) != (canvas[1], canvas[3]):
        raise ActorPackError(
            f"the actor pack has {len(actor.texture)} channels of texture at {size} px,"
            f" the renderer takes {(canvas[3] or 0) - OTHER_CHANNELS} at {canvas[1]} px"
        )
    if actor.neutral.shape[0] != model.basis.shape[1]:
        raise ActorPackError(
            f"the actor pack has {actor.neutral.shape[0]} vertices, the face model {model.basis.shape[1]}"
        )
    if not len(actor.references) or actor.references.shape[1] != size:
        raise ActorPackError(
            f"the actor pack needs a reference crop of {size} px, got {list(actor.references.shape)}"
        )


def prior_graph(tier: str) -> bytes:
    """The shipped prior of a tier, serialized ONNX."""
    return resources.files("engine.assets").joinpath(PRIOR_ASSETS[tier]).read_bytes()


def asset_sha256(name: str) -> str:
    """Hex digest of a shipped asset."""
    return hashlib.sha256(resources.files("engine.assets").joinpath(name).read_bytes()).hexdigest()
