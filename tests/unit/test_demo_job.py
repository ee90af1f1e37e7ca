import json
import subprocess
import sys
from pathlib import Path

import pytest

from clients.demo.job import (
    DemoProgress,
    DemoRequest,
    request_from_json,
    request_to_json,
    run_demo,
)
from clients.demo.job import _Scale as Scale
from clients.demo.portrait import portrait_consent
from engine.errors import InputError
from tests.support.media import tone, write_sound

CHILD = [sys.executable, "-m", "clients.demo.job"]


def child(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(CHILD, input=line, capture_output=True, text=True, timeout=60, check=False)


def ignore(progress: DemoProgress) -> None:
    """Take no note."""


def test_a_request_survives_the_pipe(tmp_path: Path) -> None:
    request = DemoRequest(
        out_dir=tmp_path,
        text="Grüße\n",
        voice="de",
        video=tmp_path / "a b.mp4",
        keep_dir=tmp_path / "own",
        consent=portrait_consent("2026-01-02T03:04:05+00:00"),
        steps=3,
    )
    assert request_from_json(json.loads(json.dumps(request_to_json(request)))) == request
    plain = DemoRequest(out_dir=tmp_path)
    assert request_from_json(json.loads(json.dumps(request_to_json(plain)))) == plain


def test_the_child_ends_with_its_input_even_when_it_has_work(tmp_path: Path) -> None:
    request = json.dumps(request_to_json(DemoRequest(out_dir=tmp_path / "out")))
    done = child(request + "\n")  # closes the pipe behind the line
    assert done.returncode == 3
    assert not (tmp_path / "out" / "dubbed.mp4").exists()


def test_every_line_of_the_child_is_json_and_the_last_says_why_it_failed(tmp_path: Path) -> None:
    request = json.dumps(request_to_json(DemoRequest(out_dir=tmp_path / "out", text="?!")))
    with subprocess.Popen(
        CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request + "\n")
        process.stdin.flush()
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 2
    assert lines[-1]["event"] == "error"
    assert "nothing to say" in lines[-1]["message"]


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
