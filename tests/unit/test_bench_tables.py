from benchmarks.common import summarise
from benchmarks.schema import Skipped
from benchmarks.tables import lines_of, number, table
from tests.support.reports import BUSY, report, timed


def lines(*results: object, **how: bool) -> list[str]:
    return table(report(*results), **how).splitlines()  # type: ignore[arg-type]


def test_a_block_for_each_suite_and_a_line_for_each_name() -> None:
    shown = lines(timed(1.0, 2.0, suite="first"), timed(3.0, 3.0, suite="second"))
    assert [line.split()[0] for line in shown if line] == ["first", "n", "second", "n"]
    assert shown[1].split()[1:3] == ["ms", "1.50"]


def test_clocks_of_one_thing_share_a_line() -> None:
    results = [
        timed(2.0, 4.0, deadline_ms=3.0),
        summarise("s", "n", [1.0, 1.0], clock="process_cpu"),
        summarise("s", "n", [0.5, 0.5], clock="device"),
        summarise("s", "n", [0.1, 0.1], clock="enqueue"),
    ]
    (line,) = lines_of(results)["s"]
    assert set(line.others) == {"process_cpu", "device", "enqueue"}
    shown = lines(*results)[1]
    assert shown.split()[:7] == ["n", "ms", "3", "3.90", "3.98", "4", "1"]
    assert "50.0 % over 3 ms; device 0.500, p99 0.500; enqueue 0.100" in shown


def test_a_busy_machines_wall_time_is_not_shown_but_its_cpu_time() -> None:
    results = [
        timed(7.0, 7.0, deadline_ms=3.0, load=BUSY),
        summarise("s", "n", [5.0, 5.0], clock="process_cpu"),
    ]
    text = table(report(*results))
    assert text.splitlines()[1].split() == ["n", "ms", "busy", "busy", "busy", "busy", "5", "2"]
    assert "7" not in text.splitlines()[1]
    assert "others used 1.50 of 2 cores" in text
    assert "--anyway" in text


def test_anyway_shows_it_with_a_mark() -> None:
    text = table(report(timed(7.0, 7.0, load=BUSY)), anyway=True)
    assert text.splitlines()[1].split()[:6] == ["n", "ms", "7~", "7~", "7~", "7~"]
    assert "marked ~" in text


def test_a_single_value_is_no_spread() -> None:
    shown = lines(summarise("s", "sessions", [3.0], unit="1"))
    assert shown[1].split() == ["sessions", "1", "3", "1"]


def test_what_is_left_out_is_said_once() -> None:
    skipped = [Skipped(suite=suite, name="tensorrt", reason="no GPU") for suite in ("a", "b")]
    text = table(type(report())(report().metadata, [timed(1.0)], skipped))
    assert "not measured: tensorrt (a, b): no GPU" in text


def test_numbers_are_short() -> None:
    values = (0.0123, 0.5, 1.234, 12.345, 123.45, 1234.5, 3.0)
    assert [number(value) for value in values] == ["0.012", "0.500", "1.23", "12.35", "123.5", "1234", "3"]
