"""Everything that people give a command by mistake: one line, the right status, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine import models
from engine.actor.pack import decode_pack, encode_pack, write_pack
from engine.arrays import U8
from engine.image.yuv import I420, Box, Colour, write_roi
from engine.media import DubAudio, VideoFrame, VideoInfo, open_writer
from tests.support.cli import Outcome, interrupt, invoke
from tests.support.data import faces_picture, model_file
from tests.support.media import noise_burst, write_sound
from tests.support.packs import Header, make_consent, with_header
from tests.support.toy_actor import toy_actor

COLOUR = Colour("bt709", False)
SIDE_PX = 256
Run = Callable[..., Outcome]
Argv = tuple[str, ...]


def write_video(path: Path, pictures: list[U8], *, sound: bool) -> Path:
    """A video at 25 fps, without loss; with a noise as its sound, or silent."""
    height, width = pictures[0].shape[:2]
    info = VideoInfo(width, height, Fraction(1, 25), Fraction(25), COLOUR)
    audio = DubAudio(noise_burst(len(pictures) / 25 + 0.2, 16_000), 16_000) if sound else None
    with open_writer(path, info, audio=audio, preset="ultrafast") as writer:
        for index, picture in enumerate(pictures):
            image = I420.blank(width, height)
            write_roi(image, Box(0, 0, width, height), picture, np.ones((height, width), np.float32), COLOUR)
            writer.write(VideoFrame(image, index))
    return path


def face(width: int = SIDE_PX, height: int = SIDE_PX) -> U8:
    """A picture that a face fills."""
    scale = 0.9 * min(width, height) / 230
    return faces_picture((width // 2, height // 2, scale, False), width=width, height=height)


def grey(width: int = SIDE_PX, height: int = SIDE_PX) -> U8:
    """A picture without a face."""
    return np.full((height, width, 3), 110, np.uint8)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The real models, and a place of our own for tracks."""
    model_file("face_landmarker")
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").symlink_to(models.cache_dir() / "models")
    patch = pytest.MonkeyPatch()
    patch.setenv("LIVEDUB_CACHE", str(folder))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that people have given to a program like this."""
    folder = tmp_path_factory.mktemp("given")
    good = write_video(folder / "good.mp4", [face()] * 12, sound=True)
    write_video(folder / "silent.mp4", [face()] * 12, sound=False)
    write_video(folder / "one_frame.mp4", [face()], sound=True)
    write_video(folder / "faceless.mp4", [grey()] * 12, sound=True)
    write_video(folder / "other_size.mp4", [face(320, 240)] * 3, sound=True)
    write_sound(folder / "sound.wav", noise_burst(0.7, 16_000), 16_000)
    (folder / "empty.mp4").touch()
    (folder / "truncated.mp4").write_bytes(good.read_bytes()[:-200])
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    cv2.imwrite(str(folder / "picture.png"), face())
    (folder / "folder.mp4").mkdir()
    (folder / "consent.json").write_text("{}")
    _write_packs(folder)
    return folder


def _write_packs(folder: Path) -> None:
    pack = toy_actor(consent=make_consent(granted_at="2020-01-01T00:00:00Z", expires_at=None))
    write_pack(pack, folder / "good.actor")
    data = (folder / "good.actor").read_bytes()

    def version(header: Header) -> None:
        header["format_version"] = 99

    (folder / "damaged.actor").write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    (folder / "cut.actor").write_bytes(data[: len(data) // 2])
    (folder / "version.actor").write_bytes(with_header(data, version))
    other = replace(pack, manifest=replace(pack.manifest, prior_sha256="0" * 64))
    write_pack(other, folder / "other_prior.actor")
    write_pack(replace(pack, manifest=replace(pack.manifest, consent=None)), folder / "no_consent.actor")


@pytest.fixture
def livedub(capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process."""
    return lambda *argv: invoke(capfd, *argv)


def refused(outcome: Outcome, about: str, status: int = 2) -> None:
    """One line that says what is wrong, the status, and nothing that looks like a result."""
    assert outcome.status == status, outcome.err
    assert len(outcome.complaints) == 1, outcome.err
    assert outcome.complaints[0].startswith("livedub: ")
    assert about in outcome.complaints[0]
    assert outcome.out == ""


def outputs(folder: Path) -> list[str]:
    """Names of all that lies there, hidden files too."""
    return sorted(os.listdir(folder))


BAD_VIDEOS = {
    "absent.mp4": "no such file",
    "empty.mp4": "is empty",
    "truncated.mp4": "is cut off",
    "text.mp4": "not a video or audio file",
    "picture.png": "is a still picture",
    "sound.wav": "has no video stream",
    "folder.mp4": "is a directory",
    "good.actor": "not a video or audio file",
}
BAD_SOUNDS = BAD_VIDEOS | {"picture.png": "has no sound", "silent.mp4": "has no sound"}
del BAD_SOUNDS["sound.wav"]


BAD_FOOTAGE = {name: about for name, about in BAD_VIDEOS.items() if name != "picture.png"}  # a photo will do


@pytest.mark.parametrize(("name", "about"), BAD_FOOTAGE.items())
def test_adapt_refuses(name: str, about: str, files: Path, tmp_path: Path, livedub: Run) -> None:
    refused(livedub("adapt", files / name, "-o", tmp_path / "a.actor"), about)
    assert outputs(tmp_path) == []


@pytest.mark.parametrize(("name", "about"), BAD_VIDEOS.items())
def test_dub_refuses_as_video(name: str, about: str, files: Path, tmp_path: Path, livedub: Run) -> None:
    argv = ("dub", files / name, files / "sound.wav", "--actor", files / "good.actor")
    refused(livedub(*argv, "-o", tmp_path / "out.mp4"), about)
    assert outputs(tmp_path) == []


@pytest.mark.parametrize(("name", "about"), BAD_SOUNDS.items())
def test_dub_refuses_as_sound(name: str, about: str, files: Path, tmp_path: Path, livedub: Run) -> None:
    argv = ("dub", files / "good.mp4", files / name, "--actor", files / "good.actor")
    refused(livedub(*argv, "-o", tmp_path / "out.mp4"), about)
    assert outputs(tmp_path) == []


@pytest.mark.parametrize(("name", "about"), BAD_VIDEOS.items())
@pytest.mark.parametrize("place", [0, 1])
def test_evaluate_refuses(
    name: str, about: str, place: int, files: Path, tmp_path: Path, livedub: Run
) -> None:
    given = [files / "good.mp4", files / "good.mp4"]
    given[place] = files / name
    refused(livedub("evaluate", *given, "--json", tmp_path / "r.json"), about)
    assert outputs(tmp_path) == []


BAD_PACKS = {
    "absent.actor": "absent.actor",
    "empty.mp4": "an empty file",
    "good.mp4": "not an actor pack",
    "damaged.actor": "damaged",
    "cut.actor": "cut.actor",
    "version.actor": "version",
    "other_prior.actor": "another prior",
    "no_consent.actor": "consent",
}


@pytest.mark.parametrize(("name", "about"), BAD_PACKS.items())
def test_dub_refuses_as_actor(name: str, about: str, files: Path, tmp_path: Path, livedub: Run) -> None:
    argv = ("dub", files / "good.mp4", files / "sound.wav", "--actor", files / name)
    refused(livedub(*argv, "-o", tmp_path / "out.mp4"), about)
    assert outputs(tmp_path) == []


@pytest.mark.parametrize(
    "argv",
    [
        ("adapt", "faceless.mp4", "-o", "OUT/a.actor"),
        ("dub", "faceless.mp4", "sound.wav", "--actor", "good.actor", "-o", "OUT/out.mp4"),
        ("evaluate", "good.mp4", "faceless.mp4", "--json", "OUT/r.json"),
    ],
    ids=lambda argv: argv[0],
)
def test_nobody_to_be_seen(argv: tuple[str, ...], files: Path, tmp_path: Path, livedub: Run) -> None:
    refused(livedub(*placed(argv, files, tmp_path)), "no face")
    assert outputs(tmp_path) == []


ARGUMENTS = {
    "evaluate good.mp4 other_size.mp4 --json OUT/r.json": "the same size",
    "evaluate good.mp4 good.mp4 --json OUT/absent/r.json": "there is no folder",
    "evaluate good.mp4 good.mp4 --json OUT": "is a folder",
    "adapt good.mp4 -o OUT/a.pack": "must end in .actor",
    "adapt good.mp4 -o OUT/absent/a.actor": "there is no folder",
    "adapt good.mp4 -o OUT/a.actor --consent absent.json": "cannot be read",
    "adapt good.mp4 -o OUT/a.actor --consent consent.json": "not a consent record",
    "adapt good.mp4 -o OUT/a.actor --start 30": "no frame between",
    "adapt good.mp4 -o OUT/a.actor --seconds 0": "--seconds",
    "adapt good.mp4 -o OUT/a.actor --steps 0": "--steps",
    "adapt good.mp4 -o OUT/a.actor --steps many": "--steps",
    "adapt good.mp4 -o OUT/a.actor --device tpu": "--device",
    "adapt good.mp4 -o OUT/a.actor --face 0": "--face",
    "adapt good.mp4": "Missing option",
    "dub good.mp4 -o OUT/out.mp4": "Missing",
    "DUB -o OUT/out.avi ACTOR": "must end in .mp4",
    "DUB -o good.mp4 ACTOR": "is the input",
    "dub good.mp4 good.mp4 -o good.mp4 ACTOR": "is the input",
    "DUB -o OUT/absent/o.mp4 ACTOR": "there is no folder",
    "DUB -o folder.mp4 ACTOR": "is a folder",
    "DUB -o OUT/out.mp4 ACTOR --backend magic": "one of reference, onnxruntime, openvino",
    "DUB -o OUT/o.mp4 ACTOR --look-ahead-ms 70": "one of 0, 60, 120, 240",
    "DUB -o OUT/o.mp4 ACTOR --json OUT/o.mp4": "another file of this command",
    "DUB -o OUT/o.mp4 ACTOR --debug-dir good.mp4": "is a file; name a folder",
    "frobnicate": "No such command",
    "bench --suite frobnicate": "must be one of",
    "train face-model --data OUT/absent -o OUT/m.safetensors": "there is no such folder",
}
SHORT = {"DUB": "dub good.mp4 sound.wav", "ACTOR": "--actor good.actor"}


def placed(argv: Sequence[str], files: Path, out: Path) -> list[str | Path]:
    """The arguments with `OUT` and the names of our files made into paths."""

    def place(word: str) -> str | Path:
        if word == "OUT" or word.startswith("OUT/"):
            return out / word[4:]
        return files / word if Path(word).suffix in {".mp4", ".wav", ".actor", ".json"} else word

    return [place(word) for word in argv]


@pytest.mark.parametrize(("line", "about"), ARGUMENTS.items())
def test_arguments_that_make_no_sense(
    line: str, about: str, files: Path, tmp_path: Path, livedub: Run
) -> None:
    argv = " ".join(SHORT.get(word, word) for word in line.split()).split()
    before = {path.name: path.stat().st_mtime_ns for path in files.iterdir()}
    refused(livedub(*placed(argv, files, tmp_path)), about)
    assert outputs(tmp_path) == []
    assert {path.name: path.stat().st_mtime_ns for path in files.iterdir()} == before


def test_one_frame_is_dubbed(files: Path, tmp_path: Path, livedub: Run) -> None:
    argv = ("dub", files / "one_frame.mp4", files / "sound.wav", "--actor", files / "good.actor")
    outcome = livedub(*argv, "-o", tmp_path / "out.mp4")
    assert (outcome.status, outcome.complaints) == (0, [])
    assert outputs(tmp_path) == ["out.mp4"]


def test_one_frame_is_too_little_to_learn_from_or_enough(files: Path, tmp_path: Path, livedub: Run) -> None:
    outcome = livedub("adapt", files / "one_frame.mp4", "-o", tmp_path / "a.actor", "--steps", "1")
    assert outcome.status in (0, 2), outcome.err
    assert len(outcome.complaints) == (0 if outcome.status == 0 else 1), outcome.err
    assert outputs(tmp_path) == (["a.actor"] if outcome.status == 0 else [])


def test_an_override_is_said(files: Path, tmp_path: Path, livedub: Run) -> None:
    argv = ("dub", files / "one_frame.mp4", files / "sound.wav", "--actor", files / "no_consent.actor")
    outcome = livedub(*argv, "-o", tmp_path / "out.mp4", "--override-consent")
    assert outcome.status == 0, outcome.err
    assert any("consent" in line for line in (*outcome.complaints, *outcome.out.splitlines()))


def test_without_torch_a_dub_works_and_learning_names_the_extra(
    files: Path, tmp_path: Path, livedub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("export.")]:
        monkeypatch.delitem(sys.modules, name)
    outcome = livedub("adapt", files / "good.mp4", "-o", tmp_path / "a.actor")
    refused(outcome, "this needs torch: pip install 'livedub[train]'", status=1)
    argv = ("dub", files / "one_frame.mp4", files / "sound.wav", "--actor", files / "good.actor")
    assert livedub(*argv, "-o", tmp_path / "out.mp4").status == 0
    assert livedub("evaluate", tmp_path / "out.mp4", files / "one_frame.mp4").status == 0
    assert outputs(tmp_path) == ["out.mp4"]


def test_without_the_models_the_remedy_is_named(
    files: Path, tmp_path: Path, livedub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))
    argv = ("dub", files / "good.mp4", files / "sound.wav", "--actor", files / "good.actor")
    refused(livedub(*argv, "-o", tmp_path / "out.mp4"), "livedub doctor --fetch", status=1)
    assert "out.mp4" not in outputs(tmp_path)


def test_eight_thousand_pixels(files: Path, tmp_path: Path, livedub: Run) -> None:
    video = write_video(tmp_path / "8k.mp4", [face(7680, 4320)] * 2, sound=True)
    argv = ("dub", video, video, "--actor", files / "good.actor", "-o", tmp_path / "out.mp4")
    outcome = livedub(*argv)
    assert (outcome.status, outcome.complaints) == (0, [])
    assert outputs(tmp_path) == ["8k.mp4", "out.mp4"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 32 KiB in all."""
    yield from mounted(tmp_path / "disk", "size=32k")


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system here (it takes root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write in: for root, who may write everywhere, a read-only file system."""
    if os.geteuid() == 0:
        yield from mounted(tmp_path / "closed", "ro,size=128k")
        return
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


@pytest.mark.parametrize(
    "argv",
    [
        ("adapt", "good.mp4", "-o", "OUT/a.actor"),
        ("dub", "good.mp4", "sound.wav", "--actor", "good.actor", "-o", "OUT/out.mp4"),
        ("evaluate", "good.mp4", "good.mp4", "--json", "OUT/r.json"),
    ],
    ids=lambda argv: argv[0],
)
def test_a_folder_that_is_closed(argv: Argv, files: Path, closed_folder: Path, livedub: Run) -> None:
    refused(livedub(*placed(argv, files, closed_folder)), "no permission to write")
    assert outputs(closed_folder) == []


def noisy_faces(count: int) -> list[U8]:
    """Pictures that do not compress, around a face."""
    random = np.random.default_rng(0)
    noise = [random.integers(-12, 13, (SIDE_PX, SIDE_PX, 3)) for _ in range(count)]
    return [np.clip(face() + n, 0, 255).astype(np.uint8) for n in noise]


def test_dub_onto_a_full_disk(files: Path, small_disk: Path, livedub: Run, tmp_path: Path) -> None:
    video = write_video(tmp_path / "noisy.mp4", noisy_faces(12), sound=True)
    argv = ("dub", video, files / "sound.wav", "--actor", files / "good.actor")
    refused(livedub(*argv, "-o", small_disk / "out.mp4"), "No space left on device")
    assert outputs(small_disk) == []


def test_adapt_onto_a_full_disk(files: Path, small_disk: Path, livedub: Run) -> None:
    out = small_disk / "a.actor"
    refused(livedub("adapt", files / "good.mp4", "-o", out, "--steps", "1"), "No space left on device")
    assert outputs(small_disk) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_dub_is_stopped(number: signal.Signals, status: int, files: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", noisy_faces(4) * 60, sound=True)
    place = tmp_path / "place"
    place.mkdir()
    argv = ("dub", video, video, "--actor", files / "good.actor", "-o", place / "out.mp4")
    outcome = interrupt(*argv, number=number, ready=lambda: bool(outputs(place)))
    assert outcome.status == status, outcome.err
    assert outcome.complaints == [f"livedub: stopped by {number.name}"]
    assert outputs(place) == []


def test_an_adaptation_is_stopped(files: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    shutil.rmtree(tracks := models.cache_dir() / "tracks", ignore_errors=True)
    argv = ("adapt", files / "good.mp4", "-o", place / "a.actor", "--steps", "100000")
    outcome = interrupt(*argv, number=signal.SIGINT, ready=lambda: tracks.exists() and bool(outputs(tracks)))
    assert outcome.status == 130, outcome.err
    assert outcome.complaints == ["livedub: stopped by SIGINT"]
    assert outputs(place) == []


def test_the_pack_of_these_tests_is_good(files: Path) -> None:
    assert encode_pack(decode_pack(data := (files / "good.actor").read_bytes())) == data
