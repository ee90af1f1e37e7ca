"""A real worker process: what it draws, what it leaves alone, and what it is told while it works."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.image.yuv import I420
from engine.media import ColourTags, VideoFrame, VideoInfo, open_video, open_writer
from streaming.worker.slots import SlotRing, write
from tests.support.data import faces_picture, model_file
from tests.support.live_offline import offline_pictures
from tests.support.live_worker import (
    BT709,
    HEIGHT,
    WIDTH,
    Driver,
    empty_frame,
    face_frame,
    noisy,
    options,
    same,
)
from tests.support.voice import silence, voice

FRAMES, LOOK_AHEAD_MS = 12, 120
TWO_FACES = ((140, 170, 1.2, False), (395, 170, 0.7, True))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    model_file("face_landmarker")
    driver = Driver(options(tmp_path_factory.mktemp("worker"), look_ahead_ms=LOOK_AHEAD_MS))
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def film(live: Driver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who is there, leaves the picture and comes back."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    tags = ColourTags(colour_range=1, matrix=1, primaries=1, transfer=1)
    info = VideoInfo(WIDTH, HEIGHT, Fraction(1, 25), Fraction(25), BT709, tags)
    with open_writer(path, info, audio=None) as writer:
        for index in range(FRAMES):
            image = empty_frame(index) if index in {6, 7} else face_frame(index)
            writer.write(VideoFrame(image, index))
    return path


@pytest.fixture(scope="module")
def frames(film: Path) -> list[I420]:
    with open_video(film) as reader:
        assert reader.info.colour == BT709
        return [frame.image.copy() for frame in reader]


@pytest.fixture(scope="module")
def offline(live: Driver, film: Path) -> list[I420]:
    """What `livedub dub` makes of it, before it is encoded."""
    done = offline_pictures(film, live.options.actor, LOOK_AHEAD_MS)
    assert [shown for shown, _ in done][5:8] == ["dubbed", "no face", "no face"]
    return [image for _, image in done]


@pytest.mark.parametrize(("piece_samples", "ahead"), [(640, 0), (320, 4), (1501, 9), (16_000, 4)])
def test_a_live_stream_is_the_file_to_the_bit(
    live: Driver, frames: list[I420], offline: list[I420], piece_samples: int, ahead: int
) -> None:
    got = live.play(frames, voice(1.0), piece_samples=piece_samples, ahead=ahead)
    assert [done.index for done in live.done] == list(range(FRAMES))
    assert all(same(a, b) for a, b in zip(got, offline, strict=True))
    assert not same(got[5], frames[5])


def test_the_source_stays_as_it_was_and_a_gone_face_shows_it(live: Driver, frames: list[I420]) -> None:
    live.restart()
    live.link.give_sound(voice(1.0))
    slots = [live.give(image, index) for index, image in enumerate(frames)]
    live.settle(0)
    for slot, image, done in zip(slots, frames, live.done, strict=True):
        assert done.slot == slot
        assert same(live.link.slots.view(slot), image)
        assert same(live.link.slots.dubbed(slot), image) == (done.level == 0)


def test_stages_are_stamped_in_order(live: Driver, frames: list[I420]) -> None:
    live.play(frames[:3], voice(1.0))
    for done in live.done:
        assert list(done.stages_ns) == ["taken", "tracked", "queued", "dubbed"]
        stamps = list(done.stages_ns.values())
        assert stamps == sorted(stamps)
        assert done.confidence > 0.5
        assert not done.cut


def test_silence_shows_the_source(live: Driver, frames: list[I420]) -> None:
    got = live.play(frames[:4], silence(1.0))
    assert {(done.shown, done.level) for done in live.done} == {("silence", 0.0)}
    assert all(same(a, b) for a, b in zip(got, frames[:4], strict=True))


def test_frames_wait_for_their_sound(live: Driver, frames: list[I420]) -> None:
    live.restart()
    for index in range(3):
        live.give(frames[index], index)
    live.link.give_sound(voice(0.12))
    live.settle(2)
    assert [done.index for done in live.done] == [0]
    live.link.give_sound(voice(0.12))
    live.settle(0)
    assert [done.index for done in live.done] == [0, 1, 2]


def test_passing_fades_out_and_back_in(live: Driver, frames: list[I420]) -> None:
    live.restart()
    live.link.give_sound(voice(2.0))
    seen = frames[:6]
    for index in range(20):
        live.link.set_rung("pass" if 6 <= index < 12 else "full")
        slot = live.give(seen[index % 6], index)
        live.settle(0)
        if live.done[-1].level == 0:
            assert same(live.link.slots.dubbed(slot), seen[index % 6])
        live.link.slots.give_back(slot)
    levels = [done.level for done in live.done]
    assert levels[3:12] == [1, 1, 1, 0.5, 0, 0, 0, 0, 0]
    assert levels[12] <= 0.25
    assert levels[17:] == [1, 1, 1]
    assert [done.shown for done in live.done][8:12] == ["passed"] * 4


def test_half_rate_draws_and_goes_back_to_full(live: Driver, frames: list[I420]) -> None:
    live.restart()
    live.link.set_rung("half")
    live.link.give_sound(voice(1.0))
    slots = [live.give(frames[index % 6], index) for index in range(8)]
    live.settle(0)
    assert [done.shown for done in live.done][4:] == ["dubbed"] * 4
    assert not any(same(live.link.slots.dubbed(slot), frames[i % 6]) for i, slot in enumerate(slots))


def test_a_frame_that_nobody_waits_for_is_not_drawn(live: Driver, frames: list[I420]) -> None:
    live.restart()
    slots = [live.give(frames[index], index) for index in range(6)]
    live.link.slots.give_back(slots[4])
    live.link.skip(slots[2])
    free = live.link.slots.free
    live.link.give_sound(voice(1.0))
    live.settle(0)
    assert {done.index: done.shown for done in live.done if done.shown == "skipped"} == {
        2: "skipped",
        4: "skipped",
    }
    assert live.link.slots.free == free + 1
    assert same(live.link.slots.view(slots[2]), frames[2])
    assert live.done[-1].level == 1


def test_forgetting_answers_all_and_begins_anew(
    live: Driver, frames: list[I420], offline: list[I420]
) -> None:
    live.restart()
    for index in range(3):
        live.give(frames[index], index)
    live.link.forget(start_s=10.0)
    live.settle(0)
    assert [done.shown for done in live.done] == ["skipped"] * 3
    live.link.give_sound(voice(1.0))
    for index in range(3):
        slot = live.link.slots.take()
        assert slot is not None
        view = live.link.slots.view(slot)
        view.y[:], view.u[:], view.v[:] = frames[index].y, frames[index].u, frames[index].v
        live.link.give_frame(slot, 100 + index, 10 + index / 25, BT709)
    live.settle(0)
    for index, done in enumerate(live.done[3:]):
        assert done.index == 100 + index
        assert same(live.link.slots.dubbed(done.slot), offline[index])


def test_pictures_of_another_size_need_no_new_worker(
    live: Driver, frames: list[I420], offline: list[I420]
) -> None:
    live.restart()
    pid, small, former = live.link.pid, SlotRing(WIDTH // 2, HEIGHT // 2, 4), live.link.slots
    live.link.give_sound(voice(1.0))
    for index in range(5):
        live.give(frames[index], index)  # at work when the exchange comes, and not answered
    assert live.link.exchange(small)
    assert live.link.waiting == 0
    assert former.free == len(former) - 5, "the edge still has them"
    slot = small.take()
    assert slot is not None
    half = faces_picture((120, 85, 0.7, False), width=WIDTH // 2, height=HEIGHT // 2)
    write(noisy(half, 0), into=small.view(slot))
    live.done.clear()
    live.link.give_sound(voice(1.0))
    live.link.give_frame(slot, 99, 0.4, BT709)
    live.settle(0)
    assert [(done.index, done.slot) for done in live.done] == [(99, slot)]
    assert live.done[0].level > 0, live.done[0].shown
    assert not same(small.dubbed(slot), small.view(slot))
    assert live.link.exchange(former)
    got = live.play(frames, voice(1.0))
    assert all(same(a, b) for a, b in zip(got, offline, strict=True))
    assert (live.link.pid, live.deaths) == (pid, [])
    small.close()


def test_a_bystander_is_never_touched(live: Driver) -> None:
    """The dub is on the larger face; the smaller one keeps every byte."""
    live.restart()
    live.link.give_sound(voice(1.0))
    pair = [noisy(faces_picture(*TWO_FACES, width=WIDTH, height=HEIGHT), index) for index in range(6)]
    slots = [live.give(image, index) for index, image in enumerate(pair)]
    live.settle(0)
    assert live.done[-1].level == 1
    for slot, image in zip(slots, pair, strict=True):
        got = live.link.slots.dubbed(slot)
        assert np.array_equal(got.y[:, 310:], image.y[:, 310:])
        assert np.array_equal(got.u[:, 155:], image.u[:, 155:])
    assert not np.array_equal(got.y, image.y)
