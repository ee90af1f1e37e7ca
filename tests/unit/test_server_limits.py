import asyncio
from pathlib import Path

import pytest

from streaming.server import limits
from streaming.server.limits import MAX_ADDRESSES, AddressCounts, AddressRates, Bucket, TooManyError
from tests.support.live_sessions import Running, scene


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = Bucket(rate_hz=2.0, burst=3.0, now_s=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(0.0) == pytest.approx(0.5)
    assert bucket.take(0.5) == 0.0
    taken = sum(bucket.take(0.5 + step / 100) == 0.0 for step in range(1, 1001))
    assert taken == 20


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(rate_hz=2.0, burst=3.0, now_s=0.0)
    assert [bucket.take(1e6) for _ in range(4)][:3] == [0.0, 0.0, 0.0]
    assert bucket.take(1e6) > 0


def test_addresses_do_not_disturb_each_other() -> None:
    clock = Clock()
    rates = AddressRates(0.25, clock)
    rates.check("a")
    with pytest.raises(TooManyError) as refused:
        rates.check("a")
    assert refused.value.retry_after_s == 4
    rates.check("b")
    clock.now_s = 4.0
    rates.check("a")


def test_a_flood_of_addresses_does_not_grow_memory() -> None:
    rates = AddressRates(1.0, Clock())
    for number in range(MAX_ADDRESSES + 500):
        rates.check(str(number))
    assert len(rates) == MAX_ADDRESSES


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.server.port)
        head = "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"
        writer.write(head.encode())
        assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits.read_body, "__defaults__", (0.1,))
        scene(tmp_path, scenario)


def test_counts_come_back() -> None:
    counts = AddressCounts(2)
    counts.take("a")
    counts.take("a")
    counts.take("b")
    with pytest.raises(TooManyError, match="2 connections"):
        counts.take("a")
    for address in ("a", "a", "b"):
        counts.give_back(address)
    assert len(counts) == 0
