"""Learn what tells people apart, for `engine.face.identity`: discriminants of shape and unwrapped skin.

Each person's frames are disturbed in light, sharpness, noise and tracking, so that the axes which these move
count as one person's own variation. People weigh the same however many frames they have.

    python -m export.train_identity DATA FILE.safetensors
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save
from scipy.linalg import eigh
from scipy.spatial import Delaunay

from engine.arrays import F32, F64
from engine.errors import MediaError, NoFaceError
from engine.face.fit import Fitter
from engine.face.identity import GRID, PATCH_PX, SIZE, Cells, FaceReader, Patch, cut_out
from engine.face.model import INNER_LIPS, LANDMARKS, LIPS, FaceModel, load_face_model
from engine.face.presence import yaw_degrees
from engine.face.track import track_video
from engine.media import open_video
from export.dataset import list_clips

FRAMES_PER_CLIP = 20
MOST_YAW = 40.0  # degrees
DISTURBED = 3  # copies of each frame
COMPONENTS = 200  # kept before the discriminants are looked for
RIDGE = 0.3  # of the mean variance within people, added to it
WIDTH_CM, TOP_CM, BOTTOM_CM = 6.6, -7.96, 9.2  # of the grid, in the canonical frame: half its width, its ends
OUTER_LIPS = (*LIPS[:11], *LIPS[19:10:-1])

log = logging.getLogger(__name__)


def face_cells(model: FaceModel) -> Cells:
    """The grid over the face seen from the front; the mouth, which speech changes, is not used."""
    face = closed(model)
    outside = np.setdiff1d(np.arange(LANDMARKS), np.array(INNER_LIPS))
    mesh = Delaunay(face[outside, :2])
    steps = (np.arange(GRID) + 0.5) / GRID
    x, y = np.meshgrid((2 * steps - 1) * WIDTH_CM, TOP_CM + steps * (BOTTOM_CM - TOP_CM))
    places = np.stack([x, y], -1)
    found = mesh.find_simplex(places)
    maps = mesh.transform[found]
    shares = np.einsum("ijkd,ijd->ijk", maps[..., :2, :], places - maps[..., 2, :])
    shares = np.concatenate([shares, 1 - shares.sum(-1, keepdims=True)], -1)
    lips = face[list(OUTER_LIPS), :2].astype(np.float32)
    mouth = [cv2.pointPolygonTest(lips, (float(a), float(b)), False) >= 0 for a, b in places.reshape(-1, 2)]
    used = (found >= 0) & ~np.array(mouth).reshape(GRID, GRID)
    corners = np.where(used[..., None], outside[mesh.simplices[found]], 0)
    return Cells(corners.astype(np.int32), np.where(used[..., None], shares, 0).astype(np.float32), used)


def closed(model: FaceModel) -> F64:
    """The mean person, float64 [468, 3], lips closed."""
    face = model.canonical.astype(np.float64)
    for above, below in zip(INNER_LIPS[1:10], INNER_LIPS[:10:-1], strict=True):
        face[[above, below]] = (face[above] + face[below]) / 2
    return face


def patches(path: Path, model: FaceModel, most: int = FRAMES_PER_CLIP) -> list[Patch]:
    """Faces of a clip, evenly over time; none if it cannot be read or shows none that looks ahead."""
    try:
        track = track_video(path)
    except (MediaError, NoFaceError):
        return []
    fitter = Fitter(model, closed(model))
    ahead = [i for i in np.flatnonzero(track.found) if yaw_degrees(fitter.fit(track.landmarks[i])) < MOST_YAW]
    if not ahead:
        return []
    wanted = {ahead[round(at)] for at in np.linspace(0, len(ahead) - 1, min(most, len(ahead)))}
    with open_video(path) as reader:
        colour = reader.info.colour
        found = [
            cut_out(frame.image, colour, track.landmarks[index])
            for index, frame in enumerate(reader)
            if index in wanted
        ]
    return [one for one in found if one is not None]


def disturbed(patch: Patch, random: np.random.Generator) -> Patch:
    """The same face in another light, another camera, tracked a little differently."""
    y, x = np.mgrid[0:PATCH_PX, 0:PATCH_PX] / PATCH_PX - 0.5
    side, top, fall = random.normal(0, (0.5, 0.35, 0.5))
    light = np.exp(side * x + top * y + fall * (x * y + x**2 - y**2) + random.normal(0, 0.25))
    luma = 255 * (patch.luma / 255) ** np.exp(random.normal(0, 0.3)) * light
    if random.random() < 0.6:
        luma = cv2.GaussianBlur(luma, (0, 0), random.uniform(0.4, 2.0))
    luma = luma + random.normal(0, random.uniform(0, 5), luma.shape)
    taken = np.clip(luma, 0, 255).astype(np.uint8)
    if random.random() < 0.5:
        packed = cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(15, 60))])[1]
        taken = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)
    return Patch(taken.astype(np.float32), _mistracked(patch.landmarks, random))


def _mistracked(landmarks: F32, random: np.random.Generator) -> F32:
    middle = landmarks.mean(0)
    turn = random.normal(0, 0.015)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    moved = landmarks - middle
    moved[:, :2] = moved[:, :2] * (1 + random.normal(0, 0.012, 2)) @ turned + random.normal(0, 0.9, 2)
    return np.asarray(moved + middle + random.normal(0, 0.3, landmarks.shape), np.float32)


def features(reader: FaceReader, faces: Sequence[Patch], random: np.random.Generator) -> F32:
    """Of each face and its disturbed copies, float32 [len(faces) x (1 + DISTURBED), D]."""
    rows = []
    for face in faces:
        copies = [disturbed(face, random) for _ in range(DISTURBED)]
        rows += [reader.features(one) for one in (face, *copies)]
    return np.stack(rows)


def discriminants(people: Mapping[str, F32]) -> tuple[F32, F32]:
    """Linear discriminants of people's features [N, D].

    Returns:
        The middle float32 [D], and the axes float32 [D, 64], best first.
    """
    every = np.concatenate(list(people.values())).astype(np.float64)
    middle = every.mean(0)
    size = every.shape[1]
    scatter = (every - middle).T @ (every - middle) / len(every)
    kept = eigh(scatter, subset_by_index=[size - COMPONENTS, size - 1])[1]
    low = [(rows - middle) @ kept for rows in people.values()]
    within = np.mean([np.cov(rows.T, bias=True) for rows in low], axis=0)
    within += RIDGE * np.trace(within) / COMPONENTS * np.eye(COMPONENTS)
    between = np.cov(np.stack([rows.mean(0) for rows in low]).T)
    axes = kept @ eigh(between, within)[1][:, ::-1][:, :SIZE]
    return middle.astype(np.float32), axes.astype(np.float32)


def to_bytes(cells: Cells, middle: F32, axes: F32) -> bytes:
    """The asset as `engine.face.identity.from_bytes` reads it."""
    return save(
        {
            "corners": cells.corners.astype(np.int16),
            "shares": cells.shares.astype(np.float16),
            "used": cells.used.astype(np.uint8),
            "middle": middle,
            "axes": axes.astype(np.float16),
        }
    )


def train_identity(data: Path, out: Path, *, seed: int = 0) -> int:
    """Learn from the footage in `data`, people held out left out, and write the asset; how many people.

    Raises:
        MediaError: not enough people in the footage.
    """
    model, random = load_face_model(), np.random.default_rng(seed)
    cells = face_cells(model)
    reader = FaceReader(cells, model)
    people: dict[str, list[F32]] = {}
    for clip in list_clips(data):
        faces = [] if clip.held_out else patches(clip.path, model)
        log.info("%s: %d faces", clip.path.name, len(faces))
        if faces:
            people.setdefault(clip.identity, []).append(features(reader, faces, random))
    if len(people) <= SIZE:
        raise MediaError(f"{data} shows {len(people)} people, more than {SIZE} are needed")
    out.write_bytes(
        to_bytes(cells, *discriminants({who: np.concatenate(rows) for who, rows in people.items()}))
    )
    return len(people)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    log.info("%d people", train_identity(given.data, given.out))
