"""How a frame gets its mouth: on the CPU step by step, or on a GPU as one graph."""

from engine.actor.pack import ActorPack
from engine.backends import WantedPrecision
from engine.painting.cpu import CpuPainter
from engine.painting.protocol import DebugPictures, HeadToPaint, Painter
from engine.render.renderer import open_renderer


def open_painter(
    actor: ActorPack,
    backend: str | None = None,
    *,
    threads: int = 1,
    precision: WantedPrecision = "auto",
) -> Painter:
    """Open an actor on this machine, to be painted into the frames of one stream.

    Args:
        actor: the pack.
        backend: as for `open_renderer`.
        threads: of the network.
        precision: of the network.

    Raises:
        ActorPackError, BackendUnavailable, ValueError: as for `open_renderer`.
    """
    return CpuPainter(open_renderer(actor, backend, threads=threads, precision=precision))


__all__ = ["CpuPainter", "DebugPictures", "HeadToPaint", "Painter", "open_painter"]
