"""Train the rendering prior: one U-Net and a mean texture for everybody, a texture of its own for every clip.

Every clip's texture is the mean plus a difference, so that the mean is learned as the best start for someone
new. Colours of the differences start from the footage itself, laid out on the texture. Half of every batch is
the neighbouring frame of the other half, for steadiness.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import AssetError
from engine.face.model import FaceModel
from export.dataset import FaceClip
from export.losses import Drawn, Perceptual, psnr_db, render_loss
from export.prior_net import TEXTURE_CHANNELS, PriorNet, Tier, make_canvas, sample_texture, within_reach
from export.render_batch import (
    NO_NOISE,
    TRAINING_NOISE,
    Batch,
    Sample,
    make_batch,
    reference_order,
    unproject,
)

NET_RATE, TEXTURE_RATE = 5e-4, 1.5e-2
PAIRS = 4
REFERENCE_SHARE = 0.3  # references are drawn from the most open frames


@dataclass(frozen=True)
class Progress:
    """One line of a training log."""

    step: int
    loss: float
    psnr_db: float
    mouth_psnr_db: float


class Prior(nn.Module):
    """The network, the mean texture, and each training clip's difference from it."""

    def __init__(self, tier: Tier, clips: int) -> None:
        super().__init__()
        self.tier = tier
        self.net = PriorNet(tier)
        shape = (TEXTURE_CHANNELS, tier.texture_px, tier.texture_px)
        self.mean = nn.Parameter(torch.randn(shape) * 0.02)
        self.own = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for _ in range(clips))

    def render(self, batch: Batch, textures: Tensor) -> Drawn:
        """Draw a batch; each texture [A, 16, h, w] serves B / A samples."""
        sampled = sample_texture(textures, batch.uv, batch.covered * (batch.mask > 0))
        canvas = make_canvas(sampled, batch.source, batch.reference, batch.mask)
        with torch.autocast(canvas.device.type, dtype=torch.bfloat16):
            out = self.net(canvas)
        picture, alpha = out.float().permute(0, 3, 1, 2).split((3, 1), 1)
        return Drawn(picture, alpha * within_reach(batch.mask), sampled[:, :3].float())

    def textures(self, clips: Sequence[int]) -> Tensor:
        """The textures [B, 16, h, w] of these clips."""
        return torch.stack([self.mean + self.own[clip] for clip in clips])


def start_textures(prior: Prior, clips: Sequence[FaceClip], model: FaceModel) -> None:
    """Lay each clip's own colours out on its texture."""
    laid = [unproject(clip, model, prior.tier.texture_px) for clip in clips]
    total = sum(weight for _, weight in laid)
    mean = sum(colour * weight[..., None] for colour, weight in laid) / np.maximum(total, 1e-6)[..., None]
    with torch.no_grad():
        prior.mean[:3] = torch.from_numpy(mean * 2 - 1).permute(2, 0, 1)
        for own, (colour, weight) in zip(prior.own, laid, strict=True):
            seen = np.minimum(weight, 1)[..., None]
            own[:3] = torch.from_numpy((colour - mean) * 2 * seen).permute(2, 0, 1)


def draw(
    clips: Sequence[FaceClip], order: Sequence[np.ndarray], rng: np.random.Generator, last: float
) -> list[Sample]:
    """Pairs of neighbouring frames, from the first `last` share of every clip.

    Each pair has one reference, another frame, and a source with the mouth of yet another pair.
    """
    chosen = []
    for look in range(PAIRS):
        clip = int(rng.integers(len(clips)))
        end = max(2, int(len(clips[clip]) * last))
        frame, other = (int(v) for v in rng.integers(end - 1, size=2))
        open_ones = order[clip][order[clip] < end]
        candidates = open_ones[: max(3, int(len(open_ones) * REFERENCE_SHARE))]
        apart = candidates[(candidates != frame) & (candidates != frame + 1)]
        reference = int(rng.choice(apart if len(apart) else candidates))
        chosen += [Sample(clip, frame + k, reference, other + k, look) for k in (0, 1)]
    return chosen


def train(
    prior: Prior,
    clips: Sequence[FaceClip],
    model: FaceModel,
    *,
    steps: int,
    first_step: int = 0,
    seed: int = 0,
    perceptual: Perceptual | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    every: int = 100,
) -> None:
    """Train in place for `steps` steps; a tenth of every clip's frames is kept for the log's PSNR."""
    rng = np.random.default_rng(seed + first_step)
    order = [reference_order(clip, model) for clip in clips]
    optimiser = torch.optim.Adam(
        [
            {"params": prior.net.parameters(), "lr": NET_RATE, "start": NET_RATE},
            {"params": [prior.mean, *prior.own], "lr": TEXTURE_RATE, "start": TEXTURE_RATE},
        ]
    )
    running = 0.0
    for step in range(first_step, steps):
        warm = min(1.0, (step - first_step + 1) / 40)
        for group in optimiser.param_groups:
            group["lr"] = group["start"] * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        batch = make_batch(clips, draw(clips, order, rng, 0.9), model, TRAINING_NOISE, rng)
        batch = batch.to(prior.mean.device)
        drawn = prior.render(batch, prior.textures(batch.clips[::2]))
        loss = render_loss(drawn, batch, pairs=True, perceptual=perceptual)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(prior.net.parameters(), 1.0)
        optimiser.step()
        running += loss.item() / every
        if (step + 1) % every == 0 and on_progress:
            on_progress(Progress(step + 1, running, *held_out(prior, clips, model, order)))
            running = 0.0


@torch.no_grad()
def held_out(
    prior: Prior, clips: Sequence[FaceClip], model: FaceModel, order: Sequence[np.ndarray]
) -> tuple[float, float]:
    """PSNR of hole and mouth, dB, on the last frames of some clips, which training does not see."""
    rng, some = np.random.default_rng(0), range(0, len(clips), max(1, len(clips) // 12))
    chosen = [
        Sample(clip, len(clips[clip]) - 1 - 3 * k, int(order[clip][0]), len(clips[clip]) // 2, clip)
        for clip in some
        for k in (0, 1)
    ]
    batch = make_batch(clips, chosen, model, NO_NOISE, rng).to(prior.mean.device)
    seen = prior.render(batch, prior.textures(batch.clips)).over(batch.source)
    hole = (batch.mask > 0).float()
    return psnr_db(seen, batch.target, hole), psnr_db(seen, batch.target, batch.mouth)


def save_checkpoint(prior: Prior, path: Path, step: int) -> None:
    """Write network and textures; the optimiser's moments are not kept, a resumed run warms up again."""
    temporary = path.with_suffix(".tmp")
    tensors = {name: tensor.detach().contiguous() for name, tensor in prior.state_dict().items()}
    save_file(tensors, temporary, metadata={"step": str(step), "tier": prior.tier.name})
    temporary.replace(path)


def load_checkpoint(prior: Prior, path: Path) -> int:
    """Read what `save_checkpoint` wrote into a prior of the same tier and clips; the step it was written at.

    Raises:
        AssetError: it is no checkpoint of such a prior.
    """
    try:
        with safe_open(path, "pt") as file:
            step = int((file.metadata() or {}).get("step", "0"))
        prior.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise AssetError(f"{path} is no checkpoint of this prior and data: {error}") from error
    return step
