"""Workers that die, wedge or fall behind, and microphones that drift and stall: in virtual time."""

import itertools
from functools import partial

import numpy as np
import pytest

from engine.errors import ProtocolError
from streaming.types import PCM, AudioIn
from tests.support.live_sim import MS, SECOND, START_NS, Simulation, cut, regular, session_options, tone

MOVED_MS = 13.0  # half a quantum, and what keeps the choice from flipping: streaming.core.alignment


def _microphone(
    simulation: Simulation,
    sound: PCM,
    *,
    rate_hz: int = 48_000,
    piece: int = 960,
    ppm: float = 0.0,
    start_ns: int = 0,
    transit_ns: int = 20 * MS,
    jitter_ns: int = 0,
    stall: tuple[int, int] = (0, 0),
) -> None:
    """A crystal that is `ppm` fast; what is captured within `stall` comes at its end."""
    rng = np.random.default_rng(3)
    length_ns = piece / rate_hz / (1 + ppm * 1e-6) * SECOND
    pieces = cut(sound, piece)
    captured = [start_ns + round(n * length_ns) for n in range(len(pieces))]
    came = [at + round(length_ns) + transit_ns + int(rng.integers(jitter_ns + 1)) for at in captured]
    came = [max(at, stall[1]) if stall[0] <= at < stall[1] else at for at in came]
    simulation.voice(zip(came, pieces, strict=True), rate_hz, captured_ns=captured.__getitem__)


def _clicks(sound: PCM) -> list[float]:
    """When clicks are, ms on the media axis."""
    loud = np.abs(sound.astype(np.int32))
    at = np.flatnonzero(loud > 5000)
    groups = np.split(at, np.flatnonzero(np.diff(at) > 4800) + 1)
    return [float(group[np.argmax(loud[group])]) / 48 for group in groups if group.size]


def test_a_dead_worker_leaves_source_and_sound_and_a_fresh_one_dubs_on() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 10 * SECOND))
    simulation.voice([(10 * n * MS, piece) for n, piece in enumerate(cut(tone(8 * 48_000), 960))])
    simulation.at(3 * SECOND + 7 * MS, simulation.kill_worker)
    simulation.at(6 * SECOND, simulation.start_worker)
    simulation.run(10 * SECOND)
    dead = [left for left in simulation.frames if 3010 * MS <= left.at_ns < 6 * SECOND]
    assert len(dead) >= 74
    assert dead[0].at_ns - 3007 * MS < 60 * MS
    assert not any(left.leave.dubbed for left in dead)
    assert dead[0].leave.given
    back = next(left.at_ns for left in simulation.frames if left.at_ns > 6 * SECOND and left.leave.dubbed)
    assert back - 6 * SECOND < 200 * MS
    steps = np.diff([left.at_ns for left in simulation.frames]) / MS
    assert steps.min() > 15
    assert steps.max() < 65
    assert np.diff(simulation.sound_left_ns).max() < 30 * MS
    assert simulation.core.stats().misses == {}
    assert [data.get("worker") for _, data in simulation.told("state")] == [None, "down", "up"]


def test_a_session_that_begins_without_a_worker_shows_the_source() -> None:
    simulation = Simulation(worker_ready=False)
    simulation.camera(regular(30, 4 * SECOND))
    simulation.at(2 * SECOND, simulation.start_worker)
    simulation.run(4 * SECOND)
    frames = simulation.core.stats().frames
    assert frames["source"] == pytest.approx(60, abs=8)
    assert frames["dubbed"] == pytest.approx(54, abs=8)


def test_a_wedged_worker_freezes_nothing() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 8 * SECOND))
    simulation.at(2 * SECOND, lambda: setattr(simulation.worker, "wedged", True))
    simulation.run(8 * SECOND)
    steps = np.diff([left.at_ns for left in simulation.frames])
    assert steps.max() <= 320 * MS
    late = [left for left in simulation.frames if left.at_ns > 5 * SECOND]
    assert len(late) >= 60
    assert not any(left.leave.dubbed for left in late)
    assert max(simulation.latencies_ms()) <= 401
    assert "stalled" in [data.get("worker") for _, data in simulation.told("state")]


def test_an_answer_after_the_deadline_only_releases_the_picture() -> None:
    simulation = Simulation(render_ns=lambda n: 600 * MS if n == 50 else 10 * MS)
    simulation.camera(regular(25, 6 * SECOND))
    simulation.run(7 * SECOND)
    stats = simulation.core.stats()
    assert stats.frames["missed"] >= 1
    assert stats.misses["worker"] >= 1
    assert not simulation.refs
    assert np.diff(simulation.sound_left_ns).max() <= 300 * MS
    assert max(simulation.latencies_ms()) <= 401


def test_the_ladder_goes_down_under_load_and_comes_back() -> None:
    """A worker that needs 60 ms at 25 fps until it has been overloaded for a while."""
    simulation = Simulation(render_ns=lambda _: 15 * MS)
    slow = partial(setattr, simulation.worker, "render_ns", lambda _: 60 * MS)
    fast = partial(setattr, simulation.worker, "render_ns", lambda _: 15 * MS)
    simulation.at(2 * SECOND, slow)
    simulation.at(10 * SECOND, fast)
    simulation.camera(regular(25, 60 * SECOND))
    simulation.run(60 * SECOND)
    levels = [level for _, level in simulation.rungs]
    assert levels[:3] == [1, 2, 3]
    assert simulation.rungs[0][0] < 4 * SECOND
    assert simulation.rungs[2][0] < 10 * SECOND
    ups = [at for at, level in simulation.rungs if level < 3][2:]
    assert levels[-3:] == [2, 1, 0]
    assert all(after - before >= 10 * SECOND for before, after in itertools.pairwise(ups))
    passthrough = [
        left for left in simulation.frames if simulation.rungs[2][0] + 400 * MS < left.at_ns < ups[0]
    ]
    assert passthrough
    assert not any(left.leave.dubbed for left in passthrough)
    assert simulation.frames[-1].leave.dubbed
    assert max(simulation.latencies_ms()) <= 401
    assert [data["level"] for _, data in simulation.told("ladder")] == levels


def test_what_the_shell_reports_moves_the_ladder() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 3 * SECOND))
    for n in range(3):
        simulation.at(SECOND + n * 300 * MS, lambda: simulation.core.missed(simulation.now_ns, "encode"))
    simulation.run(3 * SECOND)
    assert simulation.core.stats().misses == {"encode": 3}
    assert simulation.rungs == [(SECOND + 600 * MS, 1)]


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("piece_ms", [7, 20, 113])
def test_a_microphone_of_any_rate_is_heard_where_it_was_captured(rate_hz: int, piece_ms: int) -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 4 * SECOND))
    sound = np.zeros(4 * rate_hz, np.int16)
    sound[2 * rate_hz : 2 * rate_hz + rate_hz // 1000] = 20_000
    _microphone(simulation, sound, rate_hz=rate_hz, piece=rate_hz * piece_ms // 1000)
    simulation.run(4500 * MS)
    clicks = _clicks(simulation.sound)
    assert len(clicks) == 1
    assert abs(clicks[0] - 2000.5) < MOVED_MS
    assert simulation.core.stats().misses == {}


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_drifting_microphone_stays_in_place(ppm: float) -> None:
    simulation = Simulation()
    length = 60
    simulation.camera(regular(25, length * SECOND))
    sound = np.zeros(length * 48_000, np.int16)
    sound[48_000 * np.arange(5, length - 2, 4) + 480] = 30_000
    _microphone(simulation, sound, ppm=ppm, jitter_ns=15 * MS)
    simulation.run(length * SECOND)
    clicks = np.array(_clicks(simulation.sound))
    wanted = (1000 * np.arange(5, length - 2, 4) + 10) / (1 + ppm * 1e-6)
    assert clicks.size == wanted.size
    assert np.abs(clicks - wanted).max() < MOVED_MS
    assert simulation.core.stats().late_ms < 150
    assert np.abs(simulation.skews_ms[50:]).max() < 20


def test_a_drifting_tone_does_not_click() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 20 * SECOND))
    _microphone(simulation, tone(20 * 48_000), ppm=200)
    simulation.run(20 * SECOND)
    sound = simulation.sound[10 * 48_000 : 18 * 48_000].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size))) ** 2
    peak = int(np.argmax(spectrum))
    assert abs(peak / 8 - 440 * 1.0002) < 0.2
    noise = spectrum.sum() - spectrum[peak - 40 : peak + 41].sum()
    assert 10 * np.log10(spectrum.sum() / noise) > 70


def test_jitter_is_waited_for_and_calm_is_used() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 40 * SECOND))
    sound = tone(40 * 48_000)
    _microphone(simulation, sound[: 20 * 48_000], jitter_ns=80 * MS)
    _microphone(simulation, sound[20 * 48_000 :], start_ns=20 * SECOND, transit_ns=5 * MS)
    delays: list[float] = []
    for at_s in (19, 39):
        simulation.at(at_s * SECOND, lambda: delays.append(simulation.core.stats().intake_delay_ms))
    simulation.run(40 * SECOND)
    assert 60 <= delays[0] <= 125
    assert delays[1] <= 40
    stats = simulation.core.stats()
    assert stats.late_ms < 0.05 * 20_000
    assert stats.misses == {}


def test_a_microphone_that_stalls_is_back_in_place_at_once() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 10 * SECOND))
    sound = np.zeros(10 * 48_000, np.int16)
    at = 48_000 * np.array([1, 2, 3, 5, 6, 7, 8]) + 480
    sound[at] = 30_000
    _microphone(simulation, sound, stall=(3200 * MS, 3800 * MS))
    simulation.run(10 * SECOND)
    clicks = _clicks(simulation.sound)
    np.testing.assert_allclose(clicks, at / 48, atol=MOVED_MS)
    np.testing.assert_allclose(np.diff(clicks), np.diff(at) / 48, atol=1.0)
    assert 400 <= simulation.core.stats().late_ms <= 700
    assert np.diff(simulation.sound_left_ns)[20:].max() <= 60 * MS


def test_a_packet_that_is_lost_moves_nothing() -> None:
    simulation = Simulation()
    simulation.camera(regular(25, 6 * SECOND))
    sound = np.zeros(6 * 48_000, np.int16)
    sound[48_000 * np.array([1, 2, 3, 4, 5]) + 480] = 30_000
    pieces = [(n * 20 * MS, piece) for n, piece in enumerate(cut(sound, 960)) if n % 50 != 20]
    captured = [at for at, _ in pieces]
    simulation.voice([(at + 40 * MS, piece) for at, piece in pieces], captured_ns=captured.__getitem__)
    simulation.run(6 * SECOND)
    clicks = _clicks(simulation.sound)
    np.testing.assert_allclose(clicks, [1010, 2010, 3010, 4010, 5010], atol=MOVED_MS)
    np.testing.assert_allclose(np.diff(clicks), 1000, atol=1.0)


def test_capture_times_from_another_clock_are_not_believed() -> None:
    """The camera claims to film the future, the microphone the last minute."""
    simulation = Simulation()
    for n in range(200):
        captured_ns = START_NS + n * 40 * MS + 5 * SECOND
        simulation.at(n * 40 * MS + 20 * MS, partial(_film, simulation, captured_ns, n))
    pieces = [(n * 20 * MS, piece) for n, piece in enumerate(cut(tone(8 * 48_000), 960))]
    simulation.voice(pieces, captured_ns=lambda n: n * 20 * MS - 60 * SECOND)
    simulation.run(8 * SECOND)
    assert simulation.core.stats().frames["dubbed"] > 180
    assert np.abs(simulation.sound[4 * 48_000 : 7 * 48_000].astype(np.int32)).max() > 7000


def _film(simulation: Simulation, captured_ns: int, ref: int) -> None:
    simulation.refs.add(ref)
    simulation.core.video(simulation.now_ns, captured_ns, ref)


def test_sound_beyond_credit_is_refused_and_memory_is_bounded() -> None:
    simulation = Simulation(session_options())
    simulation.camera(regular(25, 2 * SECOND))
    second = AudioIn(tone(48_000), 48_000)
    credit = [simulation.core.dub(START_NS, second, 1) for _ in range(20)]
    assert credit[-1] == 0
    with pytest.raises(ProtocolError, match="room for 0 samples"):
        simulation.core.dub(START_NS, second, 1)
    simulation.run(2 * SECOND)
    assert 17_900 < simulation.core.stats().queued_ms < 18_200


@pytest.mark.parametrize(
    "piece",
    [
        AudioIn(np.zeros(10, np.int16), 7_999),
        AudioIn(np.zeros(10, np.int16), 48_001),
        AudioIn(np.zeros((2, 10), np.int16), 48_000),
        AudioIn(np.zeros(10, np.float32), 48_000),
        AudioIn(np.zeros(48_000 * 6, np.int16), 48_000),
    ],
)
def test_sound_that_breaks_the_rules_is_refused(piece: AudioIn) -> None:
    simulation = Simulation()
    with pytest.raises(ProtocolError):
        simulation.core.dub(START_NS, piece, None)
    assert simulation.core.stats().queued_ms == 0
