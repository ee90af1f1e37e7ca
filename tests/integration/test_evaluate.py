"""Evaluation of real files against themselves and against copies that are worse in a known way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data as pictures

from engine import models
from engine.arrays import F32, F64, U8
from engine.errors import AssetError, MediaError, NoFaceError
from engine.image.yuv import I420, Box, Colour, write_roi
from engine.media import DubAudio, VideoFrame, VideoInfo, open_writer
from export.evaluate import EvaluationReport, evaluate, reencode
from tests.support import data

SIDE_PX = 256
FRAMES = 8
MOUTH_Y, MOUTH_X = 124, 128  # in the photo
COLOUR = Colour("bt709", False)
INFO = VideoInfo(SIDE_PX, SIDE_PX, Fraction(1, 25), Fraction(25), COLOUR)
astronaut: Callable[[], U8] = pictures.astronaut
PHOTO = astronaut()[20:276, 95:351]

Change = Callable[[U8, int], U8]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The real models, and a place of our own for tracks."""
    try:
        models.locate("face_landmarker")
    except AssetError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").symlink_to(models.cache_dir() / "models")
    patch = pytest.MonkeyPatch()
    patch.setenv("LIVEDUB_CACHE", str(folder))
    patch.setattr("export.evaluate.PERCEPTUAL_FRAMES", 2)
    yield
    patch.undo()


def picture(t: int, opening: float = 0.0) -> U8:
    """A photo of a face at moment `t`: it sways a little, and its lips are pulled apart by `opening` 0..1."""
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)
    near = np.exp(-(((y - MOUTH_Y) / 14) ** 2) - ((x - MOUTH_X) / 22) ** 2)
    y = y - opening * 5 * near * np.tanh((y - MOUTH_Y) / 3)
    moved = cv2.remap(
        PHOTO,
        (x + 3 * np.sin(t / 4)).astype(np.float32),
        (y + 2 * np.cos(t / 5)).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return moved.astype(np.uint8)


@dataclass(frozen=True)
class Studio:
    """Writes clips without loss, so that what is not changed stays the same."""

    folder: Path

    def clip(
        self,
        name: str,
        change: Change | None = None,
        *,
        openings: F64 | None = None,
        start: int = 0,
        audio: F32 | None = None,
        side_px: int = SIDE_PX,
    ) -> Path:
        path = self.folder / f"{name}.mp4"
        info = VideoInfo(side_px, side_px, INFO.time_base, INFO.rate, COLOUR)
        openings = 0.5 + 0.5 * np.sin(np.arange(FRAMES)) if openings is None else openings
        sound = None if audio is None else DubAudio(audio[None], 16000)
        with open_writer(path, info, audio=sound, crf=0, preset="ultrafast") as writer:
            for t, opening in enumerate(openings):
                rgb = picture(t, float(opening))
                rgb = rgb if change is None else change(rgb, t)
                image = I420.blank(side_px, side_px)
                alpha = np.ones((side_px, side_px), np.float32)
                write_roi(image, Box(0, 0, side_px, side_px), rgb[:side_px, :side_px], alpha, COLOUR)
                writer.write(VideoFrame(image, t + start))
        return path


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def real(studio: Studio) -> Path:
    return studio.clip("real")


@pytest.fixture(scope="module")
def perfect(real: Path) -> EvaluationReport:
    return evaluate(real, real)


def blur_mouth(rgb: U8, t: int) -> U8:
    out = rgb.copy()
    region = np.s_[MOUTH_Y - 14 : MOUTH_Y + 14, MOUTH_X - 22 : MOUTH_X + 22]
    out[region] = cv2.GaussianBlur(rgb[region], (0, 0), 3)
    return out


def tint_corner(rgb: U8, t: int) -> U8:
    out = rgb.copy()
    out[:20, :20] = 255 - out[:20, :20]
    return out


def noise_mouth(rgb: U8, t: int) -> U8:
    out = rgb.copy()
    region = np.s_[MOUTH_Y - 14 : MOUTH_Y + 14, MOUTH_X - 22 : MOUTH_X + 22]
    noise = np.random.default_rng(t).normal(0, 25, out[region].shape)
    out[region] = np.clip(out[region] + noise, 0, 255).astype(np.uint8)
    return out


def known(value: float | None) -> float:
    assert value is not None
    return value


def test_a_clip_against_itself_is_perfect(perfect: EvaluationReport) -> None:
    assert perfect.frames == FRAMES
    assert (perfect.frames_unpaired, perfect.frames_without_face, perfect.frames_face_lost) == (0, 0, 0)
    assert perfect.seconds == pytest.approx(FRAMES / 25)
    assert perfect.face_psnr_db == perfect.mouth_psnr_db == perfect.outside_psnr_db == 100.0
    assert perfect.face_ssim == pytest.approx(1.0)
    assert perfect.mouth_ssim == pytest.approx(1.0)
    assert perfect.mouth_lmd_px == 0.0
    assert perfect.flicker_ratio == 1.0
    assert perfect.flicker_error == 0.0
    assert perfect.aperture_correlation_reference == pytest.approx(1.0)
    assert perfect.perceptual in {0.0, None}


def test_a_clip_against_itself_has_no_seam(perfect: EvaluationReport) -> None:
    assert perfect.seam_within_source is True
    assert perfect.seam_step_ratio == perfect.seam_gradient_ratio == perfect.seam_flicker_ratio == 1.0
    assert perfect.seam_error == 0.0
    assert known(perfect.seam_flicker) > 0.0


def test_what_is_not_measured_is_said(perfect: EvaluationReport) -> None:
    assert perfect.identity_person is None
    assert perfect.av_offset_ms is None
    assert perfect.aperture_correlation is None
    assert any(note.startswith("av_offset_ms: the file has no sound") for note in perfect.notes)
    assert (perfect.identity_similarity is None) == any(
        note.startswith("identity_similarity") for note in perfect.notes
    )
    assert (perfect.perceptual is None) == any(note.startswith("perceptual") for note in perfect.notes)


def test_a_plain_reencode_is_nearly_perfect(studio: Studio, real: Path) -> None:
    out = studio.folder / "plain.mp4"
    reencode(real, out)
    got = evaluate(out, real)
    assert got.frames == FRAMES
    assert 35 < known(got.face_psnr_db) < 60
    assert known(got.face_ssim) > 0.95
    assert known(got.mouth_lmd_px) < 1.5
    assert known(got.outside_psnr_db) > 35
    assert known(got.flicker_ratio) == pytest.approx(1.0, abs=0.1)
    assert known(got.seam_step_ratio) < 1.2
    assert 0.75 < known(got.seam_gradient_ratio) < 1.25


def test_a_blurred_mouth_lowers_the_mouth_more_than_the_face_and_nothing_outside(
    studio: Studio, real: Path
) -> None:
    got = evaluate(studio.clip("blurred", blur_mouth), real)
    assert known(got.mouth_psnr_db) < known(got.face_psnr_db) - 3
    assert known(got.mouth_psnr_db) < 35
    assert known(got.mouth_ssim) < known(got.face_ssim) < 0.999
    assert known(got.outside_psnr_db) > 60
    assert got.perceptual is None or got.perceptual > 0.0005


def test_damage_outside_is_seen_only_outside(studio: Studio, real: Path) -> None:
    got = evaluate(studio.clip("corner", tint_corner), real)
    assert known(got.outside_psnr_db) < 40
    assert known(got.face_psnr_db) > 60


def test_a_patch_of_another_light_is_a_seam(studio: Studio, real: Path) -> None:
    def patch(rgb: U8, t: int) -> U8:
        out = rgb.copy()
        box = np.s_[MOUTH_Y - 16 : MOUTH_Y + 33, MOUTH_X - 33 : MOUTH_X + 33]
        region = np.zeros(rgb.shape[:2], np.uint8)
        region[box] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (66, 49))
        out[region > 0] = np.clip(out[region > 0].astype(np.int16) + 24, 0, 255)
        return out

    got = evaluate(studio.clip("patch", patch), real)
    assert got.seam_within_source is False
    assert known(got.seam_error) > 2.0


def test_likeness_and_its_yardsticks(studio: Studio, real: Path) -> None:
    data.model_file("face_recognition")
    got = evaluate(studio.clip("mouthless", noise_mouth), real, person=studio.clip("other", start=2))
    assert known(got.identity_similarity) < 1.0
    for value in (got.identity_apart, got.identity_real, got.identity_person, got.identity_person_reference):
        assert 0.5 < known(value) < 1.0
    assert known(got.identity_real) > known(got.identity_apart)


def test_another_clip_of_the_person_must_show_a_face(studio: Studio, real: Path) -> None:
    data.model_file("face_recognition")
    blank = studio.clip("nobody", lambda rgb, t: np.full_like(rgb, 90))
    with pytest.raises(NoFaceError, match="nobody"):
        evaluate(real, real, person=blank)


def test_noise_from_frame_to_frame_is_flicker(studio: Studio, real: Path) -> None:
    got = evaluate(studio.clip("noise", noise_mouth), real)
    assert known(got.flicker_ratio) > 1.1
    assert known(got.flicker_error) > 0.5


def test_a_wrong_mouth_moves_the_landmark_distance(
    studio: Studio, real: Path, perfect: EvaluationReport
) -> None:
    openings = 0.5 - 0.5 * np.sin(np.arange(FRAMES))
    got = evaluate(studio.clip("wrong", openings=openings), real)
    assert known(got.mouth_lmd_px) > 1.0
    assert known(got.aperture_correlation_reference) < 0.0
    assert known(got.mouth_psnr_db) < known(perfect.mouth_psnr_db)


def test_a_clip_that_starts_later_is_compared_at_the_same_moments(studio: Studio, real: Path) -> None:
    later = studio.clip("later", start=4)
    got = evaluate(later, real)
    assert got.frames == FRAMES - 4
    assert got.frames_unpaired == 4
    assert known(got.face_psnr_db) < 60


def test_max_frames_and_progress(real: Path) -> None:
    seen: list[tuple[str, float]] = []
    got = evaluate(real, real, max_frames=5, on_progress=lambda stage, done: seen.append((stage, done)))
    assert got.frames == 5
    assert got.seconds == pytest.approx(0.2)
    done = [part for _, part in seen]
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert len({stage for stage, _ in seen}) == 4


def test_other_sizes_are_refused(studio: Studio, real: Path) -> None:
    small = studio.clip("small", side_px=200)
    with pytest.raises(MediaError, match=r"200x200.*256x256.*same size"):
        evaluate(small, real)


def test_clips_of_different_moments_are_refused(studio: Studio, real: Path) -> None:
    with pytest.raises(MediaError, match="same moment"):
        evaluate(studio.clip("much_later", start=FRAMES + 4), real)  # 0.48 s: not taken for the file's zero


def test_a_reference_without_a_face_is_refused(studio: Studio, real: Path) -> None:
    blank = studio.clip("blank", lambda rgb, t: np.full_like(rgb, 90))
    with pytest.raises(NoFaceError, match="no face"):
        evaluate(real, blank)


def test_an_output_that_lost_the_face_is_counted(studio: Studio, real: Path) -> None:
    got = evaluate(studio.clip("grey", lambda rgb, t: np.full_like(rgb, 90)), real)
    assert got.frames == got.frames_face_lost == FRAMES
    assert got.mouth_lmd_px is None
    assert known(got.face_psnr_db) < 25


def test_sound_that_comes_early_makes_the_picture_late(studio: Studio) -> None:
    frames = 75
    rng = np.random.default_rng(5)
    time_s = np.arange(frames * 640) / 16000
    opening = np.interp(time_s, np.arange(0, 5, 0.16), rng.uniform(0, 1, 32))
    spectrum = np.fft.rfft(rng.normal(0, 1, len(time_s)))
    hz = np.fft.rfftfreq(len(time_s), 1 / 16000)
    vowel = np.fft.irfft(spectrum * ((hz > 700) & (hz < 2000)))
    audio = (0.3 * vowel * 10 ** (1.5 * (opening - 1))).astype(np.float32)
    openings = opening[::640]
    in_sync = evaluate(*[studio.clip("talk", openings=openings, audio=audio)] * 2)
    early = studio.clip("early", openings=openings, audio=np.roll(audio, -1600))
    got = evaluate(early, studio.folder / "talk.mp4")
    assert known(in_sync.aperture_correlation) > 0.5
    assert known(got.av_offset_ms) - known(in_sync.av_offset_ms) == pytest.approx(100, abs=20)
    assert known(got.reference_av_offset_ms) == known(in_sync.av_offset_ms)
    assert known(got.aperture_lag_reference_ms) == pytest.approx(0.0, abs=5)
