"""Whether the dub shows: a face that is good enough fades it in, one that is not fades it out within frames.

Two thresholds, so that a face at the limit does not make the picture flicker.
"""

from dataclasses import dataclass

import numpy as np

from engine.face.fit import FaceState

FADE_IN, FADE_OUT = 0.25, 0.5  # per frame
YAW_LIMIT, YAW_RETURN = 42.0, 36.0  # degrees; beyond the first the far half of the mouth is out of sight
CONFIDENCE_LIMIT, CONFIDENCE_RETURN = 0.5, 0.7


@dataclass(frozen=True, slots=True)
class Presence:
    """How much of the dub shows: `level` 0..1; `good` says whether it is on its way up."""

    level: float = 0.0
    good: bool = False


def yaw_degrees(state: FaceState) -> float:
    """How far the head is turned to either side, degrees, 0 = towards the camera."""
    forward = state.pose.rotation @ np.array([0.0, 0.0, -1.0])
    return float(np.degrees(np.arctan2(abs(forward[0]), -forward[2])))


def update(
    presence: Presence, state: FaceState | None, *, cut: bool = False, hidden: bool = False
) -> Presence:
    """The next frame's presence; a cut, or no face, ends it at once.

    Args:
        presence: the last frame's.
        state: as tracked; None is no face.
        cut: the frame is the first one after a programme cut.
        hidden: the face is not to be dubbed, however good: its mouth is covered, or it is another person's.
    """
    if state is None:
        return Presence(0.0, good=False)
    yaw, sure = yaw_degrees(state), state.confidence
    if presence.good:
        good = yaw < YAW_LIMIT and sure > CONFIDENCE_LIMIT
    else:
        good = yaw < YAW_RETURN and sure > CONFIDENCE_RETURN
    good = good and not hidden
    level = (1.0 if good else 0.0) if cut else presence.level + (FADE_IN if good else -FADE_OUT)
    return Presence(min(1.0, max(0.0, level)), good)
