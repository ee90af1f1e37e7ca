"""The whole job on a real face: adapt, dub, and what the result must and must not change."""

from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from clients.demo.portrait import write_portrait
from clients.dub import DubOptions, DubReport, dub
from engine.face.track import track_video
from engine.media import open_video, open_writer, probe, read_audio
from export.evaluate import evaluate, reencode
from export.metrics import outside_mask
from tests.support.data import model_file
from tests.support.media import tone, write_sound

pytest.importorskip("torch")
NOW = "2026-01-01T00:00:00+00:00"
SECONDS = 2.0


def quiet(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_file("face_landmarker")
    path = tmp_path_factory.mktemp("dub") / "portrait.mp4"
    write_portrait(path, seconds=SECONDS)
    return path


@pytest.fixture(scope="module")
def actor(portrait: Path) -> Path:
    from export.adapt import AdaptOptions, adapt

    path = portrait.with_suffix(".actor")
    report = adapt(portrait, path, AdaptOptions(steps=2), now_iso=NOW, on_progress=quiet)
    assert report.seconds_used == pytest.approx(SECONDS, abs=0.05)
    assert report.before is not None
    assert report.after is not None
    assert set(report.after) == set(report.before) >= {"face_psnr_db", "mouth_ssim", "perceptual"}
    return path


def run(video: Path, audio: Path, out: Path, actor: Path, **options: object) -> DubReport:
    return dub(video, audio, out, actor, DubOptions(**options), now_iso=NOW, on_progress=quiet)  # type: ignore[arg-type]


def pts_of(path: Path) -> list[Fraction]:
    with open_video(path) as reader:
        return [frame.pts * reader.info.time_base for frame in reader]


def test_what_lies_outside_the_mask_is_as_in_a_plain_reencode(
    portrait: Path, actor: Path, tmp_path: Path
) -> None:
    out, plain = tmp_path / "out.mp4", tmp_path / "plain.mp4"
    report = run(portrait, portrait_sound(tmp_path), out, actor, drive="tracked")
    reencode(portrait, plain)
    assert report.dubbed == report.frames == 50
    dubbed, reencoded = outside_psnr_db(out, portrait), outside_psnr_db(plain, portrait)
    assert dubbed > reencoded - 0.5
    assert dubbed > 40


def outside_psnr_db(path: Path, source: Path) -> float:
    track, error, count = track_video(source), 0.0, 0
    with open_video(path) as ours, open_video(source) as theirs:
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            face = track.landmarks[index]
            outside = outside_mask([face], a.image.height, a.image.width) > 0
            error += float(((a.image.y.astype(float) - b.image.y)[outside] ** 2).sum())
            count += int(outside.sum())
    return float(10 * np.log10(255**2 * count / max(error, 1e-9)))


def test_self_reenactment_is_near_the_source(portrait: Path, actor: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    run(portrait, portrait_sound(tmp_path), out, actor, drive="tracked")
    report = evaluate(out, portrait)
    assert report.frames == 50
    assert report.face_psnr_db is not None
    assert report.face_psnr_db > 26
    assert report.mouth_lmd_px is not None
    assert report.mouth_lmd_px < 6


def test_size_times_colour_and_sound_are_kept(portrait: Path, actor: Path, tmp_path: Path) -> None:
    video = with_uneven_times(portrait, tmp_path / "uneven.mp4")
    out, voice = tmp_path / "out.mov", portrait_sound(tmp_path, 1.0)
    report = run(video, voice, out, actor, look_ahead_ms=120, mark="visible")
    before, after = probe(video), probe(out)
    assert before.video is not None
    assert after.video is not None
    assert (after.video.width, after.video.height) == (before.video.width, before.video.height)
    assert (after.video.colour, after.video.codec) == (before.video.colour, "h264")
    assert pts_of(out) == pts_of(video)
    assert (report.provenance, report.mark) == (signed_as(out), "visible")
    with open_video(out) as ours, open_video(video) as theirs:
        label = abs(next(ours).image.y[:40, :80].astype(int) - next(theirs).image.y[:40, :80])
    assert label.max() > 60
    assert report.missing_audio_s > 0.5
    assert any("silent" in message for message in report.messages)
    assert np.abs(read_audio(out)[: int(0.9 * 16000)]).max() > 0.05


def signed_as(path: Path) -> str:
    """What the file says of its making."""
    if find_spec("c2pa") is None:
        return "comment"
    c2pa = import_module("c2pa")
    with path.open("rb") as file, c2pa.Reader("video/quicktime", file) as reader:
        assert reader.get_validation_state() == "Valid"
        claim = reader.get_active_manifest()
    edited = claim["assertions"][1]["data"]["actions"][1]
    assert edited["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert (edited["when"], claim["title"]) == (NOW, path.name)
    return "C2PA, self-signed"


def with_uneven_times(source: Path, path: Path) -> Path:
    """The same pictures at 23.976 per second, with a gap and a hurry."""
    from dataclasses import replace

    with open_video(source) as reader:
        info = replace(reader.info, time_base=Fraction(1, 24_000), rate=None)
        with open_writer(path, info, audio=None) as writer:
            for index, frame in enumerate(reader):
                late = 500 if index % 7 == 3 else 0
                writer.write(replace(frame, pts=1001 * index + late, duration=None))
    return path


def test_a_longer_voice_is_reported_and_cut(portrait: Path, actor: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = run(
        portrait,
        portrait_sound(tmp_path, SECONDS + 1.5),
        out,
        actor,
        silence="source",
    )
    assert report.leftover_audio_s == pytest.approx(1.5, abs=0.1)
    assert probe(out).duration_s == pytest.approx(SECONDS, abs=0.1)


def test_debug_pictures_show_the_steps(portrait: Path, actor: Path, tmp_path: Path) -> None:
    folder = tmp_path / "debug"
    run(portrait, portrait_sound(tmp_path), tmp_path / "out.mp4", actor, drive="tracked", debug_dir=folder)
    assert len(list(folder.glob("frame-*.png"))) == 50


def portrait_sound(folder: Path, seconds: float = SECONDS) -> Path:
    return write_sound(folder / "voice.wav", tone(seconds, 16_000), 16_000)
