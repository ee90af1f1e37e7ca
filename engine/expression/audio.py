"""Audio to expression at run time: a Steppable around the exported network.

One step takes the four log-mel frames of 40 ms of sound and gives one expression. With a look-ahead of L ms,
the expression that comes out when sound up to time t has gone in belongs to the picture at t - L.
"""

from collections.abc import Mapping
from copy import copy
from fractions import Fraction
from importlib import resources

import numpy as np

from engine.arrays import F32, Array, check_array
from engine.backends import load_network
from engine.steppable import State, StepSpec, run_steps
from engine.timing import EXPRESSION_RATE_HZ, MEL_RATE_HZ

ASSET = "audio_to_expression.onnx"
LOOK_AHEADS_MS = (0, 60, 120, 240)
STYLE_SIZE = 8
MELS_PER_STEP = MEL_RATE_HZ // EXPRESSION_RATE_HZ
STEP_MS = 1000 // EXPRESSION_RATE_HZ
MEL_BANDS = 80
SILENCE = -13.8  # log of the mel floor
STATES = {
    "mel_history": (3, MEL_BANDS),
    "stem_history": (3, 128),
    "front_history": (9024,),
    "memory": (2, 192),
    "said": (16,),
}


class AudioToExpression:
    """Log-mels float32 [B, 4 n, 80] to expressions float32 [B, n, E].

    Args:
        look_ahead_ms: one of LOOK_AHEADS_MS.
        style: float32 [8], the actor's style code, or [B, 8], one for each row of a batch; None is the
            average speaker.
        model: the exported network; None is the one that livedub ships.
        backend: who runs it.

    Raises:
        ValueError: a look-ahead that the model does not know.
    """

    def __init__(
        self,
        look_ahead_ms: int,
        style: F32 | None = None,
        *,
        model: bytes | None = None,
        backend: str = "onnxruntime",
    ) -> None:
        if look_ahead_ms not in LOOK_AHEADS_MS:
            raise ValueError(f"look-ahead must be one of {LOOK_AHEADS_MS} ms, got {look_ahead_ms}")
        self.look_ahead_ms = look_ahead_ms
        self._network = load_network(model or shipped_model(), backend=backend, threads=1, precision="f32")
        self._code = np.array([[float(known == look_ahead_ms) for known in LOOK_AHEADS_MS]], np.float32)
        average = np.zeros((1, STYLE_SIZE), np.float32)
        self._style = average if style is None else style.reshape(-1, STYLE_SIZE)

    def with_style(self, style: F32) -> "AudioToExpression":
        """The same network speaking in another style, float32 [8] or [B, 8]."""
        other = copy(self)
        other._style = style.reshape(-1, STYLE_SIZE)
        return other

    @property
    def spec(self) -> StepSpec:
        """Four log-mel frames in, one expression out; the look-ahead is the latency."""
        latency = self.look_ahead_ms * MEL_RATE_HZ // 1000
        return StepSpec(MELS_PER_STEP, Fraction(1, MELS_PER_STEP), latency, None)

    def initial_state(self, batch: int) -> State:
        """Silence so far."""
        state: State = {name: np.zeros((batch, *shape), np.float32) for name, shape in STATES.items()}
        state["mel_history"] += np.float32(SILENCE)
        return state

    def step(self, x: Array, state: State) -> tuple[F32, State]:
        """Expressions float32 [B, n, E] of log-mels [B, 4 n, 80], and the next state."""
        check_array("x", x, (None, None, MEL_BANDS), np.float32)
        self.spec.blocks_in(x.shape[1])
        outputs: list[F32] = []
        for start in range(0, x.shape[1], MELS_PER_STEP):
            feeds: Mapping[str, Array] = {
                "mels": x[:, start : start + MELS_PER_STEP],
                "code": np.repeat(self._code, len(x), 0),
                "style": np.broadcast_to(self._style, (len(x), STYLE_SIZE)),
                **state,
            }
            result = self._network.run(feeds)
            outputs.append(result["expression"])
            state = {name: result[f"next_{name}"] for name in STATES}
        return np.concatenate(outputs, axis=1), state

    def offline(self, x: Array) -> F32:
        """Expressions of a whole recording's log-mels."""
        return run_steps(self, x, 1)


def shipped_model() -> bytes:
    """The exported network that livedub ships."""
    return resources.files("engine.assets").joinpath(ASSET).read_bytes()


def step_time_ms(step: int, look_ahead_ms: int) -> int:
    """The media time that step `step`'s expression belongs to."""
    return (step + 1) * STEP_MS - look_ahead_ms
