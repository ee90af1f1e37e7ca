"""Adapt the prior to one person from seconds of video, or from one photo: `livedub adapt`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from engine.actor.consent import ConsentRecord
from engine.actor.pack import ActorPack, Manifest, write_pack
from engine.arrays import F32, F64, U8
from engine.errors import MediaError, NoFaceError
from engine.expression.manner import EXTRA
from engine.face.fit import Fitter, person_neutral
from engine.face.model import ASSET as FACE_MODEL_ASSET
from engine.face.model import INNER_LIPS, LANDMARKS, LIPS, FaceModel, load_face_model
from engine.face.track import to_rgb, track_video
from engine.face.tracker import FaceTracker
from engine.media import open_video, probe, read_audio
from engine.render.renderer import PRIOR_ASSETS, asset_sha256
from export.adapt_identity import Introduction
from export.adapt_metrics import Metrics
from export.coverage import Coverage, look, not_learned
from export.dataset import FaceClip, crop_clip
from export.learner import DEFAULT_STEPS, Learned, LearnOptions, learn
from export.prior_assets import PREFIX
from export.prior_net import TIERS, Tier
from export.quantise import calibrate
from export.replay import frames_of
from export.style import Way, WayReport, way_of_footage

Progress = Callable[[str, int, int | None], None]

MAX_SECONDS, MAX_FRAMES = 60.0, 750
EARS = (234, 454)
NOT_MEASURED = "Too few frames to hold any out: how good the result is was not measured."


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(LearnOptions):
    """What to learn from, and how; see `LearnOptions` for the latter.

    Attributes:
        seconds: of video to use; None takes all of it, up to 60.
        start_s: where in the video to begin.
        face: the n-th face from the left, None the largest and most central.
        name: the actor's; None takes the output file's.
        consent: the person's record; None records the operator's own attestation.
    """

    seconds: float | None = None
    start_s: float = 0.0
    face: int | None = None
    name: str | None = None
    consent: ConsentRecord | None = None


@dataclass(frozen=True)
class AdaptReport:
    """What was done.

    Attributes:
        seconds_used: of video, 0 for a photo; frames: of it that show the face.
        held_out_frames: how many of them were not learned from; 0 where there are too few to spare any.
        steps: of optimisation done; best_step: the one whose state was kept.
        wall_s: time it took.
        not_learned: what the footage did not show, for people to read.
        coverage: what it did show, as numbers.
        before: metrics of `livedub evaluate` on held-out frames, without learning; null is what crops alone
            cannot tell; all null without held-out frames.
        after: the same of the result.
        speaking: whether the person's own way of speaking was learned, and what it gains.
    """

    seconds_used: float
    frames: int
    held_out_frames: int
    steps: int
    best_step: int
    wall_s: float
    not_learned: tuple[str, ...]
    coverage: Coverage
    before: Metrics | None
    after: Metrics | None
    speaking: WayReport


@dataclass(frozen=True)
class _Footage:
    clip: FaceClip
    seconds: float
    face_px: float
    neutral: F32
    mean_residual: F32
    way: Way
    speaking: WayReport
    identity: dict[str, F32]


def adapt(
    video: Path, out: Path, options: AdaptOptions, *, now_iso: str, on_progress: Progress
) -> AdaptReport:
    """Learn an actor from a video, or a still picture, and write the pack.

    Raises:
        MediaError: the video cannot be read, or is too short.
        NoFaceError: it shows no face.
        OutputError: the pack cannot be written.
        AssetError: the prior is missing.
    """
    began = monotonic()
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))
    model, tier = load_face_model(), TIERS["cpu"]
    footage = _read(video, options, model, tier, on_progress)
    learned = learn(footage.clip, options, on_step=lambda done, steps: on_progress("adapt", done, steps))
    coverage = _coverage(footage, learned, model)
    metrics = (learned.after or {}) | coverage.as_metrics()
    pack = _pack(learned, footage, model, metrics, options, out, now_iso)
    shown = frames_of(footage.clip, np.arange(len(footage.clip) - learned.held_out_frames))
    extras = calibrate(pack, shown, seed=options.seed) | footage.identity
    if footage.speaking.learned:
        extras |= {EXTRA: footage.way.manner.rows}
    write_pack(replace(pack, extras=extras), out)
    return AdaptReport(
        seconds_used=footage.seconds,
        frames=len(footage.clip),
        held_out_frames=learned.held_out_frames,
        steps=learned.steps,
        best_step=learned.best_step,
        wall_s=monotonic() - began,
        not_learned=not_learned(coverage) + (() if learned.held_out_frames else (NOT_MEASURED,)),
        coverage=coverage,
        before=learned.before,
        after=learned.after,
        speaking=footage.speaking,
    )


def _coverage(footage: _Footage, learned: Learned, model: FaceModel) -> Coverage:
    """What the frames that were learned from showed."""
    count = len(footage.clip) - learned.held_out_frames
    return look(
        frames_of(footage.clip, np.arange(count)),
        model,
        seconds=footage.seconds * count / len(footage.clip),
        face_px=footage.face_px,
        texture_px=learned.prior.tier.texture_px,
    )


def _read(
    video: Path, options: AdaptOptions, model: FaceModel, tier: Tier, on_progress: Progress
) -> _Footage:
    seconds = options.seconds if options.seconds is not None else MAX_SECONDS
    end_s = options.start_s + seconds
    followed, times = _track(video, options.face, end_s, on_progress)
    wanted = (times >= options.start_s) & (times < end_s)
    if not wanted.any():
        raise MediaError(
            f"{video} has no frame between {options.start_s:g} and {end_s:g} s: give another --start"
        )
    landmarks = followed.copy()
    landmarks[~wanted] = np.nan
    neutral = person_neutral(model, landmarks)
    residual = _mean_residual(model, neutral, landmarks)
    stride = max(1, int(wanted.sum()) // MAX_FRAMES)
    shape = (neutral + residual).astype(np.float32)
    known = Introduction(model, neutral, landmarks)
    with open_video(video, stills=True) as reader:
        counted = _counting(known.pictures(reader, reader.info.colour), on_progress, len(landmarks))
        clip = crop_clip(
            video.stem,
            counted,
            landmarks,
            model,
            size_px=tier.size_px,
            neutral=neutral,
            shape=shape,
            stride=stride,
        )
    used = times[wanted]
    step_s = float(np.median(np.diff(used))) if len(used) > 1 else 0.0
    width_px = np.linalg.norm(landmarks[:, EARS[1]] - landmarks[:, EARS[0]], axis=-1)
    on_progress("listen", 0, None)
    way, speaking = _way(video, times, landmarks, neutral, model)
    return _Footage(
        clip,
        float(used[-1] - used[0] + step_s),
        float(np.nanmedian(width_px)),
        neutral,
        residual,
        way,
        speaking,
        known.extras(),
    )


def _way(video: Path, times_s: F64, landmarks: F32, neutral: F32, model: FaceModel) -> tuple[Way, WayReport]:
    """How the person speaks, from the video's own sound; the average speaker's way without any."""
    try:
        sound = read_audio(video)
    except MediaError as error:
        return Way.average(model), WayReport(learned=False, why=str(error))
    return way_of_footage(sound, times_s, landmarks, neutral, model)


def _track(video: Path, face: int | None, max_s: float, on_progress: Progress) -> tuple[F32, F64]:
    """Landmarks [F, 478, 3] px and times [F] s of a video's frames, or of a still picture, which is one."""
    if not probe(video).is_still:
        track = track_video(
            video, face=face, max_s=max_s, on_frame=lambda done: on_progress("track", done, None)
        )
        return track.landmarks, np.asarray(track.pts * float(track.time_base), np.float64)
    with open_video(video, stills=True) as reader:
        found = FaceTracker(face=face).step(to_rgb(next(reader).image, reader.info.colour))
    if found is None:
        raise NoFaceError(f"{video}: no face in the picture")
    on_progress("track", 1, 1)
    return found.landmarks[None], np.zeros(1)


def _counting(pictures: Iterable[U8], on_progress: Progress, total: int) -> Iterator[U8]:
    for index, picture in enumerate(pictures):
        on_progress("crop", index + 1, total)
        yield picture


def _mean_residual(model: FaceModel, neutral: F32, landmarks: F32) -> F32:
    """The person's mean offset [468, 3] from the model; 0 at the lips, whose rest must stay."""
    fitter = Fitter(model, neutral)
    seen = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    mean = np.mean([fitter.fit(frame).residual for frame in seen], axis=0)
    kept = np.zeros((LANDMARKS, 3), np.float32)
    cheeks = np.setdiff1d(model.lower, np.array([*LIPS, *INNER_LIPS]))
    kept[cheeks] = mean[cheeks]
    return kept


def _pack(
    learned: Learned,
    footage: _Footage,
    model: FaceModel,
    metrics: Metrics,
    options: AdaptOptions,
    out: Path,
    now_iso: str,
) -> ActorPack:
    tier = learned.prior.tier
    name = options.name or out.stem
    shape = model.extend(footage.neutral + footage.mean_residual)
    neutral = model.extend(footage.neutral)
    state = learned.prior.net.state_dict() if learned.changed else {}
    return ActorPack(
        manifest=Manifest(
            name=name,
            created=now_iso,
            face_model_sha256=asset_sha256(FACE_MODEL_ASSET),
            prior_sha256=asset_sha256(PRIOR_ASSETS[tier.name]),
            tier=tier.name,
            image_size_px=tier.size_px,
            seconds_used=footage.seconds,
            consent=options.consent or attestation(name, now_iso),
            metrics={key: value for key, value in metrics.items() if value is not None},
        ),
        neutral=neutral,
        mean_residual=(shape - neutral).astype(np.float32),
        texture=learned.texture.numpy().astype(np.float16),
        style=footage.way.style,
        references=footage.clip.crops[[learned.reference]],
        weights={PREFIX + key: value.cpu().numpy().astype(np.float16) for key, value in state.items()},
    )


def attestation(name: str, now_iso: str) -> ConsentRecord:
    """The record of an adaptation without a consent file: who ran it answers for the person's agreement."""
    return ConsentRecord(
        subject=name,
        granted_by="the operator, by running adapt without --consent",
        purpose="visual dubbing",
        languages=("*",),
        granted_at=now_iso,
        expires_at=None,
        statement="Who ran this adaptation attests that the person shown agreed to be dubbed.",
    )


__all__ = ["DEFAULT_STEPS", "AdaptOptions", "AdaptReport", "adapt", "attestation"]
