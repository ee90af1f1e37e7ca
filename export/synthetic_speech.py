"""Synthetic speech with known phoneme times: it teaches lips to close on /p b m/, to open on wide vowels.

Footage says how lips move, but a network that is unsure answers with the mean, and a lip closure that
stays half open is what viewers notice first. A synthesiser knows when each sound begins: the answer is sure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, Array
from engine.audio.logmel import LogMel
from engine.audio.resample import Resampler
from engine.timing import AUDIO_RATE_HZ, MEL_RATE_HZ

CLOSED, OPEN = ("p", "b", "m"), ("a", "ɑ", "æ", "ɐ")
STRESS = "ˈˌ"
HOLD_START_S, HOLD_END_S = (
    0.01,
    0.02,
)  # the lips meet a little after the phoneme's mark, and part before its end
LONGEST_S = 0.2
LANGUAGES = ("en-us", "de", "fr", "es", "it", "pt", "pl", "ru", "hi")
VARIANTS = ("", "+f1", "+f2", "+f3", "+f4", "+m1", "+m3", "+m5", "+m7")
SENTENCES = {
    "en": (
        "My mother may be back by Monday morning.",
        "People brought apples, bread and a bottle of beer.",
        "We hope that the problem can be stopped before summer.",
        "The empty bus came up the hill and stopped at the museum.",
    ),
    "de": (
        "Am Montag bleiben meine Eltern bei uns.",
        "Bitte bringen Sie mir einen Apfel und ein Glas Milch.",
    ),
    "fr": ("Mon ami m'a promis un beau bouquet pour maman.", "Il ne faut pas partir avant le petit matin."),
    "es": ("Mi hermano compra pan blanco por la mañana.", "Hablamos mucho tiempo sobre el problema."),
    "it": ("Mamma prepara una buona zuppa per il bambino.", "Il pomeriggio andiamo al mare con gli amici."),
    "pt": ("Minha mãe comprou uma bela lâmpada.", "Amanhã vamos beber um bom copo de vinho."),
    "pl": ("Mój brat pije bardzo mocną kawę.", "Proszę mi powiedzieć, gdzie jest apteka."),
    "ru": ("Моя мама купила белый хлеб.", "Мы были в парке и видели большую рыбу."),
    "hi": ("मेरा भाई बाज़ार में फल बेचता है।", "हम कल सुबह मुंबई पहुँचेंगे।"),
}
ONSETS = ("p", "b", "m", "p", "b", "m", "t", "d", "n", "k", "g", "s", "l", "r", "f", "v")
VOWELS = ("a", "a", "e", "i", "o", "u", "ai", "au")

# (samples, their rate, [(start in ms, IPA)]) of a text and a voice
Speak = Callable[[str, str], tuple[F32, int, Sequence[tuple[int, str]]]]


@dataclass(frozen=True)
class SyntheticClip:
    """An utterance.

    Attributes:
        mels: float32 [M, 80] at 100 Hz.
        closed: float32 [M], 1 where lips must be closed.
        open: float32 [M], 1 inside wide vowels.
    """

    mels: F32
    closed: F32
    open: F32


def utterances(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts and voices: sentences in several languages, and made-up words full of closures."""
    rng = np.random.default_rng(seed)
    result = []
    for index in range(count):
        language = LANGUAGES[int(rng.integers(len(LANGUAGES)))]
        known = SENTENCES[language[:2]]
        latin = language not in {"ru", "hi"}
        text = _words(rng) if latin and index % 2 == 0 else known[int(rng.integers(len(known)))]
        result.append((text, language + VARIANTS[int(rng.integers(len(VARIANTS)))]))
    return result


def _words(rng: np.random.Generator) -> str:
    def syllable() -> str:
        return ONSETS[int(rng.integers(len(ONSETS)))] + VOWELS[int(rng.integers(len(VOWELS)))]

    return " ".join("".join(syllable() for _ in range(int(rng.integers(2, 4)))) for _ in range(8))


def synthesise(text: str, voice: str, speak: Speak) -> SyntheticClip:
    """Speak a text, and label its frames."""
    samples, rate_hz, phonemes = speak(text, voice)
    heard = _resampled(samples, rate_hz)
    mels = LogMel().offline(heard[: len(heard) // 640 * 640][None])[0]
    closed, opened = np.zeros(len(mels), np.float32), np.zeros(len(mels), np.float32)
    ends = [start for start, _ in phonemes[1:]] + [int(1000 * len(heard) / AUDIO_RATE_HZ)]
    for (start_ms, ipa), end_ms in zip(phonemes, ends, strict=True):
        sound = ipa.strip(STRESS)[:1]
        begin, end = (
            start_ms / 1000 + HOLD_START_S,
            min(end_ms / 1000, start_ms / 1000 + LONGEST_S) - HOLD_END_S,
        )
        frames = slice(
            round(begin * MEL_RATE_HZ), max(round(begin * MEL_RATE_HZ) + 2, round(end * MEL_RATE_HZ))
        )
        if sound in CLOSED:
            closed[frames] = 1
        elif sound in OPEN and end - begin > 0.05:
            opened[frames] = 1
    return SyntheticClip(mels, closed, opened)


def _resampled(samples: F32, rate_hz: int) -> F32:
    if rate_hz == AUDIO_RATE_HZ:
        return samples
    resampler = Resampler(rate_hz, AUDIO_RATE_HZ)
    block = resampler.spec.block_size
    late = int(resampler.spec.latency * resampler.spec.output_ratio)
    whole = np.pad(samples, (0, -len(samples) % block + 2 * block))
    return np.asarray(resampler.offline(whole[None].astype(np.float32))[0][late:], np.float32)


def labels_at(values: F32, times_s: Array) -> F32:
    """Labels at media times, 0 outside the clip."""
    frame = np.round(np.asarray(times_s) * MEL_RATE_HZ).astype(int)
    inside = (frame >= 0) & (frame < len(values))
    return np.where(inside, values[np.clip(frame, 0, len(values) - 1)], 0).astype(np.float32)
