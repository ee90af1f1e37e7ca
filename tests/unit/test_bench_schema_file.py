import json
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.common import summarise
from benchmarks.schema import (
    BackendRow,
    Device,
    Load,
    Report,
    Skipped,
    decode_report,
    encode_report,
    json_schema,
)
from tests.support.json_schema import faults
from tests.support.reports import metadata

FOLDER = Path(benchmarks.__file__).parent
SCHEMA = json.loads((FOLDER / "schema.json").read_text())
PARTS = {"metadata", "results", "skipped"}  # a study's file has others
KEPT = [
    path
    for path in sorted((FOLDER / "results").rglob("*.json"))
    if set(json.loads(path.read_text())) <= PARTS
]


def full_report() -> dict[str, Any]:
    described = metadata(
        cpu_limit=1.5,
        load_average_after=(1.0, 1.0, 1.0),
        devices=[Device(name="NVIDIA H200", driver="580.1", compute_capability="9.0", memory_mib=143_771)],
        backends=[BackendRow(name="tensorrt", available=False, version="", detail="no GPU")],
    )
    busy = Load(others_cores=1.2, steal_cores=0.0, waited_share=0.3)
    results = [
        summarise("s", "n", range(200), clock="wall", deadline_ms=40.0, load=busy, at_s=range(200)),
        summarise("s", "n", [1.0], clock="device"),
    ]
    skipped = [Skipped(suite="s", name="tensorrt", reason="no GPU")]
    return dict(json.loads(encode_report(Report(described, results, skipped))))


def test_the_published_schema_is_that_of_the_code() -> None:
    assert (FOLDER / "schema.json").read_bytes() == json_schema(), "python -m benchmarks.schema > schema.json"


def test_a_report_fits_the_published_schema() -> None:
    assert faults(full_report(), SCHEMA) == []


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("metadata", "cores", 0),
        ("metadata", "load_average", [1.0]),
        ("metadata", "utc_time", "yesterday"),
        ("results", "clock", "sundial"),
        ("results", "trusted", "yes"),
        ("results", "samples", [-1.0]),
        ("results", "p50_ci", [1.0]),
        ("results", "load", {"others_cores": 1.0}),
        ("results", "mean", 1.0),
    ],
)
def test_what_is_no_report_does_not_fit(part: str, key: str, value: object) -> None:
    report = full_report()
    (report[part] if part == "metadata" else report[part][0])[key] = value
    found = faults(report, SCHEMA)
    assert found
    assert all(key in one for one in found)
    with pytest.raises(ValueError, match=key):
        decode_report(json.dumps(report))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: str(path.name))
def test_kept_reports_are_reports(path: Path) -> None:
    plain = json.loads(path.read_text())
    assert faults(plain, SCHEMA) == []
    assert decode_report(path.read_bytes()).results
