"""The table of who is taken for the actor, from likenesses that are known."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from benchmarks.bench_identity import Faces, one_fold, table, verdict
from engine.face.identity import SIZE, FaceAxes, load_face_axes
from export.train_identity import DISTURBED

FRAMES = 8


def clip(name: str, person: str, axis: int) -> Faces:
    """Every frame lies along one axis, with a little noise."""
    random = np.random.default_rng(len(name))
    rows = random.normal(0, 0.01, (FRAMES * (1 + DISTURBED), SIZE))
    rows[:, axis] += 1
    return Faces(name, person, held_out=True, rows=rows.astype(np.float32))


def test_one_person_is_accepted_in_every_clip_and_nobody_else() -> None:
    plain = FaceAxes(load_face_axes().cells, np.zeros(SIZE, np.float32), np.eye(SIZE, dtype=np.float32), "")
    clips = [clip("a", "ann", 0), clip("aa", "ann", 0), clip("b", "bob", 1)]
    rows = table([one_fold(clips, plain)])
    for kind, pairs, taken in (("same clip", 3, 1.0), ("other clip", 2, 1.0), ("other person", 4, 0.0)):
        row = rows[kind]
        assert isinstance(row, dict)
        assert (row["pairs of clips"], row["streams taken for the actor"]) == (pairs, taken)
        assert set(row["accepted"].values()) == {taken}


@pytest.mark.parametrize(
    ("likenesses", "wanted"), [([0.9], "actor"), ([0.1], "other"), ([0.55], "undecided")]
)
def test_a_stream_is_looked_at_until_it_is_known(likenesses: list[float], wanted: str) -> None:
    assert verdict(np.array([*likenesses])).verdict == wanted
