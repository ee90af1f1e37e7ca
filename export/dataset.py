"""Footage as the renderer is trained on it: stable crops of the lower face, and their geometry."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.arrays import F32, F64, U8
from engine.errors import MediaError, NoFaceError
from engine.face.crop import crop_pose, follow
from engine.face.fit import Fitter, person_neutral
from engine.face.model import LANDMARKS, FaceModel, Pose
from engine.image.resize import cut

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True)
class Clip:
    """One video of one person.

    Attributes:
        path: the file.
        identity: who; clips of equal identity show the same person.
        split: `train...` or `dev...`; dev people are never trained on.
        has_audio: whether its sound belongs to its picture.
        sync: how surely (the manifest's word), "" if unknown.
        audio_lag_ms: how much later the picture is than the sound, estimated; 0 if unknown.
    """

    path: Path
    identity: str
    split: str
    has_audio: bool
    sync: str
    audio_lag_ms: float


def list_clips(folder: Path) -> list[Clip]:
    """The clips of a data folder: of its manifest.csv, or else every video file as a person of its own.

    Raises:
        MediaError: the folder has neither.
    """
    manifest = folder / "manifest.csv"
    if manifest.exists():
        with manifest.open(newline="") as file:
            clips = [_from_row(folder, row) for row in csv.DictReader(file)]
    else:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        clips = [Clip(path, path.stem, "train", True, "", 0.0) for path in files]
    if not clips:
        raise MediaError(f"no video in {folder}: give a folder of clips, or one with a manifest.csv")
    dev = {clip.identity for clip in clips if clip.split.startswith("dev")}
    return [clip for clip in clips if clip.split.startswith("dev") or clip.identity not in dev]


def _from_row(folder: Path, row: dict[str, str]) -> Clip:
    lag = row.get("sync_best_lag_ms") or "0"
    return Clip(
        folder / row["file"],
        row["identity"],
        row["split"],
        row.get("has_audio") == "yes",
        row.get("sync", ""),
        float(lag),
    )


@dataclass(frozen=True)
class FaceClip:
    """One person's frames, cropped.

    Attributes:
        identity: who.
        crops: uint8 [F, S, S, 3] RGB.
        scale_px: float64 [F]; rotation: float64 [F, 3, 3]; translation_px: float64 [F, 3]: poses in crop px.
        expression: float32 [F, E].
        neutral: float32 [V, 3], the person's own, extended.
        frames: int64 [F], index of each in the video.
        spoken: float32 [F, E], what audio-to-expression (120 ms, average style) says for each frame; None where
            there is no sound, or none that belongs to the picture.
    """

    identity: str
    crops: U8
    scale_px: F64
    rotation: F64
    translation_px: F64
    expression: F32
    neutral: F32
    frames: F64
    spoken: F32 | None = None

    def __len__(self) -> int:
        return len(self.crops)

    def pose(self, index: int) -> Pose:
        """Pose of one frame in crop px."""
        return Pose(float(self.scale_px[index]), self.rotation[index], self.translation_px[index])


def crop_clip(
    identity: str,
    frames: Iterable[U8],
    landmarks: F32,
    model: FaceModel,
    *,
    size_px: int,
    neutral: F32 | None = None,
    shape: F32 | None = None,
    stride: int = 1,
) -> FaceClip:
    """Crop and fit a clip.

    Args:
        identity: who it shows.
        frames: RGB pictures [H, W, 3], in order.
        landmarks: float32 [F, 478, 3] px, NaN where the tracker found no face (those frames are left out).
        model: the face model.
        size_px: side of the crops.
        neutral: float32 [468, 3]; from the clip itself if None.
        shape: float32 [468, 3], what is drawn at expression 0; the neutral if None.
        stride: keep every n-th frame (the box still follows every one).

    Raises:
        NoFaceError: no frame has a face.
    """
    neutral = person_neutral(model, landmarks) if neutral is None else neutral[:LANDMARKS]
    fitter, box = Fitter(model, neutral), None
    crops, poses, expressions, kept = [], [], [], []
    for index, (rgb, points) in enumerate(zip(frames, landmarks, strict=False)):
        if not np.isfinite(points).all():
            box = None
            continue
        state = fitter.fit(points)
        box = follow(box, state.pose)
        if index % stride:
            continue
        crops.append(cut(rgb, box.square, size_px))
        poses.append(crop_pose(state.pose, box.square, size_px))
        expressions.append(state.expression)
        kept.append(index)
    if not crops:
        raise NoFaceError(f"no face in any frame of {identity}")
    return FaceClip(
        identity,
        np.stack(crops),
        np.array([pose.scale_px for pose in poses]),
        np.stack([pose.rotation for pose in poses]),
        np.stack([pose.translation_px for pose in poses]),
        np.stack(expressions),
        model.extend(neutral if shape is None else shape),
        np.array(kept),
    )
