import json
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.__main__ import main
from benchmarks.common import Settings, summarise
from benchmarks.runner import SUITES, compare, report_of, run_suite, table
from benchmarks.schema import Report, decode_report

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))


def report(*samples: float, name: str = "n") -> Report:
    return Report(machine.describe_machine(NOW), [summarise("s", name, samples)])


def test_every_suite_exists_and_is_described() -> None:
    for name, suite in SUITES.items():
        assert callable(import_module(suite.module).run), name
        assert suite.what


def test_unknown_suite() -> None:
    with pytest.raises(ValueError, match="unknown suite 'nobody'; known: backends"):
        run_suite("nobody")


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        run_suite("backends", "tpu")


def test_the_machine_is_described() -> None:
    described = machine.describe_machine(NOW)
    assert described.utc_time == "2026-01-02T02:04:05Z"
    assert described.libraries["numpy"]
    assert described.cores >= 1


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_REPOSITORY", tmp_path)
    described = machine.describe_machine(NOW)
    assert (described.commit, described.dirty) == ("unknown", False)


def test_backends_quick() -> None:
    result = report_of(
        "backends", Settings("reference", runs=1, warmup=0, quick=True), datetime.now(UTC)
    ).results
    assert [(r.name, r.clock) for r in result] == [
        (f"reference {precision} 32 px 1 thread", clock)
        for precision in ("f32", "int8")
        for clock in ("wall", "process_cpu")
    ]


def test_command_line_writes_a_valid_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert main(["backends", "--quick", "--backend", "onnxruntime", "--json", str(out)]) == 0
    written = decode_report(out.read_bytes())
    assert {r.parameters["backend"] for r in written.results} == {"onnxruntime"}
    assert "onnxruntime f32 32 px 1 thread" in capsys.readouterr().out
    assert main(["--compare", str(out), str(out)]) == 0
    assert "within noise" in capsys.readouterr().out


def test_list_names_the_suites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(SUITES)


@pytest.mark.parametrize("arguments", [[], ["nobody"], ["--compare", "/no/such", "/file"]])
def test_wrong_use_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("benchmarks: ")


def test_a_damaged_report_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps({"results": []}))
    assert main(["--compare", str(damaged), str(damaged)]) == 2
    assert "not a benchmark report" in capsys.readouterr().err


def test_table_has_a_line_per_result() -> None:
    lines = table(report(1.0, 2.0)).splitlines()
    assert lines[1].split()[:2] == ["n", "none"]
    assert "1.50" in lines[1]


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ((10.0, 11.0, 12.0), (10.5, 11.5, 12.5), "11.00 -> 11.50 ms, within noise"),
        ((10.0, 10.0, 10.1), (20.0, 20.0, 20.1), "+100.0 %"),
        ((0.0, 0.0), (1.0, 1.0), "new"),
    ],
)
def test_compare_knows_noise(old: tuple[float, ...], new: tuple[float, ...], verdict: str) -> None:
    assert verdict in compare(report(*old), report(*new))


def test_compare_of_strangers_says_so() -> None:
    assert "no result in common" in compare(report(1.0), report(1.0, name="m"))
