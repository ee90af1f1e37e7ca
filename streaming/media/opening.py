"""Opening a programme, bounded in time, with words for what goes wrong that hold no secret of its address."""

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError

from engine.errors import BackendUnavailable, MediaError
from streaming.media.address import Address

OPEN_S, READ_S = 5.0, 5.0  # without an answer, to the address and then to what it has; without data
SEGMENT_S = 12.0  # HLS may be at the end of what its server has: until the next segment
PROBE_US = 1_000_000  # of the programme, to learn what is in it
WORDS_CHARS = 120
_SLICE_S = 0.1
_SAID_BYTES = 4096


class LostError(MediaError):
    """A programme went away, or cannot be had now: it may come back."""


def read_s(address: Address) -> float:
    """How long a programme may give nothing."""
    return SEGMENT_S if address.scheme in {"http", "https"} else READ_S


@contextlib.contextmanager
def opened(address: Address, stop: Callable[[], bool]) -> Iterator[InputContainer]:
    """An allowed programme, to be read in this thread.

    Args:
        address: of it.
        stop: asked ten times a second by what only a pipe can be read from; else the time limits end a wait.

    Raises:
        LostError: it cannot be opened.
        BackendUnavailable: a program is missing that is needed for it.
    """
    if address.scheme == "srt":
        with _srt(address, stop) as pipe, _container(address, pipe, format="mpegts") as container:
            yield container
        return
    with _container(address, address.name) as container:
        yield container


@contextlib.contextmanager
def told(address: Address, limit_s: float, doing: str) -> Iterator[None]:
    """FFmpeg's errors as ours.

    Raises:
        LostError: what is done in here failed.
    """
    began_s = time.monotonic()
    try:
        yield
    except (FFmpegError, OSError, ValueError) as error:
        waited_s = time.monotonic() - began_s
        late = isinstance(error, (av.error.ExitError, TimeoutError)) or waited_s >= limit_s
        why = f"nothing came for {limit_s:.0f} s" if late else _why(error)
        raise LostError(f"{address.shown}: {doing}: {why}") from None


@contextlib.contextmanager
def _container(address: Address, place: "str | _Pipe", **more: Any) -> Iterator[InputContainer]:
    with told(address, OPEN_S, "cannot be opened"):
        container = av.open(place, options=_options(address), timeout=(OPEN_S, read_s(address)), **more)
    with contextlib.closing(container):
        yield container


def _options(address: Address) -> dict[str, str]:
    if address.scheme == "file":
        return {"protocol_whitelist": address.protocols}
    options = {"analyzeduration": str(PROBE_US), "fpsprobesize": "0"}
    if address.protocols:
        options["protocol_whitelist"] = address.protocols
    if address.scheme == "rtsp":
        options["rtsp_transport"] = "tcp"
    if address.scheme in {"http", "https"}:
        options["rw_timeout"] = str(round(READ_S * 1e6))
    return options


class _Pipe:
    """What another program writes; a wait ends when there is nothing for too long, or nobody wants it.

    Args:
        process: the program, with pipes for what it writes and for what it says.
        first_s, later_s: how long nothing may come, at first and then.
        stop: whether nobody wants it any more.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", first_s: float, later_s: float, stop: Callable[[], bool]
    ) -> None:
        if process.stdout is None or process.stderr is None:
            raise ValueError("no pipes")
        self._data, self._talk = process.stdout.fileno(), process.stderr.fileno()
        self._limit_s, self._later_s, self._stop = first_s, later_s, stop
        self._said = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end.

        Raises:
            TimeoutError: nothing came.
        """
        until_s = time.monotonic() + self._limit_s
        while self._data not in (ready := select.select([self._data, self._talk], [], [], _SLICE_S)[0]):
            if self._stop():
                return b""
            if time.monotonic() > until_s:
                raise TimeoutError
            if ready and not self._listen():
                time.sleep(_SLICE_S)  # it has closed that pipe: nothing to wait for there
        self._limit_s = self._later_s
        return os.read(self._data, size)

    def words(self) -> str:
        """The latest that it said, without the address that it names; "" if nothing."""
        while select.select([self._talk], [], [], _SLICE_S)[0] and self._listen():
            pass
        said = (line.rpartition(": ")[2].strip() for line in self._said.decode(errors="replace").splitlines())
        words = [word for word in said if word and "://" not in word]
        return words[-1][:WORDS_CHARS] if words else ""

    def _listen(self) -> bool:
        heard = os.read(self._talk, _SAID_BYTES)
        self._said = (self._said + heard)[-_SAID_BYTES:]
        return bool(heard)


@contextlib.contextmanager
def _srt(address: Address, stop: Callable[[], bool]) -> Iterator[_Pipe]:
    """The transport stream that ffmpeg receives by SRT, which PyAV's own FFmpeg cannot."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise BackendUnavailable("SRT needs the program ffmpeg: on Debian and Ubuntu, apt install ffmpeg")
    command = (
        *(program, "-nostdin", "-hide_banner", "-loglevel", "error"),
        *("-protocol_whitelist", "srt,udp", "-f", "mpegts"),
        *("-analyzeduration", str(PROBE_US), "-fpsprobesize", "0", "-i", address.name),
        *("-map", "0:v:0", "-map", "0:a:0?", "-c", "copy", "-f", "mpegts", "-flush_packets", "1", "-"),
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIVEDUB_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=kept, start_new_session=True
    ) as process:
        pipe = _Pipe(process, OPEN_S, READ_S, stop)
        try:
            yield pipe
        except LostError as error:
            if not (words := pipe.words()):
                raise
            raise LostError(f"{error}: {words}") from None
        finally:
            process.kill()


def _why(error: Exception) -> str:
    """The reason without the address, which FFmpeg puts into its messages."""
    return str(getattr(error, "strerror", None) or type(error).__name__)[:WORDS_CHARS]
