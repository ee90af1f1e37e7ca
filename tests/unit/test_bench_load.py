from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.load import Counters, load_between, parse_stat, read_counters, why_busy
from benchmarks.schema import Load

STAT = "cpu  100 20 30 4000 50 6 7 8 90 0\ncpu0 50 10 15 2000 25 3 3 4 45 0\n"


def counters(wall_s: float, own_s: float, busy_s: float, **others: float) -> Counters:
    return Counters(wall_s, own_s, busy_s, others.pop("steal_s", 0.0), **others)


def test_busy_time_leaves_out_idle_and_guests() -> None:
    assert parse_stat(STAT, ticks_hz=100) == (1.63, 0.08)


@pytest.mark.parametrize("text", ["", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3", "cpu a b c d e f g h"])
def test_what_is_no_stat_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"stat|invalid literal"):
        parse_stat(text, ticks_hz=100)


def test_this_machine_tells_or_is_unknown() -> None:
    now = read_counters()
    assert now is None or (now.busy_s >= now.own_s >= 0 and now.waited_s >= 0)
    assert read_counters(Path("/no/such/folder")) is None


def test_waiting_and_throttling_are_read(tmp_path: Path) -> None:
    for task, text in (("1", "5 2000000000 7"), ("2", "5 500000000 7"), ("3", "nothing")):
        (tmp_path / "self" / "task" / task).mkdir(parents=True)
        (tmp_path / "self" / "task" / task / "schedstat").write_text(text)
    (tmp_path / "stat").write_text(STAT)
    (tmp_path / "cpu.stat").write_text("nr_throttled 3\nthrottled_usec 250000\n")
    found = read_counters(tmp_path, tmp_path)
    assert found is not None
    assert (found.waited_s, found.throttled_s) == (2.5, 0.25)


def test_the_older_control_files_tell_too(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.stat").write_text("throttled_time 500000000\n")
    found = read_counters(tmp_path, tmp_path)
    assert found is not None
    assert found.throttled_s == 0.5


def test_what_others_took_is_what_we_did_not() -> None:
    before, after = counters(10.0, 1.0, 100.0), counters(12.0, 3.0, 105.0, steal_s=0.1, waited_s=0.5)
    found = load_between(before, after)
    assert found == Load(others_cores=1.5, steal_cores=0.05, waited_share=0.25, throttled_share=0.0)


def test_several_processes_of_ours_are_not_others() -> None:
    found = load_between(counters(0.0, 0.0, 0.0), counters(2.0, 0.1, 4.0, waited_s=1.0), own_s=3.9)
    assert found is not None
    assert (found.others_cores, found.waited_share) == (0.05, None)


def test_ticks_beyond_the_total_are_no_negative_load() -> None:
    found = load_between(counters(0.0, 0.0, 0.0), counters(1.0, 1.0, 0.98))
    assert found is not None
    assert found.others_cores == 0


@pytest.mark.parametrize("after", [None, counters(0.05, 0.0, 1.0)])
def test_too_short_or_untold_is_unknown(after: Counters | None) -> None:
    assert load_between(counters(0.0, 0.0, 0.0), after) is None


@pytest.mark.parametrize(
    ("found", "cores", "why"),
    [
        (None, 2, ""),
        (Load(others_cores=0.1, steal_cores=0.01, waited_share=0.01), 2, ""),
        (Load(others_cores=0.5, steal_cores=0.0), 2, "others used 0.50 of 2 cores"),
        (Load(others_cores=0.5, steal_cores=0.0), 16, ""),
        (Load(others_cores=0.0, steal_cores=0.2), 2, "the hypervisor took 0.20 cores"),
        (Load(others_cores=0.0, steal_cores=0.0, waited_share=0.2), 2, "it waited for a processor for 20 %"),
        (Load(others_cores=0.0, steal_cores=0.0, throttled_share=0.1), 2, "limit held it back for 10 %"),
    ],
)
def test_what_makes_wall_time_meaningless(found: Load | None, cores: int, why: str) -> None:
    said = why_busy(found, cores)
    assert why in said
    assert bool(said) == bool(why)


def test_some_cores_are_here() -> None:
    assert load.cores_here() >= 1
