"""Carrying an experiment out: what is there is not made again, and every result is written at once."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import plots
from benchmarks.common import Settings
from benchmarks.experiments.options import Options, Say, footage_folder, results_folder
from benchmarks.experiments.perform import Workshop
from benchmarks.experiments.plan import SCRATCH, Conditions, Experiment, Plan, seconds_text
from benchmarks.experiments.quick import toy_workshop
from benchmarks.experiments.schema import PHOTO_S, Condition, Row, Study, key_of
from benchmarks.experiments.store import Store
from benchmarks.experiments.summary import results_of, text_of
from benchmarks.machine import describe_machine
from benchmarks.schema import Result

DEFAULT_SECONDS = (PHOTO_S, 2.0, 4.0, 10.0, 30.0, 60.0)
QUICK_STEPS, QUICK_SECONDS = 3, (PHOTO_S, 2.0)
HELD_OUT = "the last quarter of each clip, 2 to 10 s"
NEWS_S = 10.0  # between two lines about the steps of one adaptation


def run_with(experiment: Experiment, settings: Settings) -> list[Result]:
    """An experiment as one of the suites: with its defaults, told on stderr.

    Raises:
        ValueError: a backend was asked for.
        LivedubError: footage, or a model, is not there.
    """
    if settings.backend is not None:
        raise ValueError(f"{experiment.name} learns with torch: it has no backend {settings.backend!r}")
    return results_of(conduct(experiment, Options(quick=settings.quick), tell))


def tell(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)


def conduct(
    experiment: Experiment,
    options: Options,
    say: Say,
    *,
    workshop: Workshop | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Study:
    """Do what is not there yet; write results and a picture; say how it stands.

    Args:
        experiment: which.
        options: how.
        say: told of everything in lines.
        workshop: footage, priors and judges; None reads them.
        clock_s: what `options.minutes` are of.

    Raises:
        LivedubError: footage, or a model, is not there.
        ValueError: a file of results is none.
    """
    until_s = clock_s() + 60 * (experiment.minutes if options.minutes is None else options.minutes)
    workshop = workshop or open_workshop(experiment, options, say)
    with _folder(options) as folder:
        store = Store(folder, fresh=options.fresh)
        study, skipped = _begun(experiment, options, workshop, store), 0
        plan = plan_of(experiment, options, workshop)

        def one(condition: Condition) -> Row | None:
            nonlocal study, skipped
            row = store.find(condition)
            if row is None and clock_s() < until_s:
                row = workshop.perform(condition, _news(condition, say, clock_s))
                store.keep(row)
            if row is None:
                skipped += 1
            else:
                study = _with_row(study, row, experiment)
                store.write(study)
            return row

        _answer(experiment.conditions(plan), one)
        study = msgspec.structs.replace(study, complete=skipped == 0)
        store.write(study)
        plots.draw(study, store.path(experiment.name, "png"))
        say(text_of(study))
        if skipped:
            say(f"not made for lack of time: {skipped} adaptations; run it again to go on")
        if not options.quick:
            say(f"written: {store.path(experiment.name)} and {store.path(experiment.name, 'png').name}")
    return study


def _answer(conditions: Conditions, one: Callable[[Condition], Row | None]) -> None:
    """Send every condition's result back to who asks."""
    condition = next(conditions, None)
    while condition is not None:
        row = one(condition)
        try:
            condition = conditions.send(row)
        except StopIteration:
            return


def open_workshop(experiment: Experiment, options: Options, say: Say) -> Workshop:
    """Read the priors and the clips, and refuse people whom a prior knows.

    Raises:
        LivedubError: something is not there, or a prior knows somebody.
    """
    from benchmarks.experiments.footage import choose_clips, read_footage
    from benchmarks.experiments.priors import read_prior, shipped_prior, small_prior
    from benchmarks.experiments.score import open_judge
    from engine.face.model import load_face_model

    if options.quick:
        return toy_workshop()
    folder = footage_folder(options)
    clips = choose_clips(folder, options.clips or experiment.clips)
    priors = [shipped_prior(), *(read_prior(one) for one in options.priors)]
    for people in options.people:
        data = options.training_set or folder
        priors.append(small_prior(data, people, options.prior_steps, options.seed, say))
    for prior in priors:
        prior.check(clips)
        if not prior.identities:
            say(f"prior {prior.name} does not say whom it knows; the manifest's split has to do")
    model, footage = load_face_model(), {}
    for clip in clips:
        say(f"reading {clip.path.name}")
        footage[clip.path.stem] = read_footage(clip, model, priors[0].prior.tier.size_px)
    described = describe_machine(datetime.now(UTC))
    commit = described.commit + ("+" if described.dirty else "")
    return Workshop(footage, {prior.name: prior for prior in priors}, model, open_judge(), commit)


def plan_of(experiment: Experiment, options: Options, workshop: Workshop) -> Plan:
    """What there is to do."""
    steps = options.steps or (QUICK_STEPS if options.quick else experiment.steps)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else DEFAULT_SECONDS)
    return Plan(
        {name: footage.longest_s for name, footage in workshop.footage.items()},
        [(name, prior.people) for name, prior in workshop.priors.items()],
        steps,
        options.seed,
        sorted(set(seconds)),
    )


def _begun(experiment: Experiment, options: Options, workshop: Workshop, store: Store) -> Study:
    """A study without results, or with those of an earlier run that had the same settings and priors."""
    plan = plan_of(experiment, options, workshop)
    settings = {"steps": plan.steps, "seed": plan.seed, "held_out": HELD_OUT, "quick": options.quick}
    metadata = describe_machine(datetime.now(UTC))
    study = Study(metadata=metadata, suite=experiment.name, settings=settings, complete=False, rows=[])
    before = None if options.fresh else store.read(experiment.name)
    for row in before.rows if before is not None and before.settings == settings else []:
        one = row.condition
        if one.until_loss is None and (one.start == SCRATCH or one.prior in workshop.priors):
            study = _with_row(study, row, experiment)
    return study


def _with_row(study: Study, row: Row, experiment: Experiment) -> Study:
    rows = list({key_of(one.condition): one for one in (*study.rows, row)}.values())
    return msgspec.structs.replace(study, rows=rows, bars=experiment.bars(rows))


def _news(condition: Condition, say: Say, clock_s: Callable[[], float]) -> Callable[[int, int], None]:
    """Says what begins, and now and then how far it is."""
    name = f"{condition.clip}, {seconds_text(condition.seconds)}, {condition.variant}"
    say(f"{name}: {condition.steps} steps")
    last_s = clock_s()

    def on_step(done: int, steps: int) -> None:
        nonlocal last_s
        if clock_s() - last_s >= NEWS_S:
            last_s = clock_s()
            say(f"{name}: step {done} of {steps}")

    return on_step


@contextmanager
def _folder(options: Options) -> Iterator[Path]:
    """Where results go; for a quick run a place that is gone afterwards."""
    if options.quick and options.out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        yield results_folder(options)
