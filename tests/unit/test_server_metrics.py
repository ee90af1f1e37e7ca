import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streaming.server.metrics import BUCKETS_S, Metrics, watch_loop

NAMES = {  # of the design
    "dub_stage_seconds": {"stage"},
    "dub_g2g_seconds": set(),
    "dub_av_skew_seconds": set(),
    "dub_deadline_miss": {"stage"},
    "dub_frames": {"result"},
    "dub_queue_depth": {"stage"},
    "dub_ladder_level": {"level"},
    "dub_sessions": {"state"},
    "dub_rtx_bytes": set(),
    "dub_keyframes": {"reason"},
    "dub_target_bitrate": set(),
    "dub_event_loop_lag_seconds": set(),
    "dub_gpu_batch_size": set(),
}


def filled() -> Metrics:
    metrics = Metrics()
    metrics.stage("tracked", 0.012)
    metrics.g2g(0.15)
    metrics.mouth_latency(0.2)
    metrics.ttff(0.5)
    metrics.interrupt_to_silence(0.1)
    metrics.skew(-0.02)
    metrics.deadline_miss("dubbed", 2)
    metrics.frames("source")
    metrics.queue_depth("dubbed", 1)
    metrics.ladder(None, 0)
    metrics.sessions("running", 1)
    metrics.rtx(1200)
    metrics.keyframe("join")
    metrics.bitrate(2.5e6)
    metrics.batch(1)
    metrics.freezes(3)
    metrics.events_dropped(4)
    metrics.refused(429)
    metrics.loop_lag(0.001)
    return metrics


def test_names_and_labels_are_those_of_the_design() -> None:
    families = {f.name: f for f in text_string_to_metric_families(filled().exposition().decode())}
    assert set(NAMES) <= set(families)
    for name, labels in NAMES.items():
        found = set().union(*(sample.labels for sample in families[name].samples)) - {"le"}
        assert found == labels
    assert not any("session" in s.labels for f in families.values() for s in f.samples)
    assert families["dub_deadline_miss"].samples[0].name == "dub_deadline_miss_total"


def test_buckets_are_five_milliseconds_fine_up_to_half_a_second() -> None:
    assert BUCKETS_S[:100] == pytest.approx([k * 0.005 for k in range(1, 101)])


def test_sessions_move_between_levels() -> None:
    metrics = Metrics()
    for old, new in ((None, 0), (None, 0), (0, 2), (2, 1), (1, None)):
        metrics.ladder(old, new)
    text = metrics.exposition().decode()
    assert 'dub_ladder_level{level="0"} 1.0' in text
    assert 'dub_ladder_level{level="2"} 0.0' in text
    assert 'dub_ladder_level{level="1"} 0.0' in text


def test_two_servers_count_apart() -> None:
    assert 'dub_frames_total{result="source"} 1.0' in filled().exposition().decode()
    assert "dub_frames_total{" not in Metrics().exposition().decode()


def test_the_loop_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.server.metrics.LAG_EVERY_S", 0.001)
    metrics = Metrics()
    times_s = iter([0.0, 0.0515, 1.0, 1.0005, 2.0])

    async def watched() -> None:
        await watch_loop(metrics, lambda: next(times_s))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(watched())
    text = metrics.exposition().decode()
    assert "dub_event_loop_lag_seconds_count 2.0" in text
    assert 'dub_event_loop_lag_seconds_bucket{le="0.001"} 1.0' in text


def test_a_loop_that_computes_is_told_from_one_that_waits() -> None:
    metrics = Metrics()
    for late_s, computed_s in ((0.2, 0.19), (0.2, 0.001), (0.06, 0.01), (0.04, 0.06)):
        metrics.loop_lag(late_s, computed_s)
    text = metrics.exposition().decode()
    assert 'dub_event_loop_stalls_total{cause="computed"} 1.0' in text
    assert 'dub_event_loop_stalls_total{cause="waited"} 2.0' in text
