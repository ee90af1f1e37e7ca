"""Packed clips of a made-up person, for tests of training sets."""

from functools import partial
from pathlib import Path

import numpy as np

from engine.face.fit import person_neutral
from engine.face.model import load_face_model
from engine.image.resize import cut
from export.dataset import Clip, Crops, cut_crops
from export.prepare import encode_film
from export.training_set import LANDMARK_STEPS, PackedClip, pack_landmarks, pack_mels
from tests.support.toy_actor import landmarks, opened
from tests.support.toy_clip import head, opening, picture

NOTHING = np.zeros(0, np.uint8)


def toy_packed(
    identity: str = "ada",
    split: str = "train",
    *,
    frames: int = 8,
    size_px: int = 64,
    sound: bool = True,
    sync: str = "good",
    audio_lag_ms: float = 0.0,
    large: bool = True,
) -> PackedClip:
    """A talking head with noise for sound; the second frame shows no face. Not `large`: without crops."""
    points = np.stack([landmarks(head(i), opened(opening(i))) for i in range(frames)])
    cutters = [partial(cut, picture(one, 0.3)) for one in points]
    points[1] = np.nan
    found = np.isfinite(points[:, 0, 0])
    model = load_face_model()
    neutral = person_neutral(model, points)
    crops = cut_crops(cutters if large else [], points, model, neutral, size_px=size_px)
    mels = np.random.default_rng(0).uniform(-12, 2, (4 * frames, 80)).astype(np.float32)
    step_px = float(np.median(np.ptp(points[found][..., 0], axis=1))) / LANDMARK_STEPS
    return PackedClip(
        clip=Clip(Path(f"clips/{identity}_{split}.mp4"), identity, split, sound, sync, audio_lag_ms),
        step_px=step_px,
        time_s=np.arange(frames) / 25,
        found=found,
        landmarks=pack_landmarks(points[found], step_px),
        neutral=neutral,
        mels=pack_mels(mels) if sound else NOTHING,
        film=encode_film(crops.pictures) if large else NOTHING,
        frames=crops.frames,
        squares=crops.squares,
        colour=mean_colour(crops),
    )


def mean_colour(crops: Crops) -> np.ndarray:
    """Mean RGB, float32 [3]; 0 without crops."""
    pictures = crops.pictures
    return np.asarray(pictures.mean((0, 1, 2)) if len(pictures) else np.zeros(3), np.float32)
