"""How a learned person does on the held-out frames.

What counts is the drawn picture, all over the mask: the product shows real skin wherever it can, which would
make every renderer look alike. What a viewer sees is scored beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.experiments.footage import Fitted
from benchmarks.experiments.plan import AS_SHOWN, NO_MATCH, OTHER_MOUTH
from benchmarks.experiments.schema import Scores
from engine.arrays import F32, U8
from engine.backends.litert import LiteRTNetwork
from engine.composite.blend import border_window, match_colour
from engine.errors import AssetError
from engine.face.landmarks import LandmarkNetwork, Landmarks
from engine.face.model import FaceModel
from engine.face.tracker import MIN_CONFIDENCE, read_bundle
from engine.image.resize import Square, inside, resize
from engine.models import locate
from export.adapt_metrics import crop_metrics
from export.learner import Learned
from export.losses import Drawn
from export.metrics import mouth_landmark_distance_px
from export.perceptual import Perceptual, load_perceptual
from export.recognise import Recogniser, likeness, load_recogniser
from export.render_batch import NO_NOISE, Batch, Noise, Sample, make_batch

DRAWN = "drawn"
OTHER_SKIN = Noise(borrowed=1.0)
AT_ONCE = 8  # frames


@dataclass(frozen=True)
class Judge:
    """The networks that measure; None leaves a measure out.

    Attributes:
        landmarks: reads lips out of drawn frames.
        perceptual: the perceptual distance.
        recogniser: says how much two faces are alike.
    """

    landmarks: LandmarkNetwork | None
    perceptual: Perceptual | None
    recogniser: Recogniser | None


def open_judge() -> Judge:
    """All of them; without the recogniser where its file is not.

    Raises:
        AssetError: another model file is missing.
    """
    _, network = read_bundle(locate("face_landmarker"))
    reader = LandmarkNetwork(LiteRTNetwork(network, label="landmark network", threads=1))
    try:
        recogniser = load_recogniser()
    except AssetError:
        recogniser = None
    return Judge(reader, load_perceptual(), recogniser)


@torch.no_grad()
def score(learned: Learned, fitted: Fitted, model: FaceModel, judge: Judge) -> dict[str, Scores]:
    """Scores of the drawn picture, without its colour match, and of what a viewer sees."""
    plain, other = (held_out_batch(learned, fitted, model, other=other) for other in (False, True))
    drawn, over_other = (render(learned, batch) for batch in (plain, other))
    fixed = drawn._replace(alpha=plain.mask * window(plain))
    ways = {
        DRAWN: (matched(fixed, plain), plain, judge),
        NO_MATCH: (fixed, plain, replace(judge, perceptual=None, recogniser=None)),
        AS_SHOWN: (matched(drawn, plain), plain, judge),
        OTHER_MOUTH: (matched(over_other, other), other, replace(judge, recogniser=None)),
    }
    return {name: _scores(*way, fitted) for name, way in ways.items()}


def held_out_batch(learned: Learned, fitted: Fitted, model: FaceModel, *, other: bool) -> Batch:
    """The scored frames as the renderer gets them, with the reference that was learned with.

    Args:
        learned: says which that is.
        fitted: the frames.
        model: the face model.
        other: let each source show the skin of another scored frame, half of them away, bent to this one.
    """
    frames = fitted.held_out
    away = np.roll(frames, len(frames) // 2)
    samples = [
        Sample(0, int(frame), learned.reference, int(mouth) if other else None, look)
        for look, (frame, mouth) in enumerate(zip(frames, away, strict=True))
    ]
    noise = OTHER_SKIN if other else NO_NOISE
    return make_batch([fitted.clip], samples, model, noise, np.random.default_rng(0))


def render(learned: Learned, batch: Batch) -> Drawn:
    """What the learned network draws, a few frames at a time; alpha fades towards the crop's edge."""
    size, parts = len(batch.target), []
    for start in range(0, size, AT_ONCE):
        part = _rows(batch, slice(start, start + AT_ONCE))
        parts.append(learned.prior.render(part, learned.texture[None]))
    drawn = Drawn(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    return drawn._replace(alpha=drawn.alpha * window(batch))


def window(batch: Batch) -> Tensor:
    """What every mask of crops this large is multiplied by, [S, S]."""
    return torch.from_numpy(border_window(batch.target.shape[-1]).copy())


def matched(drawn: Drawn, batch: Batch) -> Drawn:
    """With the source's light, as `engine.composite` does it."""
    masks, alphas = (tensor[:, 0].numpy() for tensor in (batch.mask, drawn.alpha))
    rows = zip(_bytes(drawn.picture), _bytes(batch.source), masks, alphas, strict=True)
    pictures = np.stack([match_colour(*row) for row in rows]).astype(np.float32) / 255
    return drawn._replace(picture=torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()))


def _scores(drawn: Drawn, batch: Batch, judge: Judge, fitted: Fitted) -> Scores:
    measured = crop_metrics(drawn, batch, judge.perceptual)
    seen = drawn.over(batch.source).clamp(0, 1)
    footage, frames = fitted.footage, []
    for ours, theirs, frame in zip(_bytes(seen), _bytes(batch.target), fitted.scored, strict=True):
        whole = footage.pictures[int(frame)]
        points = footage.landmarks[frame]
        frames.append((pasted(whole, footage.squares[frame], ours, theirs), whole, points))
    read: Callable[[U8, F32], Landmarks | None] = lambda picture, points: _read(judge, picture, points)  # noqa: E731
    faces = [(ours, read(ours, points), theirs, read(theirs, points)) for ours, theirs, points in frames]
    return Scores(
        face_psnr_db=measured["face_psnr_db"],
        face_ssim=measured["face_ssim"],
        mouth_psnr_db=measured["mouth_psnr_db"],
        mouth_ssim=measured["mouth_ssim"],
        perceptual=measured["perceptual"],
        mouth_lmd_px=_mean(
            [mouth_landmark_distance_px(a.points, b.points) for _, a, _, b in faces if a and b]
        ),
        identity=_mean(
            [
                likeness(judge.recogniser.embed(ours, a.points), judge.recogniser.embed(theirs, b.points))
                for ours, a, theirs, b in faces
                if judge.recogniser and a and b
            ]
        ),
    )


def pasted(whole: U8, square: Square, ours: U8, theirs: U8) -> U8:
    """A frame [H, W, 3] with the difference of two crops [S, S, 3] of its `square` added."""
    part = inside(square, whole.shape[1], whole.shape[0])
    if part is None:
        return whole
    change = resize(ours.astype(np.float32) - theirs, square.side_px)
    x, y = part.x - square.x, part.y - square.y
    frame = whole.copy()
    rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
    sum_ = frame[rows, columns] + change[y : y + part.height, x : x + part.width]
    frame[rows, columns] = np.clip(np.rint(sum_), 0, 255).astype(np.uint8)
    return frame


def _read(judge: Judge, picture: U8, points: F32) -> Landmarks | None:
    """The face in a picture where the real frame's landmarks are; None if there is none."""
    if judge.landmarks is None:
        return None
    found = judge.landmarks.read(picture, Landmarks(points, 1.0).region())
    return found if found.confidence >= MIN_CONFIDENCE else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _rows(batch: Batch, rows: slice) -> Batch:
    tensors = {
        name: getattr(batch, name)[rows]
        for name in ("target", "source", "reference", "uv", "covered", "mask", "mouth")
    }
    return replace(batch, clips=batch.clips[rows], **tensors)


def _bytes(pictures: Tensor) -> U8:
    return np.asarray(np.rint(pictures.clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255), np.uint8)
