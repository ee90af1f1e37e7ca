"""Video packets to whole encoded frames, in order, as soon as they are complete. Pure, time is passed in.

aiortc's buffer gives a frame when the next one begins and waits for a lost packet for as long as 512 packets
take. This one gives it with its last packet (marker bit), and gives up a hole after a time: then it asks for
a key frame and gives nothing until that comes, because what refers to a lost picture decodes to smears.
"""

from collections.abc import Callable
from dataclasses import dataclass

PACKETS_MAX = 2048
FRAME_MAX_BYTES = 3_000_000
HOLE_AT_LEAST_NS = 150_000_000
ASK_EVERY_NS = 250_000_000


@dataclass(frozen=True, slots=True)
class VideoPacket:
    """One packet without its RTP header.

    Attributes:
        number: unwrapped sequence number.
        timestamp: unwrapped, 90 kHz.
        last: the marker bit: the frame ends here.
        data: what the decoder gets of it; may be empty (padding).
        arrived_ns: monotonic.
    """

    number: int
    timestamp: int
    last: bool
    data: bytes
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A complete frame.

    Attributes:
        timestamp: unwrapped, 90 kHz.
        data: for the decoder.
        arrived_ns: when the last of its packets came.
    """

    timestamp: int
    data: bytes
    arrived_ns: int


class FrameBuffer:
    """Puts the packets of one stream together.

    Args:
        is_key: whether a frame's data can be decoded without those before it; false also for one whose
            beginning is missing.

    Attributes:
        given: counts frames.
        skipped: counts frames that came while a key frame was waited for.
    """

    def __init__(self, is_key: Callable[[bytes], bool]) -> None:
        self.given = 0
        self.skipped = 0
        self._is_key = is_key
        self._packets: dict[int, VideoPacket] = {}
        self._start: int | None = None  # of the frame that is put together
        self._scan = 0  # everything from the start to here is there and belongs to that frame
        self._bytes = 0
        self._highest = 0
        self._hole: tuple[int, int] | None = None
        self._needs_key = True
        self._asked_ns: int | None = None

    @property
    def next_number(self) -> int:
        """The packet that is waited for; 0 before the first."""
        return self._scan

    def add(self, packet: VideoPacket) -> None:
        """Take a packet; one that is too old or known is ignored."""
        if self._start is None:
            self._start = self._scan = packet.number
            self._asked_ns = packet.arrived_ns  # it may be a key frame that comes
        if packet.number < self._scan or packet.number in self._packets:
            return
        self._packets[packet.number] = packet
        self._highest = max(self._highest, packet.number)
        if len(self._packets) > PACKETS_MAX or self._highest - self._start > 4 * PACKETS_MAX:
            self._give_up()

    def take(self, now_ns: int, round_trip_ns: int = 0) -> list[EncodedFrame]:
        """Return the frames that are ready, oldest first.

        Args:
            now_ns: monotonic; call also without new packets, so that holes are given up in time.
            round_trip_ns: to the sender; a hole is waited for twice as long, at least 150 ms.
        """
        frames = []
        self._watch_hole(now_ns, max(HOLE_AT_LEAST_NS, 2 * round_trip_ns))
        while (frame := self._whole()) is not None:
            if not frame.data:
                continue
            if self._needs_key and not self._is_key(frame.data):
                self.skipped += 1
                if self.given == 0 and self.skipped == 1:
                    self._asked_ns = None
                continue
            self._needs_key = False
            self._asked_ns = None
            self.given += 1
            frames.append(frame)
        return frames

    def lost(self) -> None:
        """Say that frames were lost further on: nothing is given until the next key frame."""
        self._needs_key = True

    def wants_key(self, now_ns: int) -> bool:
        """Whether to ask the sender for a key frame now; true every 250 ms until it came."""
        if not self._needs_key or self._start is None:
            return False
        if self._asked_ns is not None and now_ns - self._asked_ns < ASK_EVERY_NS:
            return False
        self._asked_ns = now_ns
        return True

    def _whole(self) -> EncodedFrame | None:
        """Take the first frame out if all of it is there."""
        while self._start is not None and (packet := self._packets.get(self._scan)) is not None:
            if self._scan > self._start and packet.timestamp != self._packets[self._start].timestamp:
                return self._cut(self._start)
            self._scan += 1
            self._bytes += len(packet.data)
            if packet.last or self._bytes > FRAME_MAX_BYTES:
                return self._cut(self._start)
        return None

    def _cut(self, start: int) -> EncodedFrame:
        parts = [self._packets.pop(number) for number in range(start, self._scan)]
        too_large = self._bytes > FRAME_MAX_BYTES
        self._start, self._bytes = self._scan, 0
        if too_large:
            self._needs_key = True
        data = b"" if too_large else b"".join(part.data for part in parts)
        return EncodedFrame(parts[0].timestamp, data, max(part.arrived_ns for part in parts))

    def _watch_hole(self, now_ns: int, limit_ns: int) -> None:
        """Give up the packet that is waited for once later ones have been here for `limit_ns`."""
        if self._scan in self._packets or not self._packets or self._highest < self._scan:
            self._hole = None
        elif self._hole is None or self._hole[0] != self._scan:
            self._hole = (self._scan, now_ns)
        elif now_ns - self._hole[1] >= limit_ns:
            self._give_up()

    def _give_up(self) -> None:
        """Forget the frame that is put together, and go on behind the hole."""
        behind = min((n for n in self._packets if n >= self._scan), default=self._highest + 1)
        for number in [n for n in self._packets if n < behind]:
            del self._packets[number]
        if len(self._packets) > PACKETS_MAX // 2:
            self._packets.clear()
            behind = self._highest + 1
        self._start = self._scan = behind
        self._bytes = 0
        self._hole = None
        self._needs_key = True
