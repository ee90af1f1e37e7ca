"""An actor's own way of speaking: the style code that makes audio-to-expression move like a clip of theirs.

Eight numbers through a fixed network, fitted by Gauss-Newton with a prior around the average speaker. The
derivatives are differences: the network speaks for nine styles at once, as one batch. So neither gradients
nor the training's weights are needed, only what ships.
"""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, F64, check_array
from engine.audio.logmel import LogMel
from engine.expression.audio import (
    LOOK_AHEADS_MS,
    MEL_BANDS,
    MELS_PER_STEP,
    STYLE_SIZE,
    AudioToExpression,
    step_time_ms,
)
from engine.expression.speech import STEP_SAMPLES
from engine.face.fit import Fitter
from engine.face.model import LIPS, FaceModel, aperture

LOOK_AHEAD_MS = 120
MIN_FRAMES = 25  # fewer say nothing about a way of speaking
ITERATIONS = 3
DIFFERENCE = 0.05  # of a style's number, for derivatives
DOUBT_FRAMES = 3.0  # the prior weighs as much as so many frames
LIP_WEIGHT, SKIN_WEIGHT = 3.0, 0.5
SETTLE_S = 0.4  # before which the network has not heard all it would have
STILL_CM = 1e-3
MIN_CORRELATION = 0.25  # of the opening of the lips, below which the sound is not taken for the face's


@dataclass(frozen=True)
class StyleFit:
    """A fitted style.

    Attributes:
        style: float32 [8], 0 = the average speaker.
        error_average: mean squared error of the lower face's vertices, lips weighing most, with the average
            style on the frames of the fit; canonical units squared, about cm².
        error: the same with `style`.
        correlation: of the opening of the lips with what the average style says.
    """

    style: F32
    error_average: float
    error: float
    correlation: float


def fit_style(
    mels: F32,
    time_s: F64,
    expression: F32,
    model: FaceModel,
    *,
    network: bytes | None = None,
    look_ahead_ms: int = LOOK_AHEAD_MS,
) -> StyleFit:
    """The style with which the network best says what the actor's face did.

    Args:
        mels: float32 [M, 80], log-mels of the clip's own sound at 100 Hz from media time 0.
        time_s: float64 [F], increasing, when each frame's sound is.
        expression: float32 [F, E], of the tracked frames.
        model: the face model that E belongs to.
        network: audio-to-expression; None is the one that livedub ships.
        look_ahead_ms: one of `LOOK_AHEADS_MS`.

    Returns:
        The style, and what it gains; the average style if there are fewer than 25 frames.

    Raises:
        TypeError, ValueError: arrays of another type or shape.
    """
    check_array("mels", mels, (None, MEL_BANDS), np.float32)
    check_array("expression", expression, (len(time_s), model.expressions), np.float32)
    if look_ahead_ms not in LOOK_AHEADS_MS:
        raise ValueError(f"look-ahead must be one of {LOOK_AHEADS_MS} ms, got {look_ahead_ms}")
    problem = _Problem(mels, time_s, expression, model, network, look_ahead_ms)
    style = np.zeros(STYLE_SIZE)
    if problem.frames < MIN_FRAMES:
        return StyleFit(style.astype(np.float32), float("nan"), float("nan"), float("nan"))
    doubt = 0.0
    for _ in range(ITERATIONS):
        residual, slope = problem.linearised(style)
        now = float(residual @ residual) / problem.frames
        doubt = doubt or DOUBT_FRAMES / problem.frames * now  # of the average style
        normal = slope.T @ slope / problem.frames + doubt * np.eye(STYLE_SIZE)
        step = -np.linalg.solve(normal, slope.T @ residual / problem.frames + doubt * style)
        while problem.error(style + step) + doubt * _square(style + step) > now + doubt * _square(style):
            step = step / 2
            if np.abs(step).max() < DIFFERENCE / 10:
                return problem.result(style)
        style = style + step
    return problem.result(style)


def _square(values: F64) -> float:
    return float(values @ values)


def style_of_footage(
    sound: F32, time_s: F64, landmarks: F32, neutral: F32, model: FaceModel, *, network: bytes | None = None
) -> F32:
    """The style of the person whom footage shows.

    Args:
        sound: float32 [T] in -1..1 at 16 kHz, from media time 0.
        time_s: float64 [F], media time of each frame.
        landmarks: float32 [F, 468 or more, 3] px; NaN where no face.
        neutral: float32 [468, 3], the person's own.
        model: the face model.
        network: audio-to-expression; None is the one that livedub ships.

    Returns:
        float32 [8]; 0, the average style, where the footage is short or the sound does not fit the lips.
    """
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    whole = sound[: len(sound) // STEP_SAMPLES * STEP_SAMPLES]
    average = np.zeros(STYLE_SIZE, np.float32)
    if seen.sum() < MIN_FRAMES or not len(whole):
        return average
    fitter = Fitter(model, neutral)
    expression = np.stack([fitter.fit(frame).expression for frame in landmarks[seen]])
    mels = LogMel().offline(whole[None])[0]
    fit = fit_style(mels, time_s[seen], expression.astype(np.float32), model, network=network)
    return fit.style if fit.correlation >= MIN_CORRELATION else average


class _Problem:
    """Residuals of the frames after the network has settled, in a metric where lips weigh most."""

    def __init__(
        self,
        mels: F32,
        time_s: F64,
        expression: F32,
        model: FaceModel,
        network: bytes | None,
        look_ahead_ms: int,
    ) -> None:
        self._mels = mels[: len(mels) // MELS_PER_STEP * MELS_PER_STEP]
        self._network = AudioToExpression(look_ahead_ms, model=network)
        steps = len(self._mels) // MELS_PER_STEP
        self._known_s = np.array([step_time_ms(k, look_ahead_ms) / 1000 for k in range(steps)])
        end_s = self._known_s[-1] if steps else 0.0
        use = (time_s >= SETTLE_S) & (time_s <= end_s)
        self._time_s, self._truth = time_s[use], expression[use].astype(np.float64)
        weight = np.where(np.isin(model.lower, LIPS), LIP_WEIGHT, SKIN_WEIGHT)[:, None]
        basis = (model.basis[:, model.lower] * np.sqrt(weight)).reshape(model.expressions, -1)
        values, axes = np.linalg.eigh(basis @ basis.T / weight.sum())
        self._root = axes * np.sqrt(np.maximum(values, 0))
        self._opening = aperture(model.basis)
        self.frames = len(self._time_s)

    def error(self, style: F64) -> float:
        """Mean squared error."""
        return float((self._residuals(style[None])[0] ** 2).sum() / self.frames)

    def linearised(self, style: F64) -> tuple[F64, F64]:
        """Residuals [R] at a style, and their slope [R, 8]."""
        around = np.concatenate([style[None], style + DIFFERENCE * np.eye(STYLE_SIZE)])
        residuals = self._residuals(around)
        return residuals[0], (residuals[1:] - residuals[0]).T / DIFFERENCE

    def result(self, style: F64) -> StyleFit:
        """A style with what it gains."""
        average = np.zeros(STYLE_SIZE)
        return StyleFit(
            style.astype(np.float32), self.error(average), self.error(style), self._correlation(average)
        )

    def _correlation(self, style: F64) -> float:
        """Of the opening of the lips with the truth; 0 where either is still."""
        said, true = (at @ self._opening for at in (self._spoken(style[None])[0], self._truth))
        if min(said.std(), true.std()) < STILL_CM:
            return 0.0
        return float(np.corrcoef(said, true)[0, 1])

    def _residuals(self, styles: F64) -> F64:
        """Residuals [S, R] of styles [S, 8]."""
        error = (self._spoken(styles) - self._truth) @ self._root
        return np.asarray(error.reshape(len(styles), -1), np.float64)

    def _spoken(self, styles: F64) -> F64:
        """What the network says at the frames' times, [S, frames, E]."""
        network = self._network.with_style(np.asarray(styles, np.float32))
        said = network.offline(np.repeat(self._mels[None], len(styles), 0))
        columns = [[np.interp(self._time_s, self._known_s, column) for column in one.T] for one in said]
        return np.asarray(columns, np.float64).transpose(0, 2, 1)
