"""How an adaptation does on the frames it did not learn from, under the names of `livedub evaluate`."""

import numpy as np
import torch
from torch import Tensor, nn

from engine.arrays import U8
from engine.image.yuv import Box
from export.losses import Drawn
from export.metrics import crop, psnr_db, ssim
from export.render_batch import Batch

NOT_MEASURED = (
    *("mouth_lmd_px", "outside_psnr_db", "flicker_ratio", "identity_similarity"),
    *("av_offset_ms", "aperture_correlation"),
)  # they need the whole picture, or neighbouring frames, or sound

Metrics = dict[str, float | None]


def crop_metrics(drawn: Drawn, batch: Batch, perceptual: nn.Module | None) -> Metrics:
    """Metrics of composited crops against the footage: means over the batch's frames.

    The face is the whole stable crop here, the mouth is the box around the lips.

    Args:
        drawn: what the renderer made.
        batch: what it was rendered for.
        perceptual: the perceptual distance; None leaves it out.
    """
    composite = drawn.over(batch.source).clamp(0, 1)
    names = ("face_psnr_db", "face_ssim", "mouth_psnr_db", "mouth_ssim")
    rows: dict[str, list[float]] = {name: [] for name in names}
    weights = batch.mouth[:, 0].cpu().numpy()
    for ours, theirs, lips in zip(_bytes(composite), _bytes(batch.target), weights, strict=True):
        box = _box(lips)
        pairs = {"face": (ours, theirs), "mouth": (crop(ours, box), crop(theirs, box))}
        for name, (a, b) in pairs.items():
            rows[f"{name}_psnr_db"].append(psnr_db(a, b))
            likeness = ssim(a, b)
            if likeness is not None:
                rows[f"{name}_ssim"].append(likeness)
    result: Metrics = {"frames": float(len(composite))}
    result |= {name: float(np.mean(values)) if values else None for name, values in rows.items()}
    result["perceptual"] = None
    if perceptual is not None:
        with torch.no_grad():
            result["perceptual"] = float(perceptual(composite * 2 - 1, batch.target * 2 - 1).mean())
    return result | dict.fromkeys(NOT_MEASURED)


def _bytes(pictures: Tensor) -> U8:
    return np.asarray(np.rint(pictures.permute(0, 2, 3, 1).cpu().numpy() * 255), np.uint8)


def _box(weight: np.ndarray) -> Box:
    rows, columns = np.nonzero(weight > 0)
    left, top = int(columns.min()), int(rows.min())
    return Box(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
