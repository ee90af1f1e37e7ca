"""What `livedub evaluate` says of one dub: the scores, as JSON and as a table."""

import msgspec
from rich.table import Table

from export.lips_report import ROWS as LIP_ROWS
from export.lips_report import LipReport, predicted_rows

# name, unit, digits, the value of a perfect dub
ROWS = (
    ("face_psnr_db", "dB", 2, "100"),
    ("face_ssim", "", 4, "1"),
    ("mouth_psnr_db", "dB", 2, "100"),
    ("mouth_ssim", "", 4, "1"),
    ("mouth_lmd_px", "px of 256", 2, "0"),
    ("outside_psnr_db", "dB", 2, "100"),
    ("flicker_ratio", "", 3, "1"),
    ("flicker_error", "grey levels", 3, "0"),
    ("perceptual", "ST-LPIPS", 4, "0"),
    ("identity_similarity", "", 3, "1"),
    ("identity_apart", "", 3, "as identity_real"),
    ("identity_real", "", 3, ""),
    ("identity_person", "", 3, "as the reference"),
    ("identity_person_reference", "", 3, ""),
    ("seam_step", "grey levels", 2, "as the source"),
    ("seam_step_source", "grey levels", 2, ""),
    ("seam_step_ratio", "", 3, "1"),
    ("seam_gradient", "grey levels/px", 2, "as the source"),
    ("seam_gradient_source", "grey levels/px", 2, ""),
    ("seam_gradient_ratio", "", 3, "1"),
    ("seam_flicker", "grey levels", 2, "as the source"),
    ("seam_flicker_source", "grey levels", 2, ""),
    ("seam_flicker_ratio", "", 3, "1"),
    ("seam_error", "grey levels", 2, "0"),
    ("av_offset_ms", "ms", 0, "0"),
    ("aperture_correlation", "r", 3, "as the reference"),
    ("reference_av_offset_ms", "ms", 0, ""),
    ("reference_aperture_correlation", "r", 3, ""),
    ("aperture_correlation_reference", "r", 3, "1"),
    ("aperture_lag_reference_ms", "ms", 0, "0"),
)


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one dub. Numbers are finite; `None` is "not measured", and `notes` says why.

    Attributes:
        frames: pairs of frames that were compared: of the same moment, with a face in the reference.
        frames_unpaired: frames of the output at whose moment the reference has none.
        frames_without_face: pairs left out because the reference shows no face.
        frames_face_lost: compared pairs in which no face is found in the output; without landmark distance.
        seconds: media time from the first to the last frame of the output, and one frame more.
        face_psnr_db: mean over frames, in the box of the reference's 468 landmarks; 100 is identical.
        face_ssim: mean over frames in the same box, -1..1.
        mouth_psnr_db: mean over frames, in the lips' box with a fifth of its size on each side.
        mouth_ssim: mean over frames in the same box.
        mouth_lmd_px: mean distance of the 40 lip landmarks with the face box scaled to 256 px.
        outside_psnr_db: all pixels of all frames that a dub must not touch; 100 is untouched.
        flicker_ratio: change from frame to frame in the lower face over that of the reference; 1 is the same.
        flicker_error: mean error of those changes, grey levels of 255; 0 is the same.
        perceptual: mean ST-LPIPS (AlexNet) of at most 64 face crops at 256 px; 0 is the same. Not comparable
            with LPIPS.
        identity_similarity: mean likeness (`export.recognise`) of the output's face to the reference's of the
            same moment, over at most 64 frames; 1 is the same picture, 0.5 is where one person becomes two.
        identity_apart: the same against the reference's face half the clip away.
        identity_real: the same of the reference's own faces half the clip apart: the yardstick.
        identity_person: the output's faces against another real clip of the person; only if one is given.
        identity_person_reference: the reference's faces against that clip: the yardstick.
        seam_step: across the drawn border, where it is largest against the source's, see `export.seam`; the
            source is the reference.
        seam_step_source: the reference's on the same pixels.
        seam_step_ratio: of the two; above 1.2 there is an edge.
        seam_gradient: of pixels across the border, where it differs most from the source's.
        seam_gradient_source: the reference's on the same pixels.
        seam_gradient_ratio: of the two; above 1.25 there is an edge, below 0.75 the border is blurred.
        seam_flicker: change of the border from frame to frame.
        seam_flicker_source: the reference's.
        seam_flicker_ratio: of the two; above 1.2 the border flickers.
        seam_error: mean difference of steps, where it is largest; 0 is the same. Another mouth adds to it.
        seam_within_source: whether the border stays within the source's own range in all of this.
        av_offset_ms: the output's mouth against the output's sound; positive = picture late.
        aperture_correlation: of the output's mouth opening with what its sound predicts, at the best lag.
        reference_av_offset_ms: `av_offset_ms` of the reference, for comparison.
        reference_aperture_correlation: `aperture_correlation` of the reference: to match, not to exceed.
        aperture_correlation_reference: Pearson's r of the output's opening with the reference's, same moment.
        aperture_lag_reference_ms: the output's mouth against the reference's; positive = late.
        notes: one line for each thing that could not be measured, or that limits a number.
        lips: how well the mouth moves to speech; only if it is asked for.
    """

    frames: int
    frames_unpaired: int
    frames_without_face: int
    frames_face_lost: int
    seconds: float
    face_psnr_db: float | None
    face_ssim: float | None
    mouth_psnr_db: float | None
    mouth_ssim: float | None
    mouth_lmd_px: float | None
    outside_psnr_db: float | None
    flicker_ratio: float | None
    flicker_error: float | None
    perceptual: float | None
    identity_similarity: float | None
    identity_apart: float | None
    identity_real: float | None
    identity_person: float | None
    identity_person_reference: float | None
    seam_step: float | None
    seam_step_source: float | None
    seam_step_ratio: float | None
    seam_gradient: float | None
    seam_gradient_source: float | None
    seam_gradient_ratio: float | None
    seam_flicker: float | None
    seam_flicker_source: float | None
    seam_flicker_ratio: float | None
    seam_error: float | None
    seam_within_source: bool | None
    av_offset_ms: float | None
    aperture_correlation: float | None
    reference_av_offset_ms: float | None
    reference_aperture_correlation: float | None
    aperture_correlation_reference: float | None
    aperture_lag_reference_ms: float | None
    notes: tuple[str, ...]
    lips: LipReport | None = None


def to_json(report: EvaluationReport) -> str:
    """The report as indented JSON; `null` for what was not measured, never NaN."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def to_table(report: EvaluationReport) -> Table:
    """The report for a person."""
    table = Table(title=f"{report.frames} frames compared, {report.seconds:.1f} s")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("perfect", justify="right")
    for name, unit, digits, perfect in ROWS:
        value = getattr(report, name)
        table.add_row(name, "-" if value is None else f"{value:.{digits}f}", unit, perfect)
    if report.lips is not None:
        for name, unit, digits, perfect in LIP_ROWS:
            value = getattr(report.lips, name)
            shown = "-" if value is None else f"{value:.{digits}f}"
            table.add_row(f"lips: {name}", shown, unit, perfect)
        for name, value, unit, digits, perfect in predicted_rows(report.lips):
            shown = "-" if value is None else f"{value:.{digits}f}"
            table.add_row(f"lips: {name}", shown, unit, perfect)
    shown = {True: "yes", False: "no", None: "-"}[report.seam_within_source]
    table.add_row("seam_within_source", shown, "", "yes")
    for name in ("frames_unpaired", "frames_without_face", "frames_face_lost"):
        table.add_row(name, str(getattr(report, name)), "frames", "0")
    if report.notes:
        table.caption = "\n".join(report.notes)
    return table
