"""The training jobs behind `livedub train`: a folder of footage in, the files that livedub ships out."""

import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from engine.errors import MediaError, NoFaceError
from engine.face.model import FaceModel, load_face_model
from engine.face.track import to_rgb, track_video
from engine.media import open_video
from engine.models import locate
from export.audio_assets import export_audio
from export.audio_data import SpokenClip, read_spoken
from export.canonical import read_canonical_mesh
from export.dataset import Clip, FaceClip, crop_clip, list_clips
from export.perceptual import load_perceptual
from export.prior_assets import export_prior
from export.prior_net import TIERS
from export.train_audio import AudioProgress, train_audio_net
from export.train_face_model import learn, reprojection_px, write
from export.train_prior import Prior, Progress, load_checkpoint, save_checkpoint, start_textures, train

OnProgress = Callable[[str, int, int | None], None]

MIN_FACE_PX = 150.0  # narrower faces teach the renderer blur
MOST_FRAMES = 170  # of a clip, before every second one is left out
MIN_FRAMES = 30
CHECKPOINT_EVERY = 200
PRIOR_STEPS, AUDIO_STEPS = 3200, 300


@dataclass(frozen=True)
class FaceModelReport:
    """Held-out reprojection error, rms px with the face scaled to 256 px, mean and worst over people."""

    people: int
    held_out_people: int
    lower_face_px: float
    lips_px: float
    worst_lower_face_px: float


def train_face_model(data: Path, out: Path, *, seed: int, on_progress: OnProgress) -> FaceModelReport:
    """Learn the face model from a data folder and write the asset.

    Raises:
        MediaError: the folder has no video with a face.
    """
    people: dict[str, dict[str, list[np.ndarray]]] = {"train": {}, "dev": {}}
    clips = list_clips(data)
    for index, clip in enumerate(clips):
        landmarks = _landmarks(clip)
        if landmarks is not None:
            group = "dev" if clip.split.startswith("dev") else "train"
            people[group].setdefault(clip.identity, []).append(landmarks)
        on_progress("track", index + 1, len(clips))
    if not people["train"]:
        raise MediaError(f"no clip in {data} shows a face for long enough")
    with zipfile.ZipFile(locate("face_landmarker")) as task:
        mesh = read_canonical_mesh(task)
    model = learn(mesh, people["train"], seed=seed)
    write(model, out)
    errors = [reprojection_px(model, np.concatenate(frames)) for frames in people["dev"].values()]
    lower = [error["lower_face_px"] for error in errors] or [float("nan")]
    lips = [error["lips_px"] for error in errors] or [float("nan")]
    return FaceModelReport(
        len(people["train"]), len(errors), float(np.mean(lower)), float(np.mean(lips)), float(np.max(lower))
    )


def _landmarks(clip: Clip) -> np.ndarray | None:
    try:
        track = track_video(clip.path)
    except MediaError:
        return None
    seen = track.landmarks[track.found]
    return seen if len(seen) >= MIN_FRAMES else None


@dataclass(frozen=True)
class PriorReport:
    """What the prior was trained on and the PSNR of frames of its own people that it did not see, dB."""

    clips: int
    people: int
    frames: int
    steps: int
    held_out_hole_psnr_db: float
    held_out_mouth_psnr_db: float


def train_prior(
    data: Path,
    out: Path,
    *,
    steps: int | None,
    seed: int,
    resume: Path | None,
    on_progress: OnProgress,
) -> PriorReport:
    """Train the cpu tier's prior and write its files into the folder `out`; a checkpoint lies beside them.

    Raises:
        MediaError: the folder has no video with a face.
    """
    torch.manual_seed(seed)
    model, tier, total = load_face_model(), TIERS["cpu"], steps or PRIOR_STEPS
    clips = _face_clips(data, model, tier.size_px, on_progress)
    if not clips:
        raise MediaError(f"no training clip in {data} shows a face of {MIN_FACE_PX:.0f} px or more")
    prior, first = Prior(tier, len(clips)), 0
    if resume:
        first = load_checkpoint(prior, resume)
    else:
        start_textures(prior, clips, model)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / f"prior_{tier.name}.checkpoint.safetensors", out / f"prior_{tier.name}.csv"
    lines: list[Progress] = []

    def follow(line: Progress) -> None:
        lines.append(line)
        on_progress("train", line.step, total)
        with log.open("a") as file:
            file.write(",".join(str(value) for value in asdict(line).values()) + "\n")
        if line.step % CHECKPOINT_EVERY == 0:
            save_checkpoint(prior, checkpoint, line.step)

    train(
        prior,
        clips,
        model,
        steps=total,
        first_step=first,
        seed=seed,
        perceptual=load_perceptual(),
        on_progress=follow,
    )
    export_prior(prior, out)
    last = lines[-1] if lines else Progress(total, float("nan"), float("nan"), float("nan"))
    frames = sum(len(clip) for clip in clips)
    return PriorReport(
        len(clips), len({c.identity for c in clips}), frames, total, last.psnr_db, last.mouth_psnr_db
    )


def _face_clips(data: Path, model: FaceModel, size_px: int, on_progress: OnProgress) -> list[FaceClip]:
    listed = [clip for clip in list_clips(data) if clip.split.startswith("train")]
    unique = list({clip.path: clip for clip in listed}.values())
    clips = []
    for index, clip in enumerate(unique):
        cropped = _face_clip(clip, model, size_px)
        if cropped is not None:
            clips.append(cropped)
        on_progress("crop", index + 1, len(unique))
    return clips


def _face_clip(clip: Clip, model: FaceModel, size_px: int) -> FaceClip | None:
    try:
        track = track_video(clip.path)
        widths = np.ptp(track.landmarks[track.found][..., 0], axis=1)
        if len(widths) < MIN_FRAMES or np.median(widths) < MIN_FACE_PX:
            return None
        stride = 1 if len(track) < MOST_FRAMES else 2
        with open_video(clip.path) as reader:
            pictures = (to_rgb(frame.image, reader.info.colour) for frame in reader)
            return crop_clip(clip.identity, pictures, track.landmarks, model, size_px=size_px, stride=stride)
    except (MediaError, NoFaceError):
        return None


@dataclass(frozen=True)
class AudioReport:
    """What audio-to-expression was trained on, and how well other speakers are predicted at 120 ms."""

    clips: int
    people: int
    minutes: float
    held_out_clips: int
    aperture_correlation: float
    wrong_audio_correlation: float
    range_ratio: float


def train_audio(
    data: Path, out: Path, *, steps: int | None, seed: int, on_progress: OnProgress
) -> AudioReport:
    """Train audio-to-expression and write the ONNX asset.

    Raises:
        MediaError: the folder has no video with a face and sound.
    """
    model, total = load_face_model(), steps or AUDIO_STEPS
    training, held_out = _spoken_clips(data, model, on_progress)
    if not training:
        raise MediaError(f"no clip in {data} has a face and sound to learn from")

    def follow(line: AudioProgress) -> None:
        on_progress("train", line.step, total)

    net, score = train_audio_net(
        training,
        held_out or training[:8],
        model,
        steps=total,
        seed=seed,
        on_progress=follow,
    )
    export_audio(net, out)
    minutes = sum(len(clip.mels) for clip in training) / 6000
    return AudioReport(
        len(training),
        len({clip.identity for clip in training}),
        minutes,
        len(held_out),
        score.correlation,
        score.wrong,
        score.range_ratio,
    )


def _spoken_clips(
    data: Path, model: FaceModel, on_progress: OnProgress
) -> tuple[list[SpokenClip], list[SpokenClip]]:
    listed = [clip for clip in list_clips(data) if clip.has_audio and clip.sync in {"good", "ok", ""}]
    unique = list({clip.path: clip for clip in listed}.values())
    training: list[SpokenClip] = []
    held_out: list[SpokenClip] = []
    for index, clip in enumerate(unique):
        spoken = read_spoken(clip, model)
        if spoken is not None:
            (held_out if clip.split.startswith("dev") else training).append(spoken)
        on_progress("read", index + 1, len(unique))
    return training, held_out
