"""Whether actors have ways of speaking: does one's own predict unseen speech better than another's?

A person's own way is found in the person's other clip, or where there is none in the other half of the same
clip. Every clip is measured from its own neutral: another's would be taken for a way of speaking.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.lips_schema import StyleRow
from engine.face.model import load_face_model
from export.audio_metrics import fitted
from export.style import Speech, Way, errors_of, fit_way, talking
from export.training_set import PackedClip

PARTS = ("whole", "first half", "second half")


@dataclass(frozen=True, eq=False)
class _Clip:
    """A clip's speech, whole and in halves, and the ways of speaking found in them."""

    name: str
    identity: str
    speech: dict[str, Speech]
    ways: dict[str, Way]


def style_rows(clips: Sequence[PackedClip], network: bytes | None = None) -> Iterator[StyleRow]:
    """One row for each clip of a person with several, two for each clip of a person with one.

    Args:
        clips: with sound that is the mouth's.
        network: audio-to-expression; None is the shipped one.
    """
    known = [_read(clip, network) for clip in clips]
    for clip in known:
        same = [one for one in known if one.identity == clip.identity and one is not clip]
        others = [one for one in known if one.identity != clip.identity]
        if same:
            yield _row(clip, "whole", same[0], "whole", others)
        else:
            yield _row(clip, "second half", clip, "first half", others)
            yield _row(clip, "first half", clip, "second half", others)


def _read(packed: PackedClip, network: bytes | None) -> _Clip:
    model, mels = load_face_model(), packed.log_mels()
    if mels is None:
        raise ValueError(f"{packed.clip.path.stem} has no sound")
    expression, time_s = fitted(packed, model)
    whole = Speech(mels, time_s, expression.astype(np.float32), model, network)
    whole = whole.part(talking(mels, time_s))
    half = len(whole.time_s) // 2
    parts = (whole, whole.part(slice(half)), whole.part(slice(half, None)))
    speech = dict(zip(PARTS, parts, strict=True))
    ways = {name: fit_way(one).way for name, one in speech.items()}
    return _Clip(packed.clip.path.stem, packed.clip.identity, speech, ways)


def _row(clip: _Clip, part: str, own: _Clip, found_in: str, others: Sequence[_Clip]) -> StyleRow:
    model = load_face_model()
    ways = [Way.average(model), own.ways[found_in], *(one.ways[found_in] for one in others)]
    average, mine, *theirs = errors_of(ways, clip.speech[part]).tolist()
    source = own.speech[found_in]
    return StyleRow(
        clip=clip.name if part == "whole" else f"{clip.name}, {part}",
        identity=clip.identity,
        found_in=own.name if found_in == "whole" else found_in,
        seconds=float(len(source.time_s) * np.median(np.diff(source.time_s))),
        error_average=average,
        error_own=mine,
        error_others=float(np.mean(theirs)) if theirs else float("nan"),
        better=float(np.mean([mine < other for other in theirs])) if theirs else float("nan"),
    )
