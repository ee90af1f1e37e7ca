"""A live session as a whole, in virtual time: when things leave, and that nothing is lost or lags."""

import numpy as np
import pytest

from streaming.core.session_core import frames_held
from tests.support.live_sim import MS, SECOND, Simulation, cut, regular, session_options, tone

RATES_HZ = (24_000 / 1001, 24, 25, 30_000 / 1001, 30, 50, 60_000 / 1001, 60)


def _talk(
    simulation: Simulation, start_ns: int, length_s: float, *, utterance: int | None = 1, speed: float = 5.0
) -> None:
    pieces = cut(tone(int(length_s * 48_000)), 960)
    step_ns = 20 * MS / speed
    simulation.voice(
        [(start_ns + int(n * step_ns), piece) for n, piece in enumerate(pieces)], utterance=utterance
    )
    end_ns = start_ns + int(len(pieces) * step_ns)
    simulation.at(end_ns, lambda: simulation.core.end_utterance(simulation.now_ns, utterance))


def _sounding(simulation: Simulation) -> tuple[float, float]:
    """First and last time of sound that left, ms on the media axis."""
    loud = np.flatnonzero(np.abs(simulation.sound.astype(np.int32)) > 100)
    return loud[0] / 48, loud[-1] / 48


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_any_frame_rate_is_dubbed_in_time(rate_hz: float) -> None:
    simulation = Simulation()
    simulation.camera(regular(rate_hz, 6 * SECOND))
    _talk(simulation, SECOND, 3)
    simulation.run(6 * SECOND)
    assert simulation.core.stats().misses == {}
    assert {left.leave.shown for left in simulation.frames} == {"dubbed"}
    assert len(simulation.frames) > 5.7 * rate_hz
    latencies = simulation.latencies_ms()
    assert max(latencies) <= 120 + 40 + 20 + 2
    assert np.median(latencies) <= 120 + 40 + 15
    assert np.abs(simulation.skews_ms).max() < 40
    assert abs(np.median(simulation.skews_ms)) < 5
    told = [event.data for _, event in simulation.events if event.kind == "latency"]
    assert told[-1]["skew_ms"] == pytest.approx(np.mean(simulation.skews_ms[-25:]), abs=5)


def test_a_rate_that_changes_is_followed() -> None:
    simulation = Simulation()
    times = (
        regular(60, 2 * SECOND) + regular(15, 4 * SECOND, 2 * SECOND) + regular(30, 6 * SECOND, 4 * SECOND)
    )
    simulation.camera(times)
    simulation.run(7 * SECOND)
    assert len(simulation.frames) == len(times)
    assert simulation.core.stats().misses == {}
    positions = np.array([left.leave.position for left in simulation.frames])
    assert np.abs(positions / 48_000 - np.array(times) / SECOND).max() < 0.005
    assert not simulation.refs


def test_sound_comes_out_as_it_went_in_next_to_its_frame() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 4 * SECOND))
    _talk(simulation, SECOND + 7 * MS, 1)
    simulation.run(4 * SECOND)
    sound, begin = simulation.sound, 1000 * 48 + 201
    np.testing.assert_array_equal(sound[begin : begin + 48_000], tone(48_000))
    assert not sound[:begin].any()
    assert not sound[begin + 48_000 + 240 :].any()
    left_ms = simulation.sound_left_ns[begin // 960] / MS
    assert left_ms - 1007 <= 120 + 20
    assert np.abs(simulation.skews_ms[50:]).max() < 1


@pytest.mark.parametrize("look_ahead_ms", [0, 60, 120, 240])
def test_look_ahead_costs_latency_and_no_skew(look_ahead_ms: int) -> None:
    simulation = Simulation(session_options(look_ahead_ms=look_ahead_ms))
    simulation.camera(regular(25, 5 * SECOND))
    simulation.run(5 * SECOND)
    assert np.percentile(simulation.latencies_ms(), 95) <= max(look_ahead_ms, 20) + 15 + 1
    assert np.abs(simulation.skews_ms[50:]).max() <= 20


def test_original_delay_holds_the_picture_and_not_the_dub() -> None:
    simulation = Simulation(session_options(original_delay_ms=2000))
    simulation.camera(regular(25, 6 * SECOND))
    _talk(simulation, 3 * SECOND, 1)
    simulation.run(9 * SECOND)
    assert simulation.frames[0].leave.position == 2 * 48_000
    assert len(simulation.frames) == 150
    assert simulation.core.stats().frames == {"dubbed": 150}
    assert 2980 <= _sounding(simulation)[0] < 3000
    assert simulation.most_refs <= frames_held(simulation.options, 25)


def test_a_burst_at_five_times_real_time_plays_in_real_time_and_uses_up_credit() -> None:
    simulation = Simulation()
    credits: list[int] = []
    simulation.camera(regular(25, 14 * SECOND))
    _talk(simulation, SECOND, 10)
    simulation.at(3 * SECOND - 1, lambda: credits.append(simulation.core.stats().queued_ms))
    simulation.run(14 * SECOND)
    begin, end = _sounding(simulation)
    assert 9995 < end - begin < 10_005
    assert 7900 < credits[0] < 8100
    told = [int(str(data["samples"])) for _, data in simulation.told("credit")]
    assert told == sorted(told)
    assert told[-1] > 19 * 48_000
    assert simulation.core.stats().misses == {}


def test_a_stall_leaves_no_lag() -> None:
    """A service that stalls for 0.6 s in the middle of an utterance, and then speaks another."""
    simulation = Simulation()
    simulation.camera(regular(25, 9 * SECOND))
    speech = cut(tone(2 * 48_000), 960)
    simulation.voice([(SECOND + n * 20 * MS + (600 * MS if n >= 50 else 0), p) for n, p in enumerate(speech)])
    _talk(simulation, 5 * SECOND, 1, utterance=2)
    simulation.run(9 * SECOND)
    started_ns = next(at for at, data in simulation.told("playback") if data["utterance"] == 2)
    assert started_ns - 5 * SECOND <= 160 * MS
    quiet = simulation.sound[48 * 2100 : 48 * 2550]
    assert not quiet.any()
    assert np.abs(simulation.skews_ms[80:]).max() < 1
    assert simulation.core.stats().stalls == 1
    assert np.abs(np.diff(simulation.sound.astype(np.int32))).max() < 800


def test_missing_frames_hold_no_sound_back() -> None:
    simulation = Simulation()
    times = [at for at in regular(25, 8 * SECOND) if not 3 * SECOND < at < 5 * SECOND and at % 7]
    simulation.camera(times)
    _talk(simulation, SECOND, 6)
    simulation.run(8 * SECOND)
    gaps_ms = np.diff(simulation.sound_left_ns) / MS
    assert gaps_ms[20:].max() < 30
    assert simulation.core.stats().misses == {}


def test_late_frames_leave_as_source_or_not_at_all() -> None:
    """Pictures stall for a second; sound goes on, and pictures are back in sync at once."""
    simulation = Simulation()
    simulation.camera(
        regular(25, 6 * SECOND), lambda n: max(20 * MS, 3 * SECOND - n * 40 * MS) if n > 50 else 20 * MS
    )
    _talk(simulation, SECOND, 4)
    simulation.run(7 * SECOND)
    frames = simulation.core.stats().frames
    assert frames["late"] > 10
    assert np.diff(simulation.sound_left_ns)[20:].max() < 30 * MS
    after = [
        latency
        for left, latency in zip(simulation.frames, simulation.latencies_ms(), strict=True)
        if left.at_ns > 3200 * MS
    ]
    assert max(after) < 200
    assert simulation.core.stats().misses == {}
    assert not simulation.refs


def test_sound_without_any_video_leaves() -> None:
    simulation = Simulation()
    _talk(simulation, 0, 3)
    simulation.run(5 * SECOND)
    begin, end = _sounding(simulation)
    assert 2990 < end - begin < 3010
    assert simulation.sound_left_ns[0] <= 700 * MS


def test_video_that_comes_after_sound_is_dubbed() -> None:
    simulation = Simulation()
    _talk(simulation, 0, 3)
    simulation.camera(regular(25, 4 * SECOND, 1500 * MS))
    simulation.run(5 * SECOND)
    assert simulation.core.stats().frames == {"dubbed": 62}


def test_what_interrupt_drops_is_silent_within_20_ms_and_counted() -> None:
    simulation = Simulation()
    results: list[tuple[int, object]] = []
    simulation.camera(regular(25, 6 * SECOND))
    _talk(simulation, SECOND, 4, utterance=7)
    simulation.at(
        2 * SECOND,
        lambda: results.append((len(simulation.sounds), simulation.core.interrupt(simulation.now_ns))),
    )
    _talk(simulation, 3 * SECOND, 1, utterance=8)
    simulation.run(6 * SECOND)
    quanta, playback = results[0]
    sound = simulation.sound
    cut_at = quanta * 960
    assert not sound[cut_at + 480 : 2980 * 48].any()
    assert np.abs(np.diff(sound[cut_at - 960 : cut_at + 480].astype(np.int32))).max() < 800
    played_ms = (cut_at - 980 * 48) / 48
    assert playback.utterance == 7  # type: ignore[attr-defined]
    assert abs(playback.played_ms - played_ms) <= 5  # type: ignore[attr-defined]
    assert abs(playback.played_ms + playback.dropped_ms - 4000) <= 25  # type: ignore[attr-defined]
    assert 2980 < next(i for i in np.flatnonzero(sound) if i > cut_at + 480) / 48 < 3030
    assert simulation.sound_left_ns[quanta] - 2 * SECOND <= 20 * MS
    states = [(data["state"], data["utterance"]) for _, data in simulation.told("playback")]
    assert states == [("started", 7), ("interrupted", 7), ("started", 8), ("finished", 8)]


def test_interrupting_silence_drops_nothing() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 2 * SECOND))
    simulation.run(SECOND)
    playback = simulation.core.interrupt(simulation.now_ns)
    assert (playback.utterance, playback.played_ms, playback.dropped_ms) == (None, 0, 0)
    simulation.run(2 * SECOND)
    assert not simulation.sound.any()


def test_a_fault_of_capacity_thins_frames_out_evenly() -> None:
    simulation = Simulation(session_options(original_delay_ms=1000), capacity=12)
    simulation.camera(regular(30, 6 * SECOND))
    simulation.run(8 * SECOND)
    assert simulation.most_refs <= 13
    gaps_ms = np.diff([left.leave.position for left in simulation.frames]) / 48
    assert gaps_ms.max() <= 250
    assert simulation.core.stats().frames["dropped"] > 60
    assert not simulation.refs
