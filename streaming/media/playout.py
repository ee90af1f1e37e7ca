"""When what a programme gives is due: its own times, mapped to this machine's. Pure: times are given.

What pushes (RTMP, RTSP, SRT) is taken as it comes; what is pulled (files, HTTP and so HLS, which comes by
whole segments) is let out at its own pace. Both bear times that jump: a discontinuity, a wrap, an encoder
that began again. A jump begins another timeline, which the other tracks join when their own times arrive
there, so that picture and sound stay together.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from streaming.types import NS_PER_S

DRIFT_NS_PER_S = 500_000  # the fastest packet is forgotten at this rate: clocks differ by up to 500 ppm
BACK_NS = NS_PER_S // 10  # a track's times go back by more only if they jump
PUSHED_AHEAD_NS = NS_PER_S  # further than the time that passed, and it was a jump
PULLED_AHEAD_NS = 10 * NS_PER_S  # of all tracks; shorter gaps are waited for
LATE_NS = NS_PER_S // 2  # what is pulled and comes later than this moves the pace
BURST_NS = 3 * NS_PER_S  # a server that goes on like this is no live one
_TOGETHER_NS = 3 * NS_PER_S  # tracks of one timeline are muxed so closely
_RECENT_NS = 3 * NS_PER_S
_REMEMBERED = 3


@dataclass(slots=True, eq=False)
class _Timeline:
    """Times without a jump.

    Attributes:
        newest_ns: the latest time on it, of any track.
        came_ns: when that came.
        offset_ns: from its times to local ones; None: not known yet.
        learnt_ns: when it was found.
    """

    newest_ns: int
    came_ns: int
    offset_ns: int | None = None
    learnt_ns: int = 0


class _Timelines:
    """Which timeline each track is on."""

    def __init__(self) -> None:
        self._tracks: dict[int, tuple[_Timeline, int, int]] = {}  # with its latest time, and when it came
        self._known: deque[_Timeline] = deque(maxlen=_REMEMBERED)

    def push(self, track: int, stream_ns: int, now_ns: int, *, pulled: bool) -> _Timeline:
        """The timeline of what comes now."""
        timeline = self._next(track, stream_ns, now_ns, pulled=pulled)
        timeline.newest_ns, timeline.came_ns = max(timeline.newest_ns, stream_ns), now_ns
        self._tracks[track] = timeline, stream_ns, now_ns
        return timeline

    def _next(self, track: int, stream_ns: int, now_ns: int, *, pulled: bool) -> _Timeline:
        former = None
        if track in self._tracks:
            former, last_ns, last_came_ns = self._tracks[track]
            highest_ns = (
                former.newest_ns + PULLED_AHEAD_NS
                if pulled
                else last_ns + now_ns - last_came_ns + PUSHED_AHEAD_NS
            )
            if last_ns - BACK_NS <= stream_ns <= highest_ns:
                return former
        elif self._known:
            return self._known[-1]
        joined = next(self._near(stream_ns, now_ns, former), None) or _Timeline(stream_ns, now_ns)
        if joined not in self._known:
            self._known.append(joined)
        return joined

    def _near(self, stream_ns: int, now_ns: int, former: _Timeline | None) -> Iterator[_Timeline]:
        for timeline in reversed(self._known):
            near = abs(stream_ns - timeline.newest_ns) < _TOGETHER_NS
            if timeline is not former and near and now_ns - timeline.came_ns < _RECENT_NS:
                yield timeline


class ArrivalClock:
    """For what is pushed: when it would have come without the network's jitter, as the fastest packet did."""

    def __init__(self) -> None:
        self._timelines = _Timelines()

    def local_ns(self, stream_ns: int, now_ns: int, track: int = 0) -> int:
        """When something with time `stream_ns`, which arrived at `now_ns`, would have come without delay."""
        timeline = self._timelines.push(track, stream_ns, now_ns, pulled=False)
        offset = now_ns - stream_ns
        if timeline.offset_ns is not None:
            slack = (now_ns - timeline.learnt_ns) * DRIFT_NS_PER_S // NS_PER_S
            offset = min(offset, timeline.offset_ns + slack)
        timeline.offset_ns, timeline.learnt_ns = offset, now_ns
        return stream_ns + offset


class Burst:
    """What a server that pushes sends at once to begin with: since a keyframe, or since it was probed.

    That is past, and would all be shown now; it is only decoded. It ends with the first picture that takes
    time to come.
    """

    def __init__(self) -> None:
        self._over = False
        self._first_ns: int | None = None
        self._last: tuple[int, int] | None = None

    @property
    def over(self) -> bool:
        """Whether what comes is live; its sound, too."""
        return self._over

    def picture(self, stream_ns: int, now_ns: int) -> None:
        """A picture with time `stream_ns` came at `now_ns`."""
        if self._first_ns is None:
            self._first_ns = now_ns
        if self._last is not None:
            step_ns, took_ns = stream_ns - self._last[0], now_ns - self._last[1]
            self._over = self._over or 2 * took_ns >= step_ns or now_ns - self._first_ns > BURST_NS
        self._last = stream_ns, now_ns


class Pace:
    """For what is pulled: when it is due, one thing after the other as their times say.

    Args:
        start_ns: when the first is due.
    """

    def __init__(self, start_ns: int) -> None:
        self._timelines = _Timelines()
        self._free_ns = start_ns

    def due_ns(self, stream_ns: int, lasts_ns: int, now_ns: int, track: int = 0) -> int:
        """When something with time `stream_ns`, there since `now_ns`, is to be let out; it may be past.

        After a stall the pace goes on from there: nothing is left out.
        """
        timeline = self._timelines.push(track, stream_ns, now_ns, pulled=True)
        if timeline.offset_ns is None:
            timeline.offset_ns = self._free_ns - stream_ns
        due_ns = stream_ns + timeline.offset_ns
        if now_ns - due_ns > LATE_NS:
            timeline.offset_ns += now_ns - due_ns
            due_ns = now_ns
        self._free_ns = max(self._free_ns, due_ns + lasts_ns)
        return due_ns

    def restart(self, now_ns: int | None = None) -> None:
        """The programme is opened again, at `now_ns` or right after what came: its times are other ones."""
        self._timelines = _Timelines()
        self._free_ns = max(self._free_ns, now_ns or 0)
