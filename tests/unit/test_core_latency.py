import re
from pathlib import Path

import pytest

from streaming.core.latency import STAGES, LatencyLog, frame_times

MS = 1_000_000
PAGE = Path(__file__).parents[2] / "clients" / "web" / "live"


def test_each_stage_takes_from_the_one_before() -> None:
    stamps = {stage: 10 * (k + 1) * MS for k, stage in enumerate(STAGES)}
    times = frame_times(0, 5 * MS, stamps, dubbed=True)
    assert list(times.stages_ms) == list(STAGES)
    assert set(times.stages_ms.values()) == {10.0}
    assert times.mouth_ms == pytest.approx(10 * len(STAGES) - 5)


def test_a_frame_that_was_not_dubbed_has_no_mouth_and_missing_stages_cost_nothing() -> None:
    times = frame_times(0, 0, {"received": 8 * MS, "encoded": 20 * MS}, dubbed=False)
    assert times.mouth_ms is None
    assert times.stages_ms == {"received": 8.0, "encoded": 12.0}


def test_stamps_out_of_order_are_never_negative() -> None:
    times = frame_times(9 * MS, 0, {"received": 4 * MS, "decoded": 12 * MS}, dubbed=False)
    assert times.stages_ms == {"received": 0.0, "decoded": 3.0}


def test_what_is_told_are_means_since_the_last_time() -> None:
    log = LatencyLog()
    assert log.told() == {}
    for late in (100, 200):
        log.add(frame_times(0, 0, {"encoded": late * MS}, dubbed=True))
    log.add(frame_times(0, 0, {"encoded": 60 * MS}, dubbed=False))
    told = log.told()
    assert told["mouth_ms"] == pytest.approx(150)
    assert told["stages_ms"] == {"encoded": pytest.approx(120)}
    assert log.told() == {}
    assert log.mouths_ms() == [100, 200]


def test_a_planned_wait_is_not_the_work_that_follows_it() -> None:
    stamps = {"decoded": 4 * MS, "taken": 104 * MS, "tracked": 110 * MS}
    assert frame_times(0, 0, stamps, dubbed=True).stages_ms == {
        "decoded": 4.0,
        "taken": 100.0,
        "tracked": 6.0,
    }


def test_the_page_names_the_same_stages() -> None:
    names = re.search(
        r"const NAMES = \{(.*?)\n\}", (PAGE / "readout.js").read_text(encoding="utf-8"), re.DOTALL
    )
    assert names is not None
    assert tuple(re.findall(r"(\w+): '", names[1])) == STAGES
