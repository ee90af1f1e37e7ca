"""What the sessions of a server share, and whom they tell what they measure."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streaming.rtc.peer import PeerOptions
from streaming.rtc.sdp import OfferLimits
from streaming.worker.pool import WorkerPool


class Reporter(Protocol):
    """Counts, for all sessions together; called for every frame."""

    def stage(self, name: str, seconds: float) -> None:
        """A frame passed a stage."""

    def mouth_latency(self, seconds: float) -> None:
        """Dub sound in to the frame that carries its mouth."""

    def interrupt_to_silence(self, seconds: float) -> None:
        """Interrupt to the last dub sound that left."""

    def deadline_miss(self, stage: str, count: int = 1) -> None:
        """Frames that a stage could not finish in time."""

    def frames(self, result: str, count: int = 1) -> None:
        """What became of frames."""

    def ladder(self, old: int | None, new: int | None) -> None:
        """A session goes from one rung to another."""

    def skew(self, seconds: float) -> None:
        """Sound minus picture, as they left."""

    def queue_depth(self, stage: str, depth: int) -> None:
        """How many wait before a stage."""


@dataclass(frozen=True)
class Resources:
    """What sessions of one server share.

    Attributes:
        workers: gives processes that dub.
        video_pool, audio_pool: threads that encode.
        reporter: counts.
        peers, offers: how WebRTC connections are opened, and what an offer may be.
        programme_folders, programme_hosts: what may be played; see `streaming.media.address`.
        output_folder, output_hosts: where sessions may go; see `streaming.session.targets`.
        writing: files that are being written.
        seal: given the actor pack's path and that of a finished file, which it may sign.
    """

    workers: WorkerPool
    video_pool: Executor
    audio_pool: Executor
    reporter: Reporter
    peers: PeerOptions = field(default_factory=PeerOptions)
    offers: OfferLimits = field(default_factory=OfferLimits)
    programme_folders: tuple[Path, ...] = ()
    programme_hosts: tuple[str, ...] = ()
    output_folder: Path | None = None
    output_hosts: tuple[str, ...] = ()
    writing: set[Path] = field(default_factory=set)
    seal: Callable[[Path, Path], None] | None = None
