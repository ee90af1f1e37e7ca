"""`livedub bench`, with a suite that takes no time."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.common import Settings
from benchmarks.runner import SUITES, Suite
from benchmarks.schema import Result, decode_report
from tests.support.cli import Outcome, invoke

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _two_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both know one backend, and number their runs."""
    calls: list[Settings] = []

    def run(settings: Settings) -> list[Result]:
        if settings.backend not in (None, "reference"):
            raise ValueError(f"no backend {settings.backend}")
        calls.append(settings)
        name = f"{settings.backend or 'any'}-{len(calls)}"
        return [
            Result(
                suite="quick", name=name, unit="ms", clock="wall",
                p50=1.0, p95=2.0, p99=3.0, max=4.0, iqr=0.5, n=9, warmup=1,
            )
        ]  # fmt: skip

    module = ModuleType("quick_suite")
    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, "quick_suite", module)
    for name in list(SUITES):
        monkeypatch.delitem(SUITES, name)
    for name in ("first", "second"):
        monkeypatch.setitem(SUITES, name, Suite("quick_suite", f"the {name} one"))


@pytest.fixture
def livedub(capfd: pytest.CaptureFixture[str]) -> Run:
    return lambda *argv: invoke(capfd, *argv)


def test_suites_are_listed(livedub: Run) -> None:
    outcome = livedub("bench", "--list")
    assert outcome.out.splitlines() == ["first        the first one", "second       the second one"]


def test_all_suites_make_one_report(livedub: Run, tmp_path: Path) -> None:
    outcome = livedub("bench", "--json", tmp_path / "r.json")
    assert outcome.status == 0
    report = decode_report((tmp_path / "r.json").read_bytes())
    assert [result.name for result in report.results] == ["any-1", "any-2"]
    assert "any-1" in outcome.out
    assert outcome.err.splitlines() == ["measuring: first", "measuring: second"]


def test_one_suite_as_json_on_stdout(livedub: Run) -> None:
    outcome = livedub("bench", "--suite", "second", "--backend", "reference", "--json", "-")
    assert [result["name"] for result in json.loads(outcome.out)["results"]] == ["reference-1"]


def test_a_backend_that_a_suite_does_not_know(livedub: Run, tmp_path: Path) -> None:
    outcome = livedub("bench", "--backend", "magic", "--json", tmp_path / "r.json")
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1] == "livedub: no backend magic"
    assert list(tmp_path.iterdir()) == []
