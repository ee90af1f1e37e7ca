"""The jitter buffer for video."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.rtc.frame_buffer import (
    ASK_EVERY_NS,
    FRAME_MAX_BYTES,
    HOLE_AT_LEAST_NS,
    PACKETS_MAX,
    EncodedFrame,
    FrameBuffer,
    VideoPacket,
)

MS = 1_000_000


def is_key(data: bytes) -> bool:
    return data.startswith(b"K")


def frame(number: int, index: int, parts: int, *, key: bool = False, now_ns: int = 0) -> list[VideoPacket]:
    """The packets of frame `index`, the first being packet `number`."""
    return [
        VideoPacket(
            number + i, index * 3600, i == parts - 1, bytes([75 if key and not i else 100 + i]), now_ns
        )
        for i in range(parts)
    ]


def stream(sizes: list[int], keys: set[int]) -> list[VideoPacket]:
    packets: list[VideoPacket] = []
    for index, parts in enumerate(sizes):
        packets += frame(1000 + len(packets), index, parts, key=index in keys)
    return packets


def given_frames(buffer: FrameBuffer, packets: list[VideoPacket]) -> list[EncodedFrame]:
    frames = []
    for packet in packets:
        buffer.add(packet)
        frames += buffer.take(packet.arrived_ns)
    return frames


def test_a_frame_is_given_with_its_last_packet() -> None:
    buffer = FrameBuffer(is_key)
    packets = stream([3, 2], {0})
    counts = [len(given_frames(buffer, [packet])) for packet in packets]
    assert counts == [0, 0, 1, 0, 1]


def test_a_frame_without_a_marker_is_given_with_the_next_ones_first_packet() -> None:
    buffer = FrameBuffer(is_key)
    first, second = stream([1, 1], {0})
    unmarked = VideoPacket(first.number, first.timestamp, False, first.data, 0)
    assert given_frames(buffer, [unmarked]) == []
    assert [f.timestamp for f in given_frames(buffer, [second])] == [0, 3600]


def test_a_packet_that_fills_a_hole_gives_all_frames_behind_it() -> None:
    buffer = FrameBuffer(is_key)
    packets = stream([2, 1, 1, 1], {0})
    late = packets.pop(1)
    assert given_frames(buffer, packets) == []
    assert [f.timestamp for f in given_frames(buffer, [late])] == [0, 3600, 7200, 10_800]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_frames(sizes: list[int], r: random.Random) -> None:
    packets = stream(sizes, {0})
    first, rest = packets[0], packets[1:] + packets[: len(packets) // 3]
    r.shuffle(rest)
    frames = given_frames(FrameBuffer(is_key), [first, *rest])
    assert frames == given_frames(FrameBuffer(is_key), packets)
    assert len(frames) == len(sizes)


def test_a_hole_is_given_up_in_time_and_a_key_frame_is_asked_for() -> None:
    buffer = FrameBuffer(is_key)
    packets = stream([2, 2, 2, 2], {0, 3})
    assert len(given_frames(buffer, [p for p in packets[:6] if p.number != 1003])) == 1
    assert not buffer.wants_key(0)
    buffer.take(HOLE_AT_LEAST_NS - 1)
    assert not buffer.wants_key(HOLE_AT_LEAST_NS - 1)
    assert (
        buffer.take(HOLE_AT_LEAST_NS) == []
    )  # the frame behind the hole is whole, but refers to the lost one
    assert buffer.wants_key(HOLE_AT_LEAST_NS)
    assert [f.timestamp for f in given_frames(buffer, packets[6:])] == [3 * 3600]
    assert not buffer.wants_key(10 * ASK_EVERY_NS)
    assert (buffer.given, buffer.skipped) == (2, 1)


def test_a_hole_is_waited_for_as_long_as_two_round_trips() -> None:
    buffer = FrameBuffer(is_key)
    packets = stream([1, 1, 1], {0})
    given_frames(buffer, [packets[0], packets[2]])
    buffer.take(399 * MS, 200 * MS)
    assert not buffer.wants_key(399 * MS)
    buffer.take(400 * MS, 200 * MS)
    assert buffer.wants_key(400 * MS)


def test_a_key_frame_is_asked_for_every_250_ms_until_it_comes() -> None:
    buffer = FrameBuffer(is_key)
    given_frames(buffer, stream([1], set()))
    asked = [at for at in range(0, 1000, 10) if buffer.wants_key(at * MS)]
    assert asked == [0, 250, 500, 750]


def test_a_stream_that_begins_with_a_key_frame_is_not_asked_for_one() -> None:
    buffer = FrameBuffer(is_key)
    packets = frame(5, 0, 3, key=True)
    given_frames(buffer, packets[:2])
    assert not buffer.wants_key(ASK_EVERY_NS - 1)
    assert len(given_frames(buffer, packets[2:])) == 1


def test_frames_lost_further_on_are_not_followed_by_what_refers_to_them() -> None:
    buffer = FrameBuffer(is_key)
    packets = stream([1, 1, 1], {0, 2})
    given_frames(buffer, packets[:1])
    buffer.lost()
    assert [f.timestamp for f in given_frames(buffer, packets[1:])] == [7200]


def test_padding_is_passed_over() -> None:
    buffer = FrameBuffer(is_key)
    packets = stream([1, 1], {0})
    padding = VideoPacket(1001, 0, False, b"", 0)
    moved = VideoPacket(1002, packets[1].timestamp, True, packets[1].data, 0)
    assert [f.timestamp for f in given_frames(buffer, [packets[0], padding, moved])] == [0, 3600]


def test_a_frame_without_end_is_dropped() -> None:
    buffer = FrameBuffer(is_key)
    size = 64_000
    for i in range(FRAME_MAX_BYTES // size + 2):
        buffer.add(VideoPacket(i, 0, False, b"K" + bytes(size), 0))
        assert buffer.take(0) == []
    assert buffer.wants_key(0) or buffer.wants_key(ASK_EVERY_NS)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(-100, 6000), st.integers(0, 5), st.booleans(), st.binary(max_size=3)),
        max_size=200,
    )
)
def test_no_stream_of_packets_makes_the_buffer_grow_or_raise(
    steps: list[tuple[int, int, bool, bytes]],
) -> None:
    buffer, number = FrameBuffer(is_key), 10_000
    for at, (step, index, last, data) in enumerate(steps):
        number = max(0, number + step)
        buffer.add(VideoPacket(number, index * 3600, last, data, at * MS))
        buffer.take(at * MS)
        assert len(buffer._packets) <= PACKETS_MAX + 1
    buffer.take(10_000 * MS)
    buffer.take(20_000 * MS)
    assert buffer.next_number <= max(number, 10_000 + 6000 * 200) + 1


def test_small_packets_without_end_are_bounded() -> None:
    buffer = FrameBuffer(is_key)
    for number in range(3 * PACKETS_MAX):
        buffer.add(VideoPacket(number, 0, False, b"x", 0))
        buffer.take(0)
        assert len(buffer._packets) <= PACKETS_MAX + 1
