"""Speech from text by espeak-ng, for a demonstration that needs neither a network nor a voice model.

espeak-ng keeps its state in globals and may end its process on bad data, so it runs in a child process:
`python -m clients.demo.speech` reads one JSON line, writes a WAV file and answers with one JSON line. The
child works in the library's own folder, because espeak-ng cuts the path of its data after 160 bytes.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.arrays import F32
from engine.errors import BackendError, BackendUnavailable, InputError

RATE_WPM = 165
RATE_LIMITS_WPM = (80, 450)  # espeakRATE_MINIMUM and espeakRATE_MAXIMUM of speak_lib.h
MAX_TEXT = 1000
MAX_SPEECH_S = 60.0
LEAD_IN_MS = 200
LEAD_OUT_MS = 400
CHILD_LIMIT_S = 60.0

_VOICE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,10}){0,3}(\+[A-Za-z0-9]{1,16})?")
_ALIASES = {"zh": "cmn", "en": "en-us", "no": "nb"}  # espeak-ng has no voice of that exact name

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS
_OPTIONS = 0x0001 | 0x0002 | 0x8000  # phoneme events, named in IPA; do not exit when the data is missing
_UTF8 = 1
_RATE_PARAMETER = 1
_PHONEME_EVENT = 7
_BLOCK_MS = 60
_SEED = 1  # of the breath in some variants; else it is the time of day


@dataclass(frozen=True)
class Voice:
    """One voice that can speak.

    Attributes:
        code: what `speak` takes, much like a BCP 47 tag.
        name: the language, in English.
    """

    code: str
    name: str


@dataclass(frozen=True)
class Phoneme:
    """One sound of the speech.

    Attributes:
        ipa: its name in IPA, with stress marks.
        start_ms: when it begins, from the start of the samples.
    """

    ipa: str
    start_ms: int


@dataclass(frozen=True, eq=False)
class Speech:
    """Spoken text; it begins and ends with silence.

    Attributes:
        samples: float32 [T], -1..1.
        rate_hz: samples per second.
        phonemes: in order of time.
    """

    samples: F32
    rate_hz: int
    phonemes: tuple[Phoneme, ...]

    @property
    def duration_s(self) -> float:
        """Length with the silences, s."""
        return len(self.samples) / self.rate_hz

    def __repr__(self) -> str:
        return f"Speech({self.duration_s:.2f} s at {self.rate_hz} Hz, {len(self.phonemes)} phonemes)"


def speak(text: str, voice: str = "en-us", *, rate_wpm: int = RATE_WPM) -> Speech:
    """Speak a text. Safe to call from any thread: every call is a process of its own.

    Args:
        text: plain text, 1 to `MAX_TEXT` characters; mark-up is read out, not obeyed.
        voice: a code of `voices()`, optionally with a variant of espeak-ng: "en-us+f3".
        rate_wpm: nominal words per minute, 80 to 450.

    Raises:
        InputError: nothing to say, too much to say, or no such voice or rate.
        BackendUnavailable: espeak-ng is not installed.
        BackendError: espeak-ng failed.
    """
    text = checked_text(text)
    if not RATE_LIMITS_WPM[0] <= rate_wpm <= RATE_LIMITS_WPM[1]:
        raise InputError(
            f"the rate of speech must be {RATE_LIMITS_WPM[0]} to {RATE_LIMITS_WPM[1]} words a minute"
        )
    with tempfile.TemporaryDirectory(prefix="livedub-speech-") as folder:
        out = Path(folder) / "speech.wav"
        answer = _ask({"text": text, "voice": _checked_voice(voice), "rate_wpm": rate_wpm, "out": str(out)})
        samples, rate_hz = _read_wav(out)
    if not np.any(samples):
        raise InputError(
            f"voice {voice!r} finds nothing to pronounce in this text; choose the voice of its language"
        )
    phonemes = tuple(Phoneme(str(name), int(start)) for start, name in answer["phonemes"])
    return Speech(samples, rate_hz, phonemes)


def voices() -> tuple[Voice, ...]:
    """Return every voice, sorted by name.

    Raises:
        BackendUnavailable: espeak-ng is not installed.
        BackendError: espeak-ng failed.
    """
    found = {str(code): str(name).strip() for code, name in _ask({"list": True})["voices"]}
    return tuple(sorted((Voice(code, name) for code, name in found.items()), key=lambda voice: voice.name))


def checked_text(text: str) -> str:
    """Return the text as it will be spoken: no control characters, single spaces.

    Raises:
        InputError: nothing is left, or it is too long.
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not any(character.isalnum() for character in plain):
        raise InputError("there is nothing to say: write a sentence")
    if len(plain) > MAX_TEXT:
        raise InputError(f"the text has {len(plain)} characters; at most {MAX_TEXT} are spoken at once")
    return plain


def write_wav(path: str | os.PathLike[str], samples: F32, rate_hz: int) -> None:
    """Write float32 [T], -1..1, as 16-bit mono PCM."""
    whole = np.clip(np.round(np.asarray(samples, np.float32) * 32767.0), -32768, 32767).astype("<i2")
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(whole.tobytes())


def _checked_voice(voice: str) -> str:
    if not _VOICE.fullmatch(voice):
        raise InputError(f"{voice[:40]!r} is no voice; voices look like 'en-us', 'de' or 'pt-br+f3'")
    base, plus, variant = voice.partition("+")
    return _ALIASES.get(base.lower(), base) + plus + variant


def _read_wav(path: Path) -> tuple[F32, int]:
    with wave.open(str(path), "rb") as file:
        rate_hz = file.getframerate()
        whole = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return (whole / 32768.0).astype(np.float32), rate_hz


def _ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the child once."""
    command = [sys.executable, "-m", "clients.demo.speech"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request) + "\n",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=CHILD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"espeak-ng did not finish within {CHILD_LIMIT_S:.0f} s") from None
    except OSError as error:
        raise BackendError(f"cannot start the speech process: {error}") from error
    return _answer(done)


def _answer(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The child's answer, or its failure as one of our errors."""
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendError(f"the speech process ended with status {done.returncode}: {said[:200]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" not in answer:
        return answer
    kinds = {"input": InputError, "unavailable": BackendUnavailable}
    raise kinds.get(str(answer.get("kind")), BackendError)(str(answer["error"]))


# Everything below runs in the child only.


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


class _VoiceRecord(ctypes.Structure):
    """espeak_VOICE of speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Espeak:
    """The library, opened in this process."""

    def __init__(self) -> None:
        try:
            import espeakng_loader

            library, data = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
            self._library = ctypes.CDLL(str(library))
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendUnavailable(
                f"speech needs espeak-ng: pip install espeakng-loader ({error})"
            ) from error
        os.chdir(data.parent)
        self.rate_hz = int(self._library.espeak_Initialize(_SYNCHRONOUS, _BLOCK_MS, b".", _OPTIONS))
        if self.rate_hz <= 0:
            raise BackendError(f"espeak-ng cannot read its data in {data}")
        self._variants = data / "voices" / "!v"
        self._blocks: list[bytes] = []
        self._count = 0
        self._phonemes: list[tuple[int, str]] = []
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def voices(self) -> list[tuple[str, str]]:
        """Return code and name of every voice."""
        self._library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceRecord))
        records = self._library.espeak_ListVoices(None)
        found: list[tuple[str, str]] = []
        while records[len(found)]:
            record = records[len(found)].contents
            # A priority byte comes before the first language name.
            code = ctypes.string_at(record.languages + 1).decode("utf-8", "replace")
            found.append((code, record.name.decode("utf-8", "replace")))
        return found

    def synthesise(self, text: str, voice: str, rate_wpm: int) -> tuple[F32, list[tuple[int, str]]]:
        """Return float32 [T] and the phonemes as (start ms, IPA)."""
        base, _, variant = voice.partition("+")
        known = not variant or (self._variants / variant).is_file()  # unknown ones are passed over in silence
        if not known or self._library.espeak_SetVoiceByName(voice.encode("ascii")) != 0:
            raise InputError(f"espeak-ng has no voice {voice!r}" + ("" if known else f"; {base!r} may exist"))
        self._library.espeak_SetParameter(_RATE_PARAMETER, rate_wpm, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
        content = text.encode("utf-8") + b"\0"
        size = ctypes.c_size_t(len(content))
        status = self._library.espeak_Synth(content, size, 0, 1, 0, _UTF8, None, None)
        if status != 0:
            raise BackendError(f"espeak-ng failed with status {status}")
        if self._count > MAX_SPEECH_S * self.rate_hz:
            raise InputError(f"the text takes longer than {MAX_SPEECH_S:.0f} s to say; shorten it")
        samples = np.frombuffer(b"".join(self._blocks), np.int16)
        return (samples / 32768.0).astype(np.float32), self._phonemes

    def _receive(self, block: Any, count: int, events: Any) -> int:
        """Collect one block; 1 stops the synthesis."""
        if block and count > 0:
            self._blocks.append(ctypes.string_at(block, 2 * count))
            self._count += count
        index = 0
        while events[index].type != 0:
            event = events[index]
            if event.type == _PHONEME_EVENT:
                name = event.id.string.decode("utf-8", "ignore").strip()
                self._phonemes.append((event.audio_position, name))
            index += 1
        return int(self._count > MAX_SPEECH_S * self.rate_hz)


def _serve(request: Mapping[str, Any]) -> dict[str, Any]:
    out = os.path.abspath(request.get("out", ""))  # before the library's folder becomes the current one
    espeak = _Espeak()
    if request.get("list"):
        return {"voices": espeak.voices()}
    samples, phonemes = espeak.synthesise(request["text"], request["voice"], request["rate_wpm"])
    lead_in, lead_out = (ms * espeak.rate_hz // 1000 for ms in (LEAD_IN_MS, LEAD_OUT_MS))
    write_wav(out, np.pad(samples, (lead_in, lead_out)), espeak.rate_hz)
    return {"phonemes": [(start + LEAD_IN_MS, name) for start, name in phonemes if name]}


def _child() -> int:
    """Answer one request."""
    answer: dict[str, Any]
    try:
        answer = _serve(json.loads(sys.stdin.readline()))
    except InputError as error:
        answer = {"error": str(error), "kind": "input"}
    except BackendUnavailable as error:
        answer = {"error": str(error), "kind": "unavailable"}
    except (BackendError, OSError) as error:
        answer = {"error": str(error), "kind": "backend"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_child())
