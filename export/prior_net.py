"""The rendering prior: one U-Net for everybody, sampled neural textures in, a picture of the lower face out.

Deferred neural rendering (Thies et al., arXiv:1904.12356) with the layout of *Dubbing for Everyone* (arXiv:2401.06126):
a 16-channel texture per person, sampled at the target geometry inside the hole; the source frame outside it; a
reference crop of the person. Plain 3 x 3 convolutions between a pixel-unshuffle stem and a pixel-shuffle head are
what CPUs run fastest per unit of quality.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

TEXTURE_CHANNELS = 16
CANVAS_CHANNELS = TEXTURE_CHANNELS + 3 + 3 + 1  # sampled texture, source outside the hole, reference, mask


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
        return x + F.leaky_relu(self.second(x), 0.1)


class Down(nn.Module):
    """Halves the resolution."""

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.stride = nn.Conv2d(channels_in, channels, 3, 2, 1)
        self.blocks = nn.Sequential(*(Residual(channels, channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D, H / 2, W / 2]."""
        return self.blocks(F.leaky_relu(self.stride(x), 0.1))


class Up(nn.Module):
    """Doubles the resolution and adds the skip."""

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels_in, channels, 1)
        self.blocks = nn.Sequential(*(Residual(channels, channels) for _ in range(blocks)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features [B, D, 2 H, 2 W]."""
        return self.blocks(F.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest") + skip)


class PriorNet(nn.Module):
    """Canvas in, picture out.

    `forward(canvas)`: float32 [B, 23, S, S] to RGB float32 [B, 3, S, S], about 0..1 (not clamped). The canvas holds
    the sampled texture (-1..1 in its first three channels, which are plain colour), the source picture times
    one minus the mask, the reference picture, and the mask, all 0..1.
    """

    def __init__(self, tier: Tier) -> None:
        super().__init__()
        widths = tier.widths
        self.stem = Residual(CANVAS_CHANNELS * 4, widths[0])
        self.down = nn.ModuleList(Down(a, b, tier.blocks) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(
            Up(a, b, tier.blocks) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 3 * 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, canvas: Tensor) -> Tensor:
        """Picture of a canvas; see the class."""
        x = self.stem(F.pixel_unshuffle(canvas, 2))
        skips = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        change = F.pixel_shuffle(self.head(x), 2)
        return canvas[:, :3] * 0.5 + 0.5 + change


class RuntimeNet(nn.Module):
    """The prior as it is exported: pixels last on both sides, result clamped to 0..1."""

    def __init__(self, net: PriorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, canvas: Tensor) -> Tensor:
        """Canvas [1, S, S, 23] to picture [1, S, S, 3]."""
        return self.net(canvas.permute(0, 3, 1, 2)).clamp(0, 1).permute(0, 2, 3, 1)


def sample_texture(texture: Tensor, uv: Tensor, covered: Tensor) -> Tensor:
    """Textures [B, C, h, w] at UVs [B, S, S, 2] in 0..1, 0 where not covered [B, 1, S, S]; as `engine.render.raster`."""
    grid = uv * 2 - 1
    return F.grid_sample(texture, grid, padding_mode="border", align_corners=False) * covered


def make_canvas(sampled: Tensor, source: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """The network's input [B, 23, S, S]; source and reference [B, 3, S, S] 0..1, mask [B, 1, S, S] 0..1."""
    return torch.cat([sampled * (mask > 0), source * (1 - mask), reference, mask], 1)
