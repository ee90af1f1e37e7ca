"""Painting a face into a frame, by backend and precision, at the sizes that a face has in a picture.

The network always draws at the tier's own size; the larger the face, the more there is to bend, blend and
write.
"""

import cv2

from benchmarks.bench_stages import Frame
from benchmarks.bodies import bench_actor
from benchmarks.common import Settings
from benchmarks.device import painting_results
from benchmarks.painters import in_turn, opened
from benchmarks.schema import Result

SUITE = "render"
HEADS_PX_PER_CM = (12.0, 24.0, 40.0)  # a quarter of the picture's height, half of it, nearly all


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
    """
    cv2.setNumThreads(1)
    actor = bench_actor(settings.seed)
    frames = [Frame(actor, scale) for scale in HEADS_PX_PER_CM[: 1 if settings.quick else None]]
    results: list[Result] = []
    for variant in in_turn(settings, SUITE, every_precision=True):
        painter = opened(actor, variant.backend, variant.precision)
        for frame in frames:
            side = frame.square.side_px
            parameters: dict[str, str | int | float] = {
                "backend": variant.backend, "variant": variant.label, "crop_px": side,
                "network_px": painter.size_px,
            }  # fmt: skip
            name, picture = f"{variant.label}: a face of {side} px", (frame.image, frame.head())
            results += painting_results(SUITE, name, painter, picture, settings, parameters)
        painter.close()
    return results
