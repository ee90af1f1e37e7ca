"""The lips' part of `livedub evaluate --audio`: a dub's mouth against the real one, and against the sound."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from engine.arrays import F32, F64
from engine.audio.logmel import HOP_SAMPLES, LogMel
from engine.errors import AssetError
from engine.expression.audio import LOOK_AHEADS_MS, MELS_PER_STEP, AudioToExpression, step_time_ms
from engine.face.fit import person_neutral
from engine.face.model import FaceModel, load_face_model
from engine.media import probe, read_audio
from engine.timing import AUDIO_RATE_HZ
from export.audio_metrics import LipMotion, LipScore, compare, fit_track, motion_of, phone_closures, silences
from export.phones import read_phones
from export.sync import MIN_CORRELATION

if TYPE_CHECKING:
    from export.sync_net import SyncMeasure, SyncScore

OTHER_WORDS = "lips: they do not move as the reference's; for other words only sync, silence and phones count"
# name, unit, digits, the value of a perfect dub
ROWS = (
    ("correlation", "r", 3, "1"),
    ("lag_ms", "ms", 0, "0"),
    ("range_ratio", "", 3, "1"),
    ("speed_ratio", "", 3, "1"),
    ("lve_mm", "mm", 2, "0"),
    ("lve_centred_mm", "mm", 2, "0"),
    ("closures", "", 0, ""),
    ("recall", "", 3, "1"),
    ("precision", "", 3, "1"),
    ("phone_closures", "", 0, ""),
    ("phone_recall", "", 3, "1"),
    ("phone_precision", "", 3, "1"),
    ("silence_s", "s", 1, ""),
    ("silence_speed_mm_s", "mm/s", 2, "as the reference"),
    ("silence_speed_real_mm_s", "mm/s", 2, ""),
    ("sync_confidence", "", 2, "as the reference"),
    ("sync_reference", "", 2, ""),
    ("sync_ratio", "", 3, "1"),
    ("sync_hits", "", 3, "as the reference"),
    ("sync_hits_reference", "", 3, ""),
    ("sync_offset_ms", "ms", 0, "as the reference"),
    ("sync_offset_reference_ms", "ms", 0, ""),
)


class LookAheadScore(msgspec.Struct, frozen=True, kw_only=True):
    """What audio-to-expression says of the output's sound at one look-ahead: average speaker, nothing drawn.

    A dub comes near this with that look-ahead; the rest of the way is the actor's, the drawing's and the
    tracker's.

    Attributes:
        look_ahead_ms: how much coming sound it hears.
        correlation: of the opening with the reference's mouth.
        sync_confidence: with the output's sound; sync_ratio: that over the reference's own.
    """

    look_ahead_ms: int
    correlation: float | None
    sync_confidence: float | None
    sync_ratio: float | None


class LipReport(LipScore, frozen=True, kw_only=True):
    """A dub's mouth: its score against the reference's mouth, and against sound.

    Attributes:
        phone_closures: p, b, m in the phone times that were given; `phone_recall`, `phone_precision`: how
            many of them the output closes on, and how many of its closures they are.
        sync_confidence: of the output's mouth with its own sound (`export.sync_net`); sync_reference: of the
            reference's with its own: to match, not to exceed. sync_ratio: of the two.
        sync_hits: share of 2 s windows whose offset is found within 40 ms of 0.
        sync_hits_reference: the same of the reference.
        sync_offset_ms: where the output's mouth fits its sound best; positive = picture late.
        sync_offset_reference_ms: the same of the reference.
        predicted: the same sound by audio-to-expression alone, at each look-ahead; empty without sound.
    """

    phone_closures: int | None
    phone_recall: float | None
    phone_precision: float | None
    sync_confidence: float | None
    sync_reference: float | None
    sync_ratio: float | None
    sync_hits: float | None
    sync_hits_reference: float | None
    sync_offset_ms: float | None
    sync_offset_reference_ms: float | None
    predicted: tuple[LookAheadScore, ...] = ()


def lips_report(
    out: tuple[Path, F32, F64], reference: tuple[Path, F32, F64], phones: Path | None = None
) -> tuple[LipReport, list[str]]:
    """Score a dub's mouth.

    Args:
        out: file, landmarks float32 [F, 478, 3] px (NaN where no face) and media times float64 [F].
        reference: the same of the real video.
        phones: file with the times of the sounds of `out`; see `export.phones`.

    Returns:
        The report, and a line for each thing that could not be measured.

    Raises:
        NoFaceError: fewer than two frames of a file show a face.
        InputError: `phones` cannot be read.
    """
    model, notes = load_face_model(), list[str]()
    neutral = person_neutral(model, reference[1])
    ours, real = (fit_track(marks, time_s, model, neutral) for _, marks, time_s in (out, reference))
    mels, real_mels = (_mels(path) for path, _, _ in (out, reference))
    said, true = motion_of(*ours, model), motion_of(*real, model)
    score = compare(said, true, [] if mels is None else silences(mels))
    if (score.correlation_at_lag or 0.0) < MIN_CORRELATION:
        notes.append(OTHER_WORDS)
    measure = _measure(notes)
    found = _sync(measure, mels, ours, model, "sync_confidence", notes)
    wanted = _sync(measure, real_mels, real, model, "sync_reference", notes)
    fields = msgspec.structs.asdict(score) | _closures(said, phones) | _synced(found, wanted)
    base = None if wanted is None else wanted.confidence
    predicted = () if mels is None else tuple(_predicted(mels, true, measure, base, model))
    return LipReport(**fields, predicted=predicted), notes


def predicted_rows(report: LipReport) -> list[tuple[str, float | None, str, int, str]]:
    """Name, value, unit, digits and the perfect value of what is predicted at each look-ahead."""
    rows: list[tuple[str, float | None, str, int, str]] = []
    for one in report.predicted:
        at = f"sound alone, {one.look_ahead_ms} ms"
        rows.append((f"{at}: r", one.correlation, "r", 3, "1"))
        rows.append((f"{at}: sync", one.sync_ratio, "", 3, "1"))
    return rows


def _predicted(
    mels: F32, real: LipMotion, measure: "SyncMeasure | None", base: float | None, model: FaceModel
) -> Iterator[LookAheadScore]:
    whole = mels[: len(mels) // MELS_PER_STEP * MELS_PER_STEP]
    for look_ahead_ms in LOOK_AHEADS_MS if len(whole) else ():
        said = AudioToExpression(look_ahead_ms).offline(whole[None])[0]
        said_s = np.array([step_time_ms(step, look_ahead_ms) / 1000 for step in range(len(said))])
        said, said_s = said[said_s >= 0], said_s[said_s >= 0]
        score = None
        if measure is not None:
            from export.sync_net import mouth_geometry

            score = measure.score(mels, mouth_geometry(said, model), said_s)
        yield LookAheadScore(
            look_ahead_ms=look_ahead_ms,
            correlation=compare(motion_of(said, said_s, model), real).correlation,
            sync_confidence=None if score is None else score.confidence,
            sync_ratio=score.confidence / base if score and base and base > 0 else None,
        )


def _closures(said: LipMotion, phones: Path | None) -> dict[str, Any]:
    score = None if phones is None else phone_closures(said.opening, read_phones(phones))
    fields = {"closures": "wanted", "recall": "recall", "precision": "precision"}
    return {f"phone_{ours}": None if score is None else getattr(score, its) for ours, its in fields.items()}


def _synced(found: "SyncScore | None", wanted: "SyncScore | None") -> dict[str, Any]:
    return {
        "sync_confidence": None if found is None else found.confidence,
        "sync_reference": None if wanted is None else wanted.confidence,
        "sync_ratio": found.confidence / wanted.confidence
        if found and wanted and wanted.confidence > 0
        else None,
        "sync_hits": None if found is None else found.hits,
        "sync_hits_reference": None if wanted is None else wanted.hits,
        "sync_offset_ms": None if found is None else found.offset_ms,
        "sync_offset_reference_ms": None if wanted is None else wanted.offset_ms,
    }


def _mels(path: Path) -> F32 | None:
    if not probe(path).has_audio:
        return None
    samples = read_audio(path, AUDIO_RATE_HZ)
    whole = samples[: len(samples) // HOP_SAMPLES * HOP_SAMPLES]
    return np.asarray(LogMel().offline(whole[None])[0], np.float32) if len(whole) else None


def _measure(notes: list[str]) -> "SyncMeasure | None":
    try:
        from export.sync_net import load_sync_measure

        return load_sync_measure()
    except ImportError as error:
        notes.append(f"sync_confidence: needs {error.name}; pip install 'livedub[train]'")
    except AssetError as error:
        notes.append(f"sync_confidence: {error}")
    return None


def _sync(
    measure: "SyncMeasure | None",
    mels: F32 | None,
    mouth: tuple[F32, F64],
    model: FaceModel,
    name: str,
    notes: list[str],
) -> "SyncScore | None":
    if measure is None:
        return None
    from export.sync_net import mouth_geometry

    expression, time_s = mouth
    score = None if mels is None else measure.score(mels, mouth_geometry(expression, model), time_s)
    if score is None:
        notes.append(f"{name}: needs 3 s of one face and sound" if mels is not None else f"{name}: no sound")
    return score
