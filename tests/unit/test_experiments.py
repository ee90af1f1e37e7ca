"""What the experiments ask for, keep and conclude; nothing is learned here."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import plots
from benchmarks.common import summarise
from benchmarks.experiments import data, parts, scale, speed
from benchmarks.experiments.plan import AS_SHOWN, COMPARED, PRIOR, SCRATCH, Plan, seconds_text
from benchmarks.experiments.schema import (
    PHOTO_S,
    Bar,
    Check,
    Condition,
    Row,
    Scores,
    Study,
    decode_study,
    encode_study,
    key_of,
)
from benchmarks.experiments.store import Store
from benchmarks.experiments.summary import bar_text, results_of, text_of
from benchmarks.runner import SUITES
from benchmarks.schema import Metadata, Report, decode_report, encode_report
from tests.support.cli import invoke

PLAN = Plan({"long": 50.0, "short": 14.06}, [("shipped", 83), ("few", 5)], 100, 7, data.SECONDS)
METADATA = Metadata(
    utc_time="2026-01-02T03:04:05Z", commit="c", dirty=False, python="3.11.0", libraries={}, cpu_model="x",
    cpu_flags=[], cores=2, load_average=(0.0, 0.0, 0.0), quiet=True, thread_variables={},
)  # fmt: skip


ALSO = {AS_SHOWN: Scores(face_psnr_db=29.0)}


def row(condition: Condition, face: float = 30.0, **changes: Any) -> Row:
    fields: dict[str, Any] = {
        "condition": condition, "frames": 9, "held_out_frames": 4, "steps": condition.steps, "wall_s": 2.0,
        "cpu_s": 1.0, "utc_time": "2026-01-02T03:04:05Z", "commit": "c", "load": 0.5,
        "scores": Scores(face_psnr_db=face, mouth_psnr_db=face - 5, face_ssim=0.9, mouth_lmd_px=1.0),
    }  # fmt: skip
    return Row(**(fields | changes))


def study(suite: str, rows: list[Row], bars: list[Bar] | None = None) -> Study:
    return Study(metadata=METADATA, suite=suite, settings={}, complete=True, rows=rows, bars=bars or [])


def curve(*losses: float, every: int = 10) -> list[Check]:
    return [Check(every * i, 0.5 * every * i, loss, 30.0, 25.0) for i, loss in enumerate(losses)]


def asked(conditions: Any, answer: Any) -> list[Condition]:
    """All conditions of a generator, with the answers that it is sent."""
    found: list[Condition] = []
    one = next(conditions, None)
    while one is not None:
        found.append(one)
        try:
            one = conditions.send(answer(one))
        except StopIteration:
            one = None
    return found


def test_each_clip_gives_the_amounts_that_it_has() -> None:
    assert PLAN.amounts("long") == [PHOTO_S, 2, 4, 10, 30, 50]
    assert PLAN.amounts("short") == [PHOTO_S, 2, 4, 10, 14]
    assert PLAN.few("short", 30.0) == 14


def test_both_starts_get_the_same_amounts_steps_and_seed() -> None:
    conditions = {key_of(one): one for one in asked(data.conditions(PLAN), lambda _: None)}.values()
    sets = [
        {(one.clip, one.seconds, one.steps, one.seed) for one in conditions if one.start == start}
        for start in (PRIOR, SCRATCH)
    ]
    assert sets[0] == sets[1]
    assert len(sets[0]) == 11
    assert {one.steps for one in conditions if one.seconds == PHOTO_S} == {80}, "as adapt does with a photo"


def test_the_bars_of_data_come_first() -> None:
    first = asked(data.conditions(PLAN), lambda _: None)[:3]
    assert [(one.clip, one.seconds, one.start) for one in first] == [
        ("long", 4, PRIOR),
        ("long", 4, SCRATCH),
        ("long", 30, PRIOR),
    ]


def test_bars_of_data() -> None:
    rows = [
        row(PLAN.condition("long", 4), 33.0),
        row(PLAN.condition("long", 30), 34.0),
        row(PLAN.condition("long", 50), 36.0),
        row(PLAN.condition("long", 4, SCRATCH), 30.0),
        row(PLAN.condition("short", 4), 32.0),
        row(PLAN.condition("short", 14), 34.0),
    ]
    bars = data.bars(rows)
    assert [bar.measured for bar in bars] == [1.5, 3.0, 1.5, 3.0]
    assert [bar.held for bar in bars] == [True] * 4
    assert bars[0].note == "long 30 s, short 14 s"
    assert bars[1].note == "long"
    assert [bar.held for bar in data.bars(rows[:1])] == [None] * 4


def test_from_scratch_races_to_the_priors_best_loss() -> None:
    def answer(one: Condition) -> Row:
        return row(one, curve=curve(0.4, 0.3, 0.19, 0.2))

    conditions = asked(speed.conditions(PLAN), answer)
    assert [(one.clip, one.start) for one in conditions] == [
        ("long", PRIOR),
        ("long", SCRATCH),
        ("short", PRIOR),
        ("short", SCRATCH),
    ]
    assert [one.until_loss for one in conditions] == [None, 0.19, None, 0.19]
    assert conditions[1].steps == 11 * conditions[0].steps
    alone = asked(speed.conditions(PLAN), lambda _: None)
    assert [one.start for one in alone] == [PRIOR, PRIOR], "without its goal there is no race"


@pytest.mark.parametrize(
    ("scratch", "steps", "reached", "held"),
    [
        (curve(0.9, 0.6, 0.45, 0.3, 0.2, every=110), 440, True, True),
        (curve(0.9, 0.2, every=60), 60, True, False),
        (curve(0.9, 0.6, 0.45, every=110), 220, False, True),
        (curve(0.9, 0.6, every=30), 30, False, None),
    ],
)
def test_race(scratch: list[Check], steps: int, reached: bool, held: bool | None) -> None:
    rows = [
        row(PLAN.condition("long", 4), curve=curve(0.7, 0.4, 0.25)),
        row(PLAN.condition("long", 4, SCRATCH), scores=None, curve=scratch),
    ]
    early, late = speed.races(rows)
    assert (early.steps, late.steps) == (10, 20)
    assert (late.scratch_steps, late.reached) == (steps, reached)
    assert late.ratio == steps / 20 == late.seconds_ratio
    (bar,) = speed.bars(rows)
    assert bar.held is held
    assert ("at least" in bar_text(bar).split(", wanted")[0]) is not reached


def test_parts_leave_out_one_thing_each() -> None:
    conditions = asked(parts.conditions(PLAN), lambda _: None)
    assert [one.without for one in conditions[:6]] == [(), *((part,) for part in parts.PARTS), ()]
    assert len({key_of(one) for one in conditions}) == len(conditions)


def test_scale_asks_for_every_prior_and_none() -> None:
    conditions = asked(scale.conditions(PLAN), lambda _: None)
    assert [(one.people, one.variant) for one in conditions[:2]] == [(5, COMPARED), (83, PRIOR)]
    assert [plots.people_of(row(one)) for one in conditions] == [5, 83, 0] * 2


def test_conditions_are_the_same_by_what_they_do() -> None:
    whole = PLAN.condition("long", 4)
    named = msgspec.structs.replace(whole, variant="whole", people=None)
    assert key_of(whole) == key_of(named)
    assert key_of(whole) != key_of(PLAN.condition("long", 4, prior=("few", 5)))
    scratch = PLAN.condition("long", 4, SCRATCH)
    assert key_of(scratch) == key_of(msgspec.structs.replace(scratch, prior="few"))
    assert key_of(scratch) != key_of(whole)


def test_a_study_there_and_back() -> None:
    one = study("data", [row(PLAN.condition("long", 4), curve=curve(0.3, 0.1))], data.bars([]))
    assert decode_study(encode_study(one)) == one


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    one = row(PLAN.condition("long", 4))
    with pytest.raises(ValueError, match="each condition once"):
        study("data", [one, one])
    with pytest.raises(ValueError, match="no word for"):
        encode_study(study("data", [row(PLAN.condition("long", 4), float("nan"))]))
    with pytest.raises(ValueError, match="not an experiment's results"):
        decode_study(b'{"rows": []}')
    (tmp_path / "data.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"data\.json: .* move it away"):
        Store(tmp_path)


def test_the_store_shares_rows_between_experiments(tmp_path: Path) -> None:
    condition = PLAN.condition("long", 4)
    Store(tmp_path).write(study("data", [row(condition, 31.0)]))
    asked_for = msgspec.structs.replace(condition, variant="whole")
    found = Store(tmp_path).find(asked_for)
    assert found is not None
    assert (found.condition.variant, found.scores and found.scores.face_psnr_db) == ("whole", 31.0)
    assert Store(tmp_path, fresh=True).find(condition) is None
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_results_fit_the_common_schema() -> None:
    rows = [
        row(PLAN.condition("long", 4), 33.0),
        row(PLAN.condition("short", 4), 31.0),
        row(PLAN.condition("long", 4, SCRATCH), 28.0),
    ]
    results = results_of(study("data", rows))
    assert decode_report(encode_report(Report(METADATA, results))).results == results
    first = results[0]
    assert (first.name, first.p50, first.n, first.unit) == (
        "face_psnr_db 4 s, prior, 83 people",
        32.0,
        2,
        "dB",
    )


def test_priors_of_equally_many_people_stay_apart() -> None:
    rows = [row(PLAN.condition("long", 4, prior=(name, 5))) for name in ("a", "b")]
    names = [result.name for result in results_of(study("scale", rows))]
    assert "face_psnr_db 4 s, prior, 5 people (a)" in names
    assert len(set(names)) == len(names)


def test_the_text_names_rows_races_and_bars() -> None:
    rows = [
        row(PLAN.condition("long", 4), curve=curve(0.7, 0.25)),
        row(PLAN.condition("long", 4, SCRATCH), scores=None, curve=curve(0.9, 0.2, every=120)),
    ]
    text = text_of(study("speed", rows, speed.bars(rows)))
    assert "long, 4 s, prior, 83 people" in text
    assert "12.0 x the steps" in text
    assert text.splitlines()[-1].startswith("held: steps from scratch for each step from the prior")
    missed = Bar(what="x", wanted=2.0, at_least=True, measured=1.0)
    assert bar_text(missed) == "MISSED: x: 1.00, wanted at least 2"
    assert bar_text(msgspec.structs.replace(missed, measured=None)).startswith("open: x")


def test_compositing_is_one_of_the_parts() -> None:
    rows = [
        row(PLAN.condition("long", 4), also={AS_SHOWN: Scores(face_psnr_db=29.0)}),
        row(PLAN.condition("long", 4, "without network stage", without=["network stage"]), 28.0),
        row(PLAN.condition("long", 4, SCRATCH), 20.0),
    ]
    assert list(plots.parts_of(rows)) == ["without network stage", "without the prior", AS_SHOWN]


@pytest.mark.parametrize("suite", ["data", "speed", "parts", "scale"])
def test_pictures_are_written_small(suite: str, tmp_path: Path) -> None:
    rows = [
        row(PLAN.condition("long", 4), 33.0, curve=curve(0.7, 0.4, 0.25), also=ALSO),
        row(PLAN.condition("long", PHOTO_S), 30.0),
        row(PLAN.condition("long", 4, SCRATCH), 28.0, curve=curve(0.9, 0.6, every=60)),
        row(PLAN.condition("long", 4, "without network stage", without=["network stage"]), 31.0),
        row(PLAN.condition("long", 4, COMPARED, prior=("few", 5)), 31.0),
    ]  # fmt: skip
    plots.draw(study(suite, rows), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert 10_000 < len(data) < 150_000


@pytest.mark.parametrize("suite", ["data", "speed", "parts", "scale"])
def test_nothing_makes_a_picture_too_and_the_same_again(suite: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.draw(study(suite, []), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_suites_are_known_as_studies() -> None:
    assert {"data", "speed", "parts", "scale"} <= {name for name, suite in SUITES.items() if suite.study}


def test_amounts_in_words() -> None:
    assert [seconds_text(value) for value in (PHOTO_S, 2.0, 14.9)] == ["1 photo", "2 s", "14.9 s"]


def test_a_study_runs_only_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def report_of(name: str, *_: object) -> Report:
        ran.append(name)
        return Report(METADATA, [summarise(name, "n", [1.0])])

    monkeypatch.setattr("clients.bench.report_of", report_of)
    assert invoke(capfd, "bench").status == 0
    assert ran == [name for name, suite in SUITES.items() if not suite.study]
    assert invoke(capfd, "bench", "--suite", "scale").status == 0
    assert ran[-1] == "scale"
