from pathlib import Path

import pytest

from clients.demo.job import DemoProgress, DemoRequest, run_demo
from clients.demo.job import _Scale as Scale
from engine.errors import InputError
from tests.support.media import tone, write_sound


def ignore(progress: DemoProgress) -> None:
    """Take no note."""


def test_progress_never_falls_and_is_told_once_a_percent() -> None:
    told: list[DemoProgress] = []
    scale = Scale(told.append, "actor", {"track": (0.0, 0.2), "adapt": (0.2, 1.0)}, frames=1000)
    scale.words = {"track": "Following", "adapt": "Learning"}
    for frame in range(1200):
        scale("track", frame, None)
    for step in range(1, 41):
        scale("adapt", step, 40)
    fractions = [progress.fraction or 0.0 for progress in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(told) < 110
    assert {progress.text for progress in told} == {"Following", "Learning"}


def test_a_sound_of_more_than_a_minute_is_refused(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "long.wav", tone(61.0, 8000), 8000)
    with pytest.raises(InputError, match="61 s"):
        run_demo(DemoRequest(out_dir=tmp_path / "out", audio=sound), ignore)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        run_demo(DemoRequest(out_dir=tmp_path / "file" / "out"), ignore)
