"""What a file of the suite `lips` holds: the only description of it.

A study is JSON: metadata, and rows for real footage, speech with known sounds, other languages, and silence.
"""

import msgspec

from benchmarks.schema import Metadata
from export.audio_metrics import LipScore


class FootageRow(LipScore, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One unseen person's clip at one look-ahead: the prediction's score against the person's own mouth.

    Attributes:
        clip: name; identity: who; language: as the manifest has it, "" if unknown.
        wrong_correlation: correlation with another clip's sound: what chance gives.
        sync_confidence: of the prediction (`export.sync_net.SyncScore`); sync_real: of the real mouth.
        sync_hits: share of windows where the prediction's offset is found at 0; sync_hits_real.
        sync_offset_ms: where the prediction scores best; positive = late.
    """

    clip: str
    identity: str
    language: str
    look_ahead_ms: int
    wrong_correlation: float | None
    sync_confidence: float | None
    sync_real: float | None
    sync_hits: float | None
    sync_hits_real: float | None
    sync_offset_ms: float | None


class SpeechRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Closures on a recording with known sounds: `wanted` (p, b, m), `kept` of them; `made`, `right` of them.

    Attributes:
        synthetic: whether espeak-ng speaks.
    """

    name: str
    language: str
    synthetic: bool
    look_ahead_ms: int
    wanted: int
    kept: int
    made: int
    right: int


class ForeignRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The sync measure on the mouth predicted for a real recording without a picture."""

    name: str
    language: str
    look_ahead_ms: int
    sync_confidence: float
    sync_hits: float


class SilenceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lips while nobody speaks: speed, and the widest opening; `gated`: behind the voice detector."""

    kind: str
    look_ahead_ms: int
    gated: bool
    speed_mm_s: float
    widest_cm: float


class StyleRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One unseen person's speech as ways of speaking predict it that were found elsewhere, at 120 ms.

    Errors are of `export.style.errors_of`, on speech that no way of speaking was found in.

    Attributes:
        clip: name, with the part of it that is predicted; identity: who.
        found_in: where the person's own way was found; seconds: how much of it.
        error_average: of the average speaker; error_own: of the person's own way.
        error_others: of other people's ways, mean, found in as much of their clips.
        better: share of these that the own way beats.
    """

    clip: str
    identity: str
    found_in: str
    seconds: float
    error_average: float
    error_own: float
    error_others: float
    better: float


class Trace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Five seconds of opening at 100 Hz, cm: the real one, the prediction's; for a picture. None: unknown."""

    clip: str
    start_s: float
    correlation: float
    real: list[float | None]
    said: list[float | None]


class LipStudy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole run.

    Attributes:
        model: the audio-to-expression network's file, or "shipped".
        real_silence_mm_s: mean speed of real lips in silence, over all footage; None if there is none.
        real_silence_s: how much of that there was.
    """

    metadata: Metadata
    model: str
    real_silence_mm_s: float | None
    real_silence_s: float
    footage: list[FootageRow]
    speech: list[SpeechRow]
    foreign: list[ForeignRow]
    silence: list[SilenceRow]
    traces: list[Trace]
    styles: list[StyleRow] = []
