import os
from collections.abc import Iterator

import numpy as np
import pytest

from engine.image.yuv import I420
from streaming.worker.slots import SlotPictures, SlotRing, ring_bytes, write

WIDTH, HEIGHT, SLOTS = 13, 7, 3


@pytest.fixture
def ring() -> Iterator[SlotRing]:
    one = SlotRing(WIDTH, HEIGHT, SLOTS)
    yield one
    one.close()


def taken(ring: SlotRing) -> int:
    slot = ring.take()
    assert slot is not None
    return slot


def noise(seed: int) -> I420:
    random = np.random.default_rng(seed)
    small = ((HEIGHT + 1) // 2, (WIDTH + 1) // 2)
    return I420(
        *(random.integers(0, 256, shape, dtype=np.uint8) for shape in ((HEIGHT, WIDTH), small, small))
    )


def same(a: I420, b: I420) -> bool:
    return all(np.array_equal(getattr(a, plane), getattr(b, plane)) for plane in ("y", "u", "v"))


def test_both_sides_see_the_same_pictures_and_none_overlap(ring: SlotRing) -> None:
    worker = SlotPictures.of(ring.fd, WIDTH, HEIGHT, SLOTS)
    for slot in range(SLOTS):
        write(noise(slot), into=ring.view(slot))
        write(noise(10 + slot), into=worker.dub[slot])
    for slot in range(SLOTS):
        assert same(worker.source[slot], noise(slot))
        assert same(ring.dubbed(slot), noise(10 + slot))


def test_memory_that_is_too_small_is_refused(ring: SlotRing) -> None:
    with pytest.raises(ValueError, match="greater"):
        SlotPictures.of(ring.fd, WIDTH, HEIGHT, SLOTS + 1)
    assert os.fstat(ring.fd).st_size == ring_bytes(WIDTH, HEIGHT, SLOTS)


@pytest.mark.parametrize("size", [(0, 7, 3), (13, 0, 3), (13, 7, 0)])
def test_sizes_are_positive(size: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="> 0"):
        SlotRing(*size)


def test_slots_go_round(ring: SlotRing) -> None:
    slots = [taken(ring) for _ in range(SLOTS)]
    assert sorted(slots) == list(range(SLOTS))
    assert ring.take() is None
    ring.give_back(slots[1])
    ring.give_back(slots[1])
    assert ring.free == 1
    assert ring.take() == slots[1]


def test_a_slot_is_free_only_when_nobody_has_it(ring: SlotRing) -> None:
    told: list[int] = []
    ring.on_abandoned = told.append
    first, second = taken(ring), taken(ring)
    ring.lend(first)
    ring.lend(second)
    ring.give_back(first)
    assert (ring.free, told) == (SLOTS - 2, [first])
    ring.returned(first)
    ring.returned(second)
    assert (ring.free, told) == (SLOTS - 1, [first])
    ring.give_back(second)
    assert ring.free == len(ring) == SLOTS


def test_what_is_not_the_edges_is_not_lent(ring: SlotRing) -> None:
    slot = taken(ring)
    ring.lend(slot)
    for wrong in (slot, slot + 1):
        with pytest.raises(ValueError, match="not the edge's"):
            ring.lend(wrong)


def test_a_dead_worker_has_no_slots(ring: SlotRing) -> None:
    kept, left = taken(ring), taken(ring)
    ring.lend(kept)
    ring.lend(left)
    ring.give_back(left)
    ring.worker_gone()
    assert ring.free == SLOTS - 1
    ring.lend(kept)


def test_views_outlive_the_ring() -> None:
    ring = SlotRing(WIDTH, HEIGHT, SLOTS)
    view = ring.view(0)
    ring.close()
    ring.close()
    view.y[:] = 7
    assert int(view.y.min()) == 7


def test_without_the_systems_call_a_nameless_file_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    ring = SlotRing(WIDTH, HEIGHT, SLOTS)
    write(noise(1), into=ring.view(2))
    assert same(SlotPictures.of(ring.fd, WIDTH, HEIGHT, SLOTS).source[2], noise(1))
    ring.close()
