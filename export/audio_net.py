"""The causal audio-to-expression network: log-mel in, lower-face expression out, one step per 40 ms.

A front end that already knows speech and strided convolutions of its own, a recurrent part, and one linear
answer per look-ahead. Look-ahead is a delay of the target ("delayed streams"): one set of weights and one
state serve every look-ahead; a one-hot code picks the answer. State goes in and out, so a step is a pure
function.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.expression.audio import LOOK_AHEADS_MS, SILENCE, STYLE_SIZE
from export.speech_front import FAST_FEATURES, MEMORY, SLOW_FEATURES, SpeechFront

HIDDEN, STEM, KERNEL = 192, 128, 5
DROPOUT = 0.3
SHARPNESS, REST_CM = 4.0, -0.05  # of closures by their sounds; how far open shut lips are
HISTORY = KERNEL - 2  # what a stride-2 convolution of width 5 remembers between steps

State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class AudioNet(nn.Module):
    """Log-mels [B, 4 n, 80] to expressions [B, n, E]; see `forward`.

    Args:
        expressions: E.
        bands: mel bands.
    """

    offset: Tensor
    gain: Tensor
    scale: Tensor
    opening: Tensor
    closing: Tensor
    doubt: Tensor
    lead: Tensor
    fast_offset: Tensor
    fast_gain: Tensor
    slow_offset: Tensor
    slow_gain: Tensor

    def __init__(self, expressions: int, bands: int = 80) -> None:
        super().__init__()
        self.front = SpeechFront(bands)
        self.first = nn.Conv1d(bands, STEM, KERNEL, 2)
        self.second = nn.Conv1d(STEM, HIDDEN, KERNEL, 2)
        self.fast = nn.Conv1d(FAST_FEATURES, HIDDEN, 3, 2)
        self.slow = nn.Linear(SLOW_FEATURES, HIDDEN)
        self.condition = nn.Linear(STYLE_SIZE, HIDDEN, bias=False)
        self.gru = nn.GRU(HIDDEN, HIDDEN, 2, batch_first=True, dropout=DROPOUT)
        self.out = nn.Linear(HIDDEN, expressions * len(LOOK_AHEADS_MS))
        self.shut = nn.Linear(HIDDEN, len(LOOK_AHEADS_MS))
        self.stretch = nn.Linear(STYLE_SIZE, expressions, bias=False)
        nn.init.zeros_(self.stretch.weight)
        for name, size in {"": bands, "fast_": FAST_FEATURES, "slow_": SLOW_FEATURES}.items():
            self.register_buffer(f"{name}offset", torch.zeros(size))
            self.register_buffer(f"{name}gain", torch.ones(size))
        self.register_buffer("scale", torch.ones(expressions))
        self.register_buffer("opening", torch.zeros(expressions))
        self.register_buffer("closing", torch.zeros(expressions))
        self.register_buffer("doubt", torch.zeros(len(LOOK_AHEADS_MS)))
        self.register_buffer("lead", torch.zeros(len(LOOK_AHEADS_MS)))

    def initial_state(self, batch: int) -> State:
        """Silence: histories [B, 3, 80] (log-mels), [B, 3, 128], [B, 9024], recurrent [B, 2, 192], [B, E]."""
        quiet = self.offset.new_zeros(batch, HISTORY, self.first.in_channels) + SILENCE
        return (
            quiet,
            quiet.new_zeros(batch, HISTORY, STEM),
            quiet.new_zeros(batch, MEMORY),
            quiet.new_zeros(batch, 2, HIDDEN),
            quiet.new_zeros(batch, len(self.scale)),
        )

    def forward(
        self,
        mels: Tensor,
        code: Tensor,
        style: Tensor,
        mel_history: Tensor,
        stem_history: Tensor,
        front_history: Tensor,
        memory: Tensor,
        said: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One or more steps.

        Args:
            mels: [B, 4 n, 80].
            code: [B, 4], one-hot look-ahead.
            style: [B, 8], the speaker's style code, 0 = average.
            mel_history: [B, 3, 80].
            stem_history: [B, 3, 128].
            front_history: [B, 9024].
            memory: [B, 2, 192].
            said: [B, E], the answer of the step before, before it was moved on and its lips were shut.

        Returns:
            Expressions [B, n, E] and the five states after the last step.
        """
        heard = torch.cat([mel_history, mels], 1)
        fast, slow, next_front = self.front(heard[:, 1:], front_history)
        answers, logits, next_stem, memory = self.answers(heard, fast, slow, style, stem_history, memory)
        chosen = (answers * code[:, :, None, None]).sum(1)
        moved = self.moved_on(chosen, code, said)
        shut = self.closed(moved, (logits * code[..., None]).sum(1), code @ self.doubt)
        return shut, heard[:, -HISTORY:], next_stem, next_front, memory, chosen[:, -1]

    def answers(
        self, heard: Tensor, fast: Tensor, slow: Tensor, style: Tensor, stem_history: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What each look-ahead says, from the front end's features on.

        Args:
            heard: log-mels [B, 3 + 4 n, 80], beginning with the last three of the step before.
            fast: [B, 1 + 2 n, 576], as of `SpeechFront`.
            slow: [B, n, 384], as of `SpeechFront`.
            style: [B, 8].
            stem_history: [B, 3, 128].
            memory: [B, 2, 192].

        Returns:
            Expressions [B, 4, n, E], logits [B, 4, n] of p, b, m and their kin, the next stem history and the
            next memory.
        """
        x = F.gelu(self.first(((heard - self.offset) * self.gain).transpose(1, 2))).transpose(1, 2)
        x = torch.cat([stem_history, x], 1)
        next_stem = x[:, -HISTORY:]
        quick = F.dropout((fast - self.fast_offset) * self.fast_gain, DROPOUT, self.training)
        calm = F.dropout((slow - self.slow_offset) * self.slow_gain, DROPOUT, self.training)
        y = self.second(x.transpose(1, 2)) + self.fast(quick.transpose(1, 2))
        y = F.gelu(y.transpose(1, 2) + self.slow(calm)) + self.condition(style)[:, None]
        y, memory = self.gru(F.dropout(y, 0.1, self.training), memory.transpose(0, 1).contiguous())
        answers = self.out(y).unflatten(2, (len(LOOK_AHEADS_MS), -1)).transpose(1, 2)
        stretch = 1 + self.stretch(style)[:, None, None]
        logits = self.shut(y).transpose(1, 2)
        return answers * stretch * self.scale, logits, next_stem, memory.transpose(0, 1)

    def moved_on(self, chosen: Tensor, code: Tensor, said: Tensor) -> Tensor:
        """Expressions [B, n, E] moved on the way they go: who has heard little is late.

        Args:
            chosen: of one look-ahead, [B, n, E].
            code: [B, 4], one-hot look-ahead.
            said: [B, E], the answer before.
        """
        before = torch.cat([said[:, None], chosen[:, :-1]], 1)
        return chosen + (code @ self.lead)[:, None, None] * (chosen - before)

    def closed(self, chosen: Tensor, logits: Tensor, doubt: Tensor) -> Tensor:
        """Expressions [B, n, E] with the lips shut as surely as a sound is heard that shuts them.

        Args:
            chosen: of one look-ahead, [B, n, E].
            logits: of p, b, m and their kin, [B, n].
            doubt: [B], logits above which lips are shut.
        """
        sure = torch.sigmoid(SHARPNESS * (logits - doubt[:, None]))
        open_by = F.relu(chosen @ self.opening - REST_CM)
        return chosen - (sure * open_by)[..., None] * self.closing
