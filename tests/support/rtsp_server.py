"""A small honest RTSP server (RFC 2326, interleaved): H.264 (RFC 6184) and AAC (RFC 3640), in real time.

And one that has the troubles of real ones, where a test says so.
"""

import asyncio
import base64
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import av

PAYLOAD_BYTES = 1200
VIDEO_HZ, AUDIO_HZ = 90_000, 48_000
NTP_UNIX_S = 2_208_988_800
ADTS_BYTES = 7


@dataclass(frozen=True)
class Piece:
    """A packet of the programme: a picture (channel 0) or sound (channel 2), with its times in seconds."""

    channel: int
    pts_s: float
    dts_s: float
    data: bytes
    key: bool


@dataclass
class Troubles:
    """What goes wrong.

    Attributes:
        silent_at: a method that is never answered.
        status: to DESCRIBE, "200 OK" or another.
        stops_after_s: it sends nothing more, and keeps the connection.
        leaves_after_s: it closes the connection.
        begins_s: in the programme; between two keyframes.
        jumps: from a second of the programme on, by how many seconds times jump.
        only: channels that are sent; all are announced.
        codec: that is announced for the picture.
        skips: pictures of the programme, as seconds from and to.
    """

    silent_at: str = ""
    status: str = "200 OK"
    stops_after_s: float = 1e9
    leaves_after_s: float = 1e9
    begins_s: float = 0.0
    jumps: dict[float, float] = field(default_factory=dict)
    only: tuple[int, ...] = (0, 2)
    codec: str = "H264"
    skips: tuple[float, float] = (1e9, 1e9)


def read_pieces(path: Path) -> tuple[list[Piece], bytes]:
    """The packets of a transport stream, in order of decoding, and its first picture's parameter sets."""
    pieces = []
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is None or packet.dts is None:
                continue
            sound = packet.stream.type == "audio"
            data = bytes(packet)[ADTS_BYTES if sound else 0 :]
            base = float(packet.time_base)
            pieces.append(
                Piece(2 if sound else 0, packet.pts * base, packet.dts * base, data, packet.is_keyframe)
            )
    pieces.sort(key=lambda piece: piece.dts_s)
    first = next(piece for piece in pieces if piece.channel == 0)
    sets = [unit for unit in units(first.data) if unit[0] & 31 in {7, 8}]
    return pieces, b",".join(base64.b64encode(unit) for unit in sets)


def units(data: bytes) -> list[bytes]:
    """NAL units of an Annex B picture."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1") if unit.rstrip(b"\0")]


def payloads(piece: Piece) -> list[bytes]:
    """A packet's RTP payloads."""
    if piece.channel == 2:
        return [struct.pack(">HH", 16, len(piece.data) << 3) + piece.data]
    out = []
    for unit in units(piece.data):
        if len(unit) <= PAYLOAD_BYTES:
            out.append(unit)
            continue
        parts = [unit[at : at + PAYLOAD_BYTES] for at in range(1, len(unit), PAYLOAD_BYTES)]
        for index, part in enumerate(parts):
            ends = (0x80 if index == 0 else 0) | (0x40 if index == len(parts) - 1 else 0)
            out.append(bytes([unit[0] & 0xE0 | 28, ends | unit[0] & 31]) + part)
    return out


class RtspServer:
    """Plays a transport stream to whoever asks, each from its own beginning.

    Attributes:
        troubles: may be changed at any time.
        asked: methods so far.
        playing: connections that play.
    """

    def __init__(self, feed: Path, *, sound: bool = True) -> None:
        self._pieces, self._sets = read_pieces(feed)
        self._sound = sound
        self.troubles = Troubles()
        self.asked: list[str] = []
        self.playing = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        play: asyncio.Task[None] | None = None
        try:
            while request := await self._request(reader):
                method, number = request
                self.asked.append(method)
                if method == self.troubles.silent_at:
                    await reader.read()
                    return
                writer.write(self._answer(method, number))
                await writer.drain()
                if method == "PLAY" and play is None:
                    play = asyncio.create_task(self._play(writer))
                if method == "TEARDOWN":
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            if play is not None:
                play.cancel()
                await asyncio.wait({play})
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, str] | None:
        """Method and number; what a client sends in between, RTCP, is passed over."""
        while (first := await reader.readexactly(1)) == b"$":
            head = await reader.readexactly(3)
            await reader.readexactly(int.from_bytes(head[1:], "big"))
        lines = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        return lines[0].split()[0], fields.get("cseq", "0")

    def _answer(self, method: str, number: str) -> bytes:
        status, fields, body = "200 OK", {"CSeq": number}, b""
        if method == "OPTIONS":
            fields["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
        elif method == "DESCRIBE":
            status, body = self.troubles.status, self._description()
            fields |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
        elif method == "SETUP":
            track = 2 * (self.asked.count("SETUP") - 1) % (4 if self._sound else 2)
            fields |= {"Session": "7;timeout=60", "Transport": f"RTP/AVP/TCP;interleaved={track}-{track + 1}"}
        elif method == "PLAY":
            fields |= {"Session": "7", "Range": "npt=now-"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"RTSP/1.0 {status}\r\n{head}\r\n".encode() + body

    def _description(self) -> bytes:
        lines = [
            *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=feed", "c=IN IP4 127.0.0.1", "t=0 0"),
            *("m=video 0 RTP/AVP 96", f"a=rtpmap:96 {self.troubles.codec}/{VIDEO_HZ}"),
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={self._sets.decode()}",
            "a=control:track0",
        ]
        if self._sound:
            lines += [
                *("m=audio 0 RTP/AVP 97", f"a=rtpmap:97 mpeg4-generic/{AUDIO_HZ}/1"),
                "a=fmtp:97 streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;"
                "indexdeltalength=3;config=1188",
                "a=control:track2",
            ]
        return "\r\n".join([*lines, ""]).encode()

    async def _play(self, writer: asyncio.StreamWriter) -> None:
        self.playing += 1
        try:
            await self._send(writer)
        except ConnectionError:
            return
        finally:
            self.playing -= 1

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        troubles, zero_s = self.troubles, time.monotonic()
        begins_s = self._pieces[0].dts_s + troubles.begins_s
        numbers = {0: 0, 2: 0}
        reported: dict[int, float] = {}
        for piece in self._pieces:
            at_s = piece.dts_s - begins_s
            if at_s < 0 or piece.channel not in troubles.only:
                continue
            if piece.channel == 0 and troubles.skips[0] <= at_s < troubles.skips[1]:
                continue
            await asyncio.sleep(max(0.0, zero_s + at_s - time.monotonic()))
            if at_s > troubles.leaves_after_s:
                writer.close()
                return
            if at_s > troubles.stops_after_s:
                await asyncio.sleep(1e6)
            jump_s = sum(by_s for from_s, by_s in troubles.jumps.items() if at_s >= from_s)
            if reported.get(piece.channel) != jump_s:
                reported[piece.channel] = jump_s
                writer.write(self._report(piece, jump_s, begins_s, zero_s))
            rate_hz = AUDIO_HZ if piece.channel else VIDEO_HZ
            ticks = round((piece.pts_s + jump_s) * rate_hz) & 0xFFFFFFFF
            parts = payloads(piece)
            for index, part in enumerate(parts):
                marker = 0x80 if index == len(parts) - 1 else 0
                head = struct.pack(
                    ">BBHII",
                    *(0x80, marker | (97 if piece.channel else 96), numbers[piece.channel] & 0xFFFF, ticks),
                    7 + piece.channel,
                )
                numbers[piece.channel] += 1
                writer.write(struct.pack(">cBH", b"$", piece.channel, len(head + part)) + head + part)
            await writer.drain()

    def _report(self, piece: Piece, jump_s: float, begins_s: float, zero_s: float) -> bytes:
        """A sender report: which time of the wall the track's times are."""
        ticks = round((piece.pts_s + jump_s) * (AUDIO_HZ if piece.channel else VIDEO_HZ)) & 0xFFFFFFFF
        wall_s = NTP_UNIX_S + 1_700_000_000 + piece.pts_s + jump_s
        whole = int(wall_s)
        report = struct.pack(
            ">BBHIIIIII",
            *(0x80, 200, 6, 7 + piece.channel, whole, int((wall_s - whole) * 2**32), ticks, 0, 0),
        )
        return struct.pack(">cBH", b"$", piece.channel + 1, len(report)) + report


@contextlib.asynccontextmanager
async def rtsp(server: RtspServer, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback; the address. Ends all connections when left."""
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(server.serve(reader, writer)))

    listening = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield f"rtsp://127.0.0.1:{listening.sockets[0].getsockname()[1]}/live"
    finally:
        listening.close()
        await asyncio.sleep(0.02)  # connections that have come begin, so that they end
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.sleep(0.02)
