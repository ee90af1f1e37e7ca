from pathlib import Path
from typing import Any

from streaming.server.collect import Collector
from streaming.server.metrics import Metrics
from streaming.types import SessionOptions
from tests.support.live_sessions import MemorySession


class Measured(MemorySession):
    """Says of itself what it is told to."""

    def __init__(self, **now: Any) -> None:
        super().__init__("show", SessionOptions(Path("ann.actor")))
        self.now = now

    def snapshot(self) -> dict[str, Any]:
        return self.now


def video(target_bps: int, **keyframes: int) -> dict[str, Any]:
    return {"target_bps": target_bps, "keyframes": keyframes}


def test_totals_of_sessions_become_counters() -> None:
    metrics = Metrics()
    collector = Collector(metrics)
    one = Measured(video=video(1_000_000, join=1, pli=2), waiting_frames=3, rtx_bytes=500)
    two = Measured(video=video(500_000, join=1), waiting_frames=1)
    collector.read([one, two])
    one.now = {"video": video(800_000, join=1, pli=5), "waiting_frames": 0, "rtx_bytes": 700}
    collector.read([one])
    collector.read([one])
    text = metrics.exposition().decode()
    assert 'dub_keyframes_total{reason="join"} 2.0' in text
    assert 'dub_keyframes_total{reason="pli"} 5.0' in text
    assert "dub_rtx_bytes_total 700.0" in text
    assert "dub_target_bitrate 800000.0" in text
    assert 'dub_queue_depth{stage="gate"} 0.0' in text
    assert 'dub_sessions{state="running"} 1.0' in text


def test_sessions_that_say_nothing_of_it_are_read_as_well() -> None:
    metrics = Metrics()
    Collector(metrics).read([Measured(), Measured(video=None, waiting_frames="x")])
    assert 'dub_sessions{state="running"} 2.0' in metrics.exposition().decode()
