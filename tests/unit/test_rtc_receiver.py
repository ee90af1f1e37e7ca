"""Feedback, sources and repairs of one incoming stream, against a real sender."""

import asyncio
import inspect
import random
import re
import struct

import aiortc.rtcdtlstransport
import aiortc.rtcpeerconnection
import aiortc.rtcrtptransceiver

from streaming.rtc.h264 import payloads
from streaming.rtc.publisher import PublishLimits
from streaming.rtc.receiver import Receiver
from tests.support.rtc_peers import Steps, Tone, run, until
from tests.support.rtc_publishing import Inbox, lose, publishing, steps
from tests.unit.test_rtc_picture_size import h264


def test_the_receiver_has_whatever_aiortc_uses_of_its_own() -> None:
    used: set[str] = set()
    for module in (aiortc.rtcpeerconnection, aiortc.rtcrtptransceiver, aiortc.rtcdtlstransport):
        source = inspect.getsource(module)
        used |= set(re.findall(r"(?:\b|__)(?:receiver|recipient)\.(\w+)", source))
    used -= {"reports"}
    ours = Receiver("video", None, None, lambda: 0, PublishLimits().rate)  # type: ignore[arg-type]
    assert used >= {"receive", "stop", "_handle_rtp_packet", "_handle_rtcp_packet", "transport", "track"}
    assert {name for name in used if not hasattr(ours, name)} <= {"_ssrc"}


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
