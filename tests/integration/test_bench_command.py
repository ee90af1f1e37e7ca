"""`livedub bench` as a user meets it: a real suite in real time, its files, and two runs compared.

Numbers of a test's machine mean nothing; that they are there, or hidden for a reason, is all that is asked.
"""

import json
from pathlib import Path

import pytest

import benchmarks
from benchmarks.schema import decode_report, encode_report
from engine.backends import available
from tests.support.cli import invoke
from tests.support.json_schema import faults
from tests.support.reports import BUSY, report, timed

SCHEMA = json.loads((Path(benchmarks.__file__).parent / "schema.json").read_text())
FAST, SLOW = [10.0 + 0.01 * index for index in range(40)], [20.0 + 0.01 * index for index in range(40)]


def written(path: Path, *samples: float, **how: object) -> Path:
    path.write_bytes(encode_report(report(timed(*samples, suite="audio"), **how)))
    return path


def test_a_stream_in_real_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "r.json", tmp_path / "r.html"
    outcome = invoke(
        capfd, "bench", "--suite", "pipeline", "--backend", "openvino", "--seconds", "0.4", "--json", out,
        "--html", page, "--anyway",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    found = decode_report(out.read_bytes())
    assert faults(json.loads(out.read_text()), SCHEMA) == []
    latency, cpu = found.results
    assert (latency.clock, cpu.clock, latency.n, latency.deadline_ms) == ("wall", "process_cpu", 10, 40.0)
    assert latency.parameters["dubbed_share"] == 1
    assert len(latency.at_s) == 10
    assert found.metadata.command == "livedub bench --suite pipeline --backend openvino --seconds 0.4"
    assert "arrival to dub" in outcome.out
    assert "<svg" in page.read_text()


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error_that_says_why(
    capfd: pytest.CaptureFixture[str],
) -> None:
    if next(one.available for one in available() if one.name == "tensorrt"):
        pytest.skip("this machine can run TensorRT")
    outcome = invoke(capfd, "bench", "--suite", "render", "--backend", "tensorrt")
    assert outcome.status == 1
    assert "tensorrt" in outcome.err.splitlines()[-1]


def test_two_reports_are_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fast, slow = written(tmp_path / "a.json", *FAST), written(tmp_path / "b.json", *SLOW)
    outcome = invoke(capfd, "bench", "--compare", fast, slow)
    assert (outcome.status, outcome.out.split()[-1]) == (0, "slower")
    assert invoke(capfd, "bench", "--compare", slow, fast).out.split()[-1] == "faster"
    assert invoke(capfd, "bench", "--compare", fast, fast).out.strip().endswith("within noise")


def test_different_machines_are_compared_only_if_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fast, slow = written(tmp_path / "a.json", *FAST), written(tmp_path / "b.json", *SLOW, cores=64)
    refused = invoke(capfd, "bench", "--compare", fast, slow)
    assert refused.status == 2
    assert "cores 2 and 64" in refused.err
    assert invoke(capfd, "bench", "--compare", fast, slow, "--anyway").status == 0


@pytest.mark.parametrize("arguments", [("--compare", "/no/such", "/file"), ("--from", "/no/such")])
def test_a_file_that_is_not_there_is_wrong_use(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    outcome = invoke(capfd, "bench", *arguments)
    assert outcome.status == 2
    assert "/no/such: cannot be read" in outcome.err


def test_a_file_that_is_no_report_is_wrong_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("{}")
    outcome = invoke(capfd, "bench", "--from", tmp_path / "a.json")
    assert outcome.status == 2
    assert "not a benchmark report" in outcome.err


def test_measured_reports_become_one_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "a.json", *FAST)
    other = tmp_path / "b.json"
    other.write_bytes(encode_report(report(timed(*SLOW, suite="render", name="m", load=BUSY))))
    page, both = tmp_path / "both.html", tmp_path / "both.json"
    outcome = invoke(capfd, "bench", "--from", one, "--from", other, "--html", page, "--json", both)
    assert outcome.status == 0
    assert [result.suite for result in decode_report(both.read_bytes()).results] == ["audio", "render"]
    assert "Lips from sound" in page.read_text()
    assert "20.2" not in outcome.out + page.read_text()
    assert "others used 1.50 of 2 cores" in outcome.out


@pytest.mark.parametrize("html", ["page.txt", "no/such/page.html"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], html: str
) -> None:
    outcome = invoke(capfd, "bench", "--suite", "audio", "--html", tmp_path / html)
    assert outcome.status in {1, 2}
    assert "measuring" not in outcome.err
