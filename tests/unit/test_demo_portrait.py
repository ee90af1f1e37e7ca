from pathlib import Path

import numpy as np
import pytest

from clients.demo.portrait import (
    RATE,
    SIZE_PX,
    load_portrait,
    portrait_consent,
    portrait_frame,
    transform,
    write_portrait,
)
from engine.arrays import F64, U8
from engine.media import open_video
from tests.support.media import same_picture

CORNERS = np.array([[400.0, 100.0], [820.0, 100.0], [400.0, 560.0], [820.0, 560.0], [608.0, 335.0]])
NOW = "2026-01-02T03:04:05+00:00"


@pytest.fixture(scope="module")
def picture() -> U8:
    return load_portrait()


@pytest.fixture(scope="module")
def places() -> F64:
    """Where points about the face lie in each frame of a minute, [F, 5, 2] px."""
    matrices = np.array([transform(float(index / RATE)) for index in range(1500)])
    turned: F64 = np.einsum("fij,kj->fki", matrices[:, :, :2], CORNERS)
    return np.asarray(turned + matrices[:, None, :, 2])


def test_the_motion_is_smooth_and_slight_and_never_at_rest(places: F64) -> None:
    steps = np.linalg.norm(np.diff(places, axis=0), axis=2)
    jerks = np.linalg.norm(np.diff(places, n=2, axis=0), axis=2)
    assert steps.max() < 1.2
    assert jerks.max() < 0.15
    assert steps.max(axis=1).min() > 0.001
    assert np.ptp(places, axis=0).max() < 30


def test_the_frame_never_shows_the_edge_of_the_picture(picture: U8) -> None:
    corners = np.array([[0.0, 0.0], [SIZE_PX, 0], [0, SIZE_PX], [SIZE_PX, SIZE_PX]])
    for index in range(0, 1500, 7):
        matrix = transform(float(index / RATE))
        back = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        assert back.min() >= 0
        assert back.max() <= picture.shape[0] - 1


def test_a_frame_is_the_same_bytes_every_time_and_unlike_the_next(picture: U8) -> None:
    assert same_picture(portrait_frame(picture, 7), portrait_frame(picture, 7))
    assert not same_picture(portrait_frame(picture, 7), portrait_frame(picture, 8))


def test_frames_are_upright_and_within_the_limited_range(picture: U8) -> None:
    frame = portrait_frame(picture, 0)
    assert (frame.height, frame.width) == (SIZE_PX, SIZE_PX)
    assert 16 <= frame.y.min() < 40
    assert 200 < frame.y.max() <= 235


def test_the_clip_has_the_length_asked_for(tmp_path: Path) -> None:
    write_portrait(tmp_path / "p.mp4", seconds=0.4)
    with open_video(tmp_path / "p.mp4") as reader:
        assert (reader.info.width, reader.info.height, reader.info.rate) == (SIZE_PX, SIZE_PX, RATE)
        assert (reader.info.colour.matrix, reader.info.colour.full_range) == ("bt601", False)
        assert len(list(reader)) == 10


def test_the_record_claims_no_consent() -> None:
    record = portrait_consent(NOW)
    record.check(NOW, "de")
    assert "nobody" in record.granted_by
    assert "never said" in record.statement
