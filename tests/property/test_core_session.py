"""Whatever comes, however late and in whatever order: the session's rules hold."""

from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ProtocolError
from streaming.types import AudioIn
from tests.support.live_sim import MS, SECOND, START_NS, Simulation, session_options, tone

LENGTH_NS = 2 * SECOND
times = st.integers(0, LENGTH_NS // MS).map(lambda ms: ms * MS)
frames = st.tuples(times, st.integers(-50, 900))  # captured, transit in ms
pieces = st.tuples(
    times,
    st.integers(0, 6000),  # samples
    st.sampled_from([8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 12_347]),
    st.one_of(st.none(), st.integers(-500, 100)),  # captured, ms after it came
    st.one_of(st.none(), st.integers(0, 3)),  # utterance
)
faults = st.tuples(
    times, st.sampled_from(["interrupt", "kill", "start", "end", "wedge", "encode", "dub twice", "far"])
)


def _dub(simulation: Simulation, piece: AudioIn, utterance: int | None) -> None:
    credit = simulation.core.stats().queued_ms
    try:
        simulation.core.dub(simulation.now_ns, piece, utterance)
    except ProtocolError:
        assert simulation.core.stats().queued_ms == credit


def _fault(simulation: Simulation, kind: str) -> None:
    core, now_ns = simulation.core, simulation.now_ns
    match kind:
        case "interrupt":
            playback = core.interrupt(now_ns)
            assert playback.played_ms >= 0
            assert playback.dropped_ms >= 0
        case "kill":
            simulation.kill_worker()
        case "start" if not simulation.worker.alive:
            simulation.start_worker()
        case "end":
            core.end_utterance(now_ns, 1)
        case "wedge":
            simulation.worker.wedged = not simulation.worker.wedged
        case "encode":
            core.missed(now_ns, "encode")
        case "dub twice":
            core.dubbed(now_ns, 3, "dubbed")
            core.dubbed(now_ns, 10_000, "dubbed")
        case _:
            _dub(simulation, AudioIn(tone(2400), 48_000, now_ns + 10**12), 1)


@given(
    filmed=st.lists(frames, max_size=60),
    said=st.lists(pieces, max_size=30),
    broken=st.lists(faults, max_size=8),
    work_ms=st.lists(st.integers(1, 300), min_size=1, max_size=10),
    look_ahead_ms=st.sampled_from([0, 60, 120, 240]),
    budget_ms=st.sampled_from([150, 400, 1000]),
    original_delay_ms=st.sampled_from([0, 300]),
    capacity=st.integers(2, 30),
)
@settings(deadline=None, max_examples=40)
def test_rules_hold_whatever_comes(
    filmed: list[tuple[int, int]],
    said: list[tuple[int, int, int, int | None, int | None]],
    broken: list[tuple[int, str]],
    work_ms: list[int],
    look_ahead_ms: int,
    budget_ms: int,
    original_delay_ms: int,
    capacity: int,
) -> None:
    """The simulation itself checks each action: sound gapless, frames in order, pictures released once."""
    options = session_options(
        look_ahead_ms=look_ahead_ms, latency_budget_ms=budget_ms, original_delay_ms=original_delay_ms
    )
    simulation = Simulation(options, render_ns=lambda n: work_ms[n % len(work_ms)] * MS, capacity=capacity)
    for captured_ns, transit_ms in filmed:
        simulation.camera([captured_ns], lambda _, ms=transit_ms: ms * MS)  # type: ignore[misc]
    for at_ns, count, rate_hz, captured_ms, utterance in said:
        captured = None if captured_ms is None else START_NS + at_ns + captured_ms * MS
        piece = AudioIn(tone(count, rate_hz), rate_hz, captured)
        simulation.at(at_ns, partial(_dub, simulation, piece, utterance))
    for at_ns, kind in broken:
        simulation.at(at_ns, partial(_fault, simulation, kind))
    simulation.run(LENGTH_NS + 4 * SECOND)
    stats = simulation.core.stats()
    assert simulation.most_refs <= capacity + 1 + 8
    assert stats.waiting_frames == 0
    assert sum(stats.frames.values()) == len(filmed)
    if filmed or any(count for _, count, *_ in said):
        assert len(simulation.sound) >= 48_000
    alive = simulation.worker.alive and not simulation.worker.wedged
    assert len(simulation.refs) == 0 or not alive


@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=40), speed=st.floats(1.0, 20.0))
@settings(deadline=None, max_examples=30)
def test_an_utterance_in_any_pieces_comes_out_whole(lengths: list[int], speed: float) -> None:
    """At real time or faster, and without a stall: sample by sample."""
    sound = tone(sum(lengths))
    simulation = Simulation()
    start = at = 0
    for n, length in enumerate(lengths):
        piece = AudioIn(sound[start : start + length], 48_000)
        simulation.at(at, partial(simulation.core.dub, START_NS + at, piece, 1))
        start += length
        arrives = start if n == 0 else start - length  # a piece is there before the one before has ended
        at = int(arrives / 48_000 * SECOND / speed) if n else at
    simulation.at(at + 1, partial(simulation.core.end_utterance, START_NS + at + 1, 1))
    simulation.run(6 * SECOND + int(sound.size / 48_000 * SECOND))
    came = simulation.sound
    begin = int(np.flatnonzero(came)[0]) - 1 if came.any() else 0
    np.testing.assert_array_equal(came[begin : begin + sound.size], sound)
    assert not came[begin + sound.size + 240 :].any()
    states = [data["state"] for _, data in simulation.told("playback")]
    assert states == ["started", "finished"]
    assert simulation.told("playback")[-1][1]["played_ms"] == sound.size // 48
