"""A network to measure over: two namespaces joined by TUN devices, with delay, jitter, loss and a rate.

In user space, so that it needs no kernel module: root, /dev/net/tun and iproute2 are enough. The emulator is
this module run as a process; `Link` starts it and runs commands on either side.
"""

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from engine.errors import LivedubError

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SERVER_ADDRESS, VIEWER_ADDRESS = "10.201.0.1", "10.201.0.2"
DEVICE = "wan0"
LARGEST_PACKET = 2048
AT_ONCE = 64  # packets read before others are let out


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a network.

    Attributes:
        delay_ms: of every packet; jitter_ms: up to so much more, evenly drawn, the order kept.
        loss: share of packets, independent of each other.
        rate_bps: bits per second, 0 for no limit; queue_ms: of what waits for it, then packets are dropped.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    rate_bps: float = 0.0
    queue_ms: float = 300.0


class Case(msgspec.Struct, frozen=True):
    """A network by name: towards the viewer, and back."""

    name: str
    forth: Line = Line()
    back: Line = Line()


def _symmetric(name: str, line: Line) -> Case:
    return Case(name, line, line)


CASES = (
    Case("clean"),
    _symmetric("loss 2 %", Line(delay_ms=20, loss=0.02)),
    _symmetric("loss 5 %", Line(delay_ms=20, loss=0.05)),
    _symmetric("jitter 50 ms", Line(delay_ms=20, jitter_ms=50)),
    Case("1.5 Mbit/s", Line(delay_ms=20, rate_bps=1.5e6), Line(delay_ms=20)),
)


class Gate:
    """One direction at work: when a packet comes out, if it does. Times are seconds, given by the caller."""

    def __init__(self, line: Line, chance: random.Random) -> None:
        self.line, self._chance = line, chance
        self._last_out_s = self._free_s = 0.0
        self.packets = self.lost = self.dropped = 0

    def admit(self, now_s: float, size: int) -> float | None:
        """When a packet of `size` bytes leaves; None if it never does."""
        self.packets += 1
        if self._chance.random() < self.line.loss:
            self.lost += 1
            return None
        out_s = now_s
        if self.line.rate_bps:
            start_s = max(now_s, self._free_s)
            if 1000 * (start_s - now_s) > self.line.queue_ms:
                self.dropped += 1
                return None
            self._free_s = out_s = start_s + 8 * size / self.line.rate_bps
        out_s += (self.line.delay_ms + self._chance.random() * self.line.jitter_ms) / 1000
        self._last_out_s = out_s = max(out_s, self._last_out_s)
        return out_s


def can_emulate() -> bool:
    """Whether this process may make namespaces and TUN devices."""
    return os.geteuid() == 0 and Path("/dev/net/tun").exists() and _has_ip()


def _has_ip() -> bool:
    return any((Path(folder) / "ip").exists() for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/bin"))


class Link:
    """Two namespaces and the network between; a context manager.

    Attributes:
        server, viewer: names of the namespaces.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self.server, self.viewer = f"livedub{os.getpid()}s", f"livedub{os.getpid()}v"

    @contextlib.contextmanager
    def up(self) -> Iterator["Link"]:
        """Set the network up, and take it down again.

        Raises:
            LivedubError: the emulator does not start.
        """
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            for namespace in (self.server, self.viewer):
                _ip("netns", "add", namespace)
                stack.callback(_ip, "netns", "del", namespace)
            config, ready = Path(folder) / "case.json", Path(folder) / "ready"
            config.write_bytes(msgspec.json.encode(self._case))
            command = [
                sys.executable,
                "-m",
                "benchmarks.live.network",
                self.server,
                self.viewer,
                config,
                ready,
            ]
            emulator = subprocess.Popen([str(part) for part in command])
            stack.callback(_end, emulator)
            while not ready.exists():
                if emulator.poll() is not None:
                    raise LivedubError("the emulated network did not start: it needs root and /dev/net/tun")
                time.sleep(0.02)
            yield self

    @staticmethod
    def inside(namespace: str, command: Sequence[str]) -> list[str]:
        """A command as it is run on one side."""
        return ["ip", "netns", "exec", namespace, *command]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _open_tun(namespace: str) -> int:
    """A TUN device inside a namespace, as a file descriptor that is usable from here."""
    libc = ctypes.CDLL("libc.so.6", use_errno=True)
    home, away = (os.open(path, os.O_RDONLY) for path in ("/proc/self/ns/net", f"/var/run/netns/{namespace}"))
    try:
        if libc.setns(away, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        libc.setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
        os.close(away)
    return tun


def _address(namespace: str, address: str, peer: str) -> None:
    _ip("-n", namespace, "addr", "add", address, "peer", peer, "dev", DEVICE)
    _ip("-n", namespace, "link", "set", DEVICE, "mtu", "1500", "txqueuelen", "2000", "up")
    _ip("-n", namespace, "link", "set", "lo", "up")


def _emulate(server: str, viewer: str, case: Case, ready: Path) -> None:
    """Carry packets until SIGTERM."""
    chance = random.Random(1)
    near, far = _open_tun(server), _open_tun(viewer)
    _address(server, SERVER_ADDRESS, VIEWER_ADDRESS)
    _address(viewer, VIEWER_ADDRESS, SERVER_ADDRESS)
    routes = {near: (far, Gate(case.forth, chance)), far: (near, Gate(case.back, chance))}
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ending.append(number))
    poll = select.epoll()
    for tun in routes:
        poll.register(tun, select.EPOLLIN)
    ready.touch()
    waiting: list[tuple[float, int, int, bytes]] = []
    serial = 0
    while not ending:
        now_s = time.monotonic()
        while waiting and waiting[0][0] <= now_s:
            _, _, out, packet = heapq.heappop(waiting)
            with contextlib.suppress(OSError):  # a full device drops, as a network does
                os.write(out, packet)
        for tun, _ in poll.poll(max(0.0, waiting[0][0] - now_s) if waiting else 0.5):
            out, gate = routes[tun]
            for packet in _packets(tun):
                leaves_s = gate.admit(time.monotonic(), len(packet))
                if leaves_s is not None:
                    serial += 1
                    heapq.heappush(waiting, (leaves_s, serial, out, packet))


def _packets(tun: int) -> Iterator[bytes]:
    for _ in range(AT_ONCE):
        try:
            yield os.read(tun, LARGEST_PACKET)
        except BlockingIOError:
            return


if __name__ == "__main__":
    _server, _viewer, _config, _ready = sys.argv[1:]
    _emulate(_server, _viewer, msgspec.json.decode(Path(_config).read_bytes(), type=Case), Path(_ready))
