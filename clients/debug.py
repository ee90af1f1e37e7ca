"""Pictures of the steps behind a dub: `livedub dub --debug-dir`."""

from pathlib import Path

import cv2
import numpy as np

from engine.actor.pack import ActorPack
from engine.arrays import U8
from engine.dubber import DebugPictures, DubbedFrame
from engine.errors import OutputError
from engine.face.model import FaceModel
from engine.render.raster import rasterise

ENLARGE = 2
MESH_COLOURS = (
    (80, 220, 80),
    (230, 60, 60),
    (60, 180, 255),
    (255, 230, 60),
)  # skin, cavity, lower, upper teeth
SUBPIXEL_BITS = 4


class DebugWriter:
    """Writes one PNG per dubbed frame: mesh over crop, UV map, mask, what was drawn, and the result.

    Args:
        folder: made if it is missing.
        model: the face model.
        actor: whose neutral is drawn.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, model: FaceModel, actor: ActorPack) -> None:
        self._folder, self._model = folder, model
        self._neutral = np.asarray(actor.neutral + actor.mean_residual, np.float32)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the debug folder {folder}: {error.strerror}") from error

    def write(self, index: int, frame: DubbedFrame) -> None:
        """Write `frame-000001.png` and so on; frames that show the source have none."""
        if frame.debug is None:
            return
        file = self._folder / f"frame-{index:06d}.png"
        if not cv2.imwrite(str(file), self.picture(frame.debug)[..., ::-1]):
            raise OutputError(f"cannot write {file}: check the folder's permissions and the free space")

    def picture(self, debug: DebugPictures) -> U8:
        """Two rows of three pictures: mesh, UV map and mask; source, drawn, and composited."""
        size = debug.source.shape[0]
        vertices = self._model.vertices(self._neutral, debug.expression, debug.pose)
        mesh = self._model
        uv_map = rasterise(vertices, mesh.triangles, mesh.layers, mesh.uv, size, size)
        layers = (uv_map.layer.astype(np.int16) + 1) * 60
        uv = np.dstack([uv_map.uv * 255, layers]).astype(np.uint8)
        alpha = debug.alpha[..., None]
        hole = np.rint(debug.source * (1 - alpha)).astype(np.uint8)
        result = np.rint(debug.matched * alpha + debug.source * (1 - alpha)).astype(np.uint8)
        over = self._draw_mesh(debug.source, vertices)
        rows = [
            [over, _enlarged(uv), _enlarged(hole)],
            [_enlarged(p) for p in (debug.source, debug.rendered, result)],
        ]
        return np.vstack([np.hstack(row) for row in rows])

    def _draw_mesh(self, source: U8, vertices: np.ndarray) -> U8:
        canvas = _enlarged(source)
        points = np.round(vertices[:, :2] * ENLARGE * 2**SUBPIXEL_BITS).astype(np.int32)
        for triangle, layer in zip(self._model.triangles, self._model.layers, strict=True):
            cv2.polylines(
                canvas, [points[triangle]], True, MESH_COLOURS[layer], 1, cv2.LINE_AA, SUBPIXEL_BITS
            )
        return canvas


def _enlarged(picture: U8) -> U8:
    return np.asarray(
        cv2.resize(picture, None, fx=ENLARGE, fy=ENLARGE, interpolation=cv2.INTER_CUBIC), np.uint8
    )
