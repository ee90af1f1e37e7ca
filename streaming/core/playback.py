"""Which utterance is heard, and how much of it was."""

from streaming.core.queued_sound import Span
from streaming.types import MEDIA_RATE_HZ, Event


class PlaybackLog:
    """Follows the sound that leaves the gate."""

    def __init__(self) -> None:
        self._utterance: int | None = None
        self._playing = False
        self._samples = 0

    @property
    def utterance(self) -> int | None:
        """The utterance that plays; None if none does, or it has no number."""
        return self._utterance if self._playing else None

    @property
    def playing(self) -> bool:
        """Whether an utterance has begun and not ended."""
        return self._playing

    @property
    def played_ms(self) -> int:
        """Of the one that plays, what has left."""
        return self._samples * 1000 // MEDIA_RATE_HZ if self._playing else 0

    def leave(self, span: Span) -> list[Event]:
        """Part of an utterance leaves; what there is to tell of it."""
        events: list[Event] = []
        if not self._playing or span.utterance != self._utterance:
            if self._playing:
                events += self._finish()
            self._utterance, self._playing, self._samples = span.utterance, True, 0
            events += self._event("started")
        self._samples += span.samples
        return events + (self._finish() if span.ends else [])

    def interrupt(self) -> None:
        """What played is cut short."""
        self._playing = False

    def _finish(self) -> list[Event]:
        events = self._event("finished")
        self._playing = False
        return events

    def _event(self, state: str) -> list[Event]:
        if self._utterance is None:
            return []
        return [
            Event("playback", {"state": state, "utterance": self._utterance, "played_ms": self.played_ms})
        ]
