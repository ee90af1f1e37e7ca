"""The rendering prior: one U-Net for everybody, sampled neural textures in, a picture of the lower face out.

Deferred neural rendering (Thies et al., arXiv:1904.12356) with the layout of *Dubbing for Everyone*
(arXiv:2401.06126): a 16-channel texture per person, sampled at the target geometry inside the hole; the
source frame outside it; a reference crop of the person. Plain 3 x 3 convolutions between a pixel-unshuffle
stem and a pixel-shuffle head are what CPUs run fastest per unit of quality.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.render.mask import ALPHA_STEEPNESS
from engine.render.renderer import PICTURE_CHANNELS

TEXTURE_CHANNELS = 16
CANVAS_CHANNELS = TEXTURE_CHANNELS + 3 + 3 + 1  # sampled texture, source outside the hole, reference, mask
ALPHA_START = 1.5  # logit: at first nearly all of the picture shows


@dataclass(frozen=True)
class Tier:
    """A size of the prior: crop side in px, texture side in texels, channels per level."""

    name: str
    size_px: int
    texture_px: int
    widths: tuple[int, ...]
    blocks: int


TIERS = {
    "cpu": Tier("cpu", 224, 256, (48, 96, 128, 160), 1),
    "gpu": Tier("gpu", 448, 512, (96, 192, 256, 384), 2),
}


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a skip, [B, C, H, W] to [B, D, H, W]."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same size."""
        x = F.leaky_relu(self.first(x), 0.1)
        y: Tensor = x + F.leaky_relu(self.second(x), 0.1)
        return y


class Down(nn.Module):
    """Halves the resolution."""

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.stride = nn.Conv2d(channels_in, channels, 3, 2, 1)
        self.blocks = nn.Sequential(*(Residual(channels, channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D, H / 2, W / 2]."""
        y: Tensor = self.blocks(F.leaky_relu(self.stride(x), 0.1))
        return y


class Up(nn.Module):
    """Doubles the resolution and adds the skip."""

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels_in, channels, 1)
        self.blocks = nn.Sequential(*(Residual(channels, channels) for _ in range(blocks)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features [B, D, 2 H, 2 W]."""
        y: Tensor = self.blocks(F.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest") + skip)
        return y


class PriorNet(nn.Module):
    """Canvas in, picture out.

    `forward(canvas)`: [B, S, S, 23] to RGB and alpha [B, S, S, 4]; RGB about 0..1 (not clamped), alpha in
    0..1 says how much of it to show over the source. Channels last both sides: folding 2 x 2 pixels into
    channels and back then moves whole pixels, which is many times faster on CPUs.
    The canvas holds the sampled texture (-1..1 in its first three channels, which are plain colour), the
    source picture times one minus the mask, the reference picture, and the mask, all 0..1.
    """

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        widths = tier.widths
        self.stem = Residual(CANVAS_CHANNELS * 4, widths[0])
        self.down = nn.ModuleList(Down(a, b, tier.blocks) for a, b in pairwise(widths))
        self.up = nn.ModuleList(
            Up(a, b, tier.blocks) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], PICTURE_CHANNELS * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0.1, nonlinearity="leaky_relu")
        for block in self.modules():
            if isinstance(block, Residual):
                nn.init.zeros_(block.second.weight)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            start = torch.tensor([0.0, 0.0, 0.0, ALPHA_START])
            torch.as_tensor(self.head.bias).copy_(start.repeat(4))

    def forward(self, canvas: Tensor) -> Tensor:
        """Picture of a canvas; see the class."""
        x = self.stem(_fold(canvas).permute(0, 3, 1, 2))
        skips = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        change = _unfold(self.head(x).permute(0, 2, 3, 1))
        return torch.cat([canvas[..., :3] * 0.5 + 0.5 + change[..., :3], change[..., 3:].sigmoid()], -1)


def _fold(x: Tensor) -> Tensor:
    """[B, H, W, C] to [B, H / 2, W / 2, 4 C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _unfold(x: Tensor) -> Tensor:
    """[B, H, W, 4 C] to [B, 2 H, 2 W, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


class RuntimeNet(nn.Module):
    """The prior as it is exported: its result is clamped to 0..1."""

    def __init__(self, net: PriorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, canvas: Tensor) -> Tensor:
        """Canvas [1, S, S, 23] to RGB and alpha [1, S, S, 4]."""
        picture: Tensor = self.net(canvas)
        return picture.clamp(0, 1)


def sample_texture(textures: Tensor, uv: Tensor, covered: Tensor) -> Tensor:
    """Textures [A, 16, h, w] at UVs [B, S, S, 2] in 0..1: bfloat16 [B, 16, S, S].

    Each texture serves the next B / A samples. 0 where not `covered` [B, 1, S, S]; otherwise as
    `engine.render.raster.sample`.
    """
    batch, size = uv.shape[:2]
    each = batch // len(textures)
    grid = uv.reshape(len(textures), each * size, size, 2) * 2 - 1
    sampled = F.grid_sample(textures, grid, padding_mode="border", align_corners=False)
    sampled = sampled.reshape(len(textures), -1, each, size, size).transpose(1, 2)
    return sampled.bfloat16().reshape(batch, -1, size, size) * covered.bfloat16()


def make_canvas(sampled: Tensor, source: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """The network's input [B, S, S, 23]; `sampled` is 0 outside the mask already.

    Source and reference are [B, 3, S, S] 0..1, the mask is [B, 1, S, S] 0..1.
    """
    canvas = torch.cat(
        [sampled, (source * (1 - mask)).to(sampled), reference.to(sampled), mask.to(sampled)], 1
    )
    return canvas.permute(0, 2, 3, 1).contiguous()


def within_reach(mask: Tensor) -> Tensor:
    """The most that alpha may be, by the soft mask; as in `engine.render.canvas.split_picture`."""
    return (mask * ALPHA_STEEPNESS).clamp(max=1)
