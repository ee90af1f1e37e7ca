"""Footage as the renderer is trained on it: stable crops of the lower face, and their geometry."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.arrays import F32, F64, I32, U8
from engine.errors import MediaError, NoFaceError
from engine.face.crop import crop_pose, follow
from engine.face.fit import Fitter, person_neutral
from engine.face.model import LANDMARKS, FaceModel, Pose
from engine.image.resize import Square, cut, resize

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
Cutter = Callable[[Square, int], U8]  # a frame: gives a square of it as RGB [S, S, 3] at the side S in px
LARGEST_LAG_MS = 160.0  # an estimated offset beyond this is not believed


@dataclass(frozen=True)
class Clip:
    """One video of one person.

    Attributes:
        path: the file.
        identity: who; clips of equal identity show the same person.
        split: `train...` or `dev...`; dev people are never trained on.
        has_audio: whether its sound belongs to its picture.
        sync: how surely (the manifest's word), "" if unknown.
        audio_lag_ms: how much later the picture is than the sound, as the manifest estimates; 0 if unknown.
        fits: whether the sync measure finds one offset that holds, see `export.offsets`; None if not asked.
        measured_lag_ms: that offset; None without.
    """

    path: Path
    identity: str
    split: str
    has_audio: bool
    sync: str
    audio_lag_ms: float
    fits: bool | None = None
    measured_lag_ms: float | None = None

    @property
    def held_out(self) -> bool:
        """Whether this person is for scores only and must not be trained on."""
        return not self.split.startswith("train")

    @property
    def speaks(self) -> bool:
        """Whether the sound says what the lips do: as measured, else as told.

        Who is held out is not left out for what a measure says: else scores would be of the clips it likes.
        """
        told = self.told_to_speak and (self.fits is None or self.held_out)
        return self.has_audio and (bool(self.fits) or told)

    @property
    def late_s(self) -> float:
        """How much later the picture is than the sound, s: as measured, else as told."""
        return self.told_late_s if self.measured_lag_ms is None else self.measured_lag_ms / 1000

    @property
    def told_to_speak(self) -> bool:
        """Whether the manifest says that the sound is the mouth's, or nothing."""
        return self.has_audio and self.sync in {"good", "ok", ""}

    @property
    def told_late_s(self) -> float:
        """How late the picture is by the manifest, s; 0 where the estimate is not to be believed."""
        believed = self.sync in {"good", "ok"} and abs(self.audio_lag_ms) <= LARGEST_LAG_MS
        return self.audio_lag_ms / 1000 if believed else 0.0

    def as_told(self) -> "Clip":
        """The same without what was measured."""
        return replace(self, fits=None, measured_lag_ms=None)


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
    held_out = {clip.identity for clip in clips if clip.held_out}
    return [clip for clip in clips if clip.held_out or clip.identity not in held_out]


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
        spoken: float32 [F, E], what audio-to-expression (120 ms, average style) says for each frame; None
            where there is no sound, or none that belongs to the picture.
    """

    identity: str
    crops: U8
    scale_px: F64
    rotation: F64
    translation_px: F64
    expression: F32
    neutral: F32
    frames: NDArray[np.int64]
    spoken: F32 | None = None

    def __len__(self) -> int:
        return len(self.crops)

    def pose(self, index: int) -> Pose:
        """Pose of one frame in crop px."""
        return Pose(float(self.scale_px[index]), self.rotation[index], self.translation_px[index])


@dataclass(frozen=True)
class Crops:
    """The stabilised lower face of some frames.

    Attributes:
        frames: int32 [K], which frames of the video, increasing.
        squares: int32 [K, 3], each crop's left, top and side in px of the video.
        pictures: uint8 [K, S, S, 3] RGB.
    """

    frames: I32
    squares: I32
    pictures: U8

    def resized(self, size_px: int) -> "Crops":
        """The same, S = `size_px`; itself if it is that already."""
        if self.pictures.shape[1] == size_px:
            return self
        pictures = np.stack([np.asarray(resize(one, size_px), np.uint8) for one in self.pictures])
        return Crops(self.frames, self.squares, pictures)


def cut_crops(
    frames: Iterable[Cutter], landmarks: F32, model: FaceModel, neutral: F32, *, size_px: int, stride: int = 1
) -> Crops:
    """Crop a clip; arguments as of `crop_clip`. Without any face the result has K = 0."""
    fitter, box = Fitter(model, neutral), None
    pictures, squares, kept = [], [], []
    for index, (frame, points) in enumerate(zip(frames, landmarks, strict=False)):
        if not np.isfinite(points).all():
            box = None
            continue
        box = follow(box, fitter.fit(points).pose)
        if index % stride:
            continue
        pictures.append(frame(box.square, size_px))
        squares.append((box.square.x, box.square.y, box.square.side_px))
        kept.append(index)
    return Crops(
        np.array(kept, np.int32),
        np.array(squares, np.int32).reshape(-1, 3),
        np.stack(pictures) if pictures else np.zeros((0, size_px, size_px, 3), np.uint8),
    )


def fit_crops(
    identity: str, crops: Crops, landmarks: F32, model: FaceModel, neutral: F32, shape: F32 | None = None
) -> FaceClip:
    """Fit cropped frames; arguments as of `crop_clip`, landmarks of every frame of the video."""
    fitter, size_px = Fitter(model, neutral), crops.pictures.shape[1]
    poses, expressions = [], []
    for index, (x, y, side) in zip(crops.frames, crops.squares.tolist(), strict=True):
        state = fitter.fit(landmarks[index])
        poses.append(crop_pose(state.pose, Square(x, y, side), size_px))
        expressions.append(state.expression)
    return FaceClip(
        identity,
        crops.pictures,
        np.array([pose.scale_px for pose in poses]),
        np.stack([pose.rotation for pose in poses]),
        np.stack([pose.translation_px for pose in poses]),
        np.stack(expressions),
        model.extend(neutral if shape is None else shape),
        crops.frames.astype(np.int64),
    )


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
    cutters = (partial(cut, rgb) for rgb in frames)
    crops = cut_crops(cutters, landmarks, model, neutral, size_px=size_px, stride=stride)
    if not len(crops.frames):
        raise NoFaceError(f"no face in any frame of {identity}")
    return fit_crops(identity, crops, landmarks, model, neutral, shape)
