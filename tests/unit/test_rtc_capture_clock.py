import random
from itertools import pairwise

import pytest

from streaming.rtc.capture_clock import CaptureClock, SenderClock, ntp_to_ns
from streaming.types import NS_PER_S

MS = 1_000_000
WALL_S = 3_900_000_000  # the sender's wall clock has nothing to do with ours


def ntp(seconds: float) -> int:
    return int((WALL_S + seconds) * (1 << 32))


class Source:
    """A sender that starts at our second 100; its packets take `delay` to come."""

    def __init__(self, rate_hz: int, sender: SenderClock, ppm: float = 0) -> None:
        self.rate_hz = rate_hz
        self.clock = CaptureClock(rate_hz, sender)
        self.speed = 1 + ppm * 1e-6

    def timestamp(self, at_s: float) -> int:
        return 1_000_000 + round(at_s * self.speed * self.rate_hz)

    def packet(self, at_s: float, delay_s: float) -> float:
        """Return the error of its capture time, ms."""
        now_ns = int((100 + at_s + delay_s) * NS_PER_S)
        self.clock.arrived(self.timestamp(at_s), now_ns)
        return (self.clock.captured_ns(self.timestamp(at_s), now_ns) - (100 + at_s) * NS_PER_S) / MS

    def report(self, at_s: float, delay_s: float) -> None:
        now_ns = int((100 + at_s + delay_s) * NS_PER_S)
        self.clock.report(ntp(at_s * self.speed), self.timestamp(at_s), now_ns)


def test_ntp_times_are_seconds_and_fractions() -> None:
    assert ntp_to_ns((5 << 32) + (1 << 31)) == 5_500_000_000


def test_a_clock_that_has_seen_nothing_cannot_tell() -> None:
    with pytest.raises(ValueError, match="arrived"):
        CaptureClock(90_000, SenderClock()).captured_ns(0, 0)


def test_without_reports_the_quickest_packet_counts() -> None:
    source, r = Source(90_000, SenderClock()), random.Random(1)
    errors = [source.packet(i * 0.04, 0.02 + r.random() * 0.05) for i in range(250)]
    assert 20 <= min(errors[100:]) <= max(errors[100:]) < 26


def test_reports_bring_sound_and_picture_in_step_however_late_one_is() -> None:
    sender, r = SenderClock(), random.Random(2)
    video, audio = Source(90_000, sender), Source(48_000, sender)
    skews = []
    for i in range(500):
        at_s = i * 0.02
        audio_error = audio.packet(at_s, 0.01 + r.random() * 0.01)
        if i % 2 == 0:
            video_error = video.packet(at_s, 0.15 + r.random() * 0.03)
            skews.append(video_error - audio_error)
        if i % 50 == 10:
            video.report(at_s, 0.01 + r.random() * 0.005)
            audio.report(at_s, 0.01 + r.random() * 0.005)
    assert skews[0] > 100
    assert max(abs(skew) for skew in skews[-100:]) < 1


def test_capture_times_stay_evenly_spaced_when_packets_do_not() -> None:
    sender, r = SenderClock(), random.Random(3)
    source = Source(90_000, sender)
    errors = []
    for i in range(500):
        errors.append(source.packet(i * 0.04, 0.02 + r.random() * 0.1))
        if i % 25 == 10:
            source.report(i * 0.04, 0.02 + r.random() * 0.1)
    steps = [abs(b - a) for a, b in pairwise(errors[50:])]
    assert max(steps) <= 1.001  # 25 ms per s
    assert max(errors[100:]) - min(errors[100:]) < 15


def test_a_senders_drift_is_followed() -> None:
    for ppm in (-200, 200):
        sender = SenderClock()
        source = Source(48_000, sender, ppm)
        errors = []
        for i in range(9000):
            errors.append(source.packet(i * 0.02, 0.02))
            if i % 50 == 0:
                source.report(i * 0.02, 0.02)
        assert max(errors[500:]) - min(errors[500:]) < 5
        assert errors[-1] == pytest.approx(20, abs=5)


def test_nothing_was_captured_after_it_came() -> None:
    """Senders like aiortc's report when a packet left, which may be later than others of the same age."""
    sender = SenderClock()
    source = Source(48_000, sender)
    source.packet(0, 0.3)
    source.clock.report(ntp(0.3), source.timestamp(0), int(100.3 * NS_PER_S))
    errors = [source.packet(i * 0.02, 0.01) for i in range(16, 200)]
    assert max(errors) <= 10.001


def test_a_source_that_jumps_is_followed_at_once() -> None:
    source = Source(90_000, SenderClock())
    for i in range(100):
        source.packet(i * 0.04, 0.02)
    source.clock.arrived(source.timestamp(4) + 90_000 * 60, 104 * NS_PER_S)
    assert source.clock.captured_ns(source.timestamp(4) + 90_000 * 60, 104 * NS_PER_S) == 104 * NS_PER_S


def test_hostile_reports_do_not_raise() -> None:
    sender = SenderClock()
    source = Source(90_000, sender)
    source.packet(0, 0.01)
    for value in (0, 1, 2**63, 2**64 - 1):
        source.clock.report(value, 0, 100 * NS_PER_S)
        source.clock.report(0, 2**33, 100 * NS_PER_S)
    now_ns = 101 * NS_PER_S
    assert source.clock.captured_ns(source.timestamp(1), now_ns) <= now_ns


def test_later_pictures_never_come_out_earlier() -> None:
    source, r = Source(90_000, SenderClock()), random.Random(4)
    times = []
    for i in range(100):
        now_ns = int((100 + i * 0.04 + 0.3 * r.random()) * NS_PER_S)
        source.clock.arrived(source.timestamp(i * 0.04), now_ns)
        times.append(source.clock.captured_ns(source.timestamp(i * 0.04), now_ns))
    assert all(a < b for a, b in pairwise(times))
