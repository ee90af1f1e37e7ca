"""The sync measure: two small networks that put sound and mouth geometry into one space, for scores only.

Both see 50 Hz. The score of a mouth at an offset is the sum, over a window, of the products of what the two
networks say of each moment; the networks are trained so that the true offset scores best among all within
+-1 s of the same clip, and the true clip best among others. Loud or still moments weigh by themselves:
embeddings are not normalised. It is not, and shares nothing with, the audio-to-expression model.

Offsets are positive when the picture is late.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from engine.arrays import F32, F64, Bool, check_array
from engine.errors import AssetError, OutputError
from engine.expression.audio import MEL_BANDS
from engine.face.model import CHIN, LIPS, FaceModel
from engine.timing import MEL_RATE_HZ

ASSET = "sync.safetensors"
FORMAT, VERSION = "livedub-sync", "1"
RATE_HZ = 50
MELS_PER_SAMPLE = MEL_RATE_HZ // RATE_HZ
STEP_MS = 1000 // RATE_HZ
WINDOW_SAMPLES = 2 * RATE_HZ
REACH_SAMPLES = RATE_HZ  # offsets of at most one second
HOP_SAMPLES = RATE_HZ // 5
HIT_MS = 40.0  # a frame at 25 Hz
MAX_GAP_S = 0.25  # a lost face shorter than this is bridged
MOUTH_POINTS = (*LIPS, *CHIN)
MODES, WIDTH, SPACE = 12, 64, 32
DILATIONS = (1, 2, 4)
FLAT = 1e-3  # of the first mode's deviation; below it a mode is noise


class _Block(nn.Module):
    """A residual dilated convolution."""

    def __init__(self, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, WIDTH)
        self.wide = nn.Conv1d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(WIDTH, WIDTH, 1)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.mix(self.dropout(F.gelu(self.wide(self.norm(x)))))
        return result


def _tower(first: nn.Module, dropout: float) -> nn.Sequential:
    blocks = [_Block(dilation, dropout) for dilation in DILATIONS]
    return nn.Sequential(first, nn.GELU(), *blocks, nn.GroupNorm(1, WIDTH), nn.Conv1d(WIDTH, SPACE, 1))


class SyncNet(nn.Module):
    """Embeds log-mels and mouths; see the module."""

    mel_offset: Tensor
    mel_gain: Tensor
    modes: Tensor

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.hear = _tower(nn.Conv1d(MEL_BANDS, WIDTH, 6, MELS_PER_SAMPLE, padding=2), dropout)
        self.see = _tower(nn.Conv1d(MODES, WIDTH, 5, padding=2), dropout)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("mel_offset", torch.zeros(MEL_BANDS))
        self.register_buffer("mel_gain", torch.ones(MEL_BANDS))
        self.register_buffer("modes", torch.zeros(3 * len(MOUTH_POINTS), MODES))

    def audio(self, mels: Tensor) -> Tensor:
        """Embeddings [B, C, n] of log-mels [B, 2 n, 80]; a constant gain or colour does not matter."""
        x = (mels - self.mel_offset) * self.mel_gain
        x = (x - x.mean(1, keepdim=True)).transpose(1, 2)
        result: Tensor = self.hear(x)
        return result

    def mouth(self, modes: Tensor) -> Tensor:
        """Embeddings [B, C, n] of mouths [B, n, MODES], see `project`; a constant does not matter."""
        x = (modes - modes.mean(1, keepdim=True)).transpose(1, 2)
        result: Tensor = self.see(x)
        return result * self.scale / WINDOW_SAMPLES

    def project(self, mouth: Tensor) -> Tensor:
        """Mouths [..., 48 * 3] as whitened modes [..., MODES]."""
        return mouth @ self.modes


def slide(heard: Tensor, seen: Tensor) -> Tensor:
    """Scores [B, L - W + 1] of mouths [B, C, W] at every place along the sound [B, C, L]."""
    window, length = seen.shape[2], heard.shape[2]
    products = torch.bmm(seen.transpose(1, 2), heard)  # [B, W, L]; a score is the sum of a diagonal
    diagonals = products.as_strided(
        (len(products), window, length - window + 1), (window * length, length + 1, 1)
    )
    return diagonals.sum(1)


def fit_modes(mouth: F32) -> F32:
    """Principal directions float32 [144, MODES] of mouths [N, 144], scaled to unit variance each."""
    centred = mouth - mouth.mean(0)
    _, deviation, directions = np.linalg.svd(centred / np.sqrt(len(mouth)), full_matrices=False)
    scale = 1 / np.maximum(deviation[:MODES], FLAT * deviation[0])
    return np.asarray((directions[:MODES] * scale[:, None]).T, np.float32)


def mouth_geometry(expression: F32, model: FaceModel) -> F32:
    """What expressions [F, E] do to lips and chin: float32 [F, 144], canonical units (about cm).

    It is how the points move from the person's own rest, whatever the basis of the face model.
    """
    check_array("expression", expression, (None, model.expressions), np.float32)
    basis = model.basis[:, list(MOUTH_POINTS)].reshape(model.expressions, -1)
    return np.asarray(expression @ basis, np.float32)


@dataclass(frozen=True, eq=False)
class SyncCurve:
    """Scores of one window's mouth against the sound around it.

    Attributes:
        start_s: media time at which the window begins.
        offset_ms: float64 [D], ascending; positive = picture late.
        score: float32 [D]; -inf where the sound does not reach.
    """

    start_s: float
    offset_ms: F64
    score: F32

    @property
    def best_ms(self) -> float:
        """The offset that scores best."""
        return float(self.offset_ms[int(self.score.argmax())])

    def confidence(self, offset_ms: float | None = None) -> float:
        """Score at an offset (the best if None) over the median of all, as SyncNet's (Chung 2016, §3.3)."""
        known = np.isfinite(self.score)
        nearest = (
            np.abs(self.offset_ms - offset_ms).argmin() if offset_ms is not None else self.score.argmax()
        )
        return float(self.score[nearest] - np.median(self.score[known]))


@dataclass(frozen=True)
class SyncScore:
    """How well a mouth fits its sound, over a whole clip.

    Attributes:
        windows: 2 s windows that could be looked at, every 0.2 s.
        offset_ms: where the sum of all windows' scores is best; positive = picture late.
        confidence: mean over windows of the score at offset 0 above the median of all offsets.
        best_confidence: the same at each window's own best offset.
        hits: share of windows whose own best offset is within 40 ms of 0.
    """

    windows: int
    offset_ms: float
    confidence: float
    best_confidence: float
    hits: float


class SyncMeasure:
    """A trained network, ready to judge; threads: one call at a time.

    Args:
        net: trained.
    """

    def __init__(self, net: SyncNet) -> None:
        self._net = net.eval()

    @torch.no_grad()
    def curves(self, mels: F32, mouth: F32, time_s: F64, *, reach: int = REACH_SAMPLES) -> list[SyncCurve]:
        """Every window's scores.

        Args:
            mels: float32 [M, 80], log-mels at 100 Hz from media time 0.
            mouth: float32 [F, 144] of `mouth_geometry`.
            time_s: float64 [F], ascending: media time of each row of `mouth`.
            reach: offsets to look at, samples of 20 ms to either side.

        Returns:
            Windows that lie within `time_s`, and for which the sound holds every offset; if no window has
            that, those that have offset 0 and at least half the others; what is not there is -inf.
        """
        sound, modes, known = self._inputs(mels, mouth, time_s)
        found: list[SyncCurve] = []
        for least in (2 * reach + 1, reach + 1):
            for start in range(0, len(known) - WINDOW_SAMPLES + 1, HOP_SAMPLES):
                if known[start : start + WINDOW_SAMPLES].all():
                    curve = self._curve(sound, modes, start, reach)
                    heard = np.isfinite(curve.score)
                    if heard[reach] and heard.sum() >= least:
                        found.append(curve)
            if found:
                break
        return found

    def score(self, mels: F32, mouth: F32, time_s: F64) -> SyncScore | None:
        """The clip's score; arguments as of `curves`. None where no window fits."""
        curves = self.curves(mels, mouth, time_s)
        if not curves:
            return None
        total = np.sum([curve.score for curve in curves], axis=0)
        return SyncScore(
            windows=len(curves),
            offset_ms=float(curves[0].offset_ms[int(total.argmax())]),
            confidence=float(np.mean([curve.confidence(0.0) for curve in curves])),
            best_confidence=float(np.mean([curve.confidence() for curve in curves])),
            hits=float(np.mean([abs(curve.best_ms) <= HIT_MS for curve in curves])),
        )

    def _inputs(self, mels: F32, mouth: F32, time_s: F64) -> tuple[Tensor, Tensor, Bool]:
        """Sound [M, 80], modes [n, MODES] at 50 Hz from media time 0, and where they are known [n]."""
        check_array("mels", mels, (None, MEL_BANDS), np.float32)
        check_array("mouth", mouth, (len(time_s), 3 * len(MOUTH_POINTS)), np.float32)
        modes = self._net.project(torch.from_numpy(mouth)).numpy()
        at = np.arange(int(time_s[-1] * RATE_HZ) + 1) / RATE_HZ
        on_grid = np.stack([np.interp(at, time_s, column) for column in modes.T], 1).astype(np.float32)
        after = np.clip(np.searchsorted(time_s, at), 1, len(time_s) - 1)
        known = (at >= time_s[0]) & (at <= time_s[-1]) & (time_s[after] - time_s[after - 1] <= MAX_GAP_S)
        return torch.from_numpy(mels), torch.from_numpy(on_grid), known

    def _curve(self, mels: Tensor, modes: Tensor, start: int, reach: int) -> SyncCurve:
        first, last = start - reach, start + WINDOW_SAMPLES + reach
        have = max(0, first), min(last, len(mels) // MELS_PER_SAMPLE)
        score = np.full(2 * reach + 1, -np.inf, np.float32)
        if have[1] - have[0] >= WINDOW_SAMPLES:
            sound = mels[have[0] * MELS_PER_SAMPLE : have[1] * MELS_PER_SAMPLE]
            seen = self._net.mouth(modes[None, start : start + WINDOW_SAMPLES])
            placed = slide(self._net.audio(sound[None]), seen)[0].numpy()
            begin = have[0] - first
            score[begin : begin + len(placed)] = placed
        offset_ms = (reach - np.arange(2 * reach + 1)).astype(np.float64) * STEP_MS
        return SyncCurve(start / RATE_HZ, offset_ms[::-1].copy(), score[::-1].copy())


def save_net(net: SyncNet, path: Path, about: dict[str, Any]) -> None:
    """Write a network, with what is known of its training.

    Raises:
        OutputError: it cannot be written.
    """
    tensors = {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}
    temporary = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, temporary, {"format": FORMAT, "version": VERSION, "about": json.dumps(about)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error}") from error


def net_from_bytes(data: bytes) -> SyncNet:
    """Read a network.

    Raises:
        AssetError: the bytes are none.
    """
    net = SyncNet()
    try:
        net.load_state_dict({name: value.float() for name, value in load_tensors(data).items()})
    except (RuntimeError, SafetensorError) as error:
        raise AssetError(
            f"the sync measure is damaged: {error}; train it with: livedub train sync"
        ) from error
    return net.eval()


@cache
def load_sync_measure() -> SyncMeasure:
    """The measure that livedub ships.

    Raises:
        AssetError: it is not there.
    """
    try:
        data = resources.files("export.assets").joinpath(ASSET).read_bytes()
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise AssetError("the sync measure is not here; train it with: livedub train sync") from error
    return SyncMeasure(net_from_bytes(data))
