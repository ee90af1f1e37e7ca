"""A session's dub into a file, or to an RTMP server: pictures as the viewers get them, sound as AAC.

One thread writes, for a server through a process of its own. What it cannot take in time is left out,
pictures up to the next keyframe: a slow disk or network never holds the session.
"""

import asyncio
import contextlib
import io
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import IO

import av
from av import Packet
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream

import streaming
from engine.errors import LivedubError, OutputError
from engine.provenance import NAME, comment
from streaming.media.rtmp import LIVE
from streaming.types import MEDIA_RATE_HZ, PCM

WAITING = 250  # pieces, about three seconds
FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts", ".flv": "flv"}
AUDIO_BPS = 128_000
QUEUE_S, CLOSE_S, KILL_S = 3.0, 4.0, 1.0  # for what waits, for the end, for a process that was killed
_TIME_BASE = Fraction(1, MEDIA_RATE_HZ)

_Piece = tuple[bytes, int, bool] | tuple[PCM, int]


class Sink:
    """Writes what it is given until `close`, or until it fails.

    Args:
        target: a path ending in one of `FORMATS`, or an address rtmp:// or rtmps://.
        on_end: called once, in the event loop, with what went wrong, if anything did.
        seal: given the finished file, which it may exchange for a signed one.

    Attributes:
        dropped: pictures and pieces of sound that it could not take in time.
        written: packets.
        begun: whether the file is there, or the server takes what is sent.

    Raises:
        OutputError: the target is neither.
    """

    def __init__(
        self,
        target: str | Path,
        on_end: Callable[[LivedubError | None], None],
        seal: Callable[[Path], None] | None = None,
    ) -> None:
        self._target, self._format = _understood(target)
        self._on_end, self._seal = on_end, seal
        self._pieces: queue.Queue[_Piece | None] = queue.Queue(WAITING)
        self._needs_keyframe = True
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._refusal = ""
        self.begun = False
        self.dropped = self.written = 0

    def start(self) -> None:
        """Begin; to be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def video(self, data: bytes, position: int, *, keyframe: bool) -> None:
        """Take a picture, H.264 Annex B, of that media position; positions grow."""
        if self._needs_keyframe and not keyframe:
            return
        self._needs_keyframe = not self._offer((data, position, keyframe))

    def audio(self, samples: PCM, position: int) -> None:
        """Take sound, int16 [T] at 48 kHz, gapless."""
        self._offer((samples, position))

    async def close(self) -> None:
        """Write what waits, and end the file or the connection."""
        with contextlib.suppress(queue.Full):
            await asyncio.to_thread(self._pieces.put, None, True, QUEUE_S)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, CLOSE_S)
        if self._thread.is_alive() and self._child is not None:
            self._child.kill()
            await asyncio.to_thread(self._thread.join, KILL_S)

    def _offer(self, piece: _Piece) -> bool:
        try:
            self._pieces.put_nowait(piece)
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def _run(self) -> None:
        failure: LivedubError | None = None
        try:
            with self._passed_on() if "://" in self._target else self._placed() as place:
                self._write(place)
        except (FFmpegError, OSError, ValueError) as error:
            failure = OutputError(f"{_shown(self._target)}: cannot be written: {_why(error)}")
        except LivedubError as error:
            failure = error
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody listens
                self._loop.call_soon_threadsafe(self._on_end, failure)

    @contextlib.contextmanager
    def _placed(self) -> Iterator[str]:
        """Where to write a file, which gets its name when it is whole."""
        path = Path(self._target)
        part = path.with_name(f".{path.name}.partial")
        try:
            yield str(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        if self._seal is not None:  # last: a long recording takes its time, and is safe meanwhile
            self._seal(path)

    @contextlib.contextmanager
    def _passed_on(self) -> Iterator[IO[bytes]]:
        """Where to write for a server: a process of its own sends it; see `streaming.media.rtmp`."""
        child = self._child = subprocess.Popen(
            (sys.executable, "-P", "-m", "streaming.media.rtmp"),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
        listening = threading.Thread(target=self._listen, args=(child,), name="sink-rtmp", daemon=True)
        listening.start()
        try:
            if child.stdin is None:
                raise ValueError("no pipe")
            child.stdin.write(self._target.encode() + b"\n")
            yield child.stdin
            child.stdin.close()
            if child.wait(CLOSE_S):
                raise BrokenPipeError
        except (BrokenPipeError, FFmpegError, subprocess.TimeoutExpired):
            child.kill()
            listening.join()
            raise OutputError(self._why_not()) from None
        finally:
            child.kill()
            child.wait()
            listening.join()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):  # what was not flushed yet
                    if pipe is not None:
                        pipe.close()

    def _listen(self, child: "subprocess.Popen[bytes]") -> None:
        for line in child.stdout or ():
            text = line.decode(errors="replace").strip()
            if text == LIVE:
                self.begun = True
            else:
                self._refusal = text[:200]

    def _why_not(self) -> str:
        why = self._refusal or ("it takes nothing any more" if self.begun else "it does not answer")
        return f"{_shown(self._target)}: cannot be sent to: {why}"

    def _write(self, place: str | IO[bytes]) -> None:
        """Wait for the first keyframe, which says what the file's header must, and write from there on."""
        first = next((piece for piece in self._given() if len(piece) == 3), None)
        if first is None:
            raise OutputError(f"{_shown(self._target)}: the session ended before its first picture")
        data, zero, _ = first
        options = {} if isinstance(place, str) else {"flush_packets": "1"}
        with av.open(place, "w", format=self._format, options=options) as container:
            container.metadata["comment"] = comment(version(NAME))
            with av.open(io.BytesIO(data), format="h264") as template:
                video: Stream = container.add_stream_from_template(template.streams.video[0])
            video.time_base = _TIME_BASE
            sound = container.add_stream("aac", rate=MEDIA_RATE_HZ, layout="mono")
            sound.codec_context.bit_rate = AUDIO_BPS
            self._put_picture(container, video, data, 0, key=True)
            self.begun = self.begun or isinstance(place, str)
            for piece in self._given():
                if len(piece) == 3:
                    self._put_picture(container, video, piece[0], piece[1] - zero, key=piece[2])
                elif piece[1] >= zero:
                    self._put_sound(container, sound, piece[0], piece[1] - zero)
            self._mux(container, sound.encode(None))

    def _given(self) -> Iterator[_Piece]:
        return iter(self._pieces.get, None)

    def _put_picture(
        self, container: OutputContainer, stream: Stream, data: bytes, position: int, *, key: bool
    ) -> None:
        packet = Packet(data)
        packet.pts = packet.dts = position
        packet.time_base, packet.is_keyframe = _TIME_BASE, key
        packet.stream = stream
        self._mux(container, [packet])

    def _put_sound(
        self, container: OutputContainer, stream: AudioStream, samples: PCM, position: int
    ) -> None:
        frame = AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = MEDIA_RATE_HZ, position, _TIME_BASE
        self._mux(container, stream.encode(frame))

    def _mux(self, container: OutputContainer, packets: "list[Packet[Stream]]") -> None:
        for packet in packets:
            container.mux(packet)
            self.written += 1


def _understood(target: str | Path) -> tuple[str, str]:
    """Name and container format of a target."""
    text = str(target)
    if text.startswith(("rtmp://", "rtmps://")):
        return text, "flv"
    known = FORMATS.get(Path(text).suffix.lower())
    if "://" in text or known is None:
        raise OutputError(
            f"a dub goes to rtmp://, rtmps://, or a file {', '.join(FORMATS)}; got {_shown(text)!r}"
        )
    return text, known


def _environment() -> dict[str, str]:
    """The child's: this very package, and none of our secrets."""
    home = str(Path(streaming.__file__).resolve().parents[1])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIVEDUB_")}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, (home, kept.get("PYTHONPATH"))))}


def _shown(target: str) -> str:
    """For messages: an RTMP address often has a secret key in its path."""
    if "://" not in target:
        return Path(target).name
    scheme, _, rest = target.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"


def _why(error: Exception) -> str:
    """The reason without the target, which FFmpeg puts into its messages."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
