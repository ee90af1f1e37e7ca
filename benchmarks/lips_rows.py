"""What the suite `lips` measures: the rows of its study, one per clip or recording and look-ahead."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.lips_schema import FootageRow, ForeignRow, SilenceRow, SpeechRow, Trace
from clients.demo.speech import LEAD_OUT_MS, speak
from engine.arrays import F32, F64
from engine.audio.logmel import HOP_SAMPLES, LogMel
from engine.audio.resample import Resampler
from engine.errors import InputError, MediaError
from engine.expression.audio import MELS_PER_STEP, AudioToExpression, step_time_ms
from engine.expression.speech import SpeechToExpression
from engine.face.model import load_face_model
from engine.media import read_audio
from engine.timing import AUDIO_RATE_HZ, MEL_RATE_HZ
from export.audio_metrics import (
    LipMotion,
    compare,
    fitted,
    inside,
    lip_speed_mm_s,
    motion_of,
    phone_closures,
    silences,
)
from export.phone_check import belong
from export.phones import Phone, from_espeak, phones_beside, read_phones
from export.sync import correlation
from export.sync_net import SyncMeasure, mouth_geometry
from export.training_set import PackedClip

SENTENCES = {
    "en": (
        "en-us",
        "My mama may buy a map. Papa, pass a bag of pumpkins. Bobby, pop the big balloon before bed.",
    ),
    "de": ("de", "Mama malt am Abend. Papa packt am Samstag seine Mappe. Das Baby mag Bananen und Pudding."),
    "es": ("es", "Mi mamá ama la mañana. Papá compra pan para Ana. El bebé bebe un batido de banana."),
    "fr": ("fr", "Ma maman mange une pomme. Papa parle beaucoup. Le bébé boit un bon biberon de lait."),
    "it": ("it", "La mamma ama il mare. Papà compra il pane buono. Il bambino beve e poi balla molto."),
    "pt": ("pt-br", "Minha mãe ama a manhã. Papai compra pão para a menina. O bebê bebe um pouco de banana."),
    "pl": ("pl", "Mama ma mapę. Papa pije piwo po pracy. Babcia bardzo lubi małe białe bociany."),
    "ru": ("ru", "Мама мыла раму. Папа пил пиво после работы. Бабушка любит белый хлеб и молоко."),
    "hi": ("hi", "मेरी माँ बाज़ार में आम बेचती है। पापा पानी पीते हैं। बच्चा बहुत बड़ा बैग मांगता है।"),
    "zh": ("cmn", "妈妈买面包。爸爸不怕跑步。宝贝明天骑马,朋友帮忙搬苹果。"),
    "ja": ("ja", "ママはパンをもらいました。パパはぶどうをもってきます。まいばんビールをのみます。"),
    "ar": ("ar", "ماما تحب الماء. بابا يبيع البطاطا. باب المدرسة مفتوح مبكرا."),
}
NOISES_DBFS = {
    "digital silence": -np.inf,
    "white noise": -50.0,
    "brown noise": -40.0,
    "hum": -45.0,
    "music": -25.0,
}
NOISE_S, SETTLE_S, SEED = 4, 0.6, 0
TRACE_S, FOREIGN_S = 5, 20


Spoken = tuple[F32, F64]  # expressions [n, E] and their media times [n]


class Voice:
    """The audio-to-expression model at one look-ahead, average style.

    Args:
        look_ahead_ms: one of the engine's.
        model: the exported network; None is the shipped one.
    """

    def __init__(self, look_ahead_ms: int, model: bytes | None) -> None:
        self.look_ahead_ms, self._model = look_ahead_ms, model
        self._network = AudioToExpression(look_ahead_ms, model=model)

    def of_mels(self, mels: F32) -> Spoken:
        """What the network alone says of log-mels [M, 80]."""
        whole = mels[: len(mels) // MELS_PER_STEP * MELS_PER_STEP]
        said = self._network.offline(whole[None])[0]
        time_s = np.array([step_time_ms(step, self.look_ahead_ms) / 1000 for step in range(len(said))])
        return said[time_s >= 0], time_s[time_s >= 0]

    def of_samples(self, samples: F32) -> Spoken:
        """As in a dub, behind the voice detector: every 10 ms of samples [T] at 16 kHz."""
        talking = SpeechToExpression(AudioToExpression(self.look_ahead_ms, model=self._model))
        talking.push(np.pad(samples, (0, AUDIO_RATE_HZ)))
        time_s = np.arange(len(samples) * MEL_RATE_HZ // AUDIO_RATE_HZ) / MEL_RATE_HZ
        return np.stack([talking.at(float(t)).expression for t in time_s]), time_s


def footage_rows(
    clips: Sequence[PackedClip],
    languages: Mapping[str, str],
    voices: Sequence[Voice],
    measure: SyncMeasure | None,
) -> Iterator[tuple[FootageRow, Trace]]:
    """Unseen people: prediction against their own mouths.

    Args:
        clips: with sound that is the mouth's.
        languages: by path as in the clips; see `languages_of`.
        voices: one for each look-ahead.
        measure: of sync; None leaves that out.
    """
    face = load_face_model()
    sounds = [mels for clip in clips if (mels := clip.log_mels()) is not None]
    for index, clip in enumerate(clips):
        expression, time_s = fitted(clip, face)
        mels, wrong = sounds[index], sounds[(index + 1) % len(sounds)]
        real, silent = motion_of(expression, time_s, face), silences(mels)
        judged = measure and measure.score(mels, mouth_geometry(expression, face), time_s)
        for voice in voices:
            said, said_s = voice.of_mels(mels)
            motion = motion_of(said, said_s, face)
            score = compare(motion, real, silent)
            ours = measure and measure.score(mels, mouth_geometry(said, face), said_s)
            other = motion_of(*voice.of_mels(wrong), face).opening
            yield (
                FootageRow(
                    clip=clip.clip.path.stem,
                    identity=clip.clip.identity,
                    language=languages.get(clip.clip.path.as_posix(), ""),
                    look_ahead_ms=voice.look_ahead_ms,
                    **msgspec.structs.asdict(score),
                    wrong_correlation=_overlapping(other, real.opening),
                    sync_confidence=ours.confidence if ours else None,
                    sync_real=judged.confidence if judged else None,
                    sync_hits=ours.hits if ours else None,
                    sync_hits_real=judged.hits if judged else None,
                    sync_offset_ms=ours.offset_ms if ours else None,
                ),
                _trace(clip.clip.path.stem, motion, real, score.correlation or 0.0),
            )


def languages_of(folder: Path) -> dict[str, str]:
    """Language by file of a folder's manifest.csv, if it has one; "und (mostly en)" counts as English."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        return {}
    with manifest.open(newline="") as file:
        return {row["file"]: _language(row.get("language", "")) for row in csv.DictReader(file)}


def _language(name: str) -> str:
    return "en" if "en" in name else "" if name.startswith("und") else name


def _overlapping(a: F64, b: F64) -> float | None:
    count = min(len(a), len(b))
    return correlation(a[:count], b[:count])


def _trace(name: str, said: LipMotion, real: LipMotion, r: float) -> Trace:
    """The five seconds of which both know most; of equals, those in the middle."""
    count, length = min(len(said), len(real)), TRACE_S * MEL_RATE_HZ
    known = np.isfinite(said.opening[:count]) & np.isfinite(real.opening[:count])
    totals = np.convolve(known, np.ones(min(length, count)), "valid")
    best = np.flatnonzero(totals == totals.max())
    first = int(best[len(best) // 2])
    part = slice(first, min(count, first + length))
    ours, true = (
        [round(value, 4) if np.isfinite(value) else None for value in one.opening[part].tolist()]
        for one in (said, real)
    )
    return Trace(clip=name, start_s=first / MEL_RATE_HZ, correlation=r, real=true, said=ours)


def real_silence(clips: Sequence[PackedClip]) -> tuple[float | None, float]:
    """Mean speed of real lips where nobody speaks, mm/s, and how many seconds that is from."""
    face = load_face_model()
    speeds, seconds = [], []
    for clip in clips:
        mels = clip.log_mels()
        silent = [] if mels is None else silences(mels)
        if silent:
            motion = motion_of(*fitted(clip, face), face)
            where = inside(silent, len(motion)) & np.isfinite(motion.opening)
            speed = lip_speed_mm_s(motion.lips, where)
            if speed is not None:
                speeds.append(speed)
                seconds.append(float(where.sum()) / MEL_RATE_HZ)
    return (float(np.average(speeds, weights=seconds)) if speeds else None), float(np.sum(seconds))


def synthetic_rows(languages: Sequence[str], voices: Sequence[Voice]) -> Iterator[SpeechRow]:
    """Closures on synthetic speech.

    Raises:
        BackendUnavailable: espeak-ng is not installed.
    """
    for language in languages:
        voice_name, text = SENTENCES[language]
        speech = speak(text, voice_name)
        end_s = speech.duration_s - LEAD_OUT_MS / 1000
        phones = from_espeak([(p.ipa, p.start_ms / 1000) for p in speech.phonemes], end_s)
        samples = resampled(speech.samples, speech.rate_hz)
        for voice in voices:
            yield _speech_row(f"espeak {voice_name}", language, phones, samples, voice, synthetic=True)


def aligned_rows(folder: Path, voices: Sequence[Voice]) -> Iterator[SpeechRow]:
    """Closures on a folder's recordings with phone times beside them that belong to them.

    Names begin with a language.
    """
    for path in sorted(folder.glob("*.wav")):
        beside = phones_beside(path)
        try:
            phones = read_phones(beside) if beside else []
        except InputError:  # word times only
            continue
        samples = read_audio(path, AUDIO_RATE_HZ) if phones else np.zeros(0, np.float32)
        whole = samples[: len(samples) // HOP_SAMPLES * HOP_SAMPLES]
        fit = len(whole) > 0 and belong(phones, LogMel().offline(whole[None])[0])
        for voice in voices if fit else ():
            yield _speech_row(path.stem, path.name[:2], phones, samples, voice, synthetic=False)


def _speech_row(
    name: str, language: str, phones: Sequence[Phone], samples: F32, voice: Voice, *, synthetic: bool
) -> SpeechRow:
    said = motion_of(*voice.of_samples(samples), load_face_model())
    return SpeechRow(
        name=name,
        language=language,
        synthetic=synthetic,
        look_ahead_ms=voice.look_ahead_ms,
        **asdict(phone_closures(said.opening, phones)),
    )


def foreign_rows(folder: Path, voices: Sequence[Voice], measure: SyncMeasure) -> Iterator[ForeignRow]:
    """The sync measure on what is predicted for the recordings of a folder; at most 20 s of each."""
    face = load_face_model()
    for path in sorted(one for one in folder.glob("*") if one.suffix in {".wav", ".mp3", ".flac"}):
        try:
            samples = read_audio(path, AUDIO_RATE_HZ)[: FOREIGN_S * AUDIO_RATE_HZ]
        except MediaError:
            continue
        mels = LogMel().offline(samples[None, : len(samples) // HOP_SAMPLES * HOP_SAMPLES])[0]
        for voice in voices:
            said, said_s = voice.of_mels(mels)
            score = measure.score(mels, mouth_geometry(said, face), said_s)
            if score is not None:
                yield ForeignRow(
                    name=path.stem,
                    language=path.name[:2],
                    look_ahead_ms=voice.look_ahead_ms,
                    sync_confidence=score.confidence,
                    sync_hits=score.hits,
                )


def silence_rows(voices: Sequence[Voice]) -> Iterator[SilenceRow]:
    """Lips while nobody speaks, by the network alone and behind the voice detector, after 0.6 s to settle."""
    face = load_face_model()
    for kind, level_dbfs in NOISES_DBFS.items():
        samples = noise(kind, level_dbfs)
        mels = LogMel().offline(samples[None])[0]
        for voice in voices:
            for gated, spoken in ((False, voice.of_mels(mels)), (True, voice.of_samples(samples))):
                motion = motion_of(*spoken, face)
                settled = inside([(SETTLE_S, NOISE_S)], len(motion)) & np.isfinite(motion.opening)
                yield SilenceRow(
                    kind=kind,
                    look_ahead_ms=voice.look_ahead_ms,
                    gated=gated,
                    speed_mm_s=lip_speed_mm_s(motion.lips, settled) or 0.0,
                    widest_cm=float(motion.opening[settled].max()),
                )


def noise(kind: str, level_dbfs: float) -> F32:
    """Four seconds at 16 kHz of a kind in `NOISES_DBFS`, at an rms level; the same every time."""
    rng, count = np.random.default_rng(SEED), NOISE_S * AUDIO_RATE_HZ
    at = np.arange(count) / AUDIO_RATE_HZ
    if kind == "hum":
        sound = sum(np.sin(2 * np.pi * 50 * k * at) / k for k in range(1, 12))
    elif kind == "music":
        sound = _chords(at)
    else:
        sound = rng.standard_normal(count)
        sound = np.cumsum(sound - sound.mean()) if kind == "brown noise" else sound
    sound = np.asarray(sound, np.float64) - np.mean(sound)
    return np.asarray(sound / np.sqrt(np.mean(sound**2)) * 10 ** (level_dbfs / 20), np.float32)


def _chords(at: F64) -> F64:
    """Plucked triads, one every 0.4 s."""
    sound = np.zeros(len(at))
    for beat, root in enumerate((220.0, 174.6, 261.6, 196.0) * 3):
        since = at - 0.4 * beat
        decay = np.where(since >= 0, np.exp(-4 * np.maximum(since, 0)), 0)
        for ratio in (1.0, 1.26, 1.5):
            sound += decay * sum(np.sin(2 * np.pi * root * ratio * k * at) / k**2 for k in range(1, 5))
    return sound


def resampled(samples: F32, rate_hz: int) -> F32:
    """Samples [T] at any rate as samples at 16 kHz."""
    resampler = Resampler(rate_hz, AUDIO_RATE_HZ)
    whole = np.pad(samples, (0, -len(samples) % resampler.spec.block_size))
    return np.asarray(resampler.offline(whole[None])[0], np.float32)
