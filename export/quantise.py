"""What a renderer's network in 8-bit integers needs of an actor: the range of every tensor that is rounded.

Measured in float32 on canvases as the renderer fills them: the actor's own frames, half of them with other
expressions and in other light, for a dub shows what the footage did not. `engine.backends.quantised` makes
integers of it when the pack is opened.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from engine.actor.pack import ActorPack
from engine.arrays import F32, U8, Array
from engine.backends import default_backend, load_network, rounded_tensors, with_outputs
from engine.face.model import load_face_model
from engine.render.renderer import EXACT, INPUT, RANGES, Renderer, renderer_graph
from export.dataset import FaceClip
from export.replay import with_other_expressions

CANVASES = 16
LIGHT = (0.5, 1.6)  # gains between which the frames with other expressions are darkened or lit
NARROWEST = 1e-4  # width of a range: of a tensor that never changes, too


def calibrate(pack: ActorPack, clip: FaceClip, *, seed: int = 0) -> dict[str, Array]:
    """Ranges for int8 of an adapted actor, the same for the same arguments on one machine.

    Args:
        pack: the actor; its extras are not used.
        clip: frames that the actor was learned from, at least one.
        seed: of the other expressions and light.

    Returns:
        `engine.render.renderer.RANGES` for the pack's `extras`: float32 [N, 2], 400 bytes.

    Raises:
        ActorPackError: the pack belongs to another prior than this livedub's.
        BackendUnavailable: there is no inference library.
    """
    graph = renderer_graph(pack)
    canvases = _canvases(pack, graph, clip, np.random.default_rng(seed))
    return {RANGES: measure_ranges(graph, canvases)}


def measure_ranges(graph: bytes, canvases: Iterable[F32]) -> F32:
    """Least and greatest values over canvases [1, S, S, C + 7] of a renderer's graph: float32 [N, 2].

    Raises:
        ValueError: there is no canvas.
        BackendUnavailable: there is no inference library.
    """
    names = rounded_tensors(graph, EXACT)
    network = load_network(with_outputs(graph, names), backend=default_backend(), precision="f32")
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for canvas in canvases:
        tensors = network.run({INPUT: canvas}).values()
        low = np.minimum(low, [tensor.min() for tensor in tensors])
        high = np.maximum(high, [tensor.max() for tensor in tensors])
    if not np.isfinite(low).all():
        raise ValueError("ranges need at least one canvas")
    return np.stack([low, np.maximum(high, low + NARROWEST)], axis=1).astype(np.float32)


def _canvases(pack: ActorPack, graph: bytes, clip: FaceClip, rng: np.random.Generator) -> Iterator[F32]:
    """Each is good until the next."""
    model, half = load_face_model(), CANVASES // 2
    renderer = Renderer(pack, load_network(graph, backend=default_backend(), precision="f32"), model)
    mask = np.empty((renderer.size_px, renderer.size_px), np.float32)
    for row in np.linspace(0, len(clip) - 1, half).round().astype(int):
        yield renderer.canvas(clip.crops[row], clip.pose(row), clip.expression[row], mask)
    others, _ = with_other_expressions(clip, np.arange(len(clip)), 0, model, half, rng)
    for row, gain in enumerate(np.geomspace(*LIGHT, half)):
        crop = _lit(others.crops[row], float(gain))
        yield renderer.canvas(crop, others.pose(row), others.expression[row], mask)


def _lit(crop: U8, gain: float) -> U8:
    return np.asarray(np.clip(crop * gain, 0, 255), np.uint8)
