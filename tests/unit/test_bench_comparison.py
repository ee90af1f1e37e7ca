import pytest

from benchmarks.common import summarise
from benchmarks.comparison import compare, verdict
from benchmarks.schema import Device, Result
from tests.support.reports import BUSY, report, timed

FAST, SLOW = [10.0 + 0.01 * index for index in range(40)], [20.0 + 0.01 * index for index in range(40)]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (FAST, SLOW, "slower"),
        (SLOW, FAST, "faster"),
        (FAST, FAST, "within noise"),
        (FAST, [1.01 * value for value in FAST], "within noise"),
        ([10.0, 11.0, 12.0], [10.5, 11.5, 12.5], "within noise"),
        ([10.0, 10.0, 10.1], [20.0, 20.0, 20.1], "slower"),
        ([0.0, 0.0], [1.0, 1.0], "was nothing"),
    ],
)
def test_times_have_a_verdict(before: list[float], after: list[float], said: str) -> None:
    assert compare(report(timed(*before)), report(timed(*after))).endswith(said)


def sessions(count: float) -> Result:
    return summarise("capacity", "sessions", [count], unit="1", better="higher")


@pytest.mark.parametrize(
    ("before", "after", "said"), [(4, 8, "better"), (8, 4, "worse"), (4, 4, "within noise")]
)
def test_more_sessions_are_better(before: int, after: int, said: str) -> None:
    assert verdict(sessions(before), sessions(after)).endswith(said)


def test_the_ratio_has_its_interval() -> None:
    assert verdict(timed(*FAST), timed(*SLOW)) == "x 1.98 [1.97, 1.99]  slower"


def test_different_machines_are_refused_unless_said() -> None:
    one, other = report(timed(*FAST)), report(timed(*SLOW), cpu_model="another CPU")
    with pytest.raises(ValueError, match=r"different machines .*another CPU.*--anyway"):
        compare(one, other)
    text = compare(one, other, anyway=True)
    assert "different machines: CPU a CPU and another CPU" in text
    assert "slower" in text


def test_another_gpu_is_another_machine() -> None:
    with pytest.raises(ValueError, match="GPU none and NVIDIA H200"):
        compare(report(), report(devices=[Device(name="NVIDIA H200")]))


def test_a_busy_machine_is_not_compared() -> None:
    quiet, busy = report(timed(*FAST)), report(timed(*SLOW, load=BUSY))
    assert compare(quiet, busy).endswith("busy")
    assert compare(busy, quiet).endswith("busy")
    assert compare(quiet, busy, anyway=True).endswith("slower ~")


def test_cpu_time_of_a_busy_machine_is() -> None:
    def cpu(*samples: float) -> Result:
        return summarise("s", "n", samples, clock="process_cpu", load=BUSY)

    assert compare(report(cpu(*FAST)), report(cpu(*SLOW))).endswith("slower")


def test_strangers_have_nothing_in_common() -> None:
    assert "no result in common" in compare(report(timed(1.0)), report(timed(1.0, name="m")))


def test_what_only_one_has_is_counted() -> None:
    text = compare(report(timed(1.0), timed(1.0, name="old")), report(timed(1.0), timed(1.0, name="new")))
    assert "only in the first: 1 results, such as s: old" in text
    assert "only in the second: 1 results, such as s: new" in text
