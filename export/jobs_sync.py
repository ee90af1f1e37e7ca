"""The job behind `livedub train sync`: footage or a training set in, the sync measure out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from engine.errors import InputError
from engine.face.model import load_face_model
from export.sync_net import SyncMeasure, net_from_bytes, save_net
from export.train_sync import STEPS, SyncClip, SyncProgress, accuracy, read_sync_clip, train_sync_net
from export.training_set import OnProgress, open_data, trainable


@dataclass(frozen=True)
class SyncReport:
    """What the sync measure was trained on, and how often it finds the offset on people it never saw.

    Attributes:
        clips, people, minutes: learned from.
        held_out_clips, held_out_people, windows: judged on; 2 s windows, offsets within +-1 s.
        hits: share of windows whose offset is within 40 ms of the given one; the other shares are those of
            `export.train_sync.SyncAccuracy`.
        wrong_hits: `hits` with another clip's sound: what chance gives.
    """

    clips: int
    people: int
    minutes: float
    held_out_clips: int
    held_out_people: int
    windows: int
    hits: float | None
    hits_600: float | None
    hits_own: float | None
    clip_hits: float | None
    wrong_hits: float | None


def train_sync(data: Path, out: Path, *, steps: int | None, seed: int, on_progress: OnProgress) -> SyncReport:
    """Train the sync measure from footage or a training set, judge it on the held-out people, and write it.

    Raises:
        InputError: no clip has a face and sound, or the set cannot be read.
        OutputError: `out` cannot be written.
    """
    training, held_out = _clips(data, on_progress)
    if not training:
        raise InputError(f"no clip in {data} has a face and sound to learn from")
    total = steps or STEPS

    def follow(line: SyncProgress) -> None:
        on_progress("train", line.step, total)

    net = train_sync_net(training, (), steps=total, seed=seed, every=10, on_progress=follow)
    report = _report(SyncMeasure(net), training, held_out)
    save_net(net, out, asdict(report) | {"steps": total, "seed": seed})
    return _report(SyncMeasure(net_from_bytes(out.read_bytes())), training, held_out)


def _clips(data: Path, on_progress: OnProgress) -> tuple[list[SyncClip], list[SyncClip]]:
    packed, model = open_data(data, size_px=None, on_progress=on_progress), load_face_model()
    learned_from = {one.clip.path for one in trainable(packed)}
    training: list[SyncClip] = []
    held_out: list[SyncClip] = []
    for index, one in enumerate(packed):
        wanted = one.clip.held_out or one.clip.path in learned_from
        clip = read_sync_clip(one, model) if wanted else None
        if clip is not None:
            (held_out if clip.held_out else training).append(clip)
        on_progress("read", index + 1, len(packed))
    return training, held_out


def _report(measure: SyncMeasure, training: Sequence[SyncClip], held_out: Sequence[SyncClip]) -> SyncReport:
    judged = wrong = None
    if held_out:
        judged = accuracy(measure, held_out)
    if len(held_out) > 1:
        others = [*held_out[1:], held_out[0]]
        wrong = accuracy(measure, [replace(a, mels=b.mels) for a, b in zip(held_out, others, strict=True)])
    return SyncReport(
        clips=len(training),
        people=len({clip.identity for clip in training}),
        minutes=float(np.sum([np.ptp(clip.time_s) for clip in training])) / 60,
        held_out_clips=judged.clips if judged else 0,
        held_out_people=len({clip.identity for clip in held_out}),
        windows=judged.windows if judged else 0,
        hits=judged.hits if judged else None,
        hits_600=judged.hits_600 if judged else None,
        hits_own=judged.hits_own if judged else None,
        clip_hits=judged.clip_hits if judged else None,
        wrong_hits=wrong.hits if wrong else None,
    )
