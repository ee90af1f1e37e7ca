"""Every `livedub` command of the README runs as it is written there, on small files of those names."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from clients.demo.portrait import write_portrait
from engine.image.yuv import Colour, rgb_to_i420
from engine.media import DubAudio, VideoFrame, open_video, open_writer
from tests.support.cli import invoke
from tests.support.data import faces_picture, model_file
from tests.support.media import tone, write_sound

pytest.importorskip("torch")
README = Path(__file__).resolve().parents[2] / "README.md"
SHORTER = {"adapt": ["--steps", "2"], "prior": ["--steps", "2"], "audio": ["--steps", "2"]}
# Each has a test of its own: test_bench_command.py, test_serve.py.
SKIPPED = ("bench", "serve")
SECONDS = 2.0


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("livedub ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_the_readme_shows_commands() -> None:
    assert {words[0] for words in commands()} >= {"adapt", "dub", "evaluate", "train"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model_file("face_landmarker")
    model_file("perceptual_alex")
    monkeypatch.chdir(tmp_path)
    write_files()
    for words in commands():
        if words[0] in SKIPPED:
            continue
        extra = SHORTER.get(words[1] if words[0] == "train" else words[0], [])
        outcome = invoke(capfd, *words, *extra)
        assert outcome.status == 0, (words, outcome.err)
    written = {path.name for path in Path().iterdir()}
    assert written >= {"anna.actor", "dubbed.mp4", "out.mp4", "again.mp4", "report.json", "steps", "prior"}


def write_files() -> None:
    """The files that the README's commands name."""
    for name in ("translation.wav", "voice.wav"):
        write_sound(Path(name), tone(SECONDS, 16_000), 16_000)
    Path("clips").mkdir()
    talking(Path("talk.mp4"))
    talking(Path("clips/talk.mp4"))
    panel(Path("panel.mp4"))


def talking(path: Path) -> None:
    silent = path.with_suffix(".silent.mp4")
    write_portrait(silent, seconds=SECONDS)
    sound = DubAudio(tone(SECONDS, 48_000), 48_000)
    with open_video(silent) as reader, open_writer(path, reader.info, audio=sound) as writer:
        for frame in reader:
            writer.write(frame)
    silent.unlink()


def panel(path: Path) -> None:
    """Two faces side by side."""
    picture = faces_picture((350, 360, 2.0, False), (930, 360, 2.0, True))
    with open_video(Path("talk.mp4")) as reader:
        colour = Colour("bt709", full_range=False)
        info = replace(reader.info, width=1280, height=720, colour=colour)
        with open_writer(path, info, audio=None) as writer:
            for frame in reader:
                still = rgb_to_i420(picture, colour)
                writer.write(VideoFrame(still, frame.pts, frame.duration))
