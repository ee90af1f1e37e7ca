"""A process that passes on to an RTMP server what it is given; run as `python -m streaming.media.rtmp`.

FFmpeg connects with Python's lock held, so in the server's own process one address that does not answer
would stop every session. Here it stops this process, which a timer ends.

Standard input: the address in one line, then FLV. Standard output: `LIVE` in a line once the server takes it,
or why it does not, without the address, which may hold a secret.
"""

import signal
import sys
from typing import IO

import av
from av.error import FFmpegError

LIVE = "live"
SILENT_S = 10  # what connecting or a packet may take; then the system's alarm ends the process
_AT_ONCE = {"flvflags": "no_duration_filesize", "flush_packets": "1"}
_PROBING = {"analyzeduration": "500000", "fpsprobesize": "0"}  # all is kept: a keyframe is first


def main() -> int:
    """Pass on until the input ends; returns 1 if the server does not take it."""
    try:
        # Unbuffered: a read returns what is there, and does not wait for more.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as source:
            address = source.readline().decode().strip()
            _pass_on(source, address)
    except (FFmpegError, OSError, ValueError) as error:
        _say(getattr(error, "strerror", None) or type(error).__name__)
        return 1
    return 0


def _pass_on(source: IO[bytes], address: str) -> None:
    with av.open(source, "r", format="flv", options=_PROBING) as given:
        signal.alarm(SILENT_S)
        with av.open(address, "w", format="flv", options=_AT_ONCE) as there:
            streams = {stream.index: there.add_stream_from_template(stream) for stream in given.streams}
            there.start_encoding()
            _say(LIVE)
            signal.alarm(0)
            for packet in given.demux():
                if packet.dts is None:
                    continue
                packet.stream = streams[packet.stream_index]
                signal.alarm(SILENT_S)
                there.mux(packet)
                signal.alarm(0)
            signal.alarm(SILENT_S)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
