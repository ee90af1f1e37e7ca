"""Sound as it arrives: log-mels of speech disturbed, and of everything that is no speech.

All on log-mels, so that a training set needs no sound: rooms and codecs are approximated by what they do to
the power in a band.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from engine.arrays import F32, F64
from engine.audio.logmel import HOP_SAMPLES, LogMel
from engine.expression.audio import MEL_BANDS, SILENCE
from engine.timing import AUDIO_RATE_HZ, MEL_RATE_HZ

QUIETER_NEPERS = (2.5, 8.0)  # a voice behind the voice, 11 to 35 dB below
LOWEST_CODEC_BAND = 52  # about 4 kHz
VOICES = 8  # that make a babble


def disturbed(mels: F32, rng: Generator, others: Sequence[F32]) -> F32:
    """Speech in another throat, at another level, in a room, over noise, a voice or a codec.

    Args:
        mels: float32 [T, 80].
        rng: decides.
        others: log-mels of other voices.

    Returns:
        float32 [T, 80].
    """
    tilt = np.cumsum(rng.normal(0, 0.07, MEL_BANDS))
    heard = warped(mels, rng.uniform(0.84, 1.2)) + rng.normal(0, 1.4) + tilt
    if rng.random() < 0.3:
        heard = reverberant(heard, decay_s=rng.uniform(0.15, 0.8), wet=rng.uniform(0.1, 0.6))
    if rng.random() < 0.6:
        heard = np.logaddexp(heard, _background(len(heard), rng, others))
    if rng.random() < 0.25:
        heard[:, int(rng.integers(LOWEST_CODEC_BAND, 74)) :] = SILENCE + rng.exponential(0.3)
    for _ in range(2):
        if rng.random() < 0.4:
            start, band = int(rng.integers(len(heard))), int(rng.integers(70))
            heard[start : start + int(rng.integers(20, 200)), band : band + int(rng.integers(4, 14))] = -9.0
        if rng.random() < 0.2:
            start = int(rng.integers(len(heard)))
            heard[start : start + int(rng.integers(3, 9))] = SILENCE
    return np.asarray(np.maximum(heard, SILENCE), np.float32)


def warped(mels: F32 | F64, factor: float) -> F64:
    """Another length of the vocal tract: bands [T, 80] moved by a factor along their axis."""
    position = np.clip(np.arange(mels.shape[1]) * factor, 0, mels.shape[1] - 1)
    low = np.minimum(position.astype(int), mels.shape[1] - 2)
    share = position - low
    return np.asarray(mels[:, low] * (1 - share) + mels[:, low + 1] * share, np.float64)


def reverberant(mels: F64, *, decay_s: float, wet: float) -> F64:
    """A room: behind each moment's power [T, 80] an exponential tail that falls by 60 dB in `decay_s`."""
    power = np.exp(mels)
    keep = float(np.exp(-np.log(1e6) / (decay_s * MEL_RATE_HZ)))
    tail = np.zeros(mels.shape[1])
    result = np.empty_like(power)
    for index, now in enumerate(power):
        result[index] = now + wet * tail
        tail = keep * tail + (1 - keep) * now
    return np.asarray(np.log(result), np.float64)


def not_speech(length: int, rng: Generator, others: Sequence[F32]) -> F32:
    """Sound that no mouth of ours makes, float32 [length, 80]: silence, noise, breath, music, far babble."""
    kinds: tuple[Callable[[], F64], ...] = (
        lambda: np.full((length, MEL_BANDS), SILENCE),
        lambda: _noise(length, rng, rng.uniform(SILENCE, -4)),
        lambda: _noise(length, rng, rng.uniform(SILENCE, -4)),
        lambda: _breath(length, rng),
        lambda: _music(length, rng),
        lambda: _babble(length, rng, others),
    )
    made = kinds[int(rng.integers(len(kinds)))]()
    return np.asarray(np.maximum(made, SILENCE), np.float32)


def _background(length: int, rng: Generator, others: Sequence[F32]) -> F64:
    if rng.random() < 0.4:
        return np.asarray(_voice(length, rng, others) - rng.uniform(*QUIETER_NEPERS), np.float64)
    return _noise(length, rng, rng.uniform(-13, -6))


def _noise(length: int, rng: Generator, level: float) -> F64:
    colour = np.cumsum(rng.normal(0, 0.15, MEL_BANDS))
    swell = np.cumsum(rng.normal(0, 0.05, length))[:, None]
    return np.asarray(level + colour + swell + rng.normal(0, 0.45, (length, MEL_BANDS)), np.float64)


def _breath(length: int, rng: Generator) -> F64:
    phase = 2 * np.pi * np.arange(length) / MEL_RATE_HZ / rng.uniform(1.2, 4) + rng.uniform(0, 2 * np.pi)
    swell = np.maximum(0, np.sin(phase))[:, None] * rng.uniform(4, 9)
    return np.asarray(np.logaddexp(_noise(length, rng, -12.5), _noise(length, rng, SILENCE) + swell))


def _babble(length: int, rng: Generator, others: Sequence[F32]) -> F64:
    voices = np.logaddexp.reduce([_voice(length, rng, others) for _ in range(VOICES)])
    return np.asarray(voices - rng.uniform(5, 9), np.float64)


def _music(length: int, rng: Generator) -> F64:
    """Chords and drums: float64 [length, 80]."""
    time_s = np.arange(length * HOP_SAMPLES) / AUDIO_RATE_HZ
    sound, beat_s = np.zeros(len(time_s)), rng.uniform(0.25, 0.6)
    for start_s in np.arange(0, time_s[-1], beat_s):
        since_s = time_s - start_s
        loudness = (since_s > 0) * np.exp(-np.maximum(since_s, 0) / rng.uniform(0.1, 0.8))
        for pitch_hz in 110 * 2 ** (rng.choice(36, 3) / 12):
            overtones = (np.sin(2 * np.pi * pitch_hz * n * time_s) / n**1.3 for n in range(1, 5))
            sound += loudness * sum(overtones)
        if rng.random() < 0.6:
            sound += loudness**6 * rng.normal(0, 1.5, len(time_s))
    sound *= 10 ** -rng.uniform(0.8, 2.2) / np.abs(sound).max()
    return np.asarray(LogMel().offline(sound.astype(np.float32)[None])[0], np.float64)


def _voice(length: int, rng: Generator, others: Sequence[F32]) -> F64:
    """`length` frames of other voices, one after the other; silence if there is none."""
    pieces: list[F32] = [np.zeros((0, MEL_BANDS), np.float32)]
    have = 0
    while have < length and others:
        voice = others[int(rng.integers(len(others)))]
        pieces.append(voice[int(rng.integers(max(1, len(voice) - length))) :])
        have += len(pieces[-1])
    whole = np.concatenate(pieces)[:length]
    return np.pad(whole.astype(np.float64), ((0, length - len(whole)), (0, 0)), constant_values=SILENCE)
