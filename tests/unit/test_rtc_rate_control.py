"""The estimate of a viewer's link, in virtual time."""

import pytest

from streaming.rtc.rate_control import RateControl, RateMeter, RateOptions
from streaming.types import NS_PER_S

MS = 1_000_000
OPTIONS = RateOptions()


class Link:
    """A sender that uses its whole estimate over a link that reports once a second."""

    def __init__(self, control: RateControl, used: float = 1.0) -> None:
        self.control, self.used, self.now_ns = control, used, 0

    def second(self, loss: float = 0.0, remb_bps: int | None = None) -> int:
        for _ in range(25):
            self.now_ns += 40 * MS
            self.control.sent(self.now_ns, round(self.control.target_bps * self.used / 25 / 8))
        if remb_bps is not None:
            self.control.remb(self.now_ns, remb_bps)
        self.control.report(self.now_ns, round(loss * 1000), 1000)
        return self.control.estimate_bps


def link(used: float = 1.0) -> Link:
    return Link(RateControl(OPTIONS, 0), used)


def test_a_clean_link_is_probed_up_to_the_most() -> None:
    clean = link()
    rates = [clean.second() for _ in range(30)]
    assert rates[0] == pytest.approx(OPTIONS.start_bps * 1.08, rel=0.01)
    assert rates[-1] == OPTIONS.most_bps
    assert rates == sorted(rates)


def test_the_receivers_estimate_is_not_exceeded() -> None:
    bounded = link()
    assert [bounded.second(remb_bps=1_500_000) for _ in range(30)][-1] == 1_500_000


def test_the_receivers_estimate_cuts_at_once_when_the_link_is_in_use() -> None:
    busy = link()
    busy.second()
    busy.control.remb(busy.now_ns, 700_000)
    assert busy.control.estimate_bps == 700_000


def test_a_receiver_that_estimates_little_because_little_is_sent_is_not_believed() -> None:
    quiet = link(used=0.1)
    for _ in range(30):
        quiet.second(remb_bps=round(quiet.control.target_bps * 0.1 * 1.5) + 10_000)
    assert quiet.control.estimate_bps == OPTIONS.start_bps
    assert not quiet.control.hopeless(quiet.now_ns)


def test_nothing_grows_beyond_twice_what_was_sent() -> None:
    still = link(used=0.3)
    rates = [still.second() for _ in range(60)]
    assert rates[-1] == OPTIONS.start_bps


@pytest.mark.parametrize(("loss", "moves"), [(0.0, 1), (0.019, 1), (0.05, 0), (0.1, 0), (0.2, -1)])
def test_loss_decides_the_direction(loss: float, moves: int) -> None:
    lossy = link()
    before = lossy.control.estimate_bps
    after = lossy.second(loss)
    assert (after > before) - (after < before) == moves


def test_a_cut_is_half_the_loss_and_what_follows_is_wary() -> None:
    lossy = link()
    assert lossy.second(0.4) == round(OPTIONS.start_bps * 0.8)
    assert lossy.second() == pytest.approx(OPTIONS.start_bps * 0.8 * 1.02, rel=0.001)
    for _ in range(20):
        lossy.second()
    before = lossy.control.estimate_bps
    assert lossy.second() == pytest.approx(before * 1.08, rel=0.01)


def test_reports_of_few_packets_are_summed_up() -> None:
    """Five of a hundred are lost: some reports say half, most say none."""
    lossy = link()
    for index in range(400):
        lossy.now_ns += 50 * MS
        lossy.control.sent(lossy.now_ns, 7500)
        lossy.control.report(lossy.now_ns, 2 if index % 8 == 0 else 0, 5)
    assert lossy.control.estimate_bps == OPTIONS.start_bps


def test_a_link_that_carries_nothing_is_hopeless_after_ten_seconds() -> None:
    dead = link()
    rates = [dead.second(0.9) for _ in range(12)]
    assert rates[-1] == OPTIONS.least_bps * 0.9
    assert not dead.control.hopeless(dead.now_ns)
    assert dead.control.target_bps == OPTIONS.least_bps
    for _ in range(3):
        dead.second(0.9)
    assert dead.control.hopeless(dead.now_ns)


def test_a_low_estimate_without_loss_is_not_hopeless() -> None:
    slow = link()
    for _ in range(30):
        slow.second(remb_bps=150_000)
    assert slow.control.estimate_bps == 270_000
    assert slow.control.target_bps == OPTIONS.least_bps
    assert not slow.control.hopeless(slow.now_ns)


def test_a_link_that_comes_back_is_not_given_up() -> None:
    poor = link()
    for _ in range(8):
        poor.second(0.9)
    for _ in range(40):
        poor.second(0.0)
    assert not poor.control.hopeless(poor.now_ns)
    assert poor.control.estimate_bps > OPTIONS.least_bps


def test_the_meter_counts_the_last_second() -> None:
    meter = RateMeter()
    for at_ms in range(0, 5000, 10):
        meter.add(at_ms * MS, 1250)
    assert meter.bps(4990 * MS) == pytest.approx(1_000_000, rel=0.02)
    assert meter.bps(7 * NS_PER_S) == 0


def test_options_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="in order"):
        RateOptions(start_bps=100_000)
