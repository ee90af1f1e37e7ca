"""How large an encoded frame's picture will be, read from its headers before a decoder allocates it."""

from collections.abc import Iterator
from dataclasses import dataclass

from streaming.rtc.h264 import nal_units

_IDR, _SPS = 5, 7  # H.264 table 7-1
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}  # H.264 §7.3.2.1.1
_VP8_START = b"\x9d\x01\x2a"  # RFC 6386 §9.1


@dataclass(frozen=True)
class PictureSize:
    """What a header announces.

    Attributes:
        width: of the coded picture, px; H.264 rounds up to 16.
        height: likewise.
    """

    width: int
    height: int

    def within(self, width_max: int, height_max: int) -> bool:
        """Whether it fits the limits, lying or standing; a whole macroblock more is allowed."""
        long_max, short_max = max(width_max, height_max), min(width_max, height_max)
        long, short = max(self.width, self.height), min(self.width, self.height)
        return long <= _up16(long_max) and short <= _up16(short_max)


def h264_is_key(data: bytes) -> bool:
    """Whether an access unit (Annex B) starts at its beginning and can be decoded by itself."""
    if not data.startswith((b"\x00\x00\x00\x01", b"\x00\x00\x01")):
        return False
    return any(unit[0] & 0x1F in (_IDR, _SPS) for unit in nal_units(data))


def vp8_is_key(data: bytes) -> bool:
    """Whether a VP8 frame is a key frame with its header intact."""
    return len(data) >= 10 and not data[0] & 1 and data[3:6] == _VP8_START


def vp8_sizes(data: bytes) -> Iterator[PictureSize]:
    """Yield the size in a key frame's header; nothing for other frames."""
    if vp8_is_key(data):
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        yield PictureSize(width, height)


def h264_sizes(data: bytes) -> Iterator[PictureSize]:
    """Yield the size of every sequence parameter set in an access unit (Annex B).

    Raises:
        ValueError: a parameter set is damaged or is not 8-bit 4:2:0.
    """
    for unit in nal_units(data):
        if unit[0] & 0x1F == _SPS:
            yield _sps_size(unit)


class _Bits:
    """Reads the bits of a NAL unit's payload, without its emulation prevention bytes."""

    def __init__(self, unit: bytes) -> None:
        payload = unit[1:257].replace(b"\x00\x00\x03", b"\x00\x00")
        self._value = int.from_bytes(payload, "big")
        self._left = 8 * len(payload)

    def take(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise ValueError("an H.264 parameter set is cut short")
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        """Return the next unsigned Exp-Golomb number, of at most 32 bits."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise ValueError("an H.264 parameter set has a number that is too long")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        """Return the next signed Exp-Golomb number."""
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def _sps_size(unit: bytes) -> PictureSize:
    """Read a sequence parameter set as far as the picture's size (H.264 §7.3.2.1.1)."""
    bits = _Bits(unit)
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    bits.golomb()  # number of the set
    if profile in _HIGH_PROFILES:
        _skip_high(bits)
    bits.golomb()  # width of frame_num
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        cycle = bits.golomb()
        if cycle > 255:
            raise ValueError("an H.264 parameter set has too long a picture order cycle")
        for _ in range(cycle):
            bits.golomb()
    bits.golomb()  # reference frames
    bits.take(1)
    width, height = bits.golomb() + 1, bits.golomb() + 1
    frames_only = bits.take(1)
    return PictureSize(16 * width, 16 * height * (2 - frames_only))


def _skip_high(bits: _Bits) -> None:
    if bits.golomb() != 1:
        raise ValueError("only 4:2:0 video is supported")
    if bits.golomb() or bits.golomb():
        raise ValueError("only 8-bit video is supported")
    bits.take(1)
    if bits.take(1):
        for index in range(8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _up16(value: int) -> int:
    return -(-value // 16) * 16
