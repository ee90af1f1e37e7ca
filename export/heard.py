"""A clip's sound as others would hear it: another voice, a room, noise, a phone call; on the waveform.

What `export.audio_augment` does on log-mels is approximate where it counts: a codec is more than missing
bands, and pitch moves harmonics, not bands. So each clip that is learned from is packed a few times over,
disturbed here, and the sampler draws among these before it disturbs further. Nothing here moves a sound in
time by more than about 10 ms.

What it is worth, in networks without teachers after 160 steps (correlation at 120 ms, means of two seeds: 16
people left out, dev people; the second pair with Opus at 16 kbit/s and 3 % of the packets lost):

- none: .599, .637; .584, .615
- 60 % of the sounds: .569, .625; .547, .600
- the same, and after it only level and tilt are disturbed further: .594, .629; .578, .611
- 25 % (one seed): .582, .648; .564, .627

So two voices on top of each other, pitch here and throat length there, are too much, and what log-mels alone
can be put through makes a network as firm against calls. Take little of it.
"""

import numpy as np
from numpy.random import Generator

from engine.arrays import F32, F64
from engine.media.opus import PACKET_SAMPLES, through_opus
from engine.timing import AUDIO_RATE_HZ

VARIANTS = 3
PITCH_SEMITONES = 4.0
BIT_RATES_BPS = (16_000, 20_000, 24_000, 32_000)
MOST_LOST = 0.06  # of the packets, in bursts
BURST_PACKETS = 2.0  # mean length
WINDOW, HOP, SEARCH = 512, 256, 128  # samples, of the overlap-add: 32, 16 and 8 ms
DIRECT_S = 0.0025  # after the direct sound, before any other
LOUDEST = 0.98


def heard(samples: F32, rng: Generator) -> F32:
    """Speech float32 [T] at 16 kHz, as somebody else's, somewhere else; of the same length and timing."""
    sound = samples.astype(np.float64)
    if rng.random() < 0.7:
        sound = pitched(sound, rng.uniform(-PITCH_SEMITONES, PITCH_SEMITONES))
    if rng.random() < 0.5:
        sound = in_room(sound, rng, decay_s=rng.uniform(0.15, 0.7), wet_db=rng.uniform(-14, 0))
    if rng.random() < 0.4:
        sound = with_noise(sound, rng, snr_db=rng.uniform(8, 30))
    sound = sound * 10 ** (rng.uniform(-12, 6) / 20)
    result = np.clip(sound, -LOUDEST, LOUDEST).astype(np.float32)
    if rng.random() < 0.75:
        packets = len(result) // PACKET_SAMPLES + 1
        lost = lost_packets(packets, rng.uniform(0, MOST_LOST) * (rng.random() < 0.5), rng)
        result = through_opus(result, int(rng.choice(BIT_RATES_BPS)), lost=lost)
    return result


def pitched(samples: F64, semitones: float) -> F64:
    """A voice higher or lower, formants with it: stretched in time, then played faster.

    Args:
        samples: float64 [T].
        semitones: upwards.

    Returns:
        float64 [T].
    """
    factor = 2 ** (semitones / 12)
    return _at_length(_stretched(samples, factor), len(samples))


def _stretched(samples: F64, factor: float) -> F64:
    """WSOLA (Verhelst and Roelands 1993): windows taken where they continue what was laid before."""
    length = round(len(samples) * factor)
    padded = np.pad(samples, (SEARCH, SEARCH + WINDOW + HOP))
    window = np.hanning(WINDOW + 1)[:-1]
    result, previous = np.zeros(length + 2 * WINDOW), 0
    for start in range(0, length, HOP):
        middle = max(0, round((start + WINDOW / 2) / factor - WINDOW / 2))
        wanted = padded[previous : previous + WINDOW] if start else None
        at = SEARCH if wanted is None else _best_start(padded[middle : middle + WINDOW + 2 * SEARCH], wanted)
        begin = middle + at
        piece = padded[begin : begin + WINDOW]
        result[start : start + len(piece)] += piece * window[: len(piece)]
        previous = min(begin + HOP, len(padded) - WINDOW)
    return result[:length]


def _best_start(around: F64, wanted: F64) -> int:
    if len(around) <= len(wanted):
        return 0
    return int(np.correlate(around, wanted, "valid").argmax())


def _at_length(samples: F64, length: int) -> F64:
    """The same sound in `length` samples, by its spectrum."""
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(length // 2 + 1, np.complex128)
    count = min(len(kept), len(spectrum))
    kept[:count] = spectrum[:count]
    return np.asarray(np.fft.irfft(kept, length) * (length / len(samples)), np.float64)


def in_room(samples: F64, rng: Generator, *, decay_s: float, wet_db: float) -> F64:
    """A room: the direct sound, then a few reflections and a tail of noise that gets darker as it decays.

    Args:
        samples: float64 [T].
        rng: decides where walls are.
        decay_s: until the tail has fallen by 60 dB.
        wet_db: energy of all but the direct sound against it.

    Returns:
        float64 [T], as loud as before.
    """
    count = int(decay_s * AUDIO_RATE_HZ)
    at_s = np.arange(count) / AUDIO_RATE_HZ
    tail = rng.normal(0, 1, count)
    dark = np.convolve(tail, np.ones(8) / 8, "same")
    share = np.minimum(1, at_s / decay_s)
    response = (tail * (1 - share) + dark * share) * 10 ** (-3 * at_s / decay_s)
    first = int(DIRECT_S * AUDIO_RATE_HZ)
    response[:first] = 0
    for delay in rng.integers(first, min(count, first + 400), 6):
        response[delay] += rng.choice([-1, 1]) * rng.uniform(2, 8) * 10 ** (-3 * at_s[delay] / decay_s)
    response *= 10 ** (wet_db / 20) / np.sqrt((response**2).sum())
    response[0] = 1
    size = len(samples) + count
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return np.asarray(wet * _level(samples) / _level(wet), np.float64)


def with_noise(samples: F64, rng: Generator, *, snr_db: float) -> F64:
    """Steady noise behind speech [T], its colour between white and brown, `snr_db` below the speech."""
    spectrum = np.fft.rfft(rng.normal(0, 1, len(samples)))
    hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / AUDIO_RATE_HZ), 40)
    noise = np.fft.irfft(spectrum * hz ** -rng.uniform(0, 1), len(samples))
    return np.asarray(samples + noise * _level(samples) / _level(noise) * 10 ** (-snr_db / 20), np.float64)


def lost_packets(count: int, share: float, rng: Generator) -> set[int]:
    """Which of `count` packets are lost, `share` of them on the mean, in bursts (Gilbert 1960)."""
    if share <= 0:
        return set()
    end, begin = 1 / BURST_PACKETS, share / (1 - share) / BURST_PACKETS
    lost, now = set(), False
    for index in range(count):
        now = rng.random() < ((1 - end) if now else begin)
        if now:
            lost.add(index)
    return lost


def _level(samples: F64) -> float:
    return float(np.sqrt(np.mean(samples**2))) + 1e-9
