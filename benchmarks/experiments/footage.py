"""Clips as the experiments use them: cropped once, and fitted anew for every amount of data.

The end of each clip is held out, the same for every condition; what is learned from ends where that begins.
Seconds count frames that show the face. What a person looks like at rest is learned from the adaptation's own
frames only, so that one second of data knows one second and no more. Held-out frames only place the crops.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments.schema import PHOTO_S
from engine.arrays import F32, F64, U8
from engine.errors import InputError
from engine.face.crop import crop_pose, follow
from engine.face.fit import Fitter, person_neutral
from engine.face.model import INNER_LIPS, LANDMARKS, LIPS, FaceModel
from engine.face.track import to_rgb, track_video
from engine.image.resize import Square, cut
from engine.media import open_video
from export.dataset import Clip, FaceClip, list_clips
from export.prepare import MIN_FACE_PX, MIN_FRAMES

HELD_OUT_SHARE, LEAST_HELD_OUT_S, MOST_HELD_OUT_S = 0.25, 2.0, 10.0
MOST_FRAMES = 750  # to learn from, as `livedub adapt`; more are thinned out
SCORED_FRAMES = 16

Frames = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Footage:
    """One clip; only frames that show the face, `F` of them.

    Attributes:
        name: file name without its ending.
        identity: whom it shows.
        fps: frames in a second.
        crops: uint8 [F, S, S, 3] RGB.
        squares: of the picture, where the crops are from.
        landmarks: float32 [F, 478, 3], px of the picture.
        held_from: the first held-out frame.
        scored: the held-out frames that are scored.
        pictures: uint8 [H, W, 3] by scored frame, whole.
    """

    name: str
    identity: str
    fps: float
    crops: U8
    squares: Sequence[Square]
    landmarks: F32
    held_from: int
    scored: Frames
    pictures: dict[int, U8] = field(repr=False)

    @property
    def longest_s(self) -> float:
        """Seconds there are to learn from."""
        return self.held_from / self.fps

    def learned_from(self, seconds: float) -> Frames:
        """The frames of an amount of data, the last ones before the held-out part; 0 s is one picture.

        Raises:
            ValueError: there is not that much.
        """
        count = 1 if seconds == PHOTO_S else round(seconds * self.fps)
        if not 1 <= count <= self.held_from:
            raise ValueError(f"{self.name} has {self.longest_s:.1f} s to learn from, not {seconds:g}")
        return np.arange(self.held_from - count, self.held_from)

    def fitted(self, seconds: float, model: FaceModel) -> "Fitted":
        """What an adaptation of so many seconds sees, and what it is scored on."""
        frames = self.learned_from(seconds)
        neutral = person_neutral(model, self.landmarks[frames])
        fitter = Fitter(model, neutral)
        shape = model.extend(neutral + mean_residual(model, fitter, self.landmarks[frames]))
        kept = frames[:: -(-len(frames) // MOST_FRAMES)]
        both = np.concatenate([kept, self.scored])
        return Fitted(self, self._clip(both, fitter, shape), len(kept), self.scored)

    def _clip(self, frames: Frames, fitter: Fitter, shape: F32) -> FaceClip:
        size_px = self.crops.shape[1]
        states = [fitter.fit(self.landmarks[frame]) for frame in frames]
        poses = [
            crop_pose(state.pose, self.squares[frame], size_px)
            for state, frame in zip(states, frames, strict=True)
        ]
        return FaceClip(
            self.identity,
            self.crops[frames],
            np.array([pose.scale_px for pose in poses]),
            np.stack([pose.rotation for pose in poses]),
            np.stack([pose.translation_px for pose in poses]),
            np.stack([state.expression for state in states]),
            shape,
            np.asarray(frames, np.float64),
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """A clip with one adaptation's geometry.

    Attributes:
        footage: where it is from.
        clip: frames to learn from, then the scored ones.
        learned: how many the former are.
        scored: frames of the footage that the others are.
    """

    footage: Footage
    clip: FaceClip
    learned: int
    scored: Frames

    @property
    def frames_to_learn(self) -> Frames:
        """The frames to learn from as indices of `clip`."""
        return np.arange(self.learned)

    @property
    def held_out(self) -> Frames:
        """The scored frames as indices of `clip`."""
        return np.arange(self.learned, len(self.clip))


def mean_residual(model: FaceModel, fitter: Fitter, landmarks: F32) -> F32:
    """The person's mean offset [468, 3] from the model; 0 at the lips, whose rest must stay."""
    mean: F64 = np.mean([fitter.fit(frame).residual for frame in landmarks], axis=0)
    kept = np.zeros((LANDMARKS, 3), np.float32)
    cheeks = np.setdiff1d(model.lower, np.array([*LIPS, *INNER_LIPS]))
    kept[cheeks] = mean[cheeks]
    return kept


def collect(
    name: str,
    identity: str,
    pictures: Iterable[U8],
    landmarks: F32,
    fps: float,
    model: FaceModel,
    size_px: int,
    *,
    scored_frames: int = SCORED_FRAMES,
) -> Footage:
    """Crop a clip and set its end apart.

    Args:
        name: of the clip.
        identity: whom it shows.
        pictures: uint8 [H, W, 3], in order; only a few are kept.
        landmarks: float32 [F, 478, 3], px, NaN where no face was found.
        fps: frames in a second.
        model: the face model.
        size_px: side of the crops.
        scored_frames: how many held-out frames are scored.

    Raises:
        NoFaceError: no frame has a face.
    """
    found = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    held_from = len(found) - held_out_frames(len(found), fps)
    scored = np.unique(np.linspace(held_from, len(found) - 1, scored_frames).astype(np.int64))
    fitter, box, known = Fitter(model, person_neutral(model, landmarks)), None, set(found.tolist())
    wanted, whole = set(scored.tolist()), dict[int, U8]()
    crops, squares = list[U8](), list[Square]()
    for index, (rgb, points) in enumerate(zip(pictures, landmarks, strict=False)):
        if index not in known:
            box = None
            continue
        box = follow(box, fitter.fit(points).pose)
        if len(crops) in wanted:
            whole[len(crops)] = rgb.copy()
        crops.append(cut(rgb, box.square, size_px))
        squares.append(box.square)
    return Footage(name, identity, fps, np.stack(crops), squares, landmarks[found], held_from, scored, whole)


def held_out_frames(frames: int, fps: float) -> int:
    """How many of a clip's frames its held-out end has: a quarter, but 2 to 10 s, and half at most."""
    seconds = min(max(HELD_OUT_SHARE * frames / fps, LEAST_HELD_OUT_S), MOST_HELD_OUT_S)
    return max(1, min(round(seconds * fps), frames // 2))


def read_footage(clip: Clip, model: FaceModel, size_px: int) -> Footage:
    """Track, crop and split a clip.

    Raises:
        MediaError: it cannot be read.
        NoFaceError: it shows no face.
    """
    track = track_video(clip.path)
    times_s = track.pts * float(track.time_base)
    fps = 1 / float(np.median(np.diff(times_s)))
    with open_video(clip.path) as reader:
        pictures = (to_rgb(frame.image, reader.info.colour) for frame in reader)
        return collect(clip.path.stem, clip.identity, pictures, track.landmarks, fps, model, size_px)


def choose_clips(folder: Path, names: Sequence[str]) -> list[Clip]:
    """The named clips of a data folder, none of them of somebody whom a prior may know.

    Someone is unknown to every prior when all clips of that person are of the dev split, or show the face too
    small to be trained on.

    Raises:
        InputError: there is no such clip, or the prior may know the person.
        MediaError: the folder has no footage.
    """
    listed = list_clips(folder)
    by_name = {clip.path.stem: clip for clip in listed}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise InputError(f"no clip {', '.join(missing)} in {folder}; its manifest.csv lists what there is")
    for name in names:
        known = [c for c in listed if c.identity == by_name[name].identity and may_be_trained_on(c)]
        if known:
            raise InputError(
                f"{name} shows {known[0].identity}, of whom {known[0].path.stem} is there to train the prior "
                "with: evaluate people of the dev split"
            )
    return [by_name[name] for name in names]


def may_be_trained_on(clip: Clip) -> bool:
    """Whether `livedub train prior` would take the clip."""
    if clip.held_out:
        return False
    track = track_video(clip.path)
    widths = np.ptp(track.landmarks[track.found][..., 0], axis=1)
    return len(widths) >= MIN_FRAMES and float(np.median(widths)) >= MIN_FACE_PX
