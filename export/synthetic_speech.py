"""Synthetic speech with known phoneme times: an extra task for audio-to-expression, in many languages.

Diphone voices of MBROLA are people's; they are used where they are installed. espeak-ng's own voices, which a
package brings, make the rest, so that the set can be made again anywhere. Who makes espeak-ng speak is given
from outside, since nothing here may know the clients.

Classes of lips as a second task of a network without teachers (160 steps, two seeds, at 120 ms) leave real
people where they were (left out .599 to .592, dev .637 to .643) and move closures apart from other sounds on
voices held out (1.01 to 1.15 standard deviations of the opening, at 240 ms), not on recorded people (0.94 to
0.86).

A set is a safetensors file: its metadata holds `format`, `version` and `utterances`, a JSON list; the tensors
of utterance i are `i.mels`, packed as in `export.training_set`, and `i.labels`, uint8.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from engine.arrays import F32, U8
from engine.audio.logmel import HOP_SAMPLES, LogMel
from engine.errors import InputError, OutputError
from engine.expression.audio import MELS_PER_STEP
from engine.timing import AUDIO_RATE_HZ, MEL_RATE_HZ
from export import mbrola
from export.phone_classes import CLOSED, lip_labels
from export.phones import Phone
from export.synthetic_words import WORDS, sentence
from export.training_set import HEARD_STEP, OnProgress, pack_mels, unpack_mels

FORMAT, VERSION = "livedub-speech-set", "1"
SECONDS = 40.0  # of each voice
SENTENCES = 2  # in an utterance
RATES_WPM = (120, 190)
LEAD_S = 0.2  # silence before and after
ESPEAK_NAMES = {"en": "en-us", "pt": "pt-br"}
TRAIN_VARIANTS, HELD_OUT_VARIANT = ("m1", "m3", "f2", "f5"), "f4"
DIPHONE_VOICES = {
    "en": ("us1", "us2", "en1", "us3"),
    "de": ("de1", "de2", "de3", "de4", "de6", "de5"),
    "fr": ("fr1", "fr2", "fr3", "fr4"),
    "it": ("it3", "it4"),
    "pt": ("br1", "br3", "br4"),
    "pl": ("pl1",),
    "tr": ("tr1", "tr2"),
    "nl": ("nl2", "nl3"),
    "hu": ("hu1",),
    "ro": ("ro1",),
    "sv": ("sw1", "sw2"),
    "hi": ("in1", "in2"),
}  # the last of a language with more than one is held out

Say = Callable[[str, int], tuple[F32, list[Phone]]]  # text and words per minute: samples at 16 kHz, phones
EspeakSay = Callable[[str, str, int], tuple[F32, list[Phone]]]  # the same, the voice second


@dataclass(frozen=True, eq=False)
class Speaker:
    """One voice.

    Attributes:
        language: of `export.synthetic_words`; voice: its name; held_out: whether for scores only.
        say: makes it speak.
    """

    language: str
    voice: str
    held_out: bool
    say: Say


@dataclass(frozen=True, eq=False)
class Utterance:
    """What was said at once.

    Attributes:
        language, voice, held_out: as of its speaker.
        mels: float32 [M, 80], log-mels at 100 Hz.
        labels: uint8 [M], classes of `export.phone_classes`: what lips do at (n + 0.5) / 100 s.
    """

    language: str
    voice: str
    held_out: bool
    mels: F32
    labels: U8


def diphone_speakers() -> list[Speaker]:
    """Every MBROLA voice that is installed and of use."""
    return [
        Speaker(language, voice, voice == names[-1] and len(names) > 1, partial(_diphones, voice))
        for language, names in DIPHONE_VOICES.items()
        for voice in names
        if mbrola.installed(voice)
    ]


def _diphones(voice: str, text: str, rate_wpm: int) -> tuple[F32, list[Phone]]:
    return mbrola.say(text, voice, rate_wpm)


def espeak_speakers(say: EspeakSay) -> list[Speaker]:
    """A training voice and a held-out one of espeak-ng in each language."""
    speakers = []
    for index, language in enumerate(WORDS):
        for variant in (TRAIN_VARIANTS[index % len(TRAIN_VARIANTS)], HELD_OUT_VARIANT):
            voice = f"{ESPEAK_NAMES.get(language, language)}+{variant}"
            spoken = partial(_espeak, say, voice)
            speakers.append(Speaker(language, voice, variant == HELD_OUT_VARIANT, spoken))
    return speakers


def _espeak(say: EspeakSay, voice: str, text: str, rate_wpm: int) -> tuple[F32, list[Phone]]:
    return say(text, voice, rate_wpm)


def make_set(
    out: Path,
    speakers: Sequence[Speaker],
    *,
    seed: int,
    seconds: float = SECONDS,
    on_progress: OnProgress,
) -> list[Utterance]:
    """Have every speaker say random words, and write the set.

    Args:
        out: the file.
        speakers: of `diphone_speakers` and `espeak_speakers`.
        seed: of what is said.
        seconds: of each speaker, at least.
        on_progress: called after each speaker.

    Raises:
        BackendError: a voice fails, or is not installed.
        OutputError: the file cannot be written.
    """
    utterances: list[Utterance] = []
    for index, speaker in enumerate(speakers):
        rng, said_s = np.random.default_rng([seed, index]), 0.0
        while said_s < seconds:
            utterances.append(_utterance(speaker, rng))
            said_s += len(utterances[-1].labels) / MEL_RATE_HZ
        on_progress("speak", index + 1, len(speakers))
    write_speech(out, utterances)
    return utterances


@dataclass(frozen=True)
class SpeechReport:
    """What went into a set of synthetic speech.

    Attributes:
        languages: how many.
        voices: how many, of which `held_out_voices` are for scores only.
        diphone_voices: of MBROLA, among them.
        minutes: of speech, silences included.
        closed_share: of the time in which lips are closed in speech.
        file_mb: in millions of bytes.
    """

    languages: int
    voices: int
    held_out_voices: int
    diphone_voices: int
    minutes: float
    closed_share: float
    file_mb: float


def write_speech_set(
    out: Path, say: EspeakSay, *, seed: int, seconds: float = SECONDS, on_progress: OnProgress
) -> SpeechReport:
    """Make a set with every MBROLA voice that is installed and espeak-ng's own; as `make_set`.

    Args:
        out: the file.
        say: has espeak-ng speak.
        seed: of what is said.
        seconds: of each voice, at least.
        on_progress: called after each voice.
    """
    diphones, formants = diphone_speakers(), espeak_speakers(say)
    made = make_set(out, [*diphones, *formants], seed=seed, seconds=seconds, on_progress=on_progress)
    labels = np.concatenate([one.labels for one in made])
    return SpeechReport(
        languages=len({one.language for one in made}),
        voices=len({one.voice for one in made}),
        held_out_voices=len({one.voice for one in made if one.held_out}),
        diphone_voices=len(diphones),
        minutes=len(labels) / MEL_RATE_HZ / 60,
        closed_share=float((labels == CLOSED).mean()),
        file_mb=out.stat().st_size / 1e6,
    )


def _utterance(speaker: Speaker, rng: Generator) -> Utterance:
    rate_wpm = int(rng.integers(*RATES_WPM))
    text = " ".join(sentence(speaker.language, rng) for _ in range(SENTENCES))
    samples, phones = speaker.say(text, rate_wpm)
    lead = int(LEAD_S * AUDIO_RATE_HZ)
    whole = HOP_SAMPLES * MELS_PER_STEP
    padded = np.pad(samples, (lead, lead + -(len(samples) + 2 * lead) % whole))
    mels = LogMel().offline(padded[None])[0]
    moved = [Phone(one.name, one.start_s + LEAD_S, one.end_s + LEAD_S) for one in phones]
    labels = lip_labels(moved, len(mels))
    return Utterance(speaker.language, speaker.voice, speaker.held_out, mels, labels)


def write_speech(out: Path, utterances: Iterable[Utterance]) -> None:
    """Write a set; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    tensors, about = {}, []
    for index, one in enumerate(utterances):
        about.append({"language": one.language, "voice": one.voice, "held_out": one.held_out})
        tensors[f"{index}.mels"] = pack_mels(one.mels, HEARD_STEP)
        tensors[f"{index}.labels"] = one.labels
    known = {"format": FORMAT, "version": VERSION, "utterances": json.dumps(about)}
    temporary = out.with_name(f".{out.name}.partial")
    try:
        save_file(tensors, temporary, known)
        temporary.replace(out)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {out}: {error}") from error


def read_speech(path: Path) -> list[Utterance]:
    """Every utterance of a set, in its order; the log-mels are rounded to 0.2.

    Raises:
        InputError: the file is missing, damaged, or no speech set of this version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT or about.get("version") != VERSION:
                raise InputError(f"{path} is no set of synthetic speech of version {VERSION}")
            return [
                Utterance(
                    str(known["language"]),
                    str(known["voice"]),
                    bool(known["held_out"]),
                    unpack_mels(file.get_tensor(f"{index}.mels"), HEARD_STEP),
                    file.get_tensor(f"{index}.labels"),
                )
                for index, known in enumerate(json.loads(about["utterances"]))
            ]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read the speech set {path}: {error}") from error
