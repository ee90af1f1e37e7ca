"""What the core tells its shell to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.arrays import F32
from streaming.core.ladder import Rung
from streaming.types import PCM, Event


@dataclass(frozen=True, slots=True)
class GiveFrame:
    """Hand a frame to the worker.

    Attributes:
        index: the frame's number, to be given back with the answer.
        ref: the shell's handle of the picture.
        time_s: media time on the worker's own axis: 0 is the first sample of sound it was given.
    """

    index: int
    ref: int
    time_s: float


@dataclass(frozen=True, slots=True, eq=False)
class GiveSound:
    """Hand the next dub sound to the worker.

    Attributes:
        samples: float32 [T] at 16 kHz.
        position: media position, at 48 kHz, of the first.
    """

    samples: F32
    position: int


@dataclass(frozen=True, slots=True)
class LeaveVideo:
    """Send a frame to the viewers.

    Attributes:
        ref: the shell's handle of the picture.
        index: the frame's number.
        position: media position; greater than that of every frame before.
        dubbed: whether the worker's picture is to be shown, else the source's.
        shown: what the worker said it shows, or "source".
        given: whether the worker had the frame, so that the picture may hold a mouth, or half of one.
        stamps: the worker's, as they came.
        skew_ms: how much later than its sound it leaves; None where that has not left yet: `LeaveSound` of it
            tells then.
    """

    ref: int
    index: int
    position: int
    dubbed: bool
    shown: str
    given: bool
    stamps: Mapping[str, int]
    skew_ms: float | None


@dataclass(frozen=True, slots=True, eq=False)
class LeaveSound:
    """Send sound to the viewers.

    Attributes:
        samples: int16 [960] at 48 kHz, not to be written.
        position: media position of the first; follows on the one before without a gap.
        skew_ms: how much later than this sound the frame in it left; negative: the sound is late. None
            where no frame begins in it, or that has not left yet: its `LeaveVideo` tells then.
    """

    samples: PCM
    position: int
    skew_ms: float | None


@dataclass(frozen=True, slots=True)
class Release:
    """Neither the core nor the worker needs a picture any more.

    Attributes:
        ref: the shell's handle of it.
    """

    ref: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the session's watchers.

    Attributes:
        event: what.
    """

    event: Event


@dataclass(frozen=True, slots=True)
class SetRung:
    """Act on a rung of the degradation ladder.

    Attributes:
        rung: the new one.
    """

    rung: Rung


Action = GiveFrame | GiveSound | LeaveVideo | LeaveSound | Release | Tell | SetRung
