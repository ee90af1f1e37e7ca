"""What the server counts, for Prometheus. No label names a session, an actor or an address."""

import asyncio
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

BUCKETS_S = tuple(ms / 1000 for ms in (*range(5, 501, 5), 750, 1000, 2000, 5000))
SKEW_BUCKETS_S = tuple(ms / 1000 for ms in (-500, -250, *range(-125, 126, 5), 250, 500))
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STALL_S = 0.05
LAG_EVERY_S = 0.02  # finer than the stalls that matter, or it would not see them


class Metrics:
    """The counters of one server; cheap enough to be called for every frame.

    Attributes:
        registry: of prometheus-client; never the global one, so that two servers can live in one process.
        content_type: of the exposition.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reg = self.registry
        self._stage = Histogram(
            "dub_stage_seconds",
            "Time a frame took to a stage, from the one before.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=reg,
        )
        self._g2g = Histogram(
            "dub_g2g_seconds", "Capture to display, as clients report.", buckets=BUCKETS_S, registry=reg
        )
        self._mouth = Histogram(
            "dub_mouth_latency_seconds",
            "Dub sound in to its mouth's frame out.",
            buckets=BUCKETS_S,
            registry=reg,
        )
        self._ttff = Histogram(
            "dub_ttff_seconds", "Offer to first frame shown.", buckets=BUCKETS_S, registry=reg
        )
        self._interrupt = Histogram(
            "dub_interrupt_to_silence_seconds",
            "Interrupt to the last dub sound.",
            buckets=BUCKETS_S,
            registry=reg,
        )
        self._skew = Histogram(
            "dub_av_skew_seconds",
            "Sound against picture; positive is sound late.",
            buckets=SKEW_BUCKETS_S,
            registry=reg,
        )
        self._misses = Counter("dub_deadline_miss", "Frames that were late.", ["stage"], registry=reg)
        self._frames = Counter("dub_frames", "Frames by what became of them.", ["result"], registry=reg)
        self._depth = Gauge("dub_queue_depth", "Frames that wait.", ["stage"], registry=reg)
        self._ladder = Gauge(
            "dub_ladder_level", "Sessions at each level of degradation.", ["level"], registry=reg
        )
        self._sessions = Gauge("dub_sessions", "Sessions by state.", ["state"], registry=reg)
        self._rtx = Counter("dub_rtx_bytes", "Bytes sent again.", registry=reg)
        self._keyframes = Counter("dub_keyframes", "Keyframes by reason.", ["reason"], registry=reg)
        self._bitrate = Gauge("dub_target_bitrate", "Of video, bit/s, over all sessions.", registry=reg)
        self._lag = Histogram(
            "dub_event_loop_lag_seconds", "Loop wake-ups late.", buckets=LAG_BUCKETS_S, registry=reg
        )
        self._stalls = Counter(
            "dub_event_loop_stalls",
            f"Wake-ups more than {1000 * STALL_S:.0f} ms late: the loop computed, or waited for a processor.",
            ["cause"],
            registry=reg,
        )
        for cause in ("computed", "waited"):
            self._stalls.labels(cause)
        self._tasks = Gauge(
            "dub_event_loop_tasks", "Tasks of the event loop that have not ended.", registry=reg
        )
        self._batch = Histogram(
            "dub_gpu_batch_size", "Mouths rendered at once.", buckets=(1, 2, 4, 8, 16, 32), registry=reg
        )
        self._freezes = Counter("dub_client_freezes", "Freezes that clients report.", registry=reg)
        self._dropped = Counter("dub_events_dropped", "Events that slow watchers missed.", registry=reg)
        self._refused = Counter("dub_refused", "Requests refused.", ["status"], registry=reg)
        self._levels: dict[int, int] = {}

    def stage(self, name: str, seconds: float) -> None:
        """A frame passed a stage, of `streaming.core.latency.STAGES`."""
        self._stage.labels(name).observe(seconds)

    def g2g(self, seconds: float) -> None:
        """A client measured capture to display."""
        self._g2g.observe(seconds)

    def mouth_latency(self, seconds: float) -> None:
        """Dub sound in to the frame that carries its mouth."""
        self._mouth.observe(seconds)

    def ttff(self, seconds: float) -> None:
        """Offer to first frame."""
        self._ttff.observe(seconds)

    def interrupt_to_silence(self, seconds: float) -> None:
        """Interrupt to the last dub sound that left."""
        self._interrupt.observe(seconds)

    def skew(self, seconds: float) -> None:
        """Sound minus picture."""
        self._skew.observe(seconds)

    def deadline_miss(self, stage: str, count: int = 1) -> None:
        """Frames that a stage could not finish in time."""
        self._misses.labels(stage).inc(count)

    def frames(self, result: str, count: int = 1) -> None:
        """What became of frames: "dubbed", "source", "skipped"."""
        self._frames.labels(result).inc(count)

    def queue_depth(self, stage: str, depth: int) -> None:
        """How many wait before a stage."""
        self._depth.labels(stage).set(depth)

    def ladder(self, old: int | None, new: int | None) -> None:
        """A session goes from one level to another; None is before its start and after its end."""
        for level, step in ((old, -1), (new, 1)):
            if level is not None:
                self._levels[level] = self._levels.get(level, 0) + step
                self._ladder.labels(str(level)).set(self._levels[level])

    def sessions(self, state: str, count: int) -> None:
        """How many sessions are in a state."""
        self._sessions.labels(state).set(count)

    def rtx(self, size_bytes: int) -> None:
        """Bytes that were sent again."""
        self._rtx.inc(size_bytes)

    def keyframe(self, reason: str, count: int = 1) -> None:
        """Keyframes were made: "start", "pli", "join", "scene"."""
        self._keyframes.labels(reason).inc(count)

    def bitrate(self, bits_per_s: float) -> None:
        """What the encoders aim at, together."""
        self._bitrate.set(bits_per_s)

    def batch(self, size: int) -> None:
        """Mouths that were rendered at once."""
        self._batch.observe(size)

    def freezes(self, count: int) -> None:
        """Freezes that a client newly reports."""
        self._freezes.inc(count)

    def events_dropped(self, count: int) -> None:
        """Events that a slow watcher missed."""
        self._dropped.inc(count)

    def refused(self, status: int) -> None:
        """A request was refused."""
        self._refused.labels(str(status)).inc()

    def loop_lag(self, seconds: float, computed_s: float = 0.0) -> None:
        """A wake-up was so late; the loop's thread has computed so long since the one before."""
        self._lag.observe(seconds)
        if seconds > STALL_S:
            self._stalls.labels("computed" if computed_s > STALL_S else "waited").inc()

    def tasks(self, count: int) -> None:
        """So many run in the loop."""
        self._tasks.set(count)

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)


async def watch_loop(
    metrics: Metrics,
    clock_s: Callable[[], float] = time.monotonic,
    cpu_s: Callable[[], float] = time.thread_time,
) -> None:
    """Measure how late the loop wakes up, until cancelled."""
    while True:
        due_s, spent_s = clock_s() + LAG_EVERY_S, cpu_s()
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag(max(0.0, clock_s() - due_s), cpu_s() - spent_s)
