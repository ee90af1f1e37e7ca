"""A front end that already knows speech: the first fifteen layers of Google's speech_embedding network.

The network (Lin et al., "Training Keyword Spotters with Limited and Synthesized Speech Data", 2020) was made
to tell keywords apart in many voices. It is all convolutions without padding in time, so its layers are a
causal front end as they are: every output sees the past only. Its own 32 mel bands are made from livedub's
80. Its weights stay as they are while audio-to-expression learns.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNELS = (  # output channels, width in time, width over bands
    *((24, 3, 3), (24, 1, 3), (24, 3, 1)),
    *((48, 1, 3), (48, 3, 1), (48, 1, 3), (48, 3, 1)),
    *((72, 1, 3), (72, 3, 1), (72, 1, 3), (72, 3, 1)),
    *((96, 1, 3), (96, 3, 1), (96, 1, 3), (96, 3, 1)),
)
POOLS = {2: (2, 2), 6: (1, 2), 10: (2, 2)}  # after which layer: in time, over bands
FAST_LAYER = 10  # its output, before the pool, is the fast feature
BANDS, FAST_FEATURES, SLOW_FEATURES = 32, 576, 384
SLOPE, LEAST = 0.2, -0.4
MEMORY = 9024  # numbers that the layers remember between steps
LOG_10 = float(np.log(10))


class SpeechFront(nn.Module):
    """Log-mels to features at 50 and at 25 Hz; see `forward`.

    Args:
        bands: mel bands that come in.
    """

    mix: Tensor
    floor: Tensor
    bias: Tensor
    silent: Tensor

    def __init__(self, bands: int = 80) -> None:
        super().__init__()
        self.register_buffer("mix", torch.ones(bands, BANDS) / bands)
        self.register_buffer("floor", torch.ones(BANDS))
        self.register_buffer("bias", torch.zeros(BANDS))
        self.register_buffer("silent", torch.zeros(MEMORY))
        sizes = [1, *(channels for channels, _, _ in KERNELS)]
        self.layers = nn.ModuleList(
            nn.Conv2d(sizes[index], channels, (time, over), padding=(0, over // 2))
            for index, (channels, time, over) in enumerate(KERNELS)
        )
        self.requires_grad_(False)

    def forward(self, mels: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of n steps of 40 ms.

        Args:
            mels: [B, 2 + 4 n, 80], beginning with the last two of the step before.
            memory: [B, 9024], 0 = silence so far.

        Returns:
            Fast features [B, 1 + 2 n, 576], beginning with the last of the step before; slow features
            [B, n, 384]; the next memory.
        """
        kept = list(torch.split(memory + self.silent, _memory_sizes(), 1))
        following: list[Tensor] = []
        x = (torch.log(torch.exp(mels) @ self.mix + self.floor) / LOG_10 + self.bias)[:, None]
        fast = x
        for index, layer in enumerate(self.layers):
            if index and KERNELS[index][1] > 1:
                x = torch.cat([kept.pop(0).view(x.shape[0], x.shape[1], 2, x.shape[3]), x], 2)
                following.append(x[:, :, -2:].flatten(1))
            x = torch.clamp(F.leaky_relu(layer(x), SLOPE), min=LEAST)
            if index == FAST_LAYER:
                fast = torch.cat([kept.pop(0)[:, None], x.transpose(1, 2).flatten(2)], 1)
                following.append(fast[:, -1])
            if index in POOLS:
                x = F.max_pool2d(x, POOLS[index])
        return fast, x.transpose(1, 2).flatten(2), torch.cat(following, 1) - self.silent

    @torch.no_grad()
    def settle(self, silence: float) -> None:
        """Let memory 0 mean that nothing but `silence` (a log-mel) was heard so far."""
        self.silent.zero_()
        quiet = torch.full((1, 2 + 4 * 25, self.mix.shape[0]), silence)
        self.silent.copy_(self(quiet, self.silent[None])[2][0])


def _memory_sizes() -> list[int]:
    """Numbers that each layer remembers: two columns of its input; the fast features: one."""
    sizes, bands = [], BANDS
    for index, (channels, time, _) in enumerate(KERNELS):
        if index and time > 1:
            sizes.append(KERNELS[index - 1][0] * 2 * bands)
        if index == FAST_LAYER:
            sizes.append(channels * bands)
        bands //= POOLS.get(index, (1, 1))[1]
    return sizes
