"""Speech of recorded diphones with exact times: MBROLA voices, where they are installed.

espeak-ng turns text into phonemes with durations, mbrola makes sound of just these. Both are programs of
their own (Debian: espeak-ng, mbrola, mbrola-us1 and so on); nothing here needs them unless it is called.
"""

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from engine.arrays import F32
from engine.audio.resample import Resampler
from engine.errors import BackendError, BackendUnavailable
from engine.timing import AUDIO_RATE_HZ
from export.phones import Phone

VOICES_DIR = Path("/usr/share/mbrola")
LIMIT_S = 60.0
OTHER_NAMES = {
    "br": {"y": "j", "j": "Z", "s2": "S", "lh": "L"},
    "in": {"y": "j", "c": "tS", "ch": "tS", "sh": "S"},
    "nl": {"w": "P"},
}  # of some voices, which do not follow SAMPA


def installed(voice: str) -> bool:
    """Whether a voice, such as "us1", can speak here."""
    programs = shutil.which("espeak-ng") and shutil.which("mbrola")
    return bool(programs) and (VOICES_DIR / voice / voice).is_file()


def say(text: str, voice: str, rate_wpm: int, pitch_ratio: float = 1.0) -> tuple[F32, list[Phone]]:
    """Speak a text.

    Args:
        text: in the voice's language.
        voice: such as "us1".
        rate_wpm: nominal words per minute.
        pitch_ratio: of the voice's own pitch.

    Returns:
        Samples float32 [T] at 16 kHz, and the phones, in SAMPA.

    Raises:
        BackendUnavailable: the voice or a program is not installed.
        BackendError: a program fails.
    """
    if not installed(voice):
        raise BackendUnavailable(f"voice {voice} needs: apt-get install espeak-ng mbrola mbrola-{voice}")
    with tempfile.TemporaryDirectory(prefix="livedub-mbrola-") as folder:
        notes, out = Path(folder) / "text.pho", Path(folder) / "text.wav"
        _run("espeak-ng", "-q", "-v", f"mb-{voice}", "-s", str(rate_wpm), "--pho", f"--phonout={notes}", text)
        sounds = str(VOICES_DIR / voice / voice)
        _run("mbrola", "-e", "-f", f"{pitch_ratio:.2f}", sounds, str(notes), str(out))
        with wave.open(str(out), "rb") as file:
            rate_hz, whole = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
        phones = read_notes(
            notes.read_text(encoding="utf-8", errors="replace"), OTHER_NAMES.get(voice[:2], {})
        )
    samples = (whole / 32768.0).astype(np.float32)
    if rate_hz != AUDIO_RATE_HZ:
        resampler = Resampler(rate_hz, AUDIO_RATE_HZ)
        padded = np.pad(samples, (0, -len(samples) % resampler.spec.block_size))
        samples = np.asarray(resampler.offline(padded[None])[0], np.float32)
    return samples, phones


def read_notes(text: str, names: Mapping[str, str] = MappingProxyType({})) -> list[Phone]:
    """The phones of an MBROLA .pho file: a name, a duration in ms and pitches in each line.

    Args:
        text: of the file.
        names: what some of its names mean.
    """
    phones, start_s = [], 0.0
    for line in text.splitlines():
        fields = line.split(";")[0].split()
        if len(fields) >= 2:
            end_s = start_s + float(fields[1]) / 1000
            if end_s > start_s:
                phones.append(Phone(names.get(fields[0], fields[0]), start_s, end_s))
            start_s = end_s
    return phones


def _run(*command: str) -> None:
    try:
        subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise BackendError(f"{command[0]} failed: {error}") from error
