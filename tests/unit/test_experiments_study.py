"""Experiments carried out on a made-up person: they resume, they share, they write what they say."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.__main__ import main as run_suites
from benchmarks.common import Settings
from benchmarks.experiments import data, parts, speed
from benchmarks.experiments.__main__ import main
from benchmarks.experiments.options import Options, footage_folder, results_folder
from benchmarks.experiments.perform import Workshop, learn_options
from benchmarks.experiments.plan import AS_SHOWN, NO_MATCH, OTHER_MOUTH, PRIOR, SCRATCH
from benchmarks.experiments.quick import toy_workshop
from benchmarks.experiments.schema import PHOTO_S, Condition, Study, decode_study
from benchmarks.experiments.study import conduct
from engine.errors import InputError

STEPS = 2
Lines = list[str]


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return toy_workshop()


@pytest.fixture(scope="module")
def done(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path, Lines]:
    """The experiment on data, once."""
    out, lines = tmp_path_factory.mktemp("results"), Lines()
    options = Options(out=out, steps=STEPS, seconds=(PHOTO_S,))
    return conduct(data.EXPERIMENT, options, lines.append, workshop=workshop), out, lines


def test_a_study_is_written_with_its_picture(done: tuple[Study, Path, Lines]) -> None:
    study, out, lines = done
    assert study.complete
    assert decode_study((out / "data.json").read_bytes()) == study
    assert (out / "data.png").read_bytes().startswith(b"\x89PNG")
    made = [(row.condition.seconds, row.condition.start, row.frames, row.steps) for row in study.rows]
    assert made == [
        (4.0, PRIOR, 16, STEPS),
        (4.0, SCRATCH, 16, STEPS),
        (PHOTO_S, PRIOR, 1, STEPS),
        (PHOTO_S, SCRATCH, 1, STEPS),
    ]
    for row in study.rows:
        assert row.scores is not None
        assert 10 < (row.scores.face_psnr_db or 0) < 60
        assert set(row.also) == {AS_SHOWN, NO_MATCH, OTHER_MOUTH}
        assert row.wall_s > 0
    assert lines[0] == "toy, 4 s, prior: 2 steps"


def test_what_is_there_is_not_made_again(workshop: Workshop, done: tuple[Study, Path, Lines]) -> None:
    study, out, _ = done
    lines = Lines()
    again = conduct(
        data.EXPERIMENT, Options(out=out, steps=STEPS, seconds=(PHOTO_S,)), lines.append, workshop=workshop
    )
    assert again.rows == study.rows
    assert not [line for line in lines if line.endswith("steps")]


def test_other_experiments_take_it_over(workshop: Workshop, done: tuple[Study, Path, Lines]) -> None:
    lines = Lines()
    study = conduct(
        parts.EXPERIMENT, Options(out=done[1], steps=STEPS, minutes=0), lines.append, workshop=workshop
    )
    assert [row.condition.variant for row in study.rows] == [PRIOR, SCRATCH]
    assert not study.complete
    assert "not made for lack of time: 4 adaptations; run it again to go on" in lines


def test_other_settings_begin_anew(workshop: Workshop, done: tuple[Study, Path, Lines]) -> None:
    options = Options(out=done[1], steps=STEPS + 1, minutes=0)
    assert conduct(parts.EXPERIMENT, options, Lines().append, workshop=workshop).rows == []


def test_a_race_ends_where_it_is_won(workshop: Workshop, tmp_path: Path) -> None:
    options = Options(out=tmp_path, steps=1)
    study = conduct(speed.EXPERIMENT, options, Lines().append, workshop=workshop)
    ours, scratch = study.rows
    assert [point.step for point in ours.curve] == [0, 1]
    goal = ours.curve[1].loss
    assert scratch.condition.until_loss == goal
    before = [point.loss > goal for point in scratch.curve[:-1]]
    assert all(before)
    if scratch.curve[-1].loss <= goal:
        assert scratch.scores is None
    else:
        assert scratch.steps == scratch.condition.steps == 11


def test_a_part_must_be_one() -> None:
    condition = Condition(
        clip="toy", seconds=4.0, variant="x", start=PRIOR, without=("hat",), steps=1, seed=0, prior="p"
    )
    with pytest.raises(ValueError, match="no such part: hat; known: mixed training"):
        learn_options(condition)


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["scale", "--quick", "--minutes", "0", "--seed", "5", "--out", str(out)]) == 0
    written = json.loads((out / "scale.json").read_text())
    assert (written["suite"], written["complete"], written["settings"]["seed"]) == ("scale", False, 5)
    assert "for lack of time: 2 adaptations" in capsys.readouterr().err


def test_as_one_of_the_suites(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_suites(["scale", "--quick"]) == 0
    said = capsys.readouterr()
    assert "face_psnr_db 4 s, scratch" in said.out
    with pytest.raises(ValueError, match="data learns with torch: it has no backend 'openvino'"):
        data.run(Settings("openvino", quick=True))


def test_wrong_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["data", "--data", str(tmp_path / "nowhere")]) == 2
    assert "no footage at" in capsys.readouterr().err
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "data.json").write_text("?")
    assert main(["data", "--quick", "--out", str(tmp_path / "results")]) == 2
    assert "move it away" in capsys.readouterr().err


def test_where_things_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDUB_DATA", str(tmp_path))
    assert footage_folder(Options()) == tmp_path
    with pytest.raises(InputError, match="no footage at"):
        footage_folder(Options(data=tmp_path / "no"))
    assert results_folder(Options(out=tmp_path)) == tmp_path
    assert results_folder(Options()).parent.name == "results"
