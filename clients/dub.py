"""`livedub dub`: a video and a voice in, a file out. Decode, track, step the dubber, encode."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from clients.debug import DebugWriter
from clients.measure_cpu import confirm
from clients.sealing import Provenance, Sealing, origin, prepared
from engine.actor.consent import require_consent
from engine.actor.pack import ActorPack, read_pack
from engine.arrays import F32
from engine.backends import WantedPrecision
from engine.composite.mark import Mark, stamp
from engine.dubber import DubbedFrame, Dubber, Silence
from engine.errors import InputError, MediaError, NoFaceError
from engine.expression.audio import LOOK_AHEADS_MS
from engine.face.track import FaceTrack, track_video
from engine.image.yuv import Colour
from engine.media import (
    AudioBalance,
    DubAudio,
    VideoFrame,
    VideoInfo,
    VideoReader,
    VideoWriter,
    audio_balance,
    open_video,
    open_writer,
    read_audio,
    read_dub_audio,
)
from engine.painting import Painter, open_painter
from engine.provenance import Origin
from engine.timing import AUDIO_RATE_HZ

Progress = Callable[[str, int, int | None], None]
PIECE_S = 1.0  # sound is handed on in pieces of this length


@dataclass(frozen=True)
class DubOptions:
    """How to dub.

    Attributes:
        look_ahead_ms: how much sound beyond a frame's time decides its mouth.
        backend: of the renderer; None takes the best one installed.
        precision: of the renderer's network; "auto" takes the fastest that machine and pack have.
        drive: "audio", or "tracked": the video's own expression (self-reenactment).
        silence: what shows while nobody speaks.
        face: the n-th face from the left, None the largest and most central.
        debug_dir: where pictures of the steps go, if anywhere.
        override_consent: dub a pack without a valid consent record; logged.
        mark: what every frame says of itself in a corner, "none" or "visible".
        sign_certificate, sign_key: PEM files of who signs the C2PA manifest; None: a certificate made here.
    """

    look_ahead_ms: int = LOOK_AHEADS_MS[-1]
    backend: str | None = None
    precision: WantedPrecision = "auto"
    drive: Literal["audio", "tracked"] = "audio"
    silence: Silence = "closed"
    face: int | None = None
    debug_dir: Path | None = None
    override_consent: bool = False
    mark: Mark = "none"
    sign_certificate: Path | None = None
    sign_key: Path | None = None


@dataclass(frozen=True)
class DubReport:
    """What was done.

    Attributes:
        frames: written; dubbed: with the new mouth; faceless: without a face.
        wall_s: of everything; track_s: of tracking before it; render_fps: frames per second after tracking.
        stage_ms: mean wall time per frame of each stage.
        renderer: backend and precision.
        provenance: what the file says of its making: a signed manifest, or a comment.
        mark: what its frames say.
        leftover_audio_s: of the dub that the video was too short for; missing_audio_s: filled with silence.
        messages: what the user should know, one sentence each.
    """

    frames: int
    dubbed: int
    faceless: int
    wall_s: float
    track_s: float
    render_fps: float
    stage_ms: dict[str, float]
    renderer: str
    provenance: Provenance
    mark: Mark
    leftover_audio_s: float
    missing_audio_s: float
    messages: tuple[str, ...]


@dataclass
class _Tally:
    frames: int = 0
    dubbed: int = 0
    faceless: int = 0
    others: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "dub": 0.0, "encode": 0.0})


def dub(
    video: Path,
    audio: Path,
    out: Path,
    actor: Path,
    options: DubOptions,
    *,
    now_iso: str,
    on_progress: Progress,
) -> DubReport:
    """Dub a file.

    Raises:
        InputError: an input cannot be used, or the output cannot be written; nothing is left behind.
        BackendError: the renderer failed.
    """
    began = time.monotonic()
    _check_paths(video, audio, out)
    pack = read_pack(actor)
    overridden = require_consent(pack, now_iso, override=options.override_consent)
    sealing = prepared(out, options.sign_certificate, options.sign_key, now_iso)
    confirm(options.backend, options.precision)
    with closing(open_painter(pack, options.backend, precision=options.precision)) as painter:
        writing = _Writing(
            out,
            sealing,
            lambda: origin(video, audio, actor, pack, options.drive, painter.name, now_iso),
            options.mark,
        )
        report = _dub(video, audio, writing, pack, painter, options, began, on_progress)
    messages = tuple(said for said in (overridden, *report.messages, sealing.message) if said)
    return replace(report, messages=messages)


@dataclass(frozen=True)
class _Writing:
    out: Path
    sealing: Sealing
    made_from: Callable[[], Origin]
    mark: Mark

    def open(self, video: VideoInfo, programme: DubAudio) -> VideoWriter:
        seal = self.sealing.seal(self.out.name, self.made_from())
        return open_writer(self.out, video, audio=programme, comment=self.sealing.comment, seal=seal)


def _dub(
    video: Path,
    audio: Path,
    writing: _Writing,
    pack: ActorPack,
    painter: Painter,
    options: DubOptions,
    began: float,
    on_progress: Progress,
) -> DubReport:
    voice = read_audio(audio, AUDIO_RATE_HZ) if options.drive == "audio" else np.zeros(0, np.float32)
    track = track_video(video, face=options.face, on_frame=lambda done: on_progress("track", done, None))
    if not track.found.any():
        raise NoFaceError(f"no face in any frame of {video}: livedub needs one that looks towards the camera")
    track_s = time.monotonic() - began
    programme = read_dub_audio(audio)
    tally, start = _Tally(), time.monotonic()
    with open_video(video) as reader:
        dubber = _dubber(pack, painter, reader.info.colour, options)
        source = _Frames(reader, track, tally)
        debug = DebugWriter(options.debug_dir, painter.model, pack) if options.debug_dir else None
        with writing.open(reader.info, programme) as writer:
            for frame, shown in _dubbed(dubber, source, voice, tally):
                _count(tally, shown)
                if debug:
                    debug.write(tally.frames, shown)
                with _timed(tally, "encode"):
                    if writing.mark == "visible":
                        stamp(frame.image)
                    writer.write(frame)
                on_progress("dub", tally.frames, len(track))
    balance = audio_balance(programme.duration_s, source.end_s)
    return _report(tally, balance, painter, writing, began, start, track_s)


def _check_paths(video: Path, audio: Path, out: Path) -> None:
    for path in (video, audio):
        if out.exists() and path.exists() and out.samefile(path):
            raise InputError(f"the output {out} is also an input: give another -o")
    if video.is_dir() or audio.is_dir():
        raise MediaError(f"{video if video.is_dir() else audio} is a folder, a file is needed")


def _dubber(pack: ActorPack, painter: Painter, colour: Colour, options: DubOptions) -> Dubber:
    return Dubber(
        pack,
        painter,
        colour,
        look_ahead_ms=options.look_ahead_ms,
        tracked=options.drive == "tracked",
        silence=options.silence,
        keep_debug=options.debug_dir is not None,
    )


class _Frames:
    """The video's frames with their landmarks, and when the last one ends."""

    def __init__(self, reader: VideoReader, track: FaceTrack, tally: _Tally) -> None:
        self.reader, self.track, self._tally, self.end_s = reader, track, tally, 0.0

    def __iter__(self) -> Iterator[tuple[VideoFrame, float, int]]:
        time_base, index = self.reader.info.time_base, 0
        before: int | None = None
        while True:
            with _timed(self._tally, "decode"):
                frame = next(self.reader, None)
            if frame is None:
                return
            if index >= len(self.track):
                raise MediaError(f"the video changed while it was read: frame {index} was not tracked")
            duration = frame.duration or (frame.pts - before if before is not None else 0)
            self.end_s = float((frame.pts + duration) * time_base)
            yield frame, float(frame.pts * time_base), index
            before, index = frame.pts, index + 1


def _dubbed(
    dubber: Dubber, source: _Frames, voice: F32, tally: _Tally
) -> Iterator[tuple[VideoFrame, DubbedFrame]]:
    """Frames in order with what the dubber made of them; sound is pushed as frames need it."""
    piece, position = int(PIECE_S * AUDIO_RATE_HZ), 0
    for frame, time_s, index in source:
        with _timed(tally, "dub"):
            track = source.track
            dubber.push_video(
                frame.image,
                time_s,
                track.landmarks[index],
                float(track.confidence[index]),
                cut=bool(track.cut[index]),
            )
            shown = dubber.step()
            while shown is None:
                samples = voice[position : position + piece]
                dubber.push_audio(np.pad(samples, (0, piece - len(samples))))
                position += piece
                shown = dubber.step()
        yield frame, shown


def _count(tally: _Tally, shown: DubbedFrame) -> None:
    tally.frames += 1
    tally.dubbed += shown.level > 0
    tally.faceless += shown.shown == "no face"
    tally.others += shown.shown == "other person"


@contextmanager
def _timed(tally: _Tally, stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    tally.seconds[stage] += time.monotonic() - start


def _report(
    tally: _Tally,
    balance: AudioBalance,
    painter: Painter,
    writing: _Writing,
    began: float,
    start: float,
    track_s: float,
) -> DubReport:
    messages = []
    if balance.left_over_s > 0:
        messages.append(
            f"the voice is {balance.left_over_s:.2f} s longer than the video: that rest was left out"
        )
    if balance.missing_s > 0:
        messages.append(f"the voice ends {balance.missing_s:.2f} s before the video: the rest is silent")
    if tally.faceless:
        messages.append(f"{tally.faceless} of {tally.frames} frames show no usable face: they are unchanged")
    if tally.others:
        messages.append(f"{tally.others} of {tally.frames} frames show another person: they are unchanged")
    now = time.monotonic()
    return DubReport(
        frames=tally.frames,
        dubbed=tally.dubbed,
        faceless=tally.faceless,
        wall_s=now - began,
        track_s=track_s,
        render_fps=tally.frames / max(now - start, 1e-9),
        stage_ms={stage: 1000 * s / max(tally.frames, 1) for stage, s in tally.seconds.items()},
        renderer=painter.name,
        provenance=writing.sealing.provenance,
        mark=writing.mark,
        leftover_audio_s=balance.left_over_s,
        missing_audio_s=balance.missing_s,
        messages=tuple(messages),
    )


__all__ = ["DubOptions", "DubReport", "dub"]
