"""One session's pipeline as plain steps: frames and sound in, dubbed frames out. No clock, no threads.

`livedub dub` and a live session run exactly this; live is this with a clock around it. A frame can be stepped
as soon as the sound up to its time plus the look-ahead has been pushed, in pieces of 20 ms.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from engine.actor.pack import ActorPack
from engine.arrays import F32, U8
from engine.errors import ActorPackError, NoFaceError
from engine.expression.audio import LOOK_AHEADS_MS, STYLE_SIZE, AudioToExpression
from engine.expression.manner import EXTRA, Manner
from engine.expression.speech import SpeechToExpression
from engine.face.crop import CropBox, crop_pose, follow, jumped
from engine.face.fit import FaceState, Fitter
from engine.face.identity import open_watch
from engine.face.model import LANDMARKS, FaceModel, Pose
from engine.face.occlusion import CoverWatch
from engine.face.presence import Presence, update
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour
from engine.painting import DebugPictures, HeadToPaint, Painter

Silence = Literal["closed", "source"]
Shown = Literal["dubbed", "fading", "no face", "covered", "other person", "silence"]
NOTHING_SHOWN = 1e-3


@dataclass(frozen=True, slots=True)
class DubbedFrame:
    """One frame out.

    Attributes:
        image: the frame's own buffer, changed in place inside the mask.
        time_s: media time.
        shown: what the viewer sees, and why.
        level: 0..1, how much of the rendered mouth shows.
        debug: the steps' pictures, only if they were asked for.
    """

    image: I420
    time_s: float
    shown: Shown
    level: float
    debug: DebugPictures | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    image: I420
    time_s: float
    landmarks: F32
    confidence: float
    cut: bool
    colour: Colour


@dataclass(frozen=True, slots=True)
class _Crop:
    """What is cut out of a frame around its head: where, the head's pose in it, the picture if any."""

    square: Square
    pose: Pose
    source: U8 | None


class Dubber:
    """One stream of one actor; see the module.

    Args:
        actor: the pack.
        painter: the actor, opened; the stream's own while it runs, and the caller's to close.
        colour: how the frames' bytes are meant.
        look_ahead_ms: sound needed beyond a frame's time; ignored when tracked.
        tracked: drive with the frames' own expression (self-reenactment) instead of sound.
        silence: what shows while nobody speaks: lips closed, or the source frame.
        keep_debug: attach the steps' pictures to every frame.

    Raises:
        ActorPackError: the actor's style, manner of speaking or identity does not belong to this livedub.
        ValueError: a look-ahead that the speech model does not know.
    """

    def __init__(
        self,
        actor: ActorPack,
        painter: Painter,
        colour: Colour,
        *,
        look_ahead_ms: int = LOOK_AHEADS_MS[-1],
        tracked: bool = False,
        silence: Silence = "closed",
        keep_debug: bool = False,
    ) -> None:
        self._painter, self._colour, self._silence, self._keep_debug = painter, colour, silence, keep_debug
        self._cover = CoverWatch(painter.model, painter.neutral)
        self._identity = open_watch(actor.extras, painter.model)
        self._fitter = Fitter(painter.model, actor.neutral[:LANDMARKS])
        if actor.style.shape != (STYLE_SIZE,):
            raise ActorPackError(f"the actor pack's style has {len(actor.style)} numbers, not {STYLE_SIZE}")
        style = actor.style if actor.style.any() else None
        self._speech = None if tracked else SpeechToExpression(AudioToExpression(look_ahead_ms, style))
        self._manner = manner_of(actor, painter.model)
        self._waiting: deque[_Waiting] = deque()
        self._box: CropBox | None = None
        self._presence = Presence()
        self._again = False  # the picture that was painted last may be shown again

    def push_audio(self, samples: F32) -> None:
        """Take the dub's next samples, float32 [T], mono, 16 kHz; not used when tracked."""
        if self._speech is not None:
            self._speech.push(samples)

    def push_video(
        self,
        image: I420,
        time_s: float,
        landmarks: F32,
        confidence: float = 1.0,
        *,
        cut: bool = False,
        colour: Colour | None = None,
    ) -> None:
        """Take the next frame, to be the dubber's, and its landmarks float32 [478, 3] px (NaN: no face).

        Args:
            image: changed in place by `step`.
            time_s: media time; never less than the frame's before.
            landmarks: as tracked in this frame.
            confidence: of the tracker, 0..1.
            cut: the frame is the first one after a programme cut.
            colour: how this frame's bytes are meant, if not as the stream's.
        """
        self._waiting.append(_Waiting(image, time_s, landmarks, confidence, cut, colour or self._colour))

    def drop_video(self, before_s: float) -> None:
        """Forget the frames that wait, the face, and what no frame from that media time on needs to hear."""
        if self._speech is not None:
            self._speech.forget_before(before_s)
        self._waiting.clear()
        self._box, self._again, self._presence = None, False, Presence()
        self._cover.reset()
        self._identity.reset()

    def step(self, *, gain: float = 1.0, half: bool = False) -> DubbedFrame | None:
        """Dub the oldest waiting frame; None if there is none, or its sound has not come yet.

        Args:
            gain: 0..1, how much of the dub shows at most; at 0 nothing is drawn.
            half: save work: the last frame's mouth is shown again, in this frame's place, if the head has
                hardly turned and the last frame's was not such a mouth already.
        """
        if not self._waiting:
            return None
        if self._speech is not None and not self._speech.knows(self._waiting[0].time_s):
            return None
        frame = self._waiting.popleft()
        if self._speech is not None:
            self._speech.forget_before(frame.time_s)
        state = self._fit(frame)
        if state is None:
            self._cover.miss()
            self._box, self._again, self._presence = None, False, update(self._presence, None)
            return DubbedFrame(frame.image, frame.time_s, "no face", 0.0)
        before, self._box = self._box, follow(None if frame.cut else self._box, state.pose)
        new = frame.cut or before is None or jumped(before, self._box)
        if new and not frame.cut:
            self._presence = Presence()  # it may be somebody else
        crop = self._crop(frame, self._box.square, state)
        hidden = self._hidden(frame, crop, state, new=new)
        self._presence = update(self._presence, state, cut=frame.cut, hidden=hidden)
        expression, level, shown = self._expression(frame, state)
        level *= gain
        if frame.cut or not half or level < NOTHING_SHOWN:
            self._again = False
        if level < NOTHING_SHOWN:
            return DubbedFrame(frame.image, frame.time_s, shown, 0.0)
        debug = self._draw(frame, crop, state, expression, level)
        return DubbedFrame(frame.image, frame.time_s, shown, level, debug)

    def _crop(self, frame: _Waiting, square: Square, state: FaceState) -> _Crop:
        size = self._painter.size_px
        source = read_square(frame.image, square, frame.colour, size)
        return _Crop(square, crop_pose(state.pose, square, size), source)

    def _fit(self, frame: _Waiting) -> FaceState | None:
        try:
            return self._fitter.fit(frame.landmarks, frame.confidence)
        except NoFaceError:
            return None

    def _hidden(self, frame: _Waiting, crop: _Crop, state: FaceState, *, new: bool) -> bool:
        """Whether the face is not to be dubbed: its mouth is covered, or it may be another person's."""
        if crop.source is not None:
            self._cover.look(crop.source, crop.pose, state, cut=frame.cut)
        covered, points = self._cover.covered, frame.landmarks
        self._identity.look(frame.image, frame.colour, points, state, new=new, covered=covered)
        return covered or self._identity.verdict != "actor"

    def _expression(self, frame: _Waiting, state: FaceState) -> tuple[F32, float, Shown]:
        level = self._presence.level
        shown: Shown = "dubbed" if level == 1 else "fading" if level > 0 else self._why_hidden()
        if self._speech is None:
            return state.expression, level, shown
        spoken = self._speech.at(frame.time_s)
        expression = self._manner.apply(spoken.expression, spoken.speaking)
        if self._silence == "source" and spoken.speaking < 1:
            return expression, level * spoken.speaking, "silence"
        return expression, level, shown

    def _why_hidden(self) -> Shown:
        if self._identity.verdict == "other":
            return "other person"
        return "covered" if self._cover.covered else "no face"

    def _draw(
        self, frame: _Waiting, crop: _Crop, state: FaceState, expression: F32, level: float
    ) -> DebugPictures | None:
        if crop.source is None:
            return None
        head = HeadToPaint(
            square=crop.square,
            pose=crop.pose,
            source=crop.source,
            colour=frame.colour,
            shown=None if self._speech is None else state.expression,
            wanted=expression,
            level=level,
            again=self._again,
            keep_debug=self._keep_debug,
        )
        self._again = True
        return self._painter.paint(frame.image, head)


def manner_of(actor: ActorPack, model: FaceModel) -> Manner:
    """How an actor speaks, as its pack has it; the average speaker's manner if it has none.

    Raises:
        ActorPackError: it belongs to another face model, or is damaged.
    """
    rows = actor.extras.get(EXTRA)
    if rows is None:
        return Manner.average(model)
    try:
        return Manner.of(rows, model)
    except (TypeError, ValueError) as error:
        raise ActorPackError(f"the actor pack's manner of speaking does not fit: {error}") from error


__all__ = ["DebugPictures", "DubbedFrame", "Dubber", "Shown", "Silence", "manner_of"]
