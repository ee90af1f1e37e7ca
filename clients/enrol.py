"""The child process that learns an actor for the server: `livedub adapt` with its progress on a pipe.

It reads one JSON line, `{"video", "out", "name", "steps", "consent"}`, and writes JSON lines; see
`streaming.server.enrol`. It ends when its input is closed, so it never outlives the server.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import msgspec

from clients.demo import footage
from clients.options import needed_packages, now_iso
from engine.actor.consent import ConsentRecord
from engine.errors import InputError, LivedubError
from streaming.server.threads import one_blas_thread

STEPS = 60  # of adaptation, where the request names none: a minute or so on two cores
NICENESS = 10
SECONDS = 20.0  # of the video that is learned from
_WORDS = {
    "listen": ("Listening to the voice", 0.0, 0.05),
    "track": ("Following the face", 0.05, 0.2),
    "crop": ("Cutting out the mouth", 0.2, 0.25),
    "adapt": ("Learning the mouth", 0.25, 1.0),
}
Send = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Order:
    """What to learn, from what.

    Attributes:
        video: as it was recorded; any rate and size.
        out: the pack to write.
        name: the actor's.
        steps: of optimisation, None: `STEPS`.
        consent: of the person in the video.
    """

    video: Path
    out: Path
    name: str
    steps: int | None
    consent: ConsentRecord


def read_order(line: str) -> Order:
    """Return what a line asks for.

    Raises:
        InputError: it is no such line.
    """
    try:
        return msgspec.json.decode(line, type=Order, dec_hook=lambda kind, value: kind(value))
    except (msgspec.DecodeError, UnicodeError, TypeError, ValueError) as error:
        raise InputError(f"not an order: {error}") from None


def learn(order: Order, send: Send) -> Mapping[str, Any]:
    """Make the video even, learn, write the pack; returns the report.

    Raises:
        MediaError: the video cannot be read, or is too short.
        NoFaceError: it shows no face.
        OutputError: the pack cannot be written.
        AssetError: a model is missing.
        BackendUnavailable: learning needs torch.
    """
    even = order.video.with_name("even.mp4")
    prepared = footage.prepare(order.video, even, on_frame=_reading(send))
    with needed_packages():
        from export.adapt import AdaptOptions, adapt
    options = AdaptOptions(
        seconds=SECONDS,
        steps=STEPS if order.steps is None else order.steps,
        name=order.name,
        consent=order.consent,
    )
    frames = round(min(prepared.seconds, SECONDS) * footage.RATE)
    try:
        report = adapt(even, order.out, options, now_iso=now_iso(), on_progress=_Scale(send, frames))
    finally:
        footage.forget_tracks(even.parent, SECONDS)
        even.unlink(missing_ok=True)
    plain: Mapping[str, Any] = msgspec.to_builtins(report)
    return plain


def _reading(send: Send) -> Callable[[int], None]:
    def say(frames: int) -> None:
        if frames % 25 == 0:
            send(_progress("footage", f"Reading the video: {frames // 25} s", None))

    return say


class _Scale:
    """Turns adaptation's (stage, done, total) into one bar that never falls, at most one line per percent."""

    def __init__(self, send: Send, frames: int) -> None:
        self._send, self._frames, self._last = send, max(1, frames), -1.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        text, low, high = _WORDS.get(stage, (stage, 0.0, 0.0))
        fraction = low + (high - low) * min(1.0, done / max(1, total or self._frames))
        if fraction >= self._last + 0.01 or self._last < 0:
            self._last = fraction
            self._send(_progress(stage, text, round(fraction, 3)))


def _progress(step: str, text: str, fraction: float | None) -> dict[str, Any]:
    return {"event": "progress", "step": step, "text": text, "fraction": fraction}


def main() -> int:
    """Serve one order; lines go to the original stdout, what libraries print goes to stderr."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1) as lines:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        _give_way()
        line = sys.stdin.readline()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            report = learn(read_order(line), lambda event: _send(lines, event))
        except LivedubError as error:
            kind = "input" if isinstance(error, InputError) else "failure"
            _send(lines, {"event": "error", "kind": kind, "message": str(error)})
            return 2 if kind == "input" else 1
        _send(lines, {"event": "result", "report": report})
    return 0


def _give_way() -> None:
    """What is live comes first: one thread, and the least share of a core that is wanted elsewhere."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    one_blas_thread()
    with suppress(AttributeError, OSError):  # not on Windows
        os.nice(NICENESS)


def _send(lines: TextIO, event: Mapping[str, Any]) -> None:
    lines.write(json.dumps(event) + "\n")


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
