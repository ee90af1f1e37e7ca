"""One run of the demonstration into files: footage, actor, speech, dub; and what the live one begins with."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from clients.demo import footage, portrait, speech
from engine.actor.consent import ConsentRecord
from engine.errors import BackendUnavailable, InputError, LivedubError, OutputError
from engine.media import read_dub_audio
from engine.models import cache_dir

_T = TypeVar("_T")
Step = Literal["footage", "actor", "speech", "dub"]
DEFAULT_VOICE = "en-us+f3"
DEFAULT_TEXT = (
    "Hello! I never said these words. My lips follow a voice that this computer has just made up, "
    "and you can write another sentence below."
)
STEPS = 60
ACTOR_S = 20.0  # of the user's video that the actor is learnt from
_ASSETS = Path(__file__).resolve().parents[2] / "engine" / "assets"
_TAIL_S = 0.2  # of picture after the sound


@dataclass(frozen=True)
class DemoProgress:
    """How far a run is.

    Attributes:
        step: what is being done.
        text: the same in words.
        fraction: of that step, 0..1, or None when it cannot be known.
    """

    step: Step
    text: str
    fraction: float | None


Progress = Callable[[DemoProgress], None]


@dataclass(frozen=True)
class DemoRequest:
    """What to show.

    Attributes:
        out_dir: where the result goes; made if it is not there.
        text: what to say; None takes a sentence that introduces the demonstration. Unused with `audio`.
        voice: as in `speech.speak`.
        video: the user's own footage; None takes the packaged portrait.
        audio: a voice from a file in place of `text`.
        keep_dir: where prepared footage and the actor of `video` are kept for the next run; None: `out_dir`.
        consent: of the person in `video`.
        steps: of adaptation.
    """

    out_dir: Path
    text: str | None = None
    voice: str = DEFAULT_VOICE
    video: Path | None = None
    audio: Path | None = None
    keep_dir: Path | None = None
    consent: ConsentRecord | None = None
    steps: int = STEPS


@dataclass(frozen=True)
class DemoResult:
    """What was made.

    Attributes:
        source: the undubbed video, as long as the speech.
        dubbed: the same video, speaking.
        actor: the actor pack.
        report: numbers and words for the user; JSON types only.
    """

    source: Path
    dubbed: Path
    actor: Path
    report: dict[str, Any]


def run_demo(request: DemoRequest, on_progress: Progress) -> DemoResult:
    """Make an actor unless there is one already, make a voice, dub.

    Raises:
        InputError: the text, the video or the sound cannot be used, or the output cannot be written.
        BackendError: an inference library or the speech synthesiser is missing or failed.
        AssetError: a model file is missing.
    """
    out_dir = _folder(request.out_dir)
    seconds: dict[str, float] = {}
    now_iso = datetime.now(UTC).isoformat()
    try:
        sound, spoken = _timed(seconds, "speech", lambda: _sound(request, out_dir, on_progress))
    except LivedubError:
        with suppress(OSError):
            out_dir.rmdir()  # unless it holds something
        raise
    clip, notes = _timed(seconds, "footage", lambda: _clip(request, on_progress))
    source, length_s = out_dir / "source.mp4", spoken["audio_s"] + _TAIL_S
    _timed(seconds, "source", lambda: _source(request, clip, source, length_s, on_progress))
    actor, was_there = _timed(seconds, "actor", lambda: _actor(request, clip, now_iso, on_progress))
    out = out_dir / "dubbed.mp4"
    report = _timed(seconds, "dub", lambda: _dub(source, sound, out, actor, length_s, now_iso, on_progress))
    report |= spoken | {
        "seconds": {step: round(took, 2) for step, took in seconds.items()},
        "actor_was_there": was_there,
        "steps": request.steps,
        "footage": "own" if request.video else portrait.NAME,
        "synthetic": "mouth, lips and chin" + ("" if request.audio else ", and the voice"),
        "messages": [*notes, *report["messages"]],
    }
    _write_json(out_dir / "report.json", report)
    return DemoResult(source, out, actor, report)


def prepared_actor(request: DemoRequest, on_progress: Progress) -> tuple[Path, Path]:
    """The clip of a request, and its actor pack; made the first time, which takes a minute.

    Raises:
        InputError: the video cannot be used, or the results cannot be written.
        BackendError: an inference library or torch is missing or failed.
        AssetError: a model file is missing.
    """
    clip, _ = _clip(request, on_progress)
    actor, _ = _actor(request, clip, datetime.now(UTC).isoformat(), on_progress)
    return clip, actor


def _timed(seconds: dict[str, float], name: str, work: Callable[[], _T]) -> _T:
    began = time.monotonic()
    result = work()
    seconds[name] = time.monotonic() - began
    return result


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from error
    return path.resolve()


def _sound(request: DemoRequest, out_dir: Path, on_progress: Progress) -> tuple[Path, dict[str, Any]]:
    """The voice as a file, and what to report of it."""
    if request.audio is not None:
        length_s = read_dub_audio(request.audio).duration_s
        if length_s > speech.MAX_SPEECH_S:
            raise InputError(
                f"the sound lasts {length_s:.0f} s; the demonstration takes {speech.MAX_SPEECH_S:.0f} s"
            )
        return request.audio, {"audio_s": length_s, "voice": None, "text": None, "phonemes": []}
    on_progress(DemoProgress("speech", "Making the voice", None))
    text = speech.checked_text(DEFAULT_TEXT if request.text is None else request.text)
    spoken = speech.speak(text, request.voice)
    out = out_dir / "speech.wav"
    speech.write_wav(out, spoken.samples, spoken.rate_hz)
    phonemes = [[phoneme.start_ms, phoneme.ipa] for phoneme in spoken.phonemes]
    return out, {"audio_s": spoken.duration_s, "voice": request.voice, "text": text, "phonemes": phonemes}


def _clip(request: DemoRequest, on_progress: Progress) -> tuple[Path, list[str]]:
    """The footage to learn the actor from, and what the user should know of it."""
    if request.video is None:
        on_progress(DemoProgress("footage", "Setting the portrait into motion", None))
        out = _folder(cache_dir() / "demo") / f"portrait-{_key(Path(portrait.__file__))[:16]}.mp4"
        if not out.is_file():
            portrait.write_portrait(out)
        return out, []
    on_progress(DemoProgress("footage", "Reading your video", None))
    out = _keep_dir(request) / f"footage-{_key(request.video)[:16]}.mp4"
    if out.is_file():
        return out, []

    def say(frames: int) -> None:
        if frames % 25 == 0:
            on_progress(DemoProgress("footage", f"Reading your video: {frames // 25} s", None))

    done = footage.prepare(request.video, out, on_frame=say)
    note = f"only the first {footage.MAX_S:.0f} s of your video are used"
    return out, [note] if done.cut_short else []


def _actor_path(request: DemoRequest, clip: Path) -> Path:
    """Where the actor pack lies; another clip, prior or number of steps makes another one."""
    folder = _keep_dir(request) if request.video else _folder(cache_dir() / "demo")
    key = _key(clip, *sorted(_ASSETS.glob("prior_*")), *_ASSETS.glob("face_model*"), text=str(request.steps))
    return folder / f"{key[:16]}.actor"


def _actor(request: DemoRequest, clip: Path, now_iso: str, on_progress: Progress) -> tuple[Path, bool]:
    """The actor pack, and whether it was there before."""
    own = request.video is not None
    out = _actor_path(request, clip)
    if out.is_file():
        return out, True
    adapt, options = _adaptation()
    chosen = options(
        steps=request.steps,
        seconds=ACTOR_S,
        name="you" if own else portrait.NAME,
        consent=request.consent if own else portrait.portrait_consent(now_iso),
    )
    frames = round(min(footage.duration_s(clip), ACTOR_S) * footage.RATE)
    scale = _Scale(
        on_progress, "actor", {"track": (0.0, 0.1), "crop": (0.1, 0.15), "adapt": (0.15, 1.0)}, frames
    )
    scale.words = {
        "track": "Following the face",
        "crop": "Cutting out the mouth",
        "adapt": "Learning the mouth",
    }
    adapt(clip, out, chosen, now_iso=now_iso, on_progress=scale)
    return out, False


def _adaptation() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from export.adapt import AdaptOptions, adapt
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendUnavailable("learning an actor needs torch: pip install 'livedub[train]'") from error
    return adapt, AdaptOptions


def _source(request: DemoRequest, clip: Path, out: Path, length_s: float, on_progress: Progress) -> None:
    on_progress(DemoProgress("footage", "Cutting the picture to the voice", None))
    if request.video is None:
        portrait.write_portrait(out, length_s)
    else:
        footage.fit(clip, out, length_s)


def _dub(
    source: Path, sound: Path, out: Path, actor: Path, length_s: float, now_iso: str, on_progress: Progress
) -> dict[str, Any]:
    from clients.dub import DubOptions, dub

    frames = round(length_s * footage.RATE)
    scale = _Scale(on_progress, "dub", {"track": (0.0, 0.4), "dub": (0.4, 1.0)}, frames)
    scale.words = {"track": "Following the face", "dub": "Painting the mouth"}
    done = asdict(dub(source, sound, out, actor, DubOptions(), now_iso=now_iso, on_progress=scale))
    # The picture is cut to the voice here, so what the dub says about their lengths is of no use to anyone.
    done["messages"] = [text for text in done["messages"] if not text.startswith("the voice ")]
    return done


class _Scale:
    """Turns the (stage, done, total) of a part into the progress of a step, at most once per percent."""

    def __init__(
        self, report: Progress, step: Step, spans: Mapping[str, tuple[float, float]], frames: int
    ) -> None:
        self.words: Mapping[str, str] = {}
        self._report, self._step, self._spans, self._frames = report, step, spans, max(1, frames)
        self._last: tuple[str, int] | None = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        low, high = self._spans.get(stage, (0.0, 1.0))
        fraction = low + (high - low) * min(1.0, done / max(1, total or self._frames))
        if self._last == (stage, int(100 * fraction)):
            return
        self._last = (stage, int(100 * fraction))
        self._report(DemoProgress(self._step, self.words.get(stage, stage), fraction))


def _keep_dir(request: DemoRequest) -> Path:
    return _folder(request.keep_dir or request.out_dir)


def _key(*files: Path, text: str = "") -> str:
    """SHA-256 over the files' contents and the text."""
    total = hashlib.sha256(text.encode())
    for file in files:
        try:
            with open(file, "rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    return total.hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_suffix(".partial")
    try:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
