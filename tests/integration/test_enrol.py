"""A recorded video, as a browser sends it, through the server's child process to an actor pack."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clients import enrol
from clients.demo.portrait import write_portrait
from engine.actor.pack import read_pack
from engine.errors import InputError
from tests.support.data import model_file
from tests.support.media import ClipSpec, write_clip
from tests.support.packs import make_consent

pytest.importorskip("torch")


def order(video: Path, out: Path, **changes: Any) -> str:
    fields = {"video": str(video), "out": str(out), "name": "Ada", "steps": 1, "consent": make_consent()}
    return msgspec.json.encode(fields | changes).decode()


def run(line: str) -> tuple[int, list[dict[str, Any]]]:
    """The child, from its order to its last line."""
    with subprocess.Popen(
        [sys.executable, "-m", "clients.enrol"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line + "\n")
        child.stdin.flush()  # and stays open: its end would be the child's
        events = [json.loads(said) for said in child.stdout]
        return child.wait(), events


@pytest.mark.slow
def test_a_recording_becomes_a_pack_with_its_consent(tmp_path: Path) -> None:
    model_file("face_landmarker")
    video, out = tmp_path / "video", tmp_path / "ada.actor"
    write_portrait(tmp_path / "portrait.mp4", seconds=2.0)
    (tmp_path / "portrait.mp4").rename(video)  # uploads have no ending
    status, events = run(order(video, out))
    assert status == 0
    assert read_pack(out).manifest.consent == make_consent()
    assert read_pack(out).manifest.name == "Ada"
    assert events[-1]["event"] == "result"
    assert events[-1]["report"]["steps"] == 1
    shares = [event["fraction"] for event in events[:-1] if event["fraction"] is not None]
    assert shares == sorted(shares)
    assert {event["step"] for event in events[:-1]} >= {"footage", "track", "adapt"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ada.actor", "video"]


@pytest.mark.parametrize("what", ["no video", "too short"])
def test_a_recording_that_cannot_be_used_is_told(what: str, tmp_path: Path) -> None:
    video = tmp_path / "video"
    if what == "no video":
        video.write_bytes(b"no video at all")
    else:
        write_clip(tmp_path / "clip.mp4", ClipSpec()).rename(video)
    status, events = run(order(video, tmp_path / "ada.actor"))
    assert status == 2
    assert (events[-1]["event"], events[-1]["kind"]) == ("error", "input")
    assert not (tmp_path / "ada.actor").exists()


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"video": 3}', "\ud800"])
def test_what_is_no_order_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="not an order"):
        enrol.read_order(line)
