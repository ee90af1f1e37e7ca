from pathlib import Path

import cv2
import numpy as np
import pytest

from clients.debug import DebugWriter
from engine.dubber import DebugPictures, DubbedFrame
from engine.errors import OutputError
from engine.face.model import load_face_model
from engine.image.resize import Square
from engine.image.yuv import I420
from tests.support.toy_actor import SIZE_PX, crop_head, opened, toy_actor


def pictures() -> DebugPictures:
    flat = [np.full((SIZE_PX, SIZE_PX, 3), value, np.uint8) for value in (60, 120, 180)]
    mask = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    mask[50:150, 50:150] = 1
    source, rendered, matched = flat
    return DebugPictures(Square(0, 0, 300), crop_head(), opened(1.0), source, rendered, matched, mask)


def frame(debug: DebugPictures | None) -> DubbedFrame:
    return DubbedFrame(I420.blank(64, 48), 0.0, "dubbed", 1.0, debug)


def test_a_picture_for_every_dubbed_frame(tmp_path: Path) -> None:
    writer = DebugWriter(tmp_path / "deep" / "debug", load_face_model(), toy_actor())
    writer.write(1, frame(pictures()))
    writer.write(2, frame(None))
    writer.write(3, frame(pictures()))
    names = sorted(file.name for file in (tmp_path / "deep" / "debug").iterdir())
    assert names == ["frame-000001.png", "frame-000003.png"]
    picture = cv2.imread(str(tmp_path / "deep" / "debug" / names[0]))
    assert picture is not None
    assert picture.shape == (4 * SIZE_PX, 6 * SIZE_PX, 3)


def test_six_pictures_of_one_frame(tmp_path: Path) -> None:
    side = 2 * SIZE_PX
    sheet = DebugWriter(tmp_path, load_face_model(), toy_actor()).picture(pictures())
    tiles = [sheet[y : y + side, x : x + side] for y in (0, side) for x in (0, side, 2 * side)]
    mesh, uv, hole, source, rendered, result = tiles
    assert (mesh != 60).any(), "the mesh is drawn over the crop"
    assert len(np.unique(uv[..., 2])) > 2, "layers differ"
    assert hole[200, 200].tolist() == [0, 0, 0]
    assert hole[20, 20].tolist() == [60, 60, 60]
    assert (source == 60).all()
    assert (rendered == 120).all()
    assert result[200, 200].tolist() == [180] * 3
    assert result[20, 20].tolist() == [60] * 3


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the debug folder"):
        DebugWriter(tmp_path / "file" / "debug", load_face_model(), toy_actor())


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    writer = DebugWriter(tmp_path / "debug", load_face_model(), toy_actor())
    (tmp_path / "debug" / "frame-000001.png").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        writer.write(1, frame(pictures()))
