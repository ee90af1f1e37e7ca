"""How late the mouth is, and where the time goes: from the stamps that frames collect on their way."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from streaming.types import NS_PER_S

STAGES = ("received", "decoded", "taken", "tracked", "queued", "dubbed", "encoded", "first_packet")
"""In the order that a frame passes them; each takes from the one before, the first from the capture.

Until a frame is taken it waits, as planned, for most of the sound that its mouth needs; what nobody dubs is
taken when it leaves. It is queued once the rest of that sound is there, too.
"""

_NS_PER_MS = NS_PER_S / 1000
_REMEMBERED = 250


@dataclass(frozen=True)
class FrameTimes:
    """One frame that left.

    Attributes:
        stages_ms: from each stage before to this one; of those it passed.
        mouth_ms: from the moment that the dub's sound for this picture came in until the picture's first
            packet left; None for a frame that was not dubbed.
    """

    stages_ms: Mapping[str, float]
    mouth_ms: float | None


def frame_times(captured_ns: int, heard_ns: int, stamps_ns: Mapping[str, int], *, dubbed: bool) -> FrameTimes:
    """Durations from stamps.

    Args:
        captured_ns: when the picture was taken.
        heard_ns: when the sound of the picture's media time came in.
        stamps_ns: when it passed the stages.
        dubbed: whether it shows the dub's mouth.
    """
    stages: dict[str, float] = {}
    before_ns = captured_ns
    for stage in STAGES:
        if stage in stamps_ns:
            stages[stage] = max(0.0, (stamps_ns[stage] - before_ns) / _NS_PER_MS)
            before_ns = max(before_ns, stamps_ns[stage])
    left_ns = stamps_ns.get("first_packet", stamps_ns.get("encoded"))
    mouth_ms = (left_ns - heard_ns) / _NS_PER_MS if dubbed and left_ns is not None else None
    return FrameTimes(stages, mouth_ms)


class LatencyLog:
    """The latest frames' times, and what to tell of them."""

    def __init__(self) -> None:
        self._frames: deque[FrameTimes] = deque(maxlen=_REMEMBERED)
        self._since_told = 0

    def add(self, times: FrameTimes) -> None:
        """One more frame left."""
        self._frames.append(times)
        self._since_told += 1

    def told(self) -> dict[str, object]:
        """Means over the frames since the last call: `mouth_ms` and `stages_ms`; empty without any."""
        count = min(self._since_told, len(self._frames))
        self._since_told = 0
        latest = list(self._frames)[-count:] if count else []
        stages = {
            stage: sum(frame.stages_ms.get(stage, 0.0) for frame in latest) / count
            for stage in STAGES
            if any(stage in frame.stages_ms for frame in latest)
        }
        mouths = [frame.mouth_ms for frame in latest if frame.mouth_ms is not None]
        result: dict[str, object] = {"stages_ms": stages} if stages else {}
        if mouths:
            result["mouth_ms"] = sum(mouths) / len(mouths)
        return result

    def mouths_ms(self) -> list[float]:
        """Of the latest frames."""
        return [frame.mouth_ms for frame in self._frames if frame.mouth_ms is not None]
