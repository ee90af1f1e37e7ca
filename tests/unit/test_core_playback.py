from streaming.core.playback import PlaybackLog
from streaming.core.queued_sound import Span


def test_an_utterance_is_told_from_its_first_to_its_last_sound() -> None:
    log = PlaybackLog()
    (started,) = log.leave(Span(3, 960))
    assert (started.kind, dict(started.data)) == (
        "playback",
        {"state": "started", "utterance": 3, "played_ms": 0},
    )
    assert log.leave(Span(3, 960)) == []
    assert (log.utterance, log.played_ms, log.playing) == (3, 40, True)
    (finished,) = log.leave(Span(3, 480, ends=True))
    assert dict(finished.data) == {"state": "finished", "utterance": 3, "played_ms": 50}
    assert (log.utterance, log.played_ms, log.playing) == (None, 0, False)


def test_another_utterance_finishes_the_one_before() -> None:
    log = PlaybackLog()
    log.leave(Span(1, 960))
    states = [(event.data["utterance"], event.data["state"]) for event in log.leave(Span(2, 960))]
    assert states == [(1, "finished"), (2, "started")]


def test_sound_without_a_number_is_counted_and_not_told() -> None:
    log = PlaybackLog()
    assert log.leave(Span(None, 4800)) == []
    assert (log.utterance, log.playing, log.played_ms) == (None, True, 100)
    assert log.leave(Span(None, 0, ends=True)) == []


def test_an_interrupted_utterance_does_not_finish() -> None:
    log = PlaybackLog()
    log.leave(Span(1, 960))
    log.interrupt()
    assert (log.utterance, log.played_ms) == (None, 0)
    assert [event.data["state"] for event in log.leave(Span(2, 960))] == ["started"]
