"""A perceptual distance between pictures: ST-LPIPS, the shift-tolerant variant of LPIPS, on AlexNet features.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022, arXiv 2207.13686; LPIPS itself:
Zhang et al., arXiv 1801.03924, eq. 1. The network differs from AlexNet in that the first convolution has
stride 1 and every subsampling is a binomial blur, so that a shift of a pixel costs next to nothing.

The values are *not* those of the common LPIPS and must not be compared with them.

The weights are a pinned third-party file (`engine.models`, `perceptual_alex`), loaded only after its hash is
checked, and without unpickling anything but tensors.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.arrays import U8
from engine.errors import AssetError
from engine.models import locate, pinned, verify

MODEL = "perceptual_alex"
SIDE_PX = 256  # pictures are compared at this size, as the paper's author does
MIN_SIDE_PX = 64  # the deepest features are then 4 px wide
CHANNELS = (64, 192, 384, 256, 256)
BLUR_TAPS = (1.0, 2.0, 1.0)
EPSILON = 1e-10


class BlurPool(nn.Module):
    """Binomial blur of 3 x 3 px, then every second pixel (Zhang, arXiv 1904.11486); borders mirrored."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor(BLUR_TAPS)
        kernel = taps[:, None] * taps[None, :] / taps.sum() ** 2
        self.register_buffer("kernel", kernel.expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H // 2 + 1, W // 2 + 1]."""
        padded = functional.pad(x, (2, 2, 2, 2), mode="reflect")
        return functional.conv2d(padded, self.kernel.to(x.dtype), stride=2, groups=x.shape[1])


class Perceptual(nn.Module):
    """The distance, and its features for a training loss. Weights are frozen; gradients reach the pictures.

    Args:
        state: the tensors of the pinned file.

    Raises:
        AssetError: a tensor is missing or has another shape.
    """

    shift: Tensor
    scale: Tensor
    channel_weights: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            (
                nn.Sequential(nn.Conv2d(3, 64, 11, padding=2), BlurPool(64), nn.ReLU()),
                nn.Sequential(nn.MaxPool2d(3, 1), BlurPool(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
                nn.Sequential(
                    nn.MaxPool2d(3, 1), BlurPool(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()
                ),
                nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
            )
        )
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        for index, channels in enumerate(CHANNELS):
            self.register_buffer(f"weight_{index}", torch.zeros(1, channels, 1, 1))
        self._load(state)
        self.requires_grad_(False)
        self.eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """The five stages' activations, each divided by its length over channels.

        Safe under autocast: the divisions are in float32. Differentiable in `images`.

        Args:
            images: [B, 3, H, W], RGB in -1..1, sides of at least 64 px.

        Returns:
            float32 [B, C, H', W'] for C = 64, 192, 384, 256, 256.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_SIDE_PX:
            raise ValueError(
                f"images must be [B, 3, H, W] of at least {MIN_SIDE_PX} px, got {list(images.shape)}"
            )
        x = (images - self.shift) / self.scale
        result = []
        for stage in self.stages:
            x = stage(x)
            wide = x.float()
            length = (wide.square().sum(1, keepdim=True) + EPSILON**2).sqrt()
            result.append(wide / (length + EPSILON))
        return result

    def distance_of(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distance float32 [B] of two pictures' `features`; 0 = the same."""
        total = torch.zeros(a[0].shape[0], device=a[0].device)
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            weight: Tensor = getattr(self, f"weight_{index}")
            total = total + ((x - y).square() * weight).sum(1).mean((1, 2))
        return total

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance float32 [B] of two pictures [B, 3, H, W], RGB in -1..1; differentiable in both."""
        return self.distance_of(self.features(a), self.features(b))

    def distance(self, a: U8, b: U8) -> float:
        """Distance of two uint8 pictures `[H, W, 3]`, each first resized to 256 x 256; no gradient."""
        with torch.no_grad():
            pair = [_to_tensor(image).to(self.shift.device) for image in (a, b)]
            return float(self(*pair))

    def _load(self, state: Mapping[str, Tensor]) -> None:
        own = {"shift": "scaling_layer.shift", "scale": "scaling_layer.scale"}
        own |= {f"weight_{index}": f"lin{index}.model.1.weight" for index in range(len(CHANNELS))}
        positions = {"stages.0.0": "1.0", "stages.1.2": "2.5", "stages.2.2": "3.9"}
        positions |= {"stages.3.0": "4.11", "stages.4.0": "5.13"}
        for ours, theirs in positions.items():
            own |= {f"{ours}.{kind}": f"net.slice{theirs}.{kind}" for kind in ("weight", "bias")}
        try:
            self.load_state_dict({ours: state[theirs] for ours, theirs in own.items()})
        except (KeyError, RuntimeError) as error:
            raise AssetError(
                f"the perceptual network's file does not hold the tensors it should: {error}"
            ) from error


def load_perceptual(path: Path | None = None) -> Perceptual:
    """The network with the pinned weights.

    Args:
        path: of the pinned file; `None` takes it from the cache folder.

    Raises:
        AssetError: the file is missing or is not the pinned one.
    """
    if path is None:
        path = locate(MODEL)
    else:
        verify(pinned(MODEL), path)
    return Perceptual(torch.load(path, map_location="cpu", weights_only=True))


def _to_tensor(image: U8) -> Tensor:
    shrinks = min(image.shape[:2]) >= SIDE_PX
    resized = cv2.resize(
        image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return torch.from_numpy(resized.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1.0)
