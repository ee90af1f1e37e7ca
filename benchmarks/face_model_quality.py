"""Held-out reprojection error of the face model, beside ICT-FaceKit's shapes on the same frames.

    python -m benchmarks.face_model_quality DATA [--json OUT]

DATA is a folder of footage with a manifest.csv; its dev people are measured. Where it holds
`ict_mp_asset.npz`, ICT's 45 shapes are fitted to the same landmarks with the same poses and neutrals, once
freely and once boxed to 0..1.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import lsq_linear

from engine.arrays import F32, F64
from engine.face.fit import Fitter, person_neutral
from engine.face.model import LANDMARKS, LIPS, FaceModel, load_face_model
from engine.face.track import track_video
from export.dataset import list_clips

FACE_PX = 256.0
FRAMES = 120  # of each person
EYE_CORNERS = (33, 263)
DEPTH_WEIGHT = 0.5
RIDGE = 1e-3

Errors = dict[str, list[F64]]


def main() -> int:
    """Print, and write if asked, rms px at a face of 256 px: means over people."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model, people = load_face_model(), dev_people(arguments.data)
    shapes = ict_shapes(arguments.data / "ict_mp_asset.npz", model)
    scores = [score(model, landmarks, shapes) for landmarks in people.values()]
    result = {
        name: {
            part: float(np.mean([one[name][part] for one in scores])) for part in ("lower_face_px", "lips_px")
        }
        for name in scores[0]
    }
    text = json.dumps({"people": len(people), "frames_each": FRAMES, "results": result}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0


def dev_people(data: Path) -> dict[str, F32]:
    """Landmarks [F, 478, 3] of every dev person, evenly picked."""
    found: dict[str, list[F32]] = {}
    for clip in list_clips(data):
        if clip.split == "dev":
            track = track_video(clip.path)
            found.setdefault(clip.identity, []).append(track.landmarks[track.found])
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    return {name: one[np.linspace(0, len(one) - 1, FRAMES).astype(int)] for name, one in joined.items()}


def ict_shapes(asset: Path, model: FaceModel) -> F64 | None:
    """ICT's expression deltas [45, 468, 3] in our frame and at our scale; None where the file is absent."""
    if not asset.exists():
        return None
    flip = np.array([1.0, -1.0, -1.0])
    with np.load(asset, allow_pickle=False) as file:
        neutral, shapes = file["V0"] * flip, file["expr"].astype(np.float64) * flip
    left, right = EYE_CORNERS
    ours = np.linalg.norm(model.canonical[left] - model.canonical[right])
    return np.asarray(shapes * ours / np.linalg.norm(neutral[left] - neutral[right]), np.float64)


def score(model: FaceModel, landmarks: F32, shapes: F64 | None) -> dict[str, dict[str, float]]:
    """Rms errors of one person, by model."""
    neutral = person_neutral(model, landmarks)
    fitter, errors = Fitter(model, neutral), dict[str, list[F64]]()
    for frame in landmarks:
        state = fitter.fit(frame)
        scale = state.pose.scale_px * FACE_PX / np.ptp(frame[:LANDMARKS, 1])
        left_over = {"ours": state.residual[model.lower].astype(np.float64)}
        if shapes is not None:
            moved = (state.pose.undo(frame[:LANDMARKS]) - neutral)[model.lower]
            left_over |= ict_residuals(shapes[:, model.lower], moved)
        for name, residual in left_over.items():
            errors.setdefault(name, []).append(((residual[:, :2] * scale) ** 2).sum(-1))
    lips = np.isin(model.lower, LIPS)
    return {
        name: {
            "lower_face_px": float(np.sqrt(np.mean(squares))),
            "lips_px": float(np.sqrt(np.mean(np.stack(squares)[:, lips]))),
        }
        for name, squares in errors.items()
    }


def ict_residuals(shapes: F64, moved: F64) -> dict[str, F64]:
    """What ICT's shapes [45, L, 3] leave of a motion [L, 3], with free and with boxed coefficients."""
    weight = np.tile([1.0, 1.0, DEPTH_WEIGHT], len(moved))
    basis, wanted = shapes.reshape(len(shapes), -1).T, moved.ravel()
    a, b = basis * weight[:, None], wanted * weight
    free = np.linalg.solve(a.T @ a + RIDGE * np.eye(a.shape[1]), a.T @ b)
    boxed = lsq_linear(a, b, bounds=(0, 1)).x
    return {
        "ict free": (wanted - basis @ free).reshape(-1, 3),
        "ict boxed": (wanted - basis @ boxed).reshape(-1, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
