"""The causal audio-to-expression network: log-mel in, lower-face expression out, one step per 40 ms.

Two strided convolutions over the past, a recurrent part, and a linear layer. Look-ahead is a delay of the
target ("delayed streams"): the same weights serve every look-ahead, told by a one-hot code. State goes in and
out, so a step is a pure function.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.expression.audio import LOOK_AHEADS_MS, STYLE_SIZE

HIDDEN, STEM_1, STEM_2, KERNEL = 192, 128, 192, 5
HISTORY = KERNEL - 2  # what a stride-2 convolution of width 5 remembers between steps


class AudioNet(nn.Module):
    """Log-mels [B, 4 n, 80] to expressions [B, n, E]; see `forward`.

    Args:
        expressions: E.
        bands: mel bands.
    """

    offset: Tensor
    gain: Tensor
    scale: Tensor

    def __init__(self, expressions: int, bands: int = 80) -> None:
        super().__init__()
        self.first = nn.Conv1d(bands, STEM_1, KERNEL, 2)
        self.second = nn.Conv1d(STEM_1, STEM_2, KERNEL, 2)
        self.condition = nn.Linear(len(LOOK_AHEADS_MS) + STYLE_SIZE, STEM_2)
        self.gru = nn.GRU(STEM_2, HIDDEN, 2, batch_first=True, dropout=0.2)
        self.out = nn.Linear(HIDDEN, expressions)
        self.register_buffer("offset", torch.zeros(bands))
        self.register_buffer("gain", torch.ones(bands))
        self.register_buffer("scale", torch.ones(expressions))

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Silence: histories [B, 3, 80] (log-mels), [B, 3, 128] and the recurrent state [B, 2, 192]."""
        quiet = self.offset.new_zeros(batch, HISTORY, self.first.in_channels) - 13.8
        return quiet, quiet.new_zeros(batch, HISTORY, STEM_1), quiet.new_zeros(batch, 2, HIDDEN)

    def forward(
        self,
        mels: Tensor,
        code: Tensor,
        style: Tensor,
        mel_history: Tensor,
        stem_history: Tensor,
        memory: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One or more steps.

        Args:
            mels: [B, 4 n, 80].
            code: [B, 4], one-hot look-ahead.
            style: [B, 8], the speaker's style code, 0 = average.
            mel_history: [B, 3, 80].
            stem_history: [B, 3, 128].
            memory: [B, 2, 192].

        Returns:
            Expressions [B, n, E] and the three states after the last step.
        """
        x = torch.cat([mel_history, mels], 1)
        next_mels = x[:, -HISTORY:]
        x = F.gelu(self.first(((x - self.offset) * self.gain).transpose(1, 2))).transpose(1, 2)
        x = torch.cat([stem_history, x], 1)
        next_stem = x[:, -HISTORY:]
        x = F.gelu(self.second(x.transpose(1, 2))).transpose(1, 2)
        x = x + self.condition(torch.cat([code, style], 1))[:, None]
        x = F.dropout(x, 0.1, self.training)
        y, memory = self.gru(x, memory.transpose(0, 1).contiguous())
        return self.out(y) * self.scale, next_mels, next_stem, memory.transpose(0, 1)
