"""What `livedub dub` makes of a film, before it is encoded."""

from pathlib import Path

from clients.dub import DubOptions, _dubbed, _dubber, _Frames, _Tally
from engine.actor.pack import read_pack
from engine.face.track import track_video
from engine.image.yuv import I420
from engine.media import open_video
from engine.painting import open_painter
from tests.support.voice import voice


def offline_pictures(film: Path, actor: Path, look_ahead_ms: int) -> list[tuple[str, I420]]:
    """What each picture shows, and the picture."""
    pack, track = read_pack(actor), track_video(film, cache_dir=None)
    how = DubOptions(look_ahead_ms=look_ahead_ms, silence="source")
    with open_video(film) as reader:
        dubber = _dubber(pack, open_painter(pack), reader.info.colour, how)
        source = _Frames(reader, track, _Tally())
        dubbed = _dubbed(dubber, source, voice(1.0), _Tally())
        return [(shown.shown, shown.image.copy()) for _, shown in dubbed]
