"""A hostile neighbour: everything that a stranger, or a viewer gone bad, can send to a server.

    python -m benchmarks.live.endurance_fuzz ORDER.json

It prints how often it sent what, as JSON, when its time is over.
"""

import asyncio
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import msgspec
import psutil
import pylibsrtp
from aiortc import InvalidStateError, RTCConfiguration, RTCPeerConnection

from clients.peer import Refused, view
from streaming.rtc.guards import MALFORMED
from streaming.server import messages

STUN_COOKIE = b"\x21\x12\xa4\x42"
SDP = {"Content-Type": "application/sdp"}
STRANGER = "127.0.0.2"  # the server counts what it lets pass by address
NICE = 10  # a stranger would not take the server's own cores
DATAGRAMS_EVERY_S, DATAGRAMS_AT_ONCE = 0.01, 16
SOURCES = 8
BIG = 4_000
TROUBLE = (aiohttp.ClientError, OSError, TimeoutError, InvalidStateError, *MALFORMED)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to trouble.

    Attributes:
        url, pid: of the server.
        sessions: whose endpoints get broken offers.
        victim: a session that may be hurt: broken WebSocket messages go there, and media in a viewer's name.
        seconds, seed: how long, and with what.
    """

    url: str
    pid: int
    sessions: tuple[str, ...]
    victim: str
    seconds: float
    seed: int


async def trouble(order: Order) -> Counter[str]:
    """Send until the time is over; how often what was sent and how it was answered."""
    chance, sent = random.Random(order.seed), Counter[str]()
    lines = aiohttp.TCPConnector(local_addr=(STRANGER, 0))
    async with aiohttp.ClientSession(connector=lines, timeout=aiohttp.ClientTimeout(10)) as http:
        kinds = (
            lambda: _broken_offer(http, order, chance, sent),
            lambda: _candidate_flood(http, order, chance, sent),
            lambda: _oversized(http, order, chance, sent),
            lambda: _messages(http, order, chance, sent),
            lambda: _bad_viewer(http, order, chance, sent),
        )
        tasks = [asyncio.create_task(_again(kind, order.seconds, sent)) for kind in kinds]
        tasks.append(asyncio.create_task(_datagrams(order, chance, sent)))
        await asyncio.gather(*tasks)
    return sent


async def _again(send: Callable[[], Awaitable[None]], seconds: float, sent: Counter[str]) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            await send()
        except TROUBLE as error:
            sent[f"client saw {type(error).__name__}"] += 1
        await asyncio.sleep(0.05)


async def _broken_offer(
    http: aiohttp.ClientSession, order: Order, chance: random.Random, sent: Counter[str]
) -> None:
    offer = mutated(await _offer(), chance)
    for_whip = chance.random() < 0.5
    where = f"{'whip' if for_whip else 'whep'}/{chance.choice(order.sessions)}"
    async with http.post(f"{order.url}/{where}", data=offer, headers=SDP) as answer:
        await answer.read()
        sent[f"offers: {answer.status}"] += 1


async def _candidate_flood(
    http: aiohttp.ClientSession, order: Order, chance: random.Random, sent: Counter[str]
) -> None:
    lines = (
        f"a=candidate:{n} 1 udp 2130706431 10.{n >> 8 & 255}.{n & 255}.1 5000 typ host" for n in range(2000)
    )
    flood = "\r\n".join(lines)
    kind = {"Content-Type": "application/trickle-ice-sdpfrag"}
    where = f"{order.url}/whep/{chance.choice(order.sessions)}/nobody"
    async with http.patch(where, data=flood, headers=kind) as answer:
        sent[f"candidates by PATCH: {answer.status}"] += 1
    offer = (await _offer()) + "\r\n".join(flood.split("\r\n")[: chance.choice((10, 33, 900))]) + "\r\n"
    async with http.post(f"{order.url}/whep/{order.victim}", data=offer, headers=SDP) as answer:
        sent[f"candidates in an offer: {answer.status}"] += 1


async def _oversized(
    http: aiohttp.ClientSession, order: Order, chance: random.Random, sent: Counter[str]
) -> None:
    path = chance.choice((f"/whip/{order.victim}", f"/whep/{order.victim}", "/v1/sessions"))
    kind = SDP if path.startswith("/wh") else {"Content-Type": "application/json"}
    body = chance.randbytes(1 << chance.randrange(10, 22))
    data: Any = _in_pieces(body) if chance.random() < 0.5 else body
    async with http.post(order.url + path, data=data, headers=kind) as answer:
        sent[f"bodies: {answer.status}"] += 1


async def _in_pieces(body: bytes) -> Any:
    for start in range(0, len(body), 4096):
        yield body[start : start + 4096]


async def _messages(
    http: aiohttp.ClientSession, order: Order, chance: random.Random, sent: Counter[str]
) -> None:
    address = f"{order.url}/v1/stream/{order.victim}"
    async with http.ws_connect(address, protocols=(messages.SUBPROTOCOL,)) as socket_:
        for _ in range(chance.randrange(1, 30)):
            await socket_.send_bytes(message(chance))
            sent["messages"] += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while (await socket_.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
        sent[f"message streams: {socket_.close_code}"] += 1


async def _bad_viewer(
    http: aiohttp.ClientSession, order: Order, chance: random.Random, sent: Counter[str]
) -> None:
    """Connect as a viewer does, and then send rubbish, in clear and with the right keys."""
    try:
        link = await view(http, f"{order.url}/whep/{order.victim}", lambda *_: None, lambda *_: None)
    except Refused as error:
        sent[f"viewers: {error.status}"] += 1
        return
    for _ in range(100):
        if link.peer.connectionState == "connected":
            break
        await asyncio.sleep(0.02)
    dtls = link.peer.getTransceivers()[0].receiver.transport
    for _ in range(100):
        with suppress(ConnectionError, pylibsrtp.Error):
            await dtls.transport._send(datagram(chance) or b"\x80")
            await dtls._send_rtp(_packet(chance))
        sent["packets with a viewer's keys"] += 2
    sent["viewers: 201"] += 1
    await (link.close() if chance.random() < 0.5 else link.vanish())


async def _datagrams(order: Order, chance: random.Random, sent: Counter[str]) -> None:
    process = psutil.Process(order.pid)
    sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOURCES)]
    end_s, listed_s, ports = time.monotonic() + order.seconds, 0.0, [0]
    while time.monotonic() < end_s:
        if time.monotonic() - listed_s > 1:
            listed_s = time.monotonic()
            links = process.net_connections("udp4")
            ports = sorted({link.laddr.port for link in links if link.laddr}) or [9]
        for _ in range(DATAGRAMS_AT_ONCE):
            with suppress(OSError):
                chance.choice(sources).sendto(datagram(chance), ("127.0.0.1", chance.choice(ports)))
                sent["datagrams"] += 1
        await asyncio.sleep(DATAGRAMS_EVERY_S)
    for source in sources:
        source.close()


def datagram(chance: random.Random) -> bytes:
    """Something that is no valid datagram of WebRTC, of any kind that there is; often empty."""
    rubbish = chance.randbytes(chance.randrange(0, 1400))
    attributes = chance.randbytes(4 * chance.randrange(0, 40))
    size = chance.choice((len(attributes), chance.randrange(65_536)))
    kind = chance.choice((b"\x00\x01", b"\x01\x01", b"\x01\x11", b"\x00\x11"))
    return chance.choice(
        (
            b"",
            rubbish,
            chance.randbytes(BIG),
            kind + size.to_bytes(2, "big") + STUN_COOKIE + chance.randbytes(12) + attributes,
            b"\x16\xfe\xfd" + rubbish,
            b"\x90\x60" + rubbish,
            b"\x80\xc8" + rubbish,
            b"\x8f\xcd" + rubbish,
        )
    )


def _packet(chance: random.Random) -> bytes:
    """RTP or RTCP with a right beginning, which can be encrypted, and anything after it."""
    body = chance.randbytes(4 * chance.randrange(2, 60))
    kind = chance.choice((200, 201, 202, 203, 205, 206, 0x60, 0xE0))
    first = chance.choice((0x80, 0x81, 0x8F, 0x90, 0xBF))
    length = chance.choice((len(body) // 4, chance.randrange(65_536)))
    head = bytes((first, kind)) + length.to_bytes(2, "big")
    return head + body


def message(chance: random.Random) -> bytes:
    """A message of the stream's protocol that is not quite one."""
    kinds = ("hello", "audio", "begin", "end", "flush", "interrupt", "config", "ping", "no such thing")
    fields: dict[Any, Any] = {"v": 1, "t": chance.choice(kinds), "seq": chance.randrange(1 << 20)}
    for name in ("data", "rate_hz", "codec", "utterance", "latency_budget_ms", "token"):
        if chance.random() < 0.4:
            fields[name] = _value(chance)
    packed: bytes = msgpack.packb(fields, default=str)
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(0, 300))
        case 1:
            return b"\x91" * 5000 + b"\x01"
        case 2:
            return _bitten(packed, chance)
        case 3:
            return b"\xdf\xff\xff\xff\xff" + packed
        case _:
            return packed


def _value(chance: random.Random) -> Any:
    return chance.choice(
        (
            None,
            -1,
            1 << 62,
            48_000,
            16_000,
            "pcm",
            "opus",
            chance.randbytes(chance.randrange(0, 4000)),
            "x" * 9000,
            [1] * 100,
            {"a": 1},
            1e308,
            float("nan"),
            msgpack.ExtType(5, b"ext"),
            b"\0" * (1 << 20),
        )
    )


def _bitten(data: bytes, chance: random.Random) -> bytes:
    bytes_ = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        bytes_[chance.randrange(len(bytes_))] = chance.randrange(256)
    return bytes(bytes_)


def mutated(offer: str, chance: random.Random) -> bytes:
    """An offer with some of its lines gone, doubled, changed, or in another place."""
    lines = offer.split("\r\n")
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(lines))
        words = lines[at].split(" ")
        match chance.randrange(8):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                words[chance.randrange(len(words))] = str(chance.choice((-1, 0, 65_536, 1 << 40, "", "x")))
                lines[at] = " ".join(words)
            case 3:
                lines[at] = _bitten(lines[at].encode() or b" ", chance).decode("latin-1")
            case 4:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 5:
                lines[at] = lines[at].split(":")[0]
            case 6:
                lines[at] += chance.choice((" 1 2 3", ":" * 50, "=" + "A" * 3000, "\t", "é"))
            case _:
                lines = lines[: max(2, at)]
    data = "\r\n".join(lines).encode("utf-8", "replace")
    return data if chance.random() < 0.9 else _bitten(data, chance)


_OFFERS: list[str] = []


async def _offer() -> str:
    """A good offer of a viewer; the same one every time."""
    if not _OFFERS:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for kind in ("video", "audio"):
            peer.addTransceiver(kind, direction="sendrecv")
        await peer.setLocalDescription(await peer.createOffer())
        _OFFERS.append(peer.localDescription.sdp)
        await peer.close()
    return _OFFERS[0]


def main() -> None:
    """See the module."""
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)
    os.nice(NICE)
    sent = asyncio.run(trouble(order))
    sys.stdout.write(msgspec.json.encode(dict(sorted(sent.items()))).decode())


if __name__ == "__main__":
    main()
