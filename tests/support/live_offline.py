"""What `livedub dub` makes of a film, before it is encoded, in a process of its own as the command runs.

    python -m tests.support.live_offline FILM ACTOR LOOK_AHEAD_MS OUT.npz

In the process of the tests other libraries may have changed how floating-point numbers are rounded.
"""

import sys
from pathlib import Path

import numpy as np

from clients.dub import DubOptions, _dubbed, _dubber, _Frames, _Tally
from engine.actor.pack import read_pack
from engine.face.track import track_video
from engine.media import open_video
from engine.painting import open_painter
from tests.support.voice import voice


def main(film: Path, actor: Path, look_ahead_ms: int, out: Path) -> None:
    """Write the planes of every picture, and what each shows."""
    pack, track = read_pack(actor), track_video(film, cache_dir=None)
    how = DubOptions(look_ahead_ms=look_ahead_ms, silence="source")
    with open_video(film) as reader:
        dubber = _dubber(pack, open_painter(pack), reader.info.colour, how)
        source = _Frames(reader, track, _Tally())
        done = [
            (shown.shown, shown.image.copy()) for _, shown in _dubbed(dubber, source, voice(1.0), _Tally())
        ]
    y, u, v = (np.stack([getattr(image, name) for _, image in done]) for name in ("y", "u", "v"))
    np.savez(out, shown=np.array([shown for shown, _ in done]), y=y, u=u, v=v)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
