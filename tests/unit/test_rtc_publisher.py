import asyncio
import inspect
import itertools
import os
import random
import re
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiortc.rtcdtlstransport
import aiortc.rtcpeerconnection
import aiortc.rtcrtptransceiver
import numpy as np
import pytest
from aiortc.codecs import CODECS

from engine.errors import OfferError
from streaming.rtc.capture_clock import SenderClock
from streaming.rtc.inlets import QUEUE_MAX_FRAMES, VideoInlet, VideoLimits
from streaming.rtc.peer import Peer, PeerOptions, close_peer
from streaming.rtc.publisher import RECEIVED_PROFILES, Publisher, PublishLimits, answer_publisher
from streaming.rtc.receiver import Incoming, Receiver
from streaming.rtc.video_decoder import THREADS, decode_pool
from streaming.types import Answer, AudioIn, VideoIn
from tests.support.rtc_peers import (
    LOOPBACK,
    Steps,
    Tone,
    accept,
    offering,
    run,
    until,
    vanish,
    worst_stall_ms,
)
from tests.unit.test_rtc_picture_size import h264

QUICK = PeerOptions(addresses=("127.0.0.1",), stalled_after_s=0.3, gone_after_s=0.9)


@dataclass(frozen=True)
class Seen:
    """What is kept of a picture; the picture itself is borrowed."""

    luma: float
    size: tuple[int, int]
    captured_ns: int
    received_ns: int
    decoded_ns: int


@dataclass
class Inbox:
    pictures: list[Seen] = field(default_factory=list)
    sounds: list[AudioIn] = field(default_factory=list)

    def video(self, frame: VideoIn) -> None:
        image, stamps = frame.image, frame.stamps_ns
        luma = float(image.y[10, 10])
        size = (image.width, image.height)
        self.pictures.append(Seen(luma, size, frame.captured_ns, stamps["received"], stamps["decoded"]))


@asynccontextmanager
async def publishing(
    video: Steps | None = None,
    audio: Tone | None = None,
    *,
    codec: str = "H264",
    limits: PublishLimits | None = None,
) -> AsyncIterator[tuple[Peer, Publisher, Inbox]]:
    """A connected publisher that sends the tracks."""
    tracks = [track for track in (video, audio) if track is not None]
    sender, inbox = await offering(*tracks, codec=codec), Inbox()
    limits = limits or PublishLimits(peer=LOOPBACK)
    publisher, answer = await answer_publisher(
        sender.localDescription.sdp, inbox.video, inbox.sounds.append, limits
    )
    try:
        await accept(sender, answer.sdp)
        yield sender, publisher, inbox
    finally:
        await close_peer(sender)
        await publisher.close("the test is over")


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
            await until(lambda: len(inbox.pictures) >= 60 and len(inbox.sounds) >= 60)
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
            await until(lambda: len(inbox.pictures) >= 75 and len(inbox.sounds) >= 150)
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
        async with publishing(Steps(640, 368), Tone()) as (_, publisher, inbox):
            await until(lambda: len(inbox.pictures) >= 5)
            lose(publisher, lambda data: len(data) > 60 and r.random() < 0.05)
            await until(lambda: len(inbox.pictures) >= 80)
            return inbox, publisher.stats()

    inbox, stats = run(work())
    assert steps(inbox.pictures[5:]).count(1) >= 70
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


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_picture_that_is_too_large_ends_the_publisher_with_a_plain_reason(codec: str) -> None:
    limits = PublishLimits(peer=LOOPBACK, video=VideoLimits(width_max=160, height_max=90))

    async def work() -> tuple[str, Inbox]:
        async with publishing(Steps(), codec=codec, limits=limits) as (_, publisher, inbox):
            await asyncio.wait_for(publisher.closed.wait(), 10)
            return publisher.reason, inbox

    reason, inbox = run(work())
    assert reason == "the video has 320x192 px, at most 160x90 is accepted"
    assert inbox.pictures == []


def test_too_many_pictures_end_the_publisher() -> None:
    limits = PublishLimits(peer=LOOPBACK, video=VideoLimits(fps_max=10))

    async def work() -> str:
        async with publishing(Steps(fps=50), limits=limits) as (_, publisher, _):
            await asyncio.wait_for(publisher.closed.wait(), 15)
            return publisher.reason

    assert run(work()) == "the video has more than 10 frames per second"


def test_a_publisher_that_vanishes_is_released() -> None:
    async def work() -> tuple[list[str], str]:
        states: list[str] = []
        async with publishing(Steps(), Tone(), limits=PublishLimits(peer=QUICK)) as (
            sender,
            publisher,
            inbox,
        ):
            publisher.on_state = states.append
            await until(lambda: len(inbox.pictures) > 0 and publisher.state == "live")
            vanish(sender)
            await asyncio.wait_for(publisher.closed.wait(), 10)
            return states, publisher.reason

    states, reason = run(work())
    assert states[-2:] == ["stalled", "gone"]
    assert reason == "the publisher is gone"


def test_a_publisher_that_says_goodbye_is_released_at_once() -> None:
    async def work() -> str:
        async with publishing(Steps(), Tone()) as (sender, publisher, inbox):
            await until(lambda: len(inbox.pictures) > 0)
            await close_peer(sender)
            await asyncio.wait_for(publisher.closed.wait(), 3)
            await publisher.close("again")
            return publisher.reason

    assert run(work()) == "the publisher is gone"


def test_threads_do_not_grow_with_publishers() -> None:
    async def work() -> None:
        async with publishing(Steps(), Tone()) as (_, _, inbox):
            await until(lambda: len(inbox.pictures) > 0)

    before: set[str] = set()
    for _ in range(3):
        run(work())
        names = {thread.name for thread in threading.enumerate()}
        assert sum(name.startswith("rtc-decode") for name in names) <= THREADS
        assert not any("decoder" in name for name in names)
        before = before or names
    assert len(names) <= len(before) + THREADS


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


def test_random_media_from_the_publisher_ends_at_most_its_own_session() -> None:
    r = random.Random(5)

    async def work() -> tuple[float, int, bool]:
        stop = asyncio.Event()
        watching = asyncio.ensure_future(worst_stall_ms(stop))
        async with (
            publishing(Steps(), Tone()) as (_, good, inbox),
            publishing(Steps(), Tone()) as (bad_sender, bad, _),
        ):
            await until(lambda: len(inbox.pictures) > 5 and bad.state == "live")
            numbers = [c.payloadType or 0 for t in bad_sender.getTransceivers() for c in t._codecs]
            for number in range(2000):
                header = struct.pack(
                    "!BBHLL", 0x80, r.choice(numbers) | r.choice([0, 128]), number, r.getrandbits(32), 7
                )
                dtls = bad_sender.transports[0]
                if dtls.state == "connected":
                    await dtls._send_rtp(header + os.urandom(r.randrange(0, 900)))
                    await dtls._send_rtp(
                        struct.pack("!BBHL", 0x80 | r.randrange(32), 200 + r.randrange(7), 5, 7)
                        + os.urandom(20)
                    )
                if number % 50 == 0:
                    await asyncio.sleep(0.005)
            before = len(inbox.pictures)
            await until(lambda: len(inbox.pictures) > before + 10)
            stop.set()
            return await watching, len(inbox.pictures), good.closed.is_set()

    stall_ms, pictures, closed = run(work())
    assert stall_ms < 50
    assert pictures > 15
    assert not closed


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
