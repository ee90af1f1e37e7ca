"""An actor's own way of speaking, found in a clip's own sound and motion.

Two parts. A style code, eight numbers that audio-to-expression takes, by Gauss-Newton through the fixed
network: the derivatives are differences, for which the network speaks in nine styles at once, as one batch.
So neither gradients nor the training's weights are needed, only what ships. And a manner, what is left after
that in closed form: how far the lips open, and how the lower face is held. Both are held back by a prior
around the average speaker, chosen on people whom the network was not trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.arrays import F32, F64, Bool, check_array
from engine.audio.logmel import LogMel
from engine.expression.audio import (
    LOOK_AHEADS_MS,
    MEL_BANDS,
    MELS_PER_STEP,
    STYLE_SIZE,
    AudioToExpression,
    step_time_ms,
)
from engine.expression.manner import Manner
from engine.expression.speech import STEP_SAMPLES
from engine.face.model import LIPS, FaceModel, aperture
from engine.timing import AUDIO_RATE_HZ
from export.audio_metrics import fit_track, silences

LOOK_AHEAD_MS = 120
MIN_FRAMES = 25  # fewer say nothing about a way of speaking
ITERATIONS = 2
DIFFERENCE = 0.05  # of a style's number, for derivatives
DOUBT_FRAMES = 30.0  # of a style: the prior weighs as much as so many frames
DOUBT_S = 4.0  # of a manner: the prior weighs as much as so much footage
LEAST_GAIN, MOST_GAIN = 0.6, 1.6  # of a manner's opening
LIP_WEIGHT, SKIN_WEIGHT = 3.0, 0.5
SETTLE_S = 0.4  # before which the network has not heard all it would have
STILL_CM = 1e-3
MIN_CORRELATION = 0.25  # of the opening of the lips, below which the sound is not taken for the face's
MIN_SPEECH_S, MOST_S = 5.0, 40.0  # of footage that a way of speaking is learned from
TRIED_SHARE = 1 / 3  # of it, at its end, that a way learned from the rest is tried on first


@dataclass(frozen=True, eq=False)
class Way:
    """How one person speaks.

    Attributes:
        style: float32 [8], what audio-to-expression is told, 0 = the average speaker.
        manner: what is done to its answer.
    """

    style: F32
    manner: Manner

    @classmethod
    def average(cls, model: FaceModel) -> "Way":
        """Nobody's in particular."""
        return cls(np.zeros(STYLE_SIZE, np.float32), Manner.average(model))


@dataclass(frozen=True, eq=False)
class WayFit:
    """A fitted way of speaking.

    Attributes:
        way: that.
        error_average: mean squared error of the lower face's vertices, lips weighing most, of the average
            speaker on the frames of the fit; canonical units squared, about cm².
        error: the same of `way`.
        correlation: of the opening of the lips with what the average speaker's would be.
    """

    way: Way
    error_average: float
    error: float
    correlation: float


@dataclass(frozen=True)
class WayReport:
    """What footage gave of a way of speaking, for people to read.

    Attributes:
        learned: whether it goes into the pack.
        why: if not, why not; empty if it does.
        speech_s: seconds of the face with speech, as far as they were used.
        correlation: of the opening of the lips with what the average speaker's would be; None if not asked.
        held_out_error: on the last third of the speech, with what the rest says, over the average speaker's
            error there; below 1 it gains. None if not tried.
    """

    learned: bool
    why: str
    speech_s: float = 0.0
    correlation: float | None = None
    held_out_error: float | None = None


@dataclass(frozen=True, eq=False)
class Speech:
    """A clip's own sound and motion.

    Attributes:
        mels: float32 [M, 80], log-mels at 100 Hz from media time 0.
        time_s: float64 [F], increasing, when each frame's sound is.
        expression: float32 [F, E], of the tracked frames.
        model: the face model that E belongs to.
        network: audio-to-expression; None is the one that livedub ships.
        look_ahead_ms: one of `LOOK_AHEADS_MS`.

    Raises:
        TypeError, ValueError: arrays of another type or shape.
    """

    mels: F32
    time_s: F64
    expression: F32
    model: FaceModel = field(repr=False)
    network: bytes | None = field(default=None, repr=False)
    look_ahead_ms: int = LOOK_AHEAD_MS

    def __post_init__(self) -> None:
        """Check the arrays."""
        check_array("mels", self.mels, (None, MEL_BANDS), np.float32)
        check_array("expression", self.expression, (len(self.time_s), self.model.expressions), np.float32)
        if self.look_ahead_ms not in LOOK_AHEADS_MS:
            raise ValueError(f"look-ahead must be one of {LOOK_AHEADS_MS} ms, got {self.look_ahead_ms}")

    def part(self, frames: slice | Bool) -> "Speech":
        """The same sound with some of the frames."""
        return Speech(
            self.mels,
            self.time_s[frames],
            self.expression[frames],
            self.model,
            self.network,
            self.look_ahead_ms,
        )


def fit_way(speech: Speech) -> WayFit:
    """The way of speaking with which the network best says what the actor's face did.

    It is the average speaker's if there are fewer than 25 frames after the network has settled.
    """
    problem = _Problem(speech)
    average = Way.average(speech.model)
    if problem.frames < MIN_FRAMES:
        return WayFit(average, float("nan"), float("nan"), float("nan"))
    style = _fit_style(problem).astype(np.float32)
    way = Way(style, problem.manner(style))
    errors = problem.errors([average, way])
    return WayFit(way, float(errors[0]), float(errors[1]), problem.correlation())


def errors_of(ways: Sequence[Way], speech: Speech) -> F64:
    """Mean squared errors float64 [W] of some people's ways on one clip; as `WayFit.error`.

    Raises:
        ValueError: the clip has no frame after the network has settled.
    """
    problem = _Problem(speech)
    if not problem.frames:
        raise ValueError("the clip is too short for the network to settle")
    return problem.errors(ways)


def talking(mels: F32, time_s: F64) -> Bool:
    """Where log-mels [M, 80] are not silent, bool [F] at media times [F]: silence says nothing of one."""
    quiet = [(time_s >= start_s) & (time_s < end_s) for start_s, end_s in silences(mels)]
    return np.asarray(~np.any([np.zeros(len(time_s), np.bool_), *quiet], axis=0), np.bool_)


def way_of_footage(
    sound: F32, time_s: F64, landmarks: F32, neutral: F32, model: FaceModel, *, network: bytes | None = None
) -> tuple[Way, WayReport]:
    """How the person whom footage shows speaks, if the footage says so.

    Args:
        sound: float32 [T] in -1..1 at 16 kHz, from media time 0.
        time_s: float64 [F], media time of each frame.
        landmarks: float32 [F, 468 or more, 3] px; NaN where no face.
        neutral: float32 [468, 3], the person's own.
        model: the face model.
        network: audio-to-expression; None is the one that livedub ships.

    Returns:
        The way of speaking, and what is to be said of it. The average speaker's where there are less than 5 s
        of the face with speech, where the sound does not fit the lips, or where what the beginning says does
        not hold at the end.
    """
    average = Way.average(model)
    speech = _spoken_frames(sound, time_s, landmarks, neutral, model, network)
    seconds = 0.0 if speech is None else len(speech.time_s) * _interval_s(speech.time_s)
    if speech is None or seconds < MIN_SPEECH_S:
        return average, WayReport(False, f"{seconds:.1f} s of speech, {MIN_SPEECH_S:g} are needed", seconds)
    count = round(len(speech.time_s) * (1 - TRIED_SHARE))
    first = fit_way(speech.part(slice(count)))
    if not first.correlation >= MIN_CORRELATION:
        return average, WayReport(False, "the sound does not fit the lips", seconds, first.correlation)
    errors = errors_of([average, first.way], speech.part(slice(count, None)))
    ratio = float(errors[1] / errors[0])
    if ratio >= 1:
        why = "what the beginning says does not hold at the end"
        return average, WayReport(False, why, seconds, first.correlation, ratio)
    return fit_way(speech).way, WayReport(True, "", seconds, first.correlation, ratio)


def _spoken_frames(
    sound: F32, time_s: F64, landmarks: F32, neutral: F32, model: FaceModel, network: bytes | None
) -> Speech | None:
    """The frames that show the face while there is speech; None if that is nowhere."""
    whole = sound[: len(sound) // STEP_SAMPLES * STEP_SAMPLES]
    if not len(whole):
        return None
    mels = LogMel().offline(whole[None])[0]
    used = np.isfinite(landmarks).all(axis=(1, 2)) & (time_s < len(whole) / AUDIO_RATE_HZ)
    used &= talking(mels, time_s)
    used &= np.cumsum(used) * _interval_s(time_s) <= MOST_S
    if used.sum() < MIN_FRAMES:
        return None
    expression, seen_s = fit_track(landmarks[used], time_s[used], model, neutral)
    return Speech(mels, seen_s, expression.astype(np.float32), model, network)


def _interval_s(time_s: F64) -> float:
    return float(np.median(np.diff(time_s))) if len(time_s) > 1 else 0.0


def _fit_style(problem: "_Problem") -> F64:
    """Gauss-Newton from the average speaker on; a step that makes it worse is halved."""
    style, doubt = np.zeros(STYLE_SIZE), 0.0
    for _ in range(ITERATIONS):
        residual, slope = problem.linearised(style)
        now = float(residual @ residual) / problem.frames
        doubt = doubt or DOUBT_FRAMES / problem.frames * now  # of the average style
        normal = slope.T @ slope / problem.frames + doubt * np.eye(STYLE_SIZE)
        step = -np.linalg.solve(normal, slope.T @ residual / problem.frames + doubt * style)
        while problem.error(style + step) + doubt * _square(style + step) > now + doubt * _square(style):
            step = step / 2
            if np.abs(step).max() < DIFFERENCE / 10:
                return style
        style = style + step
    return style


def _square(values: F64) -> float:
    return float(values @ values)


class _Problem:
    """Residuals of the frames after the network has settled, in a metric where lips weigh most."""

    def __init__(self, speech: Speech) -> None:
        model, look_ahead_ms = speech.model, speech.look_ahead_ms
        self._network, self._model = AudioToExpression(look_ahead_ms, model=speech.network), model
        end_s = float(speech.time_s[-1]) if len(speech.time_s) else 0.0
        needed = round(100 * end_s) + look_ahead_ms // 10 + 2 * MELS_PER_STEP
        steps = min(len(speech.mels), needed) // MELS_PER_STEP
        self._mels = speech.mels[: steps * MELS_PER_STEP]
        self._known_s = np.array([step_time_ms(k, look_ahead_ms) / 1000 for k in range(steps)])
        use = (speech.time_s >= SETTLE_S) & (speech.time_s <= (self._known_s[-1] if steps else 0.0))
        self._time_s, self._truth = speech.time_s[use], speech.expression[use].astype(np.float64)
        weight = np.where(np.isin(model.lower, LIPS), LIP_WEIGHT, SKIN_WEIGHT)[:, None]
        basis = (model.basis[:, model.lower] * np.sqrt(weight)).reshape(model.expressions, -1)
        self._metric = basis @ basis.T / weight.sum()
        values, axes = np.linalg.eigh(self._metric)
        self._root = axes * np.sqrt(np.maximum(values, 0))
        self._opening = aperture(model.basis)
        self.frames = len(self._time_s)

    def error(self, style: F64) -> float:
        """Mean squared error of a style."""
        return float((self._residuals(style[None])[0] ** 2).sum() / self.frames)

    def errors(self, ways: Sequence[Way]) -> F64:
        """Mean squared errors [W] of ways of speaking."""
        said = self._spoken(np.array([way.style for way in ways], np.float64))
        full = np.stack(
            [way.manner.apply(one.astype(np.float32)) for way, one in zip(ways, said, strict=True)]
        )
        squared = ((full - self._truth) @ self._root) ** 2
        return np.asarray(squared.sum((1, 2)) / self.frames, np.float64)

    def linearised(self, style: F64) -> tuple[F64, F64]:
        """Residuals [R] at a style, and their slope [R, 8]."""
        around = np.concatenate([style[None], style + DIFFERENCE * np.eye(STYLE_SIZE)])
        residuals = self._residuals(around)
        return residuals[0], (residuals[1:] - residuals[0]).T / DIFFERENCE

    def manner(self, style: F32) -> Manner:
        """What is left after a style, as far as the prior lets it."""
        said = self._spoken(style[None].astype(np.float64))[0]
        doubt = DOUBT_S / max(_interval_s(self._time_s), 1e-3)
        ours, real = said @ self._opening, self._truth @ self._opening
        power = _square(ours) + doubt * _square(ours) / self.frames + STILL_CM**2
        gain = np.clip((ours @ real - _square(ours)) / power + 1, LEAST_GAIN, MOST_GAIN)
        along = np.linalg.solve(self._metric + 1e-9 * np.eye(len(self._metric)), self._opening)
        along /= self._opening @ along  # opens the lips by 1 and changes as little else as can be
        hold = (self._truth - said).sum(0) / (self.frames + doubt)
        hold -= (self._opening @ hold) * along
        return Manner.of(np.stack([(gain - 1) * along, hold]).astype(np.float32), self._model)

    def correlation(self) -> float:
        """Of the opening of the lips with what the average speaker's would be; 0 where either is still."""
        said, true = (at @ self._opening for at in (self._spoken(np.zeros((1, STYLE_SIZE)))[0], self._truth))
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
