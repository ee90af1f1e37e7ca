"""Whether a file has been cut off, from the sizes that its container states.

FFmpeg reads a cut file up to its end and then reports a plain end of file, so half a video would pass for a
whole one. MP4, MOV, Matroska, WebM, AVI and WAV state the size of their parts; others cannot be judged here.
"""

from pathlib import Path
from typing import BinaryIO

_ISO_BOXES = {
    b"ftyp",
    b"moov",
    b"mdat",
    b"moof",
    b"free",
    b"skip",
    b"wide",
    b"uuid",
    b"sidx",
    b"styp",
    b"meta",
}
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """Return how many bytes the container says there are beyond the file's end; 0 if whole or unknown.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[4:8] in _ISO_BOXES:
            end = _iso_end(file, size)
        elif head[:4] == _EBML_MAGIC:
            end = _matroska_end(file)
        elif head[:4] == b"RIFF":
            end = _riff_end(head)
        else:
            end = 0
    return max(0, end - size)


def _iso_end(file: BinaryIO, size: int) -> int:
    """End of the last box at the top level (ISO/IEC 14496-12 §4.2)."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if head[4:8] not in _ISO_BOXES:
            return position  # padding or a foreign trailer
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            return size
        if length < 8:
            return position
        position += length
    return position


def _matroska_end(file: BinaryIO) -> int:
    """End of the Segment that follows the EBML header (RFC 8794 §4 and §5); 0 if of unknown size."""
    for want in (_EBML_MAGIC, _MATROSKA_SEGMENT):
        if file.read(4) != want:
            return 0
        first = file.read(1)
        if not first or first[0] == 0:
            return 0
        extra = 8 - first[0].bit_length()
        value = int.from_bytes(first + file.read(extra), "big") & ((1 << (7 * (extra + 1))) - 1)
        if value == (1 << (7 * (extra + 1))) - 1:
            return 0
        file.seek(value, 1)
    return file.tell()


def _riff_end(head: bytes) -> int:
    length = int.from_bytes(head[4:8], "little")
    return 0 if length in (0, 0xFFFFFFFF) else length + 8
