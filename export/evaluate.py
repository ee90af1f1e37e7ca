"""Quality and sync of a dub against ground truth: the whole of `livedub evaluate`.

Two passes over each file: one tracks the face (kept in the cache), one compares pictures. Frames are paired
by media time. Averages are means over frames (as the author of arXiv 2401.06126 reports them), except
`outside_psnr_db`, which pools the squared error of all frames, so that one damaged frame shows. What cannot
be measured is `None`, with a line in `notes` that says why.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.arrays import F64, U8, Bool
from engine.errors import AssetError, MediaError, NoFaceError
from engine.face.track import FaceTrack, to_rgb, track_video
from engine.media import open_video, open_writer, probe, read_audio, read_dub_audio
from engine.timing import AUDIO_RATE_HZ, MEL_RATE_HZ
from export import metrics, sync
from export.border import Border
from export.evaluation_report import EvaluationReport, to_json, to_table
from export.lips_report import lips_report
from export.seam import SeamScore

if TYPE_CHECKING:
    from export.recognise import Likeness

__all__ = ["EvaluationReport", "evaluate", "pair_frames", "reencode", "to_json", "to_table"]

I64 = NDArray[np.int64]
Progress = Callable[[str, float], None]

PERCEPTUAL_FRAMES = 64  # evenly spread over the video; networks take longer than all the rest together
PERSON_FRAMES = 16  # of another clip of the person, evenly spread
FALLBACK_RATE_HZ = 25.0
TIE_S = 1e-6  # of two frames equally near, the earlier one
TRACK_SHARE = 0.35  # of the progress, for each of the two files


@dataclass(frozen=True)
class _Clip:
    """One of the two files, tracked."""

    path: Path
    track: FaceTrack
    times_s: F64
    opening: F64


@dataclass(frozen=True)
class _Meters:
    """Who looks at the pictures."""

    scores: metrics.FrameScores
    border: Border
    likeness: "Likeness | None"


def evaluate(
    out_path: Path | str,
    reference_path: Path | str,
    *,
    person: Path | str | None = None,
    audio: bool = False,
    phones: Path | None = None,
    on_progress: Progress | None = None,
    max_frames: int | None = None,
) -> EvaluationReport:
    """Compare a dub with ground truth: the same person saying the same words.

    Args:
        out_path: the dub.
        reference_path: the real video, of the same size.
        person: another real clip of the same person, of any size, to compare faces with.
        audio: also how well the mouth moves to speech, `EvaluationReport.lips`.
        phones: file with the times of the output's sounds, see `export.phones`; only with `audio`.
        on_progress: called with the stage, in words, and the part of the whole that is done, 0..1.
        max_frames: look only at so many frames from the start of the output.

    Raises:
        MediaError: a file cannot be read, the sizes differ, or no frames are of the same moment.
        NoFaceError: the reference shows no face in any compared frame, or the person's clip none at all.
        AssetError: the face tracking models are missing or wrong.
        InputError: `phones` cannot be read.
        ValueError: `max_frames` is not positive.
    """
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"{max_frames = } must be positive")
    tell = on_progress or (lambda stage, done: None)
    max_s = _checked_length_s(Path(out_path), Path(reference_path), max_frames)
    out = _tracked(Path(out_path), max_s, "tracking the output", 0.0, tell)
    reference = _tracked(Path(reference_path), max_s, "tracking the reference", TRACK_SHARE, tell)
    partner = pair_frames(out.times_s[:max_frames], reference.times_s)
    usable = _usable(partner, out, reference)
    distance, notes = _perceptual_distance()
    likeness, more = _likeness()
    if person is not None and likeness is not None:
        _look_at(Path(person), likeness, tell)
    meters = _Meters(metrics.FrameScores(distance), Border(reference.track.landmarks), likeness)
    _compare(out, reference, np.where(usable, partner, -1), meters, tell)
    report = _report(meters, out, reference, partner, usable, notes + more)
    if audio:
        report = _with_lips(report, out, reference, phones)
    tell("done", 1.0)
    return report


def pair_frames(out_s: F64, reference_s: F64) -> I64:
    """For each frame of the output, the frame of the reference at the same moment.

    Args:
        out_s: float64 [F], media times, ascending.
        reference_s: float64 [G], media times, ascending, G >= 1.

    Returns:
        int64 [F]: index of the nearest frame of the reference, never descending; -1 where it is farther away
        than half a frame of the slower video.
    """
    right = np.clip(np.searchsorted(reference_s, out_s), 1, max(1, len(reference_s) - 1))
    left = right - 1
    right = np.minimum(right, len(reference_s) - 1)
    nearest = np.where(out_s - reference_s[left] <= reference_s[right] - out_s + TIE_S, left, right)
    reach_s = 0.5 * max(_interval_s(out_s), _interval_s(reference_s)) + TIE_S
    return np.where(np.abs(reference_s[nearest] - out_s) <= reach_s, nearest, -1).astype(np.int64)


def reencode(path: Path | str, out: Path | str, *, crf: int = 18) -> None:
    """Write the video again with the writer's own encoder: what a dub that changes nothing would score.

    Raises:
        MediaError: `path` cannot be read.
        OutputError: `out` cannot be written.
    """
    audio = read_dub_audio(path) if probe(path).has_audio else None
    with open_video(path) as video, open_writer(out, video.info, audio=audio, crf=crf) as writer:
        for frame in video:
            writer.write(frame)


def _checked_length_s(out: Path, reference: Path, max_frames: int | None) -> float | None:
    """Seconds to track, `None` for all; raise unless the two pictures have the same size."""
    with open_video(out) as a, open_video(reference) as b:
        sizes = [(i.width, i.height, i.sample_aspect_ratio) for i in (a.info, b.info)]
        rate = float(a.info.rate or FALLBACK_RATE_HZ)
    if sizes[0] != sizes[1]:
        shown = [
            f"{width}x{height}" + (f" (pixels {sar})" if sar != 1 else "") for width, height, sar in sizes
        ]
        raise MediaError(
            f"{out} shows {shown[0]} and {reference} {shown[1]}: the two must have the same size"
        )
    return None if max_frames is None else (max_frames + 1) / rate


def _tracked(path: Path, max_s: float | None, stage: str, start: float, tell: Progress) -> _Clip:
    with open_video(path) as video:
        info = video.info
    expected = info.frame_count or round((info.duration_s or 0.0) * float(info.rate or FALLBACK_RATE_HZ)) or 1
    if max_s is not None:
        expected = min(expected, math.ceil(max_s * float(info.rate or FALLBACK_RATE_HZ)))

    def on_frame(done: int) -> None:
        tell(stage, start + TRACK_SHARE * min(1.0, done / expected))

    track = track_video(path, max_s=max_s, on_frame=on_frame)
    times_s = track.pts.astype(np.float64) * float(track.time_base)
    return _Clip(path, track, times_s, sync.aperture(track.landmarks))


def _usable(partner: I64, out: _Clip, reference: _Clip) -> Bool:
    """Bool [F]: the frame has a partner that shows a face; raise if there is none."""
    paired = partner >= 0
    if not paired.any():
        raise MediaError(f"no frame of {out.path} is of the same moment as one of {reference.path}")
    usable: Bool = paired & reference.track.found[partner]
    if not usable.any():
        raise NoFaceError(f"{reference.path} shows no face that could be compared")
    return usable


def _perceptual_distance() -> tuple[Callable[[U8, U8], float] | None, list[str]]:
    try:
        from export.perceptual import load_perceptual
    except ImportError as error:
        return None, [f"perceptual: needs {error.name}; pip install 'livedub[train]'"]
    try:
        return load_perceptual().distance, []
    except AssetError as error:
        return None, [f"perceptual: {error}"]


def _likeness() -> "tuple[Likeness | None, list[str]]":
    try:
        from export.recognise import Likeness, load_recogniser
    except ImportError as error:
        return None, [f"identity_similarity: needs {error.name}; pip install 'livedub[train]'"]
    try:
        return Likeness(load_recogniser()), []
    except AssetError as error:
        return None, [f"identity_similarity: {error}"]


def _look_at(path: Path, likeness: "Likeness", tell: Progress) -> None:
    """Take some faces of another clip of the person."""
    track = track_video(path, on_frame=lambda done: tell("tracking the other clip", 2 * TRACK_SHARE))
    seen = np.flatnonzero(track.found)
    if not len(seen):
        raise NoFaceError(f"{path} shows no face that could be compared")
    wanted = set(seen[:: math.ceil(len(seen) / PERSON_FRAMES)].tolist())
    with open_video(path) as video:
        for i, frame in zip(range(len(track)), video, strict=False):
            if i in wanted:
                likeness.add_other(to_rgb(frame.image, video.info.colour), track.landmarks[i])


def _compare(out: _Clip, reference: _Clip, partner: I64, meters: _Meters, tell: Progress) -> None:
    scores, wanted = meters.scores, int((partner >= 0).sum())
    stride = math.ceil(wanted / PERCEPTUAL_FRAMES)
    before = (-2, -2)
    for i, j, (ours, real) in _pictures(out, reference, partner):
        cut = bool(out.track.cut[i] or reference.track.cut[j])
        joined = (i - 1, j - 1) == before and not cut
        faces = out.track.landmarks[i], reference.track.landmarks[j]
        chosen = scores.frames % stride == 0
        scores.add(ours, real, *faces, joined=joined, perceptual=chosen)
        meters.border.add(ours, real, faces[1], joined=joined)
        if chosen and meters.likeness is not None:
            meters.likeness.add(ours, faces[0], real, faces[1])
        before = (i, j)
        tell("comparing", 2 * TRACK_SHARE + (1 - 2 * TRACK_SHARE) * scores.frames / wanted)


def _pictures(out: _Clip, reference: _Clip, partner: I64) -> Iterator[tuple[int, int, tuple[U8, U8]]]:
    """Decode both files once, side by side, and yield the paired pictures as R'G'B'."""
    with open_video(out.path) as out_video, open_video(reference.path) as reference_video:
        others = enumerate(reference_video)
        j, other, real = -1, None, None
        for i, frame in zip(range(len(partner)), out_video, strict=False):
            while j < partner[i]:
                j, other = next(others)  # it is there: tracking has read the file that far
                real = None
            if partner[i] >= 0 and other is not None:
                if real is None:
                    real = to_rgb(other.image, reference_video.info.colour)
                yield i, j, (to_rgb(frame.image, out_video.info.colour), real)


def _sound(clip: _Clip, end_s: float) -> sync.AudioSync | None:
    if not probe(clip.path).has_audio:
        return None
    audio = read_audio(clip.path, AUDIO_RATE_HZ)[: math.ceil(end_s * AUDIO_RATE_HZ)]
    return sync.audio_sync(clip.opening, clip.times_s, audio)


def _report(
    meters: _Meters,
    out: _Clip,
    reference: _Clip,
    partner: I64,
    usable: Bool,
    notes: list[str],
) -> EvaluationReport:
    scores = meters.scores
    times_s = out.times_s[: len(partner)]
    end_s = float(times_s[-1] + _interval_s(times_s))
    sounds = [_sound(clip, end_s) for clip in (out, reference)]
    ours, real = (sync.AudioSync(None, None, 0.0) if sound is None else sound for sound in sounds)
    count = math.ceil(end_s * MEL_RATE_HZ)
    curves = [sync.resample(clip.opening, clip.times_s, count) for clip in (out, reference)]
    kept = np.flatnonzero(usable)
    likeness, lag_ms = sync.best_lag(*curves)
    seam = meters.border.result()
    notes = [*notes, *([] if seam else ["seam_step: no border shows"]), *_notes(sounds, ours)]
    return EvaluationReport(
        frames=scores.frames,
        frames_unpaired=int((partner < 0).sum()),
        frames_without_face=int((partner >= 0).sum() - usable.sum()),
        frames_face_lost=scores.frames_face_lost,
        seconds=end_s - float(times_s[0]),
        face_psnr_db=scores.face_psnr.result(),
        face_ssim=scores.face_ssim.result(),
        mouth_psnr_db=scores.mouth_psnr.result(),
        mouth_ssim=scores.mouth_ssim.result(),
        mouth_lmd_px=scores.mouth_lmd.result(),
        outside_psnr_db=scores.outside.result(),
        flicker_ratio=scores.flicker.ratio(),
        flicker_error=scores.flicker.error_levels(),
        perceptual=scores.perceptual.result(),
        **_identity(meters.likeness),
        **_seam(seam),
        av_offset_ms=ours.offset_ms,
        aperture_correlation=ours.correlation,
        reference_av_offset_ms=real.offset_ms,
        reference_aperture_correlation=real.correlation,
        aperture_correlation_reference=sync.correlation(out.opening[kept], reference.opening[partner[kept]]),
        aperture_lag_reference_ms=lag_ms if (likeness or 0.0) >= sync.MIN_CORRELATION else None,
        notes=tuple(notes),
    )


def _with_lips(
    report: EvaluationReport, out: _Clip, reference: _Clip, phones: Path | None
) -> EvaluationReport:
    ours, real = ((one.path, one.track.landmarks, one.times_s) for one in (out, reference))
    try:
        lips, more = lips_report(ours, real, phones)
    except NoFaceError as error:
        return msgspec.structs.replace(report, notes=(*report.notes, f"lips: {error}"))
    return msgspec.structs.replace(report, lips=lips, notes=(*report.notes, *more))


def _identity(likeness: "Likeness | None") -> dict[str, Any]:
    """The report's numbers on who it looks like."""
    return {
        "identity_similarity": likeness and likeness.similarity(),
        "identity_apart": likeness and likeness.apart(),
        "identity_real": likeness and likeness.among_real(),
        "identity_person": likeness and likeness.to_other(),
        "identity_person_reference": likeness and likeness.real_to_other(),
    }


def _seam(seam: SeamScore | None) -> dict[str, Any]:
    """The report's numbers on the border."""
    same = ("step", "step_source", "step_ratio", "gradient", "gradient_source", "gradient_ratio")
    names = {f"seam_{name}": name for name in (*same, "flicker", "flicker_source", "flicker_ratio")}
    names |= {"seam_error": "step_error", "seam_within_source": "within_source"}
    return {ours: None if seam is None else getattr(seam, name) for ours, name in names.items()}


def _notes(sounds: list[sync.AudioSync | None], ours: sync.AudioSync) -> list[str]:
    notes = [
        f"{name}: the file has no sound"
        for name, sound in zip(("av_offset_ms", "reference_av_offset_ms"), sounds, strict=True)
        if sound is None
    ]
    if sounds[0] is not None and ours.correlation is None:
        notes.append(f"aperture_correlation: {ours.active_s:.1f} s of sound, or too little mouth movement")
    elif ours.correlation is not None and ours.offset_ms is None:
        notes.append(f"av_offset_ms: the mouth follows the sound too little (r = {ours.correlation:.2f})")
    return notes


def _interval_s(times_s: F64) -> float:
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0 / FALLBACK_RATE_HZ
