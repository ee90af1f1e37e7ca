import asyncio
from typing import Any

from streaming.server.outbox import MAX_EVENTS, MAX_REPLIES, Outbox
from streaming.types import Event


def drained(outbox: Outbox) -> list[tuple[str, dict[str, Any]]]:
    async def take() -> list[tuple[str, dict[str, Any]]]:
        return [await outbox.get() for _ in range(len(outbox))]

    return asyncio.run(take())


def test_replies_go_first_then_credit_then_events() -> None:
    outbox = Outbox()
    outbox.event(Event("state", {"is": "live"}))
    outbox.credit(10)
    outbox.reply("done", re=1)
    outbox.credit(20)
    assert drained(outbox) == [
        ("done", {"re": 1}),
        ("credit", {"until": 20}),
        ("event", {"kind": "state", "data": {"is": "live"}, "dropped": 0}),
    ]


def test_credit_never_shrinks() -> None:
    outbox = Outbox()
    outbox.credit(20)
    assert drained(outbox) == [("credit", {"until": 20})]
    outbox.credit(20)
    outbox.credit(10)
    assert len(outbox) == 0


def test_the_oldest_events_give_way_and_are_counted() -> None:
    outbox = Outbox()
    for number in range(MAX_EVENTS + 5):
        outbox.event(Event("latency", {"n": number}))
    got = drained(outbox)
    assert len(got) == MAX_EVENTS
    assert got[0][1] == {"kind": "latency", "data": {"n": 5}, "dropped": 5}
    assert got[1][1]["dropped"] == 0
    assert outbox.dropped == 5


def test_too_many_answers_overflow() -> None:
    outbox = Outbox()
    for number in range(MAX_REPLIES):
        outbox.reply("done", re=number)
    assert not outbox.overflown
    outbox.reply("done", re=MAX_REPLIES)
    assert outbox.overflown
    assert len(outbox) == MAX_REPLIES


def test_waiting_ends_with_the_first_message() -> None:
    async def scene() -> tuple[str, dict[str, Any]]:
        outbox = Outbox()
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(outbox.get())
            await asyncio.sleep(0)
            outbox.reply("done", re=3)
        return waiting.result()

    assert asyncio.run(scene()) == ("done", {"re": 3})
