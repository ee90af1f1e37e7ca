import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.schema import Metadata, Report, Result, decode_report, encode_report, to_dict


def metadata() -> Metadata:
    return Metadata(
        utc_time="2026-11-22T09:00:00Z",
        commit="unknown",
        dirty=False,
        python="3.11.7",
        libraries={"numpy": "2.4.6"},
        cpu_model="a CPU",
        cpu_flags=["avx2"],
        cores=2,
        load_average=(0.1, 0.2, 0.3),
        quiet=True,
        thread_variables={"OMP_NUM_THREADS": "1"},
    )


def result(**changes: Any) -> Result:
    values: dict[str, Any] = {
        "suite": "s", "name": "n", "unit": "ms", "clock": "wall", "p50": 1.0, "p95": 2.0, "p99": 3.0,
        "max": 4.0, "iqr": 0.5, "n": 10, "warmup": 0,
    }  # fmt: skip
    return Result(**{**values, **changes})


def plain() -> dict[str, Any]:
    return to_dict(Report(metadata(), [result(deadline_ms=40.0, missed=0.25, parameters={"px": 224})]))


def test_a_report_survives_its_json() -> None:
    report = Report(
        metadata(), [result(), result(clock="process_cpu"), result(name="m", parameters={"a": 1})]
    )
    assert decode_report(encode_report(report)) == report


def test_json_is_indented_and_has_both_parts() -> None:
    text = encode_report(Report(metadata(), [result()])).decode()
    assert text.endswith("}\n")
    assert '\n  "metadata": {\n' in text
    assert list(json.loads(text)) == ["metadata", "results", "skipped"]
    assert json.loads(text)["metadata"]["load_average"] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("metadata", "utc_time", "yesterday", "metadata.utc_time"),
        ("metadata", "cores", 0, "metadata.cores"),
        ("metadata", "load_average", [1.0], "metadata.load_average"),
        ("metadata", "commit", "", "metadata.commit"),
        ("metadata", "surprise", 1, "unknown field `surprise`"),
        ("results", "n", 0, r"results\[0\].n"),
        ("results", "p50", -1.0, r"results\[0\].p50"),
        ("results", "p95", None, r"results\[0\].p95"),
        ("results", "max", 0.5, "percentiles of 'n' are not in order"),
        ("results", "clock", "sundial", r"results\[0\].clock"),
        ("results", "missed", 1.5, r"results\[0\].missed"),
        ("results", "missed", None, "needs both of deadline_ms and missed"),
        ("results", "mean", 1.0, "unknown field `mean`"),
    ],
)
def test_what_does_not_fit_is_named(part: str, key: str, value: object, message: str) -> None:
    report = plain()
    (report[part] if part == "metadata" else report[part][0])[key] = value
    with pytest.raises(ValueError, match=f"not a benchmark report: .*{message}"):
        decode_report(json.dumps(report))


@pytest.mark.parametrize("key", ["metadata", "results"])
def test_nothing_may_be_left_out(key: str) -> None:
    report = plain()
    del report[key]
    with pytest.raises(ValueError, match=f"missing required field `{key}`"):
        decode_report(json.dumps(report))


def test_a_report_without_results_is_refused() -> None:
    with pytest.raises(ValueError, match="results"):
        decode_report(json.dumps({**plain(), "results": []}))


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="not unique"):
        Report(metadata(), [result(), result()])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="iqr"):
        encode_report(Report(metadata(), [result(iqr=value)]))


@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=200) | st.text(max_size=50).map(lambda t: json.dumps({t: t}).encode()))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a benchmark report"):
        decode_report(data)
