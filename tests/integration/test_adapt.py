"""The whole command on a real face, from video and from one photo, up to a dub with what it wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from clients.demo.portrait import load_portrait, write_portrait
from clients.dub import DubOptions, dub
from engine.actor.pack import ActorPack, read_pack
from engine.face.identity import SIZE, load_face_axes
from engine.render.renderer import open_renderer
from tests.support.cli import Outcome, invoke
from tests.support.data import model_file
from tests.support.media import tone, write_sound

pytest.importorskip("torch")
NOW, LATER = "2026-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00"
Run = Callable[..., Outcome]
MOST_BYTES = 12 * 10**6
SECONDS = 1.0


def quiet(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def livedub(capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process."""
    return lambda *argv: invoke(capfd, *argv)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_file("face_landmarker")
    path = tmp_path_factory.mktemp("adapt") / "portrait.mp4"
    write_portrait(path, seconds=SECONDS)
    return path


def adapted(livedub: Run, footage: Path, out: Path, *options: str) -> tuple[ActorPack, dict[str, Any]]:
    outcome = livedub("adapt", footage, "-o", out, "--json", out.with_suffix(".json"), *options)
    assert outcome.status == 0, outcome.err
    report = msgspec.json.decode(out.with_suffix(".json").read_bytes())
    assert all(sentence.split(".")[0][:40] in outcome.out for sentence in report["not_learned"])
    return read_pack(out), report


def test_a_video_becomes_a_pack_that_says_what_it_lacks(portrait: Path, tmp_path: Path, livedub: Run) -> None:
    pack, report = adapted(livedub, portrait, tmp_path / "a.actor", "--steps", "2")
    assert (report["frames"], report["held_out_frames"]) == (25, 2)
    assert any("lower face" in sentence for sentence in report["not_learned"])
    assert report["after"]["face_psnr_db"] > 20
    assert not report["speaking"]["learned"]
    assert "sound" in report["speaking"]["why"]
    assert not pack.style.any()
    assert pack.manifest.metrics["coverage_frames"] == 23
    assert pack.manifest.metrics["face_psnr_db"] == pytest.approx(report["after"]["face_psnr_db"])
    assert len(pack.references) == 1
    assert pack.extras[load_face_axes().extra_name].shape == (1, SIZE)


def test_a_photo_becomes_a_pack_that_dubs_a_video(portrait: Path, tmp_path: Path, livedub: Run) -> None:
    photo, out = tmp_path / "photo.jpg", tmp_path / "dub.mp4"
    cv2.imwrite(str(photo), load_portrait()[..., ::-1])
    pack, report = adapted(livedub, photo, tmp_path / "a.actor", "--steps", "2", "--name", "Photo")
    assert (report["seconds_used"], report["frames"], report["held_out_frames"]) == (0.0, 1, 0)
    assert (report["before"], report["after"]) == (None, None)
    about = " ".join(report["not_learned"])
    assert "One picture cannot show how this person moves" in about
    assert "was not measured" in about
    assert pack.manifest.name == "Photo"
    voice = write_sound(tmp_path / "voice.wav", tone(SECONDS, 16_000), 16_000)
    done = dub(portrait, voice, out, tmp_path / "a.actor", DubOptions(), now_iso=LATER, on_progress=quiet)
    assert done.dubbed == done.frames == 25


def test_a_picture_without_a_face_is_refused(tmp_path: Path, livedub: Run) -> None:
    model_file("face_landmarker")
    photo = tmp_path / "wall.png"
    cv2.imwrite(str(photo), np.full((240, 320, 3), 128, np.uint8))
    outcome = livedub("adapt", photo, "-o", tmp_path / "a.actor")
    assert outcome.status == 2
    assert "no face in the picture" in outcome.complaints[0]
    assert not (tmp_path / "a.actor").exists()


def test_a_pack_with_a_network_of_its_own_is_small(portrait: Path, tmp_path: Path) -> None:
    from export.adapt import AdaptOptions, adapt

    path = tmp_path / "a.actor"
    options = AdaptOptions(steps=1, texture_stage=False, keep_best=False)
    report = adapt(portrait, path, options, now_iso=NOW, on_progress=quiet)
    assert report.best_step == 1
    pack = read_pack(path)
    assert pack.weights
    assert path.stat().st_size <= MOST_BYTES
    assert open_renderer(pack, "onnxruntime", precision="f32").name == "onnxruntime f32"
    assert open_renderer(pack, "openvino", precision="int8").name == "openvino int8"
