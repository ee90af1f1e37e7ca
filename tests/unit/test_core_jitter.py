import numpy as np

from streaming.core.jitter import JitterDelay
from tests.support.live_sim import MS


def _feed(delay: JitterDelay, needs_ms: list[float]) -> list[float]:
    """A piece each 20 ms; the delay after each, ms."""
    delays: list[float] = []
    for need in needs_ms:
        delay.observe(int(need * MS), 20 * MS)
        delay.step()
        delays.append(delay.ns / MS)
    return delays


def test_sound_that_is_early_waits_for_nothing() -> None:
    assert set(_feed(JitterDelay(200 * MS), [-5.0, 0.0, -40.0] * 100)) == {0.0}


def test_it_covers_the_jitter_and_little_more() -> None:
    rng = np.random.default_rng(1)
    needs = rng.uniform(-20, 60, 1000)
    delays = _feed(JitterDelay(200 * MS), list(needs))
    assert 55 <= delays[-1] <= 70
    assert np.mean(needs[300:] > np.array(delays[300:])) < 0.01


def test_it_goes_up_fast_and_down_slowly() -> None:
    delay = JitterDelay(200 * MS)
    up = _feed(delay, [60.0] * 20)
    assert up[6] >= 60
    down = _feed(delay, [0.0] * 1200)
    assert down[50] >= 60
    assert down[-1] == 0
    assert max(before - after for before, after in zip([up[-1], *down], down, strict=False)) <= 0.5


def test_stalls_do_not_count_and_it_has_a_limit() -> None:
    delay = JitterDelay(100 * MS)
    assert max(_feed(delay, [10.0] * 50 + [600.0] * 30 + [10.0] * 50)) <= 20
    assert max(_feed(delay, [99.0] * 500)) == 100


def test_no_room_in_the_budget_means_no_delay() -> None:
    assert set(_feed(JitterDelay(-20 * MS), [50.0] * 50)) == {0.0}


def test_a_microphone_that_is_gone_costs_nothing() -> None:
    delay = JitterDelay(200 * MS)
    _feed(delay, [80.0] * 100)
    delay.forget()
    for _ in range(200):
        delay.step()
    assert delay.ns == 0
