"""When a keyframe is due, in virtual time."""

import pytest

from streaming.rtc.keyframes import KeyframeLimiter, KeyframeReason, KeyframeUnderWay

MS = 1_000_000


def run(requests: dict[int, KeyframeReason], seconds: int = 4) -> list[tuple[int, KeyframeReason]]:
    """Keyframes (ms, reason) of a 25 fps stream for requests at these times in ms; the first is at 0."""
    limiter = KeyframeLimiter()
    limiter.made(0, None)
    made = []
    for at_ms in range(40, seconds * 1000, 40):
        for asked_ms, reason in requests.items():
            if at_ms - 40 <= asked_ms < at_ms:
                limiter.request(reason)
        if reason_due := limiter.due(at_ms * MS):
            limiter.made(at_ms * MS, reason_due)
            made.append((at_ms, reason_due))
    return made


def test_nothing_is_due_unasked() -> None:
    assert run({}) == []


@pytest.mark.parametrize("reason", ["viewer", "lost", "slow", "asked"])
def test_a_request_long_after_the_last_is_granted_at_once(reason: KeyframeReason) -> None:
    assert run({4010: reason}, seconds=6) == [(4040, reason)]


def test_a_storm_of_losses_gives_two_keyframes_a_second() -> None:
    made = run(dict.fromkeys(range(0, 4000, 7), "lost"))
    assert [at_ms for at_ms, _ in made] == list(range(520, 4000, 520))


def test_a_new_viewer_does_not_wait_for_the_limit_of_losses() -> None:
    assert run({1000: "lost", 1100: "lost", 1150: "viewer"}) == [(1040, "lost"), (1160, "viewer")]


def test_one_keyframe_answers_everyone() -> None:
    limiter = KeyframeLimiter()
    for reason in ("lost", "slow", "viewer"):
        limiter.request(reason)
    assert limiter.due(0) == "viewer"
    limiter.made(0, "viewer")
    assert limiter.due(10_000 * MS) is None
    assert limiter.counts == {"viewer": 1}


def test_a_keyframe_under_way_answers_requests_until_it_could_have_been_decoded() -> None:
    under_way = KeyframeUnderWay()
    assert not under_way.answers(0, None)
    under_way.begins()
    assert under_way.answers(5000 * MS, 20 * MS)
    under_way.ends(6000 * MS)
    answered = [at_ms for at_ms in range(6000, 6300, 10) if under_way.answers(at_ms * MS, 80 * MS)]
    assert answered == list(range(6000, 6130, 10))
    assert under_way.answers(6090 * MS, None)
    assert not under_way.answers(6100 * MS, None)


def test_keyframes_for_what_was_lost_wait_until_the_last_one_is_paid_for() -> None:
    limiter = KeyframeLimiter()
    limiter.made(0, "viewer", size_bytes=18_000, target_bps=300_000)
    limiter.request("lost")
    assert limiter.due(1199 * MS) is None
    assert limiter.due(1200 * MS) == "lost"
    limiter.request("viewer")
    assert limiter.due(150 * MS) == "viewer"
