"""From what a viewer saw and heard to latency, skew and freezes. Times are ms of one clock.

Skew is the flash's display less the beep's onset: negative means that sound is late. A freeze is a gap
between frames above max(3 d, d + 150 ms), d the mean gap (W3C webrtc-stats, `freezeCount`).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from engine.arrays import F64

FREEZE_EXTRA_MS, FREEZE_TIMES = 150.0, 3.0
NEAREST_BEEP_MS = 450.0


class Seen(msgspec.Struct, frozen=True):
    """What a viewer's page posts; see `viewer.html`.

    Attributes:
        frames: number or None, when it was presented, when it is displayed, width, height.
        beeps: when each began where sound leaves the browser; ends: when it fell silent for 10 ms.
        output_ms: until such sound is heard, by the browser's own account.
        stats: once a second, `at` and getStats of "video" and "audio".
        asked_ms, answered_ms: of the connection.
    """

    frames: Sequence[tuple[int | None, float, float, int, int]]
    beeps: list[float]
    stats: list[dict[str, Any]]
    error: str | None
    asked_ms: float
    answered_ms: float
    state: str
    ends: list[float] = []
    output_ms: float = 0.0


class Sent(msgspec.Struct, frozen=True):
    """What went in: frame k of each round of `round_frames` was taken at `start_ms + k * frame_ms`."""

    start_ms: float
    frame_ms: float
    round_frames: int


class Viewed(msgspec.Struct, frozen=True):
    """What a viewer got after the warm-up.

    Attributes:
        glass_ms: capture to presentation, per frame; display_ms: to display.
        skew_ms: per second; gaps_ms: between presented frames.
        shown, expected: frames.
        freezes: how many, and frozen_ms: how long in all.
        first_frame_ms: from asking for the connection.
        kbit_s: of video received.
        heights: px, seen.
    """

    glass_ms: F64
    display_ms: F64
    skew_ms: F64
    gaps_ms: F64
    shown: int
    expected: int
    freezes: int
    frozen_ms: float
    first_frame_ms: float
    kbit_s: float
    heights: list[int]


def captured_ms(sent: Sent, number: int, seen_ms: float) -> float:
    """When the frame that shows `number` and is seen at `seen_ms` was taken: in the latest round before."""
    first_ms, round_ms = sent.start_ms + number * sent.frame_ms, sent.round_frames * sent.frame_ms
    return first_ms + max(0.0, (seen_ms - first_ms) // round_ms) * round_ms


def analyse(seen: Seen, sent: Sent, *, warm_up_ms: float, per_second: int) -> Viewed:
    """Score what was seen; the first `warm_up_ms` after the first frame are left out.

    Raises:
        ValueError: nothing was seen.
    """
    known = [
        (number, at, shown, height) for number, at, shown, _, height in seen.frames if number is not None
    ]
    if not known:
        raise ValueError(f"the viewer saw no frame ({seen.error or seen.state})")
    begin_ms = known[0][1] + warm_up_ms
    steady = [row for row in known if row[1] >= begin_ms]
    if len(steady) < 2:
        raise ValueError("the viewer saw nothing after the warm-up")
    taken = np.array([captured_ms(sent, number, at) for number, at, _, _ in steady])
    at, display = np.array([row[1] for row in steady]), np.array([row[2] for row in steady])
    gaps = np.diff(at)
    frozen = gaps[gaps > max(FREEZE_TIMES * gaps.mean(), gaps.mean() + FREEZE_EXTRA_MS)]
    flashes = [row[2] for row in steady if row[0] % per_second == 0]
    return Viewed(
        glass_ms=at - taken,
        display_ms=display - taken,
        skew_ms=_skew(flashes, [beep + seen.output_ms for beep in seen.beeps if beep >= begin_ms]),
        gaps_ms=gaps,
        shown=len(set(taken)),
        expected=round((taken[-1] - taken[0]) / sent.frame_ms) + 1,
        freezes=len(frozen),
        frozen_ms=float(frozen.sum()),
        first_frame_ms=known[0][1] - seen.asked_ms,
        kbit_s=_kbit_s([entry for entry in seen.stats if entry["at"] >= begin_ms]),
        heights=sorted({row[3] for row in steady}),
    )


def _skew(flashes: Sequence[float], beeps: Sequence[float]) -> F64:
    if not flashes:
        return np.zeros(0)
    shown = np.array(flashes)
    nearest = [float(shown[np.abs(shown - beep).argmin()]) - beep for beep in beeps]
    return np.array([skew for skew in nearest if abs(skew) < NEAREST_BEEP_MS])


def _kbit_s(stats: Sequence[dict[str, Any]]) -> float:
    with_video = [entry for entry in stats if "video" in entry]
    if len(with_video) < 2:
        return 0.0
    first, last = with_video[0], with_video[-1]
    received = last["video"].get("bytesReceived", 0) - first["video"].get("bytesReceived", 0)
    return float(8 * received / (last["at"] - first["at"]))
