import numpy as np

from streaming.core.actions import Action, GiveSound, Release
from streaming.core.convert import SILENCE
from streaming.core.frames import Frame, Stage
from streaming.core.intake import Quantum
from streaming.core.worker_side import WorkerSide
from tests.support.live_sim import MS, SECOND

LOOK_AHEAD = 120 * 48


def _hear(worker: WorkerSide, first: int, count: int) -> list[Action]:
    quanta = (Quantum(n * 960, SILENCE, np.full(320, n, np.float32), ()) for n in range(first, first + count))
    return [action for quantum in quanta for action in worker.hear(quantum)]


def _give(worker: WorkerSide, count: int) -> list[Frame]:
    frames = [Frame(n, 100 + n, n * 1920, Stage.WAITING) for n in range(count)]
    for frame in frames:
        worker.give(frame, 0)
    return frames


def test_a_frame_is_given_when_its_sound_is_about_to_be_there() -> None:
    worker, frame = WorkerSide(LOOK_AHEAD, ready=True), Frame(0, 7, 48_000, Stage.WAITING)
    assert not worker.takes(frame, 48_000 + LOOK_AHEAD - 3841, 1920)
    assert worker.takes(frame, 48_000 + LOOK_AHEAD - 3840, 1920)
    assert not worker.complete(frame, 48_000 + LOOK_AHEAD - 960)
    assert worker.complete(frame, 48_000 + LOOK_AHEAD)
    given = worker.give(frame, 0)
    assert (given.index, given.ref, given.time_s) == (0, 7, 1.0)
    assert (frame.stage, frame.given) == (Stage.GIVEN, True)


def test_it_has_only_a_few_frames_at_once() -> None:
    for interval, most in ((1920, 4), (1600, 4), (800, 6)):
        worker = WorkerSide(0, ready=True)
        _give(worker, most - 1)
        frame = Frame(50, 0, 0, Stage.WAITING)
        assert worker.takes(frame, 10**6, interval)
        worker.give(frame, 0)
        assert not worker.takes(frame, 10**6, interval)


def test_an_answer_makes_a_frame_ready_or_releases_it_if_it_has_left() -> None:
    worker = WorkerSide(0, ready=True)
    first, second = _give(worker, 2)
    assert worker.done_with(first) == []
    assert worker.answer(1, 0, "dubbed", {}) == [Release(100)]
    assert worker.answer(2, 1, "fading", {"dubbed": 2}) == []
    assert (second.stage, second.shown, second.stamps) == (Stage.READY, "fading", {"dubbed": 2})
    assert worker.done_with(second) == [Release(101)]
    assert worker.answer(3, 1, "dubbed", {}) == []
    assert worker.frames_out == 0


def test_death_frees_what_it_had_and_later_answers_are_ignored() -> None:
    worker = WorkerSide(0, ready=True)
    left, waits = _give(worker, 2)
    worker.done_with(left)
    assert worker.fail() == [Release(100)]
    assert waits.stage is Stage.SOURCE
    assert not worker.up
    assert worker.answer(1, 1, "dubbed", {}) == []
    assert waits.stage is Stage.SOURCE
    assert _hear(worker, 0, 3) == []


def test_a_fresh_worker_hears_the_latest_second_from_a_step_of_its_network_on() -> None:
    worker = WorkerSide(LOOK_AHEAD, ready=True)
    assert len(_hear(worker, 0, 75)) == 75
    worker.fail()
    _hear(worker, 75, 26)
    (sound,) = worker.recover()
    assert isinstance(sound, GiveSound)
    assert sound.position == 52 * 960
    np.testing.assert_array_equal(sound.samples, np.repeat(np.arange(52, 101, dtype=np.float32), 320))
    assert not worker.can_dub(52 * 960 - 1)
    assert worker.can_dub(52 * 960)
    assert worker.give(Frame(0, 0, 52 * 960 + 48_000, Stage.WAITING), 0).time_s == 1.0


def test_a_fresh_worker_before_any_sound_starts_at_zero() -> None:
    worker = WorkerSide(0, ready=False)
    assert not worker.can_dub(0)
    assert worker.recover() == []
    assert worker.can_dub(0)


def test_silence_of_a_worker_is_noticed_and_told_once() -> None:
    worker = WorkerSide(0, ready=True)
    assert not worker.slow(SECOND)
    _give(worker, 2)
    assert not worker.slow(250 * MS)
    assert worker.slow(251 * MS)
    assert [worker.stalls(at_ns) for at_ns in (SECOND, SECOND + 1, SECOND + 2)] == [False, True, False]
    worker.answer(SECOND + 3, 0, "dubbed", {})
    assert not worker.slow(SECOND + 4)
    assert not worker.stalls(SECOND + 4)
    assert worker.stalls(3 * SECOND)
