"""espeak-ng as a speaker of synthetic speech: sound at the model's rate, phones where they sound."""

import numpy as np

from clients.demo.speech import LEAD_OUT_MS, speak
from engine.arrays import F32
from engine.audio.resample import Resampler
from engine.timing import AUDIO_RATE_HZ
from export.phones import Phone, from_espeak


def espeak_say(text: str, voice: str, rate_wpm: int) -> tuple[F32, list[Phone]]:
    """Speak a text; arguments and what it raises as of `clients.demo.speech.speak`.

    Returns:
        Samples float32 [T] at 16 kHz, and the phones, in IPA.
    """
    speech = speak(text, voice, rate_wpm=rate_wpm)
    end_s = speech.duration_s - LEAD_OUT_MS / 1000
    phones = from_espeak([(one.ipa, one.start_ms / 1000) for one in speech.phonemes], end_s)
    resampler = Resampler(speech.rate_hz, AUDIO_RATE_HZ)
    whole = np.pad(speech.samples, (0, -len(speech.samples) % resampler.spec.block_size))
    return np.asarray(resampler.offline(whole[None])[0], np.float32), phones
