"""What is read off the sessions when somebody asks for the metrics, in place of being told at every frame."""

from collections import Counter
from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary

from streaming.server.manager import SessionLike
from streaming.server.metrics import Metrics


class Collector:
    """Turns the running totals of sessions into counters. What a session does after its last reading is lost.

    Args:
        metrics: that are brought up to date.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seen: WeakKeyDictionary[SessionLike, Counter[str]] = WeakKeyDictionary()

    def read(self, sessions: Iterable[SessionLike]) -> None:
        """Read the snapshots of all sessions.

        Of each: `video`, with `target_bps` and `keyframes` by reason, `waiting_frames` and `rtx_bytes`; what
        is not there counts as nothing.
        """
        bits_per_s, waiting, count = 0, 0, 0
        for session in sessions:
            count += 1
            now = session.snapshot()
            video = _table(now, "video")
            bits_per_s += _whole(video, "target_bps")
            waiting += _whole(now, "waiting_frames")
            keyframes = _table(video, "keyframes")
            totals = Counter({str(reason): _whole(keyframes, reason) for reason in keyframes})
            totals["rtx"] = _whole(now, "rtx_bytes")
            self._count(session, totals)
        self._metrics.sessions("running", count)
        self._metrics.bitrate(bits_per_s)
        self._metrics.queue_depth("gate", waiting)

    def _count(self, session: SessionLike, totals: Counter[str]) -> None:
        grown = totals - self._seen.get(session, Counter())
        self._seen[session] = totals
        self._metrics.rtx(grown.pop("rtx", 0))
        for reason, more in grown.items():
            self._metrics.keyframe(reason, more)


def _table(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _whole(values: Mapping[str, object], name: str) -> int:
    found = values.get(name)
    return found if isinstance(found, int) else 0
