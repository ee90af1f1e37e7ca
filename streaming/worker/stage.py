"""What a worker does with one stream: track each frame as it comes, dub it as soon as its sound is there.

Frames and sound go through the same tracker and dubber, in the same order, as those of `livedub dub`; so
the pictures are the same to the bit. Work comes in pieces of one frame's tracking or one frame's dub, so that
messages are read in between.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from engine.arrays import F32
from engine.dubber import DubbedFrame, Dubber
from engine.face.landmarks import COUNT
from engine.face.tracker import FaceTracker
from engine.image.yuv import Colour
from engine.timing import AUDIO_RATE_HZ
from streaming.types import MEDIA_RATE_HZ
from streaming.worker.slots import SlotPictures, write
from streaming.worker.wire import Done, Frame, Rung

MOST_SOUND_S = 10.0  # beyond the newest frame, where no video comes for long
KEPT_SOUND_S = 5.0  # of it, for a frame that is late
LEAVE, RETURN = 0.5, 0.25  # per frame: how the dub fades when a worker is told to do nothing, and back


@dataclass
class _Held:
    """A frame that the worker has."""

    frame: Frame
    confidence: float = 0.0
    cut: bool = False
    skip: bool = False
    stages_ns: dict[str, int] = field(default_factory=dict)


class Stage:
    """One stream in a worker; see the module.

    Args:
        tracker: the stream's own.
        make_dubber: a new dubber of the actor.
        pictures: the slots' pictures.
        clock_ns: monotonic time.
    """

    def __init__(
        self,
        tracker: FaceTracker,
        make_dubber: Callable[[], Dubber],
        pictures: SlotPictures,
        clock_ns: Callable[[], int],
    ) -> None:
        self._tracker, self._make_dubber = tracker, make_dubber
        self._pictures, self._clock_ns = pictures, clock_ns
        self._dubber = make_dubber()
        self._new: deque[_Held] = deque()  # not tracked yet
        self._tracked: deque[_Held] = deque()  # with the dubber
        self._start_s, self._gain = 0.0, 1.0
        self._heard_s = self._seen_s = 0.0  # since the start: of sound, and of frames
        self._rung: Rung = "full"

    def give_frame(self, frame: Frame) -> None:
        """Take the next frame; its source picture is in its slot."""
        self._new.append(_Held(frame))

    def give_sound(self, samples: F32) -> None:
        """Take the dub's next samples, float32 [T], 16 kHz."""
        self._dubber.push_audio(samples)
        self._heard_s += len(samples) / AUDIO_RATE_HZ
        if not self._tracked and not self._new and self._heard_s > self._seen_s + MOST_SOUND_S:
            self._seen_s = self._heard_s - KEPT_SOUND_S
            self._dubber.drop_video(self._seen_s)

    def skip(self, index: int) -> None:
        """Nobody waits for that frame any more: what was not done for it is left out."""
        for held in (*self._new, *self._tracked):
            if held.frame.index == index:
                held.skip = True

    def set_rung(self, rung: Rung) -> None:
        """Do as much as that from the next frame on; after nothing, the dub fades in as on a new face."""
        if self._rung == "pass" and rung != "pass" and not self._tracked:
            self._gain = 0.0
            self._tracker.reset()
            self._dubber.drop_video(self._seen_s)
        self._rung = rung

    def forget(self, start_s: float) -> list[Done]:
        """Drop all that waits; the next sound is of that media time.

        Returns:
            The answers for the frames that waited.
        """
        waited = [*self._tracked, *self._new]
        self._tracked.clear()
        self._new.clear()
        self._tracker.reset()
        self._dubber, self._start_s = self._make_dubber(), start_s
        self._heard_s = self._seen_s = 0.0
        return [self._left_out(held, "skipped") for held in waited]

    def exchange(self, pictures: SlotPictures) -> None:
        """Go on with other pictures, of any size: all that waits is dropped; the next sound is of time 0."""
        self.forget(0.0)
        self._pictures = pictures

    def work(self) -> tuple[bool, Done | None]:
        """Do one piece of work: dub a frame that can be dubbed, else track a frame that came.

        Returns:
            Whether there was any, and the answer, if a frame is finished by it.
        """
        if self._rung == "pass" and self._gain == 0 and (self._tracked or self._new):
            return True, self._pass()
        if self._tracked and (done := self._dub()) is not None:
            return True, done
        if not self._new:
            return False, None
        held = self._new.popleft()
        if held.skip:
            return True, self._left_out(held, "skipped")
        self._track(held)
        return True, None

    def _track(self, held: _Held) -> None:
        held.stages_ns["taken"] = self._clock_ns()
        frame = held.frame
        source, colour = self._pictures.source[frame.slot], Colour(frame.matrix, frame.full_range)
        found = self._tracker.step_frame(source, colour)
        points = np.full((COUNT, 3), np.nan, np.float32) if found is None else found.landmarks
        held.confidence, held.cut = 0.0 if found is None else found.confidence, self._tracker.cut
        picture = self._pictures.dub[frame.slot]
        write(source, into=picture)
        self._seen_s = time_s = self._stream_time_s(frame.time_s)
        self._dubber.push_video(picture, time_s, points, held.confidence, cut=held.cut, colour=colour)
        self._tracked.append(held)
        held.stages_ns["tracked"] = self._clock_ns()

    def _stream_time_s(self, time_s: float) -> float:
        """Time since the dubber's first sound, on the media clock's ticks: a rest of 1e-17 costs a step."""
        if self._start_s == 0:
            return time_s
        return round((time_s - self._start_s) * MEDIA_RATE_HZ) / MEDIA_RATE_HZ

    def _dub(self) -> Done | None:
        held, began_ns = self._tracked[0], self._clock_ns()
        gain = max(0.0, self._gain - LEAVE) if self._rung == "pass" else min(1.0, self._gain + RETURN)
        shown = self._dubber.step(gain=0.0 if held.skip else gain, half=self._rung == "half")
        if shown is None:
            return None
        self._gain = gain
        self._tracked.popleft()
        held.stages_ns |= {"queued": began_ns, "dubbed": self._clock_ns()}
        return self._finished(held, shown)

    def _pass(self) -> Done:
        """The oldest frame as it came; the face is looked for anew when the dub returns."""
        held = (self._tracked or self._new).popleft()
        if not self._tracked:
            self._tracker.reset()
            self._seen_s = self._stream_time_s(held.frame.time_s)
            self._dubber.drop_video(self._seen_s)
        write(self._pictures.source[held.frame.slot], into=self._pictures.dub[held.frame.slot])
        return self._left_out(held, "passed")

    def _finished(self, held: _Held, shown: DubbedFrame) -> Done:
        return Done(
            held.frame.index,
            held.frame.slot,
            "skipped" if held.skip else shown.shown,
            0.0 if held.skip else shown.level,
            held.confidence,
            held.cut,
            held.stages_ns,
        )

    def _left_out(self, held: _Held, why: str) -> Done:
        frame = held.frame
        return Done(frame.index, frame.slot, why, 0.0, held.confidence, held.cut, held.stages_ns)
