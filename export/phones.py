"""Where the sounds of a recording are: phone times from the files that aligners and corpora come with."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputError
from engine.timing import AUDIO_RATE_HZ

HTS_TICKS_PER_S = 1e7  # times in .lab files of HTS
SILENT = frozenset({"", "sil", "sp", "spn", "pau", "h#", "#", "-", "_", "_:", "epi", "pause"})
HELD = frozenset(
    {"cl", "vcl", "pcl", "bcl", "tcl", "dcl", "kcl", "gcl"}
)  # the closed part of a stop, written before it
BILABIAL = frozenset("pbmɓʙ")  # lips must meet
NEAR = frozenset("fvwʋɱɸβʍɥ")  # lips come close, or meet in some speakers: neither asked for nor wrong
VOICELESS_STOPS = frozenset("ptkcqʈ")
ESPEAK_LATE_S, ESPEAK_CLOSED_S = 0.015, 0.035  # events; silence before, on top of that
STRESS = "ˈˌ'`,"
SUFFIXES = {".json": ".phn.json", ".lab": ".phone.lab", ".textgrid": ".TextGrid"}
_CENTRE = re.compile(r"\^[^-]*-(.+?)\+")


@dataclass(frozen=True)
class Phone:
    """One sound.

    Attributes:
        name: as the file writes it: ARPAbet, TIMIT or IPA.
        start_s, end_s: media times, `start_s` < `end_s`.
    """

    name: str
    start_s: float
    end_s: float

    @property
    def silent(self) -> bool:
        """Whether it is a pause."""
        return self.name.strip().lower() in SILENT

    @property
    def closes(self) -> bool:
        """Whether the lips must meet: p, b, m and their kin."""
        plain = self.name.strip(STRESS).lower()
        return not self.silent and (plain[:1] in BILABIAL or plain == "em")

    @property
    def narrows(self) -> bool:
        """Whether lips come so close that meeting is neither asked for nor wrong: f, v, w and their kin."""
        plain = self.name.strip(STRESS).lower()
        return plain[:1] in NEAR or "ʷ" in plain


def read_phones(path: Path) -> list[Phone]:
    """The phones of `*.phn.json` (ends in samples at 16 kHz), `*.lab` (HTS) or `*.TextGrid` (tier "phones").

    A stop's closed part that has a label of its own belongs to the stop that follows it.

    Raises:
        InputError: it cannot be read, or is none of these.
    """
    readers = {".json": _json, ".lab": _lab, ".textgrid": _text_grid}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path.name}: phone times are read from .phn.json, .lab and .TextGrid")
    try:
        return joined(reader(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path.name}: cannot read phone times: {error}") from error


def phones_beside(sound: Path) -> Path | None:
    """The file of phone times beside a recording: the same name with another ending."""
    found = (sound.with_name(sound.stem + ending) for ending in SUFFIXES.values())
    return next((path for path in found if path.exists()), None)


def from_starts(starts: Iterable[tuple[str, float]], end_s: float) -> list[Phone]:
    """Phones of which only the beginnings are known.

    Args:
        starts: name and media time, ascending.
        end_s: when the last one ends.
    """
    known = list(starts)
    ends = [start for _, start in known[1:]] + [end_s]
    return [Phone(name, start, end) for (name, start), end in zip(known, ends, strict=True) if end > start]


def from_espeak(starts: Iterable[tuple[str, float]], end_s: float) -> list[Phone]:
    """Phones by the beginnings that espeak-ng tells, put where they sound.

    Its events come 15 ms late, and that of a voiceless stop comes when it opens: the 50 ms of silence before
    are told as the sound before. Seen in the power above 300 Hz around 430 stops and nasals of six voices.
    What follows the opening of such a stop is a phone "ʰ", but in affricates.
    """
    result: list[Phone] = []
    for phone in from_starts(((name, start - ESPEAK_LATE_S) for name, start in starts), end_s):
        plain = phone.name.strip(STRESS).lower()
        if plain[:1] not in VOICELESS_STOPS:
            result.append(phone)
            continue
        before = result.pop() if result else None
        begin_s = phone.start_s - ESPEAK_CLOSED_S
        if before is not None:
            begin_s = max(begin_s, (before.start_s + before.end_s) / 2)
            result.append(Phone(before.name, before.start_s, begin_s))
        affricate = len(plain) > 1 and plain[1] in "ʃʂɕsf"
        opens_s = phone.end_s if affricate else min(phone.start_s + ESPEAK_LATE_S, phone.end_s)
        result.append(Phone(phone.name, begin_s, opens_s))
        if opens_s < phone.end_s:
            result.append(Phone("ʰ", opens_s, phone.end_s))
    return result


def joined(phones: Sequence[Phone]) -> list[Phone]:
    """The phones with every closed part joined to the stop that follows it."""
    result: list[Phone] = []
    for phone in phones:
        before = result[-1] if result else None
        if before and before.name.lower() in HELD and not phone.silent and before.end_s >= phone.start_s:
            result[-1] = Phone(phone.name, before.start_s, phone.end_s)
        else:
            result.append(phone)
    return result


def _json(text: str) -> list[Phone]:
    read = json.loads(text)
    ends = [end / AUDIO_RATE_HZ for end in read["end_samples_16k"]]
    return _spans(read["phn"], [0.0, *ends[:-1]], ends)


def _lab(text: str) -> list[Phone]:
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line.strip()]
    names = [found[1] if (found := _CENTRE.search(row[2])) else row[2].strip() for row in rows]
    starts, ends = ([float(row[i]) / HTS_TICKS_PER_S for row in rows] for i in (0, 1))
    return _spans(names, starts, ends)


def _text_grid(text: str) -> list[Phone]:
    """Long or short form: after a tier's name come its start, end, count, and that many intervals."""
    tokens = re.findall(r'"(?:[^"]|"")*"|(?<![\w\[])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w\]])', text)
    for at, token in enumerate(tokens):
        if token.strip('"').lower().split(" - ")[-1] in {"phones", "phone"}:
            count = int(float(tokens[at + 3]))
            rows = [tokens[at + 4 + 3 * i : at + 7 + 3 * i] for i in range(count)]
            return _spans(
                [row[2].strip('"') for row in rows], *zip(*[map(float, row[:2]) for row in rows], strict=True)
            )
    raise ValueError('it has no tier named "phones"')


def _spans(names: Sequence[str], starts: Sequence[float], ends: Sequence[float]) -> list[Phone]:
    rows = zip(names, starts, ends, strict=True)
    return [Phone(str(name), float(start), float(end)) for name, start, end in rows if end > start]
