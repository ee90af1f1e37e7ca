"""H.264 access units cut into RTP payloads, once for all viewers (RFC 6184, packetization-mode 1).

Small NAL units that follow each other travel together (STAP-A), large ones in pieces (FU-A).
"""

from collections.abc import Iterator
from struct import pack

PAYLOAD_MAX_BYTES = 1200
"""Of an RTP payload: with IP, UDP, SRTP, RTP header and extensions it stays below 1280, IPv6's least MTU."""

_FU_A = 28  # RFC 6184 §5.2, table 1
_STAP_A = 24
_START = b"\x00\x00\x01"


def nal_units(annex_b: bytes) -> Iterator[bytes]:
    """Yield the NAL units of an Annex B byte stream, without start codes and padding zeros."""
    start = annex_b.find(_START)
    while start >= 0:
        start += len(_START)
        end = annex_b.find(_START, start)
        unit = annex_b[start : end if end >= 0 else len(annex_b)].rstrip(b"\x00")
        if unit:
            yield unit
        start = end


def payloads(annex_b: bytes, limit_bytes: int = PAYLOAD_MAX_BYTES) -> tuple[bytes, ...]:
    """Cut one access unit into RTP payloads of at most `limit_bytes`; the last one gets the marker bit."""
    done: list[bytes] = []
    together: list[bytes] = []
    together_bytes = 1
    for unit in nal_units(annex_b):
        needed = 2 + len(unit)
        if together and together_bytes + needed > limit_bytes:
            done.append(_joined(together))
            together, together_bytes = [], 1
        if needed + 1 > limit_bytes:
            done.extend([unit] if len(unit) <= limit_bytes else _pieces(unit, limit_bytes))
        else:
            together.append(unit)
            together_bytes += needed
    if together:
        done.append(_joined(together))
    return tuple(done)


def _joined(units: list[bytes]) -> bytes:
    """One unit as it is, several as a STAP-A whose importance is that of the most important."""
    if len(units) == 1:
        return units[0]
    importance = max(unit[0] & 0x60 for unit in units)
    return bytes([importance | _STAP_A]) + b"".join(pack("!H", len(unit)) + unit for unit in units)


def _pieces(unit: bytes, limit_bytes: int) -> Iterator[bytes]:
    """FU-A: as few pieces as possible, of nearly equal size, so that none is a tiny packet."""
    indicator, kind, body = unit[0] & 0x60 | _FU_A, unit[0] & 0x1F, memoryview(unit)[1:]
    count = -(-len(body) // (limit_bytes - 2))
    for index in range(count):
        part = body[index * len(body) // count : (index + 1) * len(body) // count]
        first, last = 0x80 * (index == 0), 0x40 * (index == count - 1)
        yield bytes([indicator, first | last | kind]) + part
