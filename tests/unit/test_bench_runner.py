import json
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.__main__ import main
from benchmarks.common import Settings
from benchmarks.runner import SUITES, merged, report_of, run_suite
from benchmarks.schema import Device, decode_report
from tests.support import reports

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))


def test_every_suite_exists_and_is_described() -> None:
    for name, suite in SUITES.items():
        assert callable(import_module(suite.module).run), name
        assert suite.what


def test_unknown_suite() -> None:
    with pytest.raises(ValueError, match="unknown suite 'nobody'; known: stages"):
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


def test_several_reports_of_one_machine_are_one() -> None:
    one, other = reports.report(reports.timed(1.0)), reports.report(reports.timed(2.0, name="m"))
    both = merged([one, other])
    assert [result.name for result in both.results] == ["n", "m"]
    assert both.metadata == one.metadata


def test_reports_of_two_machines_stay_apart() -> None:
    one, other = reports.report(), reports.report(reports.timed(2.0, name="m"), cores=64)
    with pytest.raises(ValueError, match="different machines"):
        merged([one, other])
    with pytest.raises(ValueError, match="no report"):
        merged([])


def test_gpus_are_described_as_their_driver_says() -> None:
    found = machine.device_of("NVIDIA H200, 580.95.05, 9.0, 143771, 1980")
    assert found == Device(
        name="NVIDIA H200", driver="580.95.05", compute_capability="9.0", memory_mib=143771, clock_mhz=1980
    )
    assert machine.device_of("Failed to initialize NVML") is None
    unknown = machine.device_of("NVIDIA X, 1, 9.0, [N/A], [N/A]")
    assert unknown is not None
    assert (unknown.memory_mib, unknown.clock_mhz) == (None, None)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_containers_limit(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert machine.cpu_limit(tmp_path) == cores


def test_the_load_at_the_end_is_added() -> None:
    before = machine.describe_machine(NOW, seed=7, command="livedub bench")
    after = machine.finished(before)
    assert before.load_average_after is None
    assert after.load_average_after is not None
    assert (after.seed, after.command) == (7, "livedub bench")
    assert "Warm-up" in after.method
