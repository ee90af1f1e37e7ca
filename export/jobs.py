"""The job behind `livedub train face-model`: a folder of footage in, the face model out.

The other jobs are in `export.jobs_prior` and `export.jobs_audio`, which also run where no video can be read.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import MediaError
from engine.face.track import track_video
from engine.models import locate
from export.canonical import read_canonical_mesh
from export.dataset import Clip, list_clips
from export.prepare import MIN_FRAMES
from export.train_face_model import learn, reprojection_px, write
from export.training_set import OnProgress


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
