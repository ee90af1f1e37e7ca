"""One condition: learn, score, and say how long it took."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, cast

from benchmarks.experiments.footage import Footage
from benchmarks.experiments.priors import KnownPrior
from benchmarks.experiments.schema import Check, Condition, Row
from benchmarks.experiments.score import DRAWN, Judge, score
from engine.face.model import FaceModel
from export import learner
from export.learner import Learned, LearnOptions, learn
from export.replay import frames_of

PARTS = {
    "mixed training": "mixed",
    "texture stage": "texture_stage",
    "network stage": "network_stage",
    "personal texture": "personal_texture",
}

OnStep = Callable[[int, int], None]


class _Enough(Exception):
    """A curve has come as far as it is needed."""


@dataclass(frozen=True, eq=False)
class Workshop:
    """What every condition of an experiment is made with.

    Attributes:
        footage: by clip name.
        priors: by name.
        model: the face model.
        judge: what measures.
        commit: of the code.
    """

    footage: Mapping[str, Footage]
    priors: Mapping[str, KnownPrior]
    model: FaceModel
    judge: Judge
    commit: str

    def perform(self, condition: Condition, on_step: OnStep) -> Row:
        """Learn from what the condition says and score the result.

        A curve that reaches its loss ends there, without scores.

        Args:
            condition: what to do.
            on_step: told of steps done and steps in all.
        """
        fitted = self.footage[condition.clip].fitted(condition.seconds, self.model)
        to_learn = frames_of(fitted.clip, fitted.frames_to_learn)
        recorder = _Recorder(condition.until_loss)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        began_s, began_cpu_s, now = time.perf_counter(), time.process_time(), datetime.now(UTC)
        learned: Learned | None = None
        with suppress(_Enough):
            learned = learn(
                to_learn,
                learn_options(condition),
                self.priors[condition.prior].prior,
                holdout=frames_of(fitted.clip, fitted.held_out) if condition.checked_every else None,
                on_check=recorder.look if condition.checked_every else None,
                on_step=lambda done, steps: recorder.count(done, steps, on_step),
            )
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        scores = {} if learned is None else score(learned, fitted, self.model, self.judge)
        return Row(
            condition=condition,
            frames=len(to_learn),
            held_out_frames=len(fitted.held_out),
            steps=recorder.steps,
            wall_s=round(wall_s, 2),
            cpu_s=round(cpu_s, 2),
            utc_time=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            commit=self.commit,
            load=load,
            scores=scores.pop(DRAWN, None),
            also=scores,
            curve=recorder.curve,
        )


@dataclass
class _Recorder:
    """Writes the curve down, and counts steps."""

    until_loss: float | None
    curve: list[Check] = field(default_factory=list)
    steps: int = 0

    def look(self, check: learner.Check) -> None:
        point = Check(
            check.step,
            round(check.seconds, 3),
            check.loss,
            check.hole_psnr_db,
            check.mouth_psnr_db,
        )
        self.curve.append(point)
        if self.until_loss is not None and check.loss <= self.until_loss:
            raise _Enough

    def count(self, done: int, steps: int, on_step: OnStep) -> None:
        self.steps = done
        on_step(done, steps)


def learn_options(condition: Condition) -> LearnOptions:
    """The learner's options for a condition.

    Raises:
        ValueError: it leaves out something that is no part.
    """
    unknown = sorted(set(condition.without) - set(PARTS))
    if unknown:
        raise ValueError(f"no such part: {', '.join(unknown)}; known: {', '.join(PARTS)}")
    parts: dict[str, Any] = {PARTS[name]: False for name in condition.without}
    if condition.checked_every:
        parts |= {"check_every": condition.checked_every, "patience": None, "keep_best": False}
    return LearnOptions(
        steps=condition.steps,
        seed=condition.seed,
        start=cast(Literal["prior", "scratch"], condition.start),
        **parts,
    )
