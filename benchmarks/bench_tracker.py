"""The face tracker on one core, frame by frame: `step` alone, without decoding and colour conversion.

As a suite it runs on a moving picture of one face, 1280 x 720. With a video of your own:

    python -m benchmarks.bench_tracker VIDEO [--frames N] [--face K] [--json OUT]

Three kinds of frame cost differently and are listed apart: `followed` (the landmark network alone, every 25th
with a look of the detector), `found` (a first frame: search, then landmarks twice), `none` (a vain search).
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import cv2
import msgspec
import numpy as np
import skimage.data

from benchmarks.common import Clocks, Settings, Timing, results_of
from benchmarks.load import SPOILED, cores_here, load_between, read_counters, why_busy
from benchmarks.machine import describe_machine
from benchmarks.runner import table
from benchmarks.schema import Report, Result, encode_report
from engine.arrays import U8
from engine.errors import LivedubError
from engine.face.track import to_rgb
from engine.face.tracker import FaceTracker
from engine.media import open_video

SUITE = "tracker"
DEADLINE_MS = 10.0  # of a frame at 720p
WIDTH_PX, HEIGHT_PX = 1280, 720
FIRST_EVERY = 10  # frames of the suite: the tracker is reset
NS_PER_MS = 1e6


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: a backend is named; the tracker has only LiteRT.
        AssetError: the face models are missing.
    """
    if settings.backend not in (None, "litert"):
        raise ValueError(f"the tracker runs on litert, not on {settings.backend}")
    cv2.setNumThreads(1)
    tracker = FaceTracker()
    size = f"{WIDTH_PX}x{HEIGHT_PX}"
    count, before = settings.warmup + settings.runs, read_counters()
    results = _results(timings(tracker, islice(moving_face(), count), settings.warmup), size)
    tracker.reset()
    empty = (np.roll(EMPTY, i, axis=0) for i in range(count))
    results += _results(timings(tracker, empty, settings.warmup), size)
    first: dict[str, Timing] = {}
    for frame in islice(moving_face(), 0, FIRST_EVERY * max(1, settings.runs // FIRST_EVERY), FIRST_EVERY):
        tracker.reset()
        _join(first, timings(tracker, iter([frame]), 0))
    results += _results(first, size)
    load = load_between(before, read_counters())
    quiet = not why_busy(load, cores_here())
    return [
        msgspec.structs.replace(one, load=load, trusted=quiet or one.clock not in SPOILED) for one in results
    ]


def timings(tracker: FaceTracker, frames: Iterator[U8], warmup: int) -> dict[str, Timing]:
    """Times of `step` by kind of frame; the first `warmup` frames are left out."""
    clocks = Clocks()
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for index, rgb in enumerate(frames):
        following = tracker.state.region is not None
        cpu_start, wall_start = clocks.cpu_ns(), clocks.wall_ns()
        found = tracker.step(rgb)
        wall_end, cpu_end = clocks.wall_ns(), clocks.cpu_ns()
        if index < warmup:
            continue
        kind = "none" if found is None else "followed" if following and not tracker.cut else "found"
        wall.setdefault(kind, []).append((wall_end - wall_start) / NS_PER_MS)
        cpu.setdefault(kind, []).append((cpu_end - cpu_start) / NS_PER_MS)
    return {kind: Timing(tuple(wall[kind]), tuple(cpu[kind]), warmup) for kind in wall}


def moving_face() -> Iterator[U8]:
    """One face of about 230 px that moves in a circle, uint8 [720, 1280, 3] (NASA, public domain)."""
    picture = np.array(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    picture = np.asarray(cv2.resize(picture, (WIDTH_PX, WIDTH_PX)), np.uint8)[:HEIGHT_PX]
    step = 0
    while True:
        at = (round(40 * np.sin(step / 7)), round(40 * np.cos(step / 7)))
        yield np.roll(picture, at, axis=(0, 1))
        step += 1


EMPTY: U8 = np.random.default_rng(0).integers(80, 120, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)


def _join(into: dict[str, Timing], more: dict[str, Timing]) -> None:
    for kind, timing in more.items():
        before = into.get(kind, Timing((), (), timing.warmup))
        into[kind] = Timing(before.wall_ms + timing.wall_ms, before.cpu_ms + timing.cpu_ms, timing.warmup)


def _results(timings: dict[str, Timing], size: str, video: str = "") -> list[Result]:
    results = []
    for kind, timing in sorted(timings.items()):
        name = f"{kind} {video or 'moving face'} {size}"
        about: dict[str, str | int | float] = {"kind": kind, "size": size, "threads": 1}
        results += results_of(SUITE, name, timing, deadline_ms=DEADLINE_MS, parameters=about)
    return results


def _of_video(path: Path, face: int | None, frames: int | None) -> list[Result]:
    tracker = FaceTracker(face=face)
    with open_video(path) as reader:
        pictures = (to_rgb(frame.image, reader.info.colour) for frame in islice(reader, frames))
        size = f"{reader.info.width}x{reader.info.height}"
        return _results(timings(tracker, pictures, Settings.warmup), size, path.name)


def main() -> int:
    """Measure a video, print a table, keep the report as JSON if asked."""
    parser = argparse.ArgumentParser(
        "bench_tracker", description="The face tracker on one core, frame by frame."
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    parser.add_argument("--face", type=int, help="which face, from the left, 1 = leftmost")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        machine = describe_machine(datetime.now(UTC))
        report = Report(machine, _of_video(options.video, options.face, options.frames))
        print(table(report))
        if options.json:
            options.json.write_bytes(encode_report(report))
    except (ValueError, OSError, LivedubError) as error:
        print(f"bench_tracker: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
