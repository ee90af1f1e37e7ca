import numpy as np
import pytest

from engine.face.fit import FaceState
from engine.face.presence import (
    CONFIDENCE_LIMIT,
    CONFIDENCE_RETURN,
    FADE_IN,
    FADE_OUT,
    YAW_LIMIT,
    YAW_RETURN,
    Presence,
    update,
    yaw_degrees,
)
from tests.support.toy_actor import pose

THERE = Presence(1.0, good=True)
AWAY = Presence(0.0, good=False)


def seen(yaw_deg: float = 0.0, confidence: float = 1.0) -> FaceState:
    nothing = np.zeros(1, np.float32)
    return FaceState(pose(yaw_deg=yaw_deg), nothing, nothing, confidence)


def levels(presence: Presence, states: list[FaceState | None]) -> list[float]:
    out = []
    for state in states:
        presence = update(presence, state)
        out.append(presence.level)
    return out


@pytest.mark.parametrize("yaw", [-100, -41, 0, 20, 89, 135])
def test_yaw_is_measured_either_way(yaw: float) -> None:
    assert yaw_degrees(seen(yaw)) == pytest.approx(abs(yaw), abs=1e-6)


def test_fades_in_and_out_within_frames() -> None:
    assert levels(AWAY, [seen()] * 6) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert levels(THERE, [seen(YAW_LIMIT + 1)] * 3) == pytest.approx([0.5, 0, 0])


def test_no_face_ends_it_at_once() -> None:
    assert update(THERE, None) == AWAY


@pytest.mark.parametrize("good", [True, False])
def test_a_cut_does_not_fade(good: bool) -> None:
    state = seen() if good else seen(90)
    assert update(Presence(0.5, good=not good), state, cut=True) == Presence(float(good), good=good)


@pytest.mark.parametrize("start", [THERE, AWAY])
@pytest.mark.parametrize(("middle", "spread", "of_yaw"), [(39.0, 2.9, True), (0.6, 0.09, False)])
def test_no_flicker_at_the_threshold(start: Presence, middle: float, spread: float, of_yaw: bool) -> None:
    values = middle + spread * np.random.default_rng(0).uniform(-1, 1, 100)
    states = [seen(v) if of_yaw else seen(confidence=v) for v in values]
    assert set(levels(start, list(states))) == {start.level}


def test_thresholds_differ_in_the_right_direction() -> None:
    assert update(THERE, seen(YAW_LIMIT - 0.1)).good
    assert not update(AWAY, seen(YAW_RETURN + 0.1)).good
    assert update(AWAY, seen(YAW_RETURN - 0.1)).good
    assert update(THERE, seen(confidence=CONFIDENCE_LIMIT + 0.01)).good
    assert not update(AWAY, seen(confidence=CONFIDENCE_RETURN - 0.01)).good
    assert not update(THERE, seen(confidence=CONFIDENCE_LIMIT - 0.01)).good


def test_level_stays_in_bounds_and_never_jumps() -> None:
    rng = np.random.default_rng(1)
    states = [seen(rng.uniform(-60, 60), rng.uniform(0.3, 1)) for _ in range(300)]
    got = np.array([0.0, *levels(AWAY, list(states))])
    assert got.min() >= 0
    assert got.max() <= 1
    assert np.diff(got).max() <= FADE_IN
    assert -np.diff(got).min() <= FADE_OUT


def test_a_covered_mouth_fades_out_and_in_like_a_bad_face() -> None:
    presence, got = THERE, []
    for covered in (True, True, True, False, False):
        presence = update(presence, seen(), hidden=covered)
        got.append(presence.level)
    assert got == [0.5, 0, 0, 0.25, 0.5]


def test_a_cut_to_a_covered_mouth_shows_nothing() -> None:
    assert update(THERE, seen(), cut=True, hidden=True) == AWAY
