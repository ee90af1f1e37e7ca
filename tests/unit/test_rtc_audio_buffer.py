import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import MediaError
from streaming.rtc.audio_buffer import PACKETS_MAX, AudioBuffer, Sound
from streaming.rtc.opus import OpusDecoder
from streaming.types import PCM
from tests.unit.test_rtc_opus import level, packets_of, tone

MS = 1_000_000
FIRST = 1 << 16  # unwrapped numbers begin one span up
PACKETS = packets_of(tone(48_000 * 4), bit_s=24_000, fec="1", packet_loss="10")


class Link:
    """Feeds a buffer with packets of 20 ms and asks it every 10 ms, as a receiver does."""

    def __init__(self) -> None:
        self.buffer = AudioBuffer(OpusDecoder())
        self.got: list[tuple[int, Sound]] = []

    def send(self, arrivals: dict[int, float], until_ms: int = 0) -> None:
        """`arrivals`: packet -> when it comes, ms; packet n covers the 20 ms from 20 n on."""
        events = sorted((at, index) for index, at in arrivals.items())
        end = max(until_ms, int(events[-1][0]) + 10)
        ticks = [(float(at), -1) for at in range(0, end + 1, 10)]
        for at, index in sorted(events + ticks):
            now_ns = int(at * MS)
            if index >= 0:
                self.buffer.add(FIRST + index, FIRST + 960 * index, PACKETS[index], now_ns)
            self.got += [(now_ns, sound) for sound in self.buffer.take(now_ns)]

    def pieces(self) -> Iterator[tuple[int, bool]]:
        for _, sound in self.got:
            yield (sound.timestamp - FIRST) // 960, sound.concealed

    def delay_ms(self, piece: int) -> float:
        """From when the piece ended to when it was given."""
        at_ns = next(at for at, sound in self.got if (sound.timestamp - FIRST) // 960 == piece)
        return at_ns / MS - 20 * (piece + 1)

    def continuous(self) -> bool:
        """Whether every sample is given once, in order."""
        position = FIRST
        for _, sound in self.got:
            if sound.timestamp != position:
                return False
            position += len(sound.samples)
        return True


def on_time(count: int, delay_ms: float = 0) -> dict[int, float]:
    return {index: 20 * (index + 1) + delay_ms for index in range(count)}


def test_sound_in_order_is_given_at_once() -> None:
    link = Link()
    link.send(on_time(100))
    assert list(link.pieces()) == [(i, False) for i in range(100)]
    assert {link.delay_ms(i) for i in range(100)} == {0}
    assert link.continuous()


def test_one_lost_packet_delays_nothing_for_good() -> None:
    """aiortc's buffer stays 200 ms behind after it."""
    link, arrivals = Link(), on_time(100)
    del arrivals[50]
    link.send(arrivals)
    assert [piece for piece in link.pieces() if piece[1]] == [(50, True)]
    assert link.delay_ms(50) == pytest.approx(30, abs=11)
    assert {link.delay_ms(i) for i in range(60, 100)} == {0}
    assert link.continuous()
    assert link.buffer.recovered == 1


def test_packets_out_of_order_are_put_in_order_without_concealment() -> None:
    link, arrivals = Link(), on_time(100)
    arrivals[30] = arrivals[31] + 4
    link.send(arrivals)
    assert list(link.pieces()) == [(i, False) for i in range(100)]


def test_the_wait_follows_the_lateness_of_packets() -> None:
    r = random.Random(1)
    steady, jittery = Link(), Link()
    steady.send(on_time(150))
    jittery.send({index: at + 60 * r.random() for index, at in on_time(150).items()})
    assert steady.buffer.wait_ms == 30
    assert 50 < jittery.buffer.wait_ms < 75
    assert sum(concealed for _, concealed in jittery.pieces()) < 15


def test_the_wait_is_120_ms_at_most_and_shrinks_again() -> None:
    link = Link()
    late = {index: at + (200 if index % 2 else 0) for index, at in on_time(60).items()}
    link.send(late)
    assert link.buffer.wait_ms == 120
    for index in range(60, 400):
        at_ns = 20 * (index + 1) * MS
        link.buffer.add(FIRST + index, FIRST + 960 * index, PACKETS[index % 150], at_ns)
        link.buffer.take(at_ns)
    assert link.buffer.wait_ms == 30


def test_a_silent_link_is_concealed_for_60_ms_and_then_nothing_is_made_up() -> None:
    link = Link()
    link.send(on_time(30), until_ms=2000)
    assert list(link.pieces())[30:] == [(30, True), (31, True), (32, True)]


def test_after_a_stall_sound_goes_on_without_lag() -> None:
    link, arrivals = Link(), on_time(100)
    for index in range(40, 55):
        arrivals[index] = arrivals[54]
    link.send(arrivals)
    assert {link.delay_ms(i) for i in range(55, 100)} == {0}
    assert link.buffer.late == 3
    pieces = list(link.pieces())
    assert [index for index, _ in pieces] == list(range(100))
    assert [index for index, concealed in pieces if concealed] == [40, 41, 42]


def test_several_lost_packets_are_bridged_up_to_their_last_one() -> None:
    link, arrivals = Link(), on_time(60)
    for index in (30, 31):
        del arrivals[index]
    link.send(arrivals)
    assert link.continuous()
    assert [index for index, concealed in link.pieces() if concealed] == [30, 31]


def test_a_pause_of_the_sender_is_a_jump_and_is_not_concealed() -> None:
    buffer, sounds = AudioBuffer(OpusDecoder()), []
    comes = {20: (0, 0, PACKETS[0]), 40: (1, 1, b"\xf8"), 420: (2, 20, PACKETS[20])}
    for at_ms in range(0, 430, 10):
        if at_ms in comes:
            number, index, payload = comes[at_ms]
            buffer.add(FIRST + number, FIRST + 960 * index, payload, at_ms * MS)
        sounds += buffer.take(at_ms * MS)
    assert [sound.timestamp - FIRST for sound in sounds if not sound.concealed] == [0, 960, 20 * 960]
    assert not any(sound.concealed for sound in sounds)


def test_known_empty_and_damaged_packets_do_no_harm() -> None:
    link = Link()
    link.send(on_time(10))
    link.buffer.add(FIRST + 3, FIRST + 960 * 3, PACKETS[3], 210 * MS)
    link.buffer.add(FIRST + 10, FIRST + 960 * 10, b"", 210 * MS)
    assert link.buffer.take(211 * MS) == []
    link.buffer.add(FIRST + 10, FIRST + 960 * 10, b"\xff\xff\xff", 220 * MS)
    [sound] = link.buffer.take(220 * MS)
    assert len(sound.samples) == 960


def test_a_jump_of_the_timestamps_begins_anew() -> None:
    link = Link()
    link.send(on_time(10))
    far = FIRST + 48_000 * 60
    link.buffer.add(FIRST + 10, far, PACKETS[10], 220 * MS)
    assert [sound.timestamp for sound in link.buffer.take(220 * MS)] == [far]


def test_lost_packets_come_back_from_their_copies() -> None:
    link, arrivals = Link(), on_time(36)  # later libopus takes the tone for music, which gets no copies
    for index in (12, 20, 30):
        del arrivals[index]
    link.send(arrivals)
    heard = level(np.concatenate([sound.samples for _, sound in link.got[5:]]))
    made_up = [level(sound.samples) for _, sound in link.got if sound.concealed]
    assert made_up == pytest.approx([heard] * 3, rel=0.1)


def test_sound_that_stops_fades_out_and_comes_back_softly() -> None:
    link, arrivals = Link(), on_time(40)
    for index in range(20, 40):
        arrivals[index] += 300
    link.send(arrivals)
    made_up = np.concatenate([sound.samples for _, sound in link.got if sound.concealed])
    assert level(made_up[:480]) > 10 * level(made_up[-48:])
    back = next(sound for _, sound in link.got if sound.timestamp == FIRST + 960 * 23)
    assert not back.concealed
    assert level(back.samples[-240:]) > 3 * level(back.samples[:48])


class Strict:
    """A decoder that gives what it is asked for and fails for some packets."""

    def decode(self, packet: bytes) -> PCM:
        if packet[0] == 0:
            raise MediaError("damaged")
        return np.zeros(120 * (packet[0] % 49), np.int16)

    def conceal(self, samples: int) -> PCM:
        assert 0 < samples <= 5760
        assert samples % 120 == 0
        return np.zeros(samples, np.int16)

    def recover(self, following: bytes, samples: int) -> PCM:
        return self.conceal(samples)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(-5, 8), st.integers(-2000, 4000), st.binary(max_size=3), st.integers(0, 60)),
        max_size=150,
    )
)
def test_no_stream_of_packets_makes_the_buffer_grow_raise_or_go_back(
    steps: list[tuple[int, int, bytes, int]],
) -> None:
    buffer, number, timestamp, now_ns = AudioBuffer(Strict()), FIRST, 1 << 32, 0
    for step, jump, payload, pause in steps:
        number, timestamp, now_ns = number + step, timestamp + jump, now_ns + pause * MS
        buffer.add(number, timestamp, payload, now_ns)
        sounds = buffer.take(now_ns)
        assert len(buffer._packets) <= PACKETS_MAX + 1
        assert all(0 < len(sound.samples) <= 5880 for sound in sounds)
        ends = [sound.timestamp + len(sound.samples) for sound in sounds]
        assert all(sound.timestamp >= end for sound, end in zip(sounds[1:], ends, strict=False))
