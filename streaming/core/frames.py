"""Frames of the source from when they come until they leave."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from streaming.core.clock import CaptureClock, FrameRhythm, MediaClock, samples_of


class Stage(Enum):
    """How far a frame has come."""

    WAITING = "waiting"
    GIVEN = "given"
    READY = "ready"
    SOURCE = "source"  # it leaves as filmed


@dataclass(slots=True, eq=False)
class Frame:
    """One frame between its arrival and its leaving.

    Attributes:
        index: its number.
        ref: the shell's handle of the picture.
        position: media time, samples at 48 kHz, original delay included.
        stage: how far it has come.
        given: whether a worker had it.
        given_ns: when it got it.
        shown, stamps: the worker's answer.
    """

    index: int
    ref: int
    position: int
    stage: Stage
    given: bool = False
    given_ns: int = 0
    shown: str = "source"
    stamps: Mapping[str, int] = field(default_factory=dict)


class FrameQueue:
    """Frames in order of media time, no more of them than the shell has pictures for.

    Args:
        capacity: frames held; beyond it the one that lies closest to its neighbours, and that no worker has,
            is given up, so that the frame rate falls evenly.
        original_delay_ns: added to the media time of each.
    """

    def __init__(self, capacity: int, original_delay_ns: int) -> None:
        if capacity < 2:
            raise ValueError(f"{capacity = } must be at least 2")
        self._capacity, self._delay_ns = capacity, original_delay_ns
        self._captures, self._rhythm = CaptureClock(), FrameRhythm()
        self._frames: deque[Frame] = deque()
        self._next_index = 0
        self._latest_position = -1

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    @property
    def head(self) -> Frame | None:
        """The oldest."""
        return self._frames[0] if self._frames else None

    @property
    def second(self) -> Frame | None:
        """The one after it."""
        return self._frames[1] if len(self._frames) > 1 else None

    @property
    def interval_samples(self) -> int:
        """How long a frame lasts."""
        return max(1, samples_of(self._rhythm.interval_ns))

    def captured(self, now_ns: int, captured_ns: int) -> int:
        """When a frame that comes now was taken: its source's time, with the jitter taken out."""
        return self._rhythm.smooth(self._captures.correct(captured_ns, now_ns))

    def add(
        self, clock: MediaClock, captured_ns: int, ref: int, stage: Stage
    ) -> tuple[Frame | None, list[Frame]]:
        """Append a frame, unless its time is before that of another; and what was given up for it."""
        position = clock.position(captured_ns + self._delay_ns)
        if position <= self._latest_position:
            return None, []
        self._latest_position = position
        frame = Frame(self._next_index, ref, position, stage)
        self._next_index += 1
        self._frames.append(frame)
        return frame, [self._thin_out()] if len(self._frames) > self._capacity else []

    def pop(self) -> Frame:
        """Take the oldest out."""
        return self._frames.popleft()

    def remove(self, frame: Frame) -> None:
        """Take a frame out."""
        self._frames.remove(frame)

    def _thin_out(self) -> Frame:
        frames = self._frames
        free = [i for i in range(1, len(frames) - 1) if not frames[i].given]
        chosen = min(
            free, key=lambda i: frames[i + 1].position - frames[i - 1].position, default=len(frames) - 1
        )
        frame = frames[chosen]
        del frames[chosen]
        return frame
