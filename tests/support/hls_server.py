"""A live HLS server: segments that FFmpeg's own muxer wrote, and a playlist that moves on with the time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
from aiohttp import web

SEGMENT_S = 1.0
WINDOW = 4


def write_segments(feed: Path, folder: Path, name: str) -> list[Path]:
    """Cut a feed, with a keyframe each second, into segments."""
    with (
        av.open(str(feed)) as source,
        av.open(
            str(folder / f"{name}.m3u8"),
            "w",
            format="hls",
            options={
                "hls_time": str(SEGMENT_S),
                "hls_list_size": "0",
                "hls_segment_filename": str(folder / f"{name}%03d.ts"),
            },
        ) as out,
    ):
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return sorted(folder.glob(f"{name}*.ts"))


@dataclass
class HlsServer:
    """What is served.

    Attributes:
        parts: segments in order; None: a discontinuity.
        ahead: segments that are there at the beginning.
        hangs: requests are taken and never answered.
        status: of every answer.
        ends: the playlist says that nothing more comes, once all is there.
        lines: put into the playlist before its first segment.
        asked: file names so far.
    """

    parts: Sequence[Path | None]
    ahead: int = 3
    hangs: bool = False
    status: int = 200
    ends: bool = False
    lines: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    zero_s: float = field(default_factory=time.monotonic)

    def playlist(self) -> str:
        """As it is now."""
        count = min(self.ahead + int((time.monotonic() - self.zero_s) / SEGMENT_S), self._segments)
        first = max(0, count - WINDOW)
        lines, number, breaks = [], 0, 0
        for part in self.parts:
            if part is None:
                if first < number < count:
                    lines.append("#EXT-X-DISCONTINUITY")
                breaks += number <= first
                continue
            if first <= number < count:
                lines += [f"#EXTINF:{SEGMENT_S:.3f},", part.name]
            number += 1
        head = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(SEGMENT_S)}"]
        head += [f"#EXT-X-MEDIA-SEQUENCE:{first}", f"#EXT-X-DISCONTINUITY-SEQUENCE:{breaks}", *self.lines]
        over = ["#EXT-X-ENDLIST"] if self.ends and count == self._segments else []
        return "\n".join([*head, *lines, *over, ""])

    @property
    def _segments(self) -> int:
        return sum(part is not None for part in self.parts)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        name = request.match_info["name"]
        self.asked.append(name)
        if self.hangs:
            await asyncio.sleep(1e6)
        if self.status != 200:
            return web.Response(status=self.status)
        if name == "live.m3u8":
            return web.Response(text=self.playlist(), content_type="application/vnd.apple.mpegurl")
        found = next((part for part in self.parts if part is not None and part.name == name), None)
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found.read_bytes(), content_type="video/mp2t")


@asynccontextmanager
async def hls(server: HlsServer, port: int = 0) -> AsyncIterator[tuple[str, int]]:
    """Serve on loopback; the playlist's address, and the port."""
    app = web.Application()
    app.router.add_get("/{name}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        used = int(runner.addresses[0][1])
        yield f"http://127.0.0.1:{used}/live.m3u8", used
    finally:
        await runner.cleanup()
