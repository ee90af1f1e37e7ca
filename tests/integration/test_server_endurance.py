"""`livedub serve` with clients in other processes: what is killed, leaves, never reads, or sends rubbish.

`benchmarks.live.endurance` measures the same for longer; here the bounds leave room for a busy machine.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from benchmarks.live import endurance_hostile as hostile
from benchmarks.live import endurance_parts as parts
from benchmarks.live.endurance_rig import Rig, rig
from benchmarks.live.programme import make_programme, save
from clients.demo.speech import write_wav
from engine.media import ColourTags, VideoFrame, VideoInfo, open_writer
from tests.support.data import model_file
from tests.support.live_worker import BT709, HEIGHT, WIDTH, face_frame, options

pytestmark = pytest.mark.slow

FRAMES, RATE_HZ = 25, 16_000
MOST, IDLE_S = 3, 3
SETTINGS = f"""
[sessions]
measure = false
most = {MOST}
idle_s = {IDLE_S}
latency_budget_ms = 1000
override_consent = true
[limits]
requests_per_s = 500
offers_per_s = 20
"""
T = TypeVar("T")
Do = Callable[[Callable[[Rig, Path], Coroutine[Any, Any, T]]], T]


@pytest.fixture(scope="module")
def programme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_file("face_landmarker")
    folder = tmp_path_factory.mktemp("programme")
    tags = ColourTags(colour_range=1, matrix=1, primaries=1, transfer=1)
    info = VideoInfo(WIDTH, HEIGHT, Fraction(1, 25), Fraction(25), BT709, tags)
    with open_writer(folder / "film.mp4", info, audio=None) as writer:
        for index in range(FRAMES):
            writer.write(VideoFrame(face_frame(index), index))
    voice = 0.3 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)
    write_wav(folder / "voice.wav", voice.astype(np.float32), RATE_HZ)
    made = make_programme(folder / "film.mp4", folder / "voice.wav", seconds=4, size_px=(WIDTH, HEIGHT))
    save(made, folder / "programme.safetensors")
    return folder / "programme.safetensors"


@pytest.fixture(scope="module")
def do(programme: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Do[Any]]:
    """One server for all of this file, and what lets something happen to it."""
    folder = tmp_path_factory.mktemp("server")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        server = runner.run(stack.enter_async_context(rig(options(folder).actor, folder, SETTINGS)))
        try:
            yield lambda part: runner.run(part(server, programme))
            bad = ("Traceback", "failed", "ice-pwd", "ice-ufrag", "a=candidate", "fingerprint")
            assert not [line for line in server.said if any(word in line for word in bad)]
        finally:
            runner.run(stack.aclose())


def test_a_killed_worker_costs_the_mouth_for_a_while(do: Do[parts.WorkerKills]) -> None:
    kills = do(lambda server, programme: parts.worker_killed(server, programme, 1, drawn=False))
    (hurt,) = kills.hurt
    assert hurt.longest_ms < 1000
    assert hurt.holes == 0
    assert hurt.loud == 1
    assert kills.back_s[0] < 20
    assert kills.beside.holes == 0
    assert kills.beside.longest_ms < 1000


def test_a_killed_client_leaves_nothing_behind(do: Do[float]) -> None:
    took_s = do(parts.session_left)
    assert IDLE_S < took_s < 15


def test_connections_that_come_and_go_leave_nothing_behind(do: Do[parts.Cycles]) -> None:
    cycles = do(lambda server, programme: parts.cycled(server, programme, 10, whole_every=5))
    grown = cycles.growth(warm_up=5)
    assert grown["sockets"] == 0
    assert (
        grown.pop("threads") <= 6
    )  # pools start theirs when they are first needed; a leak would be 10 and more
    assert all(more <= 2 for more in grown.values()), grown


def test_rubbish_hurts_nobody_else(do: Do[hostile.Borne]) -> None:
    borne = do(lambda server, programme: hostile.fuzzed(server, programme, 4, quiet_s=1))
    assert borne.computed <= 2  # what has piled up while others had the processor
    assert borne.counts["datagrams"] > 100
    assert borne.counts["messages"] > 10
    assert sum(count for what, count in borne.counts.items() if what.startswith("offers")) > 5
    assert not [what for what in borne.counts if what.endswith(": 500")]
    _goes_on(borne)


def test_who_does_not_read_does_not_grow_the_server(do: Do[hostile.Borne]) -> None:
    borne = do(lambda server, programme: hostile.unread(server, programme, 3, quiet_s=1))
    assert borne.counts["asked"] > 5
    assert borne.rss_kb[-1] - borne.rss_kb[0] < 30_000
    _goes_on(borne)


def test_one_session_too_many_is_told_when_to_come_back(do: Do[tuple[int, int, int]]) -> None:
    count, status, after_s = do(lambda server, _: parts.admitted(server, MOST))
    assert (count, status) == (MOST, 503)
    assert after_s > 0


def _goes_on(borne: hostile.Borne) -> None:
    """Nobody beside it lost sound, nor its picture for long: what a busy machine leaves out is not judged."""
    assert borne.beside.holes <= 5
    assert borne.beside.longest_ms < 1000
    assert borne.beside.loud == 1
