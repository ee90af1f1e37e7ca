import asyncio
import inspect
import itertools
import random
import re
import struct
import threading
from collections.abc import Callable

import aiortc.rtcdtlstransport
import aiortc.rtcpeerconnection
import aiortc.rtcrtptransceiver
import numpy as np
import pytest
import uvloop
from aiortc.codecs import CODECS

from engine.errors import OfferError
from streaming.rtc.capture_clock import SenderClock
from streaming.rtc.h264 import payloads
from streaming.rtc.inlets import QUEUE_MAX_FRAMES, VideoInlet, VideoLimits
from streaming.rtc.peer import close_peer
from streaming.rtc.publisher import RECEIVED_PROFILES, Publisher, PublishLimits, answer_publisher
from streaming.rtc.receiver import Incoming, Receiver
from streaming.rtc.video_decoder import THREADS, decode_pool
from streaming.types import Answer
from tests.support.rtc_peers import (
    LOOPBACK,
    Steps,
    Tone,
    offering,
    run,
    until,
)
from tests.support.rtc_publishing import Inbox, Seen, publishing
from tests.unit.test_rtc_picture_size import h264


def steps(pictures: list[Seen]) -> list[int]:
    """How far the counter in the picture moved from one to the next."""
    numbers = [round((picture.luma - 32) / 3) for picture in pictures]
    return [(b - a) % 64 for a, b in itertools.pairwise(numbers)]


async def refused(offer: str) -> str:
    with pytest.raises(OfferError) as error:
        await answer_publisher(offer, lambda _: None, lambda _: None, PublishLimits(peer=LOOPBACK))
    return str(error.value)


def lose(publisher: Publisher, drop: Callable[[bytes], bool]) -> None:
    """Let datagrams for the publisher's connection get lost on the way."""
    for agent in publisher._peer.connections():
        take = agent.data_received

        def maybe(data: bytes, component: int, take: Callable[[bytes, int], None] = take) -> None:
            if not drop(data):
                take(data, component)

        agent.data_received = maybe  # type: ignore[method-assign]


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_pictures_and_sound_arrive_with_their_capture_times(codec: str) -> None:
    async def work() -> tuple[Inbox, dict[str, dict[str, object]]]:
        async with publishing(Steps(), Tone(), codec=codec) as (_, publisher, inbox):
            await until(lambda: len(inbox.pictures) >= 45 and len(inbox.sounds) >= 60)
            assert publisher.state == "live"
            return inbox, publisher.stats()

    inbox, stats = run(work())
    assert {picture.size for picture in inbox.pictures} == {(320, 192)}
    assert set(steps(inbox.pictures)) == {1}
    assert all(p.received_ns <= p.decoded_ns for p in inbox.pictures)
    assert all(p.captured_ns <= p.received_ns + 20_000_000 for p in inbox.pictures)
    spacing = np.diff([p.captured_ns for p in inbox.pictures[30:]]) / 1e6
    assert np.abs(spacing - 40).max() < 11
    sound = np.concatenate([piece.samples for piece in inbox.sounds])
    spectrum = np.abs(np.fft.rfft(sound[9600:].astype(np.float64)))
    assert np.argmax(spectrum) * 48_000 / len(sound[9600:]) == pytest.approx(440, abs=3)
    assert {piece.rate_hz for piece in inbox.sounds} == {48_000}
    assert all(piece.captured_ns is not None for piece in inbox.sounds)
    assert stats["video"]["codec"] == codec
    assert stats["video"]["lost"] == 0


def test_sound_and_picture_are_in_step() -> None:
    """aiortc's reports tell when a packet left: encoding is in it, 60 ms allow for a busy machine."""

    async def work() -> tuple[list[float], list[float]]:
        video, audio = Steps(), Tone()
        async with publishing(video, audio) as (_, _, inbox):
            await until(lambda: len(inbox.pictures) >= 50 and len(inbox.sounds) >= 100)
            first = round((inbox.pictures[0].luma - 32) / 3)
            assert audio.began_s is not None
            pictures = [
                p.captured_ns / 1e9 - video.captured_s(first + i) for i, p in enumerate(inbox.pictures)
            ]
            ends = list(itertools.accumulate(len(piece.samples) for piece in inbox.sounds))
            sounds = [
                (piece.captured_ns or 0) / 1e9 - audio.began_s - end / 48_000
                for piece, end in zip(inbox.sounds, ends, strict=True)
            ]
            return pictures, sounds

    pictures, sounds = run(work())
    assert abs(np.median(pictures[-25:]) - np.median(sounds[-50:]) - 0.02) < 0.06


def test_a_picture_is_given_before_the_next_one_is_sent() -> None:
    async def work() -> list[float]:
        video = Steps(fps=5)
        async with publishing(video) as (_, _, inbox):
            await until(lambda: len(inbox.pictures) >= 10)
            first = round((inbox.pictures[0].luma - 32) / 3)
            return [p.received_ns / 1e9 - video.captured_s(first + i) for i, p in enumerate(inbox.pictures)]

    assert np.median(run(work())) < 0.15  # aiortc's receiver takes 200 ms and more here


def test_losses_are_repaired_and_no_picture_is_missing() -> None:
    r = random.Random(1)

    async def work() -> tuple[Inbox, dict[str, dict[str, int]]]:
        async with publishing(Steps(480, 272), Tone()) as (_, publisher, inbox):
            await until(lambda: len(inbox.pictures) >= 5)
            lose(publisher, lambda data: len(data) > 60 and r.random() < 0.05)
            await until(lambda: len(inbox.pictures) >= 50)
            return inbox, publisher.stats()

    inbox, stats = run(work())
    assert steps(inbox.pictures[5:]).count(1) >= 42
    assert stats["video"]["nacks"] > 0
    assert stats["audio"]["concealed"] + stats["audio"]["recovered"] > 0


def test_what_cannot_be_repaired_is_given_up_and_a_key_frame_is_asked_for() -> None:
    lost: set[int] = set()

    async def work() -> tuple[Inbox, int, bool]:
        async with publishing(Steps()) as (sender, publisher, inbox):
            await until(lambda: len(inbox.pictures) >= 5)
            repeats = {c.payloadType for t in sender.getTransceivers() for c in t._codecs if c.name == "rtx"}

            def drop(data: bytes) -> bool:
                number = int.from_bytes(data[2:4], "big")
                media = 128 <= data[0] < 192 and 96 <= data[1] & 127 < 128
                if media and data[1] & 127 not in repeats and len(lost) < 3:
                    lost.add(number)
                return media and (number in lost or data[1] & 127 in repeats)

            lose(publisher, drop)
            before = len(inbox.pictures)
            await until(lambda: len(inbox.pictures) >= before + 20)
            return inbox, publisher.stats()["video"]["keys_asked"], publisher.closed.is_set()

    inbox, keys, closed = run(work())
    assert len(lost) == 3
    assert keys >= 1
    assert sum(step != 1 for step in steps(inbox.pictures)) == 1  # one gap, no smear before the key frame
    assert not closed


def test_offers_that_have_nothing_for_us_are_refused_in_plain_words() -> None:
    async def work() -> list[str]:
        sender = await offering(Steps(), Tone())
        good = sender.localDescription.sdp
        await close_peer(sender)
        two = await offering(Steps(), Steps())
        twice = two.localDescription.sdp
        await close_peer(two)
        return [
            await refused(good.replace("a=sendrecv", "a=recvonly")),
            await refused(twice),
            await refused(re.sub(r"opus/48000/2", "other/48000/2", good)),
            await refused("v=0\r\n"),
        ]

    nothing, two, codec, empty = run(work())
    assert "sends nothing" in nothing
    assert "one video and one audio" in two
    assert "cannot be answered" in codec
    assert "media sections" in empty


@pytest.mark.parametrize("profile", RECEIVED_PROFILES)
def test_main_and_high_profile_are_accepted(profile: str) -> None:
    async def work() -> Answer:
        sender = await offering(Steps(), codec="H264")
        offer = re.sub(r"profile-level-id=\w+", f"profile-level-id={profile}", sender.localDescription.sdp)
        publisher, answer = await answer_publisher(
            offer, lambda _: None, lambda _: None, PublishLimits(peer=LOOPBACK)
        )
        await publisher.close()
        await close_peer(sender)
        return answer

    answer = run(work())
    assert f"profile-level-id={profile}" in answer.sdp
    assert answer.resource
    assert answer.etag


def test_the_codec_table_that_is_added_to_is_the_one_that_is_negotiated_with() -> None:
    assert aiortc.rtcpeerconnection.CODECS is CODECS  # type: ignore[attr-defined]
    profiles = {codec.parameters.get("profile-level-id") for codec in CODECS["video"]}
    assert {"42001f", "42e01f"} <= profiles
    numbers = [codec.payloadType for codec in CODECS["video"] + CODECS["audio"]]
    assert len(numbers) == len(set(numbers))


def test_the_receiver_has_whatever_aiortc_uses_of_its_own() -> None:
    used: set[str] = set()
    for module in (aiortc.rtcpeerconnection, aiortc.rtcrtptransceiver, aiortc.rtcdtlstransport):
        source = inspect.getsource(module)
        used |= set(re.findall(r"(?:\b|__)(?:receiver|recipient)\.(\w+)", source))
    used -= {"reports"}
    ours = Receiver("video", None, None, lambda: 0, PublishLimits().rate)  # type: ignore[arg-type]
    assert used >= {"receive", "stop", "_handle_rtp_packet", "_handle_rtcp_packet", "transport", "track"}
    assert {name for name in used if not hasattr(ours, name)} <= {"_ssrc"}


def test_publishing_works_on_uvloop() -> None:
    async def work() -> int:
        async with publishing(Steps(), Tone()) as (_, _, inbox):
            await until(lambda: len(inbox.pictures) >= 5 and len(inbox.sounds) >= 5)
            return len(inbox.pictures)

    assert uvloop.run(work()) >= 5


def test_a_new_source_is_taken_once_the_old_one_is_silent() -> None:
    """A browser that replaces its encoder goes on with another synchronisation source."""

    async def work() -> tuple[int, int, int]:
        async with publishing(Steps()) as (sender, publisher, inbox):
            await until(lambda: len(inbox.pictures) >= 5)
            number = next(c.payloadType or 0 for t in sender.getTransceivers() for c in t._codecs)

            async def send(index: int) -> None:
                payload = payloads(h264(64, 64)[0])[0]
                header = struct.pack("!BBHLL", 0x80, number | 128, 5000 + index, 3600 * index, 77)
                await sender.transports[0]._send_rtp(header + payload)

            await send(0)
            await until(lambda: publisher.stats()["video"]["dropped"] == 1)
            for transceiver in sender.getTransceivers():
                await transceiver.sender.stop()
            await asyncio.sleep(0.7)
            for index in range(1, 6):
                await send(index)
            await until(lambda: inbox.pictures[-1].size == (64, 64))
            return publisher.stats()["video"]["packets"], len(inbox.pictures), inbox.pictures[-1].size[0]

    packets, _, width = run(work())
    assert packets <= 5
    assert width == 64


def test_a_decoder_that_cannot_follow_drops_up_to_the_next_key_frame() -> None:
    gate = threading.Event()
    frames = [(h264(320, 192)), (h264(320, 192))]

    async def work() -> tuple[int, int, list[int]]:
        seen: list[int] = []
        inlet = VideoInlet(
            lambda frame: seen.append(frame.captured_ns),
            lambda reason: None,
            SenderClock(),
            VideoLimits(),
            lambda: 0,
        )
        for _ in range(THREADS):
            decode_pool().submit(gate.wait, 20)
        number, waiting = 0, 0

        def send(data: bytes) -> None:
            nonlocal number
            number += 1
            inlet.packet(Incoming("H264", number, 3600 * number, True, data, number * 40_000_000))

        send(frames[0][0])
        for index in range(60):
            send(frames[0][1 + index % 2])
            await asyncio.sleep(0)
            waiting = max(waiting, inlet._queue.qsize())
        assert inlet.wants_key(10**12)
        gate.set()
        send(frames[1][0])
        await until(lambda: len(seen) >= 2)
        inlet.end()
        await inlet.ended()
        return inlet.overrun, waiting, seen

    overrun, waiting, seen = run(work())
    assert overrun >= QUEUE_MAX_FRAMES
    assert waiting <= QUEUE_MAX_FRAMES
    assert len(seen) < 20
