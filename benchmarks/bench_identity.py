"""How surely the actor is told from others: strangers to the axes, and the cost.

    python -m benchmarks.bench_identity DATA [--folds 5] [--json OUT]

DATA is a folder of footage with a manifest.csv. The people are dealt into folds; the faces of one fold are
compared by axes learned from the people of the others, so everybody is a stranger once. An actor is learned
from the first half of a clip's frames. "same clip" are frames of its second half, "other clip" are those of
another clip of that person, "other person" are those of everybody else in the fold. Each is compared as
filmed and with the disturbances of `export.train_identity` (light, blur, noise, compression, tracking). The
dev people are compared by the shipped axes too, which were not learned from them.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from engine.arrays import F32, F64
from engine.face.identity import (
    ALIKE,
    MIDDLE,
    UNLIKE,
    Belief,
    Cells,
    FaceAxes,
    FaceReader,
    cut_out,
    load_face_axes,
    mean_direction,
    weigh,
)
from engine.face.model import load_face_model
from engine.face.track import track_video
from engine.media import open_video
from export.dataset import list_clips
from export.train_identity import DISTURBED, discriminants, face_cells, features, patches

LIMITS = (UNLIKE, MIDDLE, ALIKE, 0.55, 0.6)
KINDS = ("same clip", "other clip", "other person")
FEWEST_FRAMES = 6
COST_LOOKS = 200


@dataclass(frozen=True)
class Faces:
    """A clip's features, float32 [F x (1 + DISTURBED), D]: a frame's as filmed, then its disturbed copies."""

    name: str
    person: str
    held_out: bool
    rows: F32

    def directions(self, axes: FaceAxes) -> F32:
        """Float32 [F, 1 + DISTURBED, 64]."""
        return axes.direction(self.rows).reshape(-1, 1 + DISTURBED, axes.axes.shape[1])


def main() -> int:
    """Print, and write if asked, what share is taken for the actor, by likeness and by verdict."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = load_face_model()
    cells = face_cells(model)
    reader, random = FaceReader(cells, model), np.random.default_rng(0)
    clips = []
    for clip in list_clips(arguments.data):
        found = patches(clip.path, model)
        if len(found) >= FEWEST_FRAMES:
            rows = features(reader, found, random)
            clips.append(Faces(clip.path.stem, clip.identity, clip.held_out, rows))
    result = {
        "clips": len(clips),
        "people": len({clip.person for clip in clips}),
        "strangers": strangers(clips, cells, arguments.folds),
        "dev people, shipped axes": table([one_fold([c for c in clips if c.held_out], load_face_axes())]),
        "look_ms": cost_ms(reader, arguments.data),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0


def strangers(clips: list[Faces], cells: Cells, folds: int) -> dict[str, object]:
    """Everybody compared by axes that were learned without them."""
    people = np.random.default_rng(0).permutation(sorted({clip.person for clip in clips}))
    dealt = {str(person): index % folds for index, person in enumerate(people)}
    found = []
    for fold in range(folds):
        others: dict[str, list[F32]] = {}
        for clip in clips:
            if dealt[clip.person] != fold:
                others.setdefault(clip.person, []).append(clip.rows)
        learned = discriminants({who: np.concatenate(rows) for who, rows in others.items()})
        axes = FaceAxes(cells, *learned, "")
        found.append(one_fold([clip for clip in clips if dealt[clip.person] == fold], axes))
    return table(found)


Found = dict[tuple[str, str, str], F64]


def one_fold(clips: list[Faces], axes: FaceAxes) -> Found:
    """Likenesses [F, 1 + DISTURBED] by kind, actor's clip and clip looked at."""
    directions = {clip.name: clip.directions(axes) for clip in clips}
    found: Found = {}
    for actor in clips:
        known = directions[actor.name]
        half = len(known) // 2
        reference = mean_direction(known[:half, 0])[0]
        for clip in clips:
            seen = directions[clip.name][half:] if clip is actor else directions[clip.name]
            same = "same clip" if clip is actor else "other clip"
            kind = same if clip.person == actor.person else "other person"
            found[kind, actor.name, clip.name] = (seen @ reference).astype(np.float64)
    return found


def table(folds: list[Found]) -> dict[str, object]:
    """Shares taken for the actor: of looks above each limit, of streams by verdict; the closest pairs."""
    every = {key: value for found in folds for key, value in found.items()}
    result: dict[str, object] = {}
    for kind in KINDS:
        chosen = [value for key, value in every.items() if key[0] == kind]
        if not chosen:
            continue
        plain, changed = (
            np.concatenate([v[:, part].ravel() for v in chosen]) for part in (0, slice(1, None))
        )
        streams = [
            verdict(v[i:, copy]) for v in chosen for copy in range(v.shape[1]) for i in range(0, len(v), 5)
        ]
        result[kind] = {
            "pairs of clips": len(chosen),
            "looks": plain.size,
            "accepted": {str(limit): share(plain >= limit) for limit in LIMITS},
            "accepted, disturbed": {str(limit): share(changed >= limit) for limit in LIMITS},
            "streams": len(streams),
            "streams taken for the actor": share(np.array([one.verdict == "actor" for one in streams])),
        }
    result["farthest of one person"] = extremes(every, "other clip", -1)
    result["closest of two people"] = extremes(every, "other person", 1)
    return result


def verdict(likenesses: F64) -> Belief:
    """What is believed of a new face after at most as many looks as it takes."""
    belief = Belief()
    for likeness in likenesses:
        belief = weigh(belief, float(likeness))
        if belief.verdict != "undecided":
            break
    return belief


def extremes(every: Mapping[tuple[str, str, str], F64], kind: str, sign: int) -> list[tuple[str, str, float]]:
    """The dozen pairs of clips at one end by their median likeness as filmed."""
    found = [(a, b, round(float(np.median(v[:, 0])), 3)) for (k, a, b), v in every.items() if k == kind]
    return sorted(found, key=lambda one: -sign * one[2])[:12]


def share(which: np.ndarray) -> float:
    """Of the true ones, five digits."""
    return round(float(which.mean()), 5)


def cost_ms(reader: FaceReader, data: Path) -> float:
    """Median time of one look at a decoded frame of the first clip, ms."""
    axes, path = load_face_axes(), list_clips(data)[0].path
    track = track_video(path)
    index = int(np.flatnonzero(track.found)[0])
    with open_video(path) as video:
        image, colour = next(islice(video, index, None)).image, video.info.colour
    taken = []
    for _ in range(COST_LOOKS):
        began = time.perf_counter()
        patch = cut_out(image, colour, track.landmarks[index])
        if patch is not None:
            axes.direction(reader.features(patch))
        taken.append(time.perf_counter() - began)
    return round(1000 * float(np.median(taken)), 3)


if __name__ == "__main__":
    sys.exit(main())
