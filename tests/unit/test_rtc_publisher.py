import itertools
import re

import aiortc.rtcdtlstransport
import aiortc.rtcpeerconnection
import aiortc.rtcrtptransceiver
import numpy as np
import pytest
import uvloop
from aiortc.codecs import CODECS

from engine.errors import OfferError
from streaming.rtc.peer import close_peer
from streaming.rtc.publisher import RECEIVED_PROFILES, PublishLimits, answer_publisher
from streaming.types import Answer
from tests.support.rtc_peers import (
    LOOPBACK,
    Steps,
    Tone,
    offering,
    run,
    until,
)
from tests.support.rtc_publishing import Inbox, publishing, steps


async def refused(offer: str) -> str:
    with pytest.raises(OfferError) as error:
        await answer_publisher(offer, lambda _: None, lambda _: None, PublishLimits(peer=LOOPBACK))
    return str(error.value)


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


def test_publishing_works_on_uvloop() -> None:
    async def work() -> int:
        async with publishing(Steps(), Tone()) as (_, _, inbox):
            await until(lambda: len(inbox.pictures) >= 5 and len(inbox.sounds) >= 5)
            return len(inbox.pictures)

    assert uvloop.run(work()) >= 5
