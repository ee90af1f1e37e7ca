"""Pairing of frames, and how a report reads; the whole job is in tests/integration."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from engine.arrays import F64
from export import evaluate
from export.evaluate import EvaluationReport, pair_frames

REQUIRED = [
    "frames",
    "face_psnr_db",
    "face_ssim",
    "mouth_psnr_db",
    "mouth_ssim",
    "mouth_lmd_px",
    "outside_psnr_db",
    "flicker_ratio",
    "perceptual",
    "identity_similarity",
    "identity_real",
    "seam_step",
    "seam_step_source",
    "seam_gradient",
    "seam_gradient_source",
    "seam_flicker",
    "seam_within_source",
    "av_offset_ms",
    "aperture_correlation",
]


def report(**changes: object) -> EvaluationReport:
    values: dict[str, object] = dict.fromkeys(EvaluationReport.__struct_fields__, 0.5)
    values |= {name: 3 for name in values if name.startswith("frames")}
    values |= {"notes": (), "identity_similarity": None, "seam_within_source": False, "lips": None}
    return EvaluationReport(**(values | changes))  # type: ignore[arg-type]


def test_equal_times_pair_one_to_one() -> None:
    times_s = np.arange(10) / 25
    np.testing.assert_array_equal(pair_frames(times_s, times_s), np.arange(10))


def test_small_offsets_pair_with_the_nearest() -> None:
    times_s = np.arange(10) / 25
    np.testing.assert_array_equal(pair_frames(times_s + 0.013, times_s), np.arange(10))
    np.testing.assert_array_equal(pair_frames(times_s + 0.027, times_s), [*range(1, 10), -1])
    np.testing.assert_array_equal(pair_frames(times_s[2:4], times_s), [2, 3])


def test_rates_may_differ() -> None:
    got = pair_frames(np.arange(12) / 30, np.arange(10) / 25)
    np.testing.assert_array_equal(got, [0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9])


def test_frames_beyond_the_reference_have_no_partner() -> None:
    got = pair_frames(np.arange(6) / 25, np.arange(2, 4) / 25)
    np.testing.assert_array_equal(got, [-1, -1, 0, 1, -1, -1])


def test_one_frame_on_either_side() -> None:
    one = np.array([0.1])
    np.testing.assert_array_equal(pair_frames(one, one), [0])
    np.testing.assert_array_equal(pair_frames(np.array([0.0, 0.1, 0.2]), one), [-1, 0, -1])
    np.testing.assert_array_equal(pair_frames(one, np.array([0.0, 0.1, 0.2])), [1])


TIMES = st.lists(st.integers(0, 2000), min_size=1, max_size=40, unique=True).map(
    lambda ms: np.array(sorted(ms)) / 1000
)


@settings(deadline=None, max_examples=50)
@given(out=TIMES, reference=TIMES)
def test_pairs_are_nearest_and_in_order(out: F64, reference: F64) -> None:
    partner = pair_frames(out, reference)
    used = partner[partner >= 0]
    assert (np.diff(used) >= 0).all()
    for i, j in enumerate(partner):
        if j >= 0:
            assert abs(reference[j] - out[i]) == pytest.approx(np.abs(reference - out[i]).min(), abs=2e-6)


def test_json_has_the_agreed_keys_and_null_for_what_is_unknown() -> None:
    got = json.loads(evaluate.to_json(report(perceptual=None, notes=("perceptual: no network",))))
    assert set(REQUIRED) <= set(got)
    assert got["perceptual"] is None
    assert got["frames"] == 3
    assert got["notes"] == ["perceptual: no network"]


def test_json_never_holds_what_json_has_not() -> None:
    text = evaluate.to_json(report(face_psnr_db=math.nan, mouth_psnr_db=math.inf))
    got = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert got["face_psnr_db"] is None
    assert got["mouth_psnr_db"] is None


def test_table_shows_every_number_and_note() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(evaluate.to_table(report(face_psnr_db=33.456, notes=("perceptual: no network",))))
    text = capture.get()
    assert "33.46" in text
    assert "perceptual: no network" in text
    for name in EvaluationReport.__struct_fields__:
        assert name in text or name in {"frames", "seconds", "notes", "lips"}


@pytest.mark.parametrize(("value", "shown"), [(True, "yes"), (False, "no"), (None, "-")])
def test_table_says_whether_there_is_a_seam(value: bool | None, shown: str) -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(evaluate.to_table(report(seam_within_source=value)))
    row = next(line for line in capture.get().splitlines() if "seam_within_source" in line)
    assert shown in row.replace("seam_within_source", "").split()


def test_a_limit_of_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="max_frames"):
        evaluate.evaluate("a.mp4", "b.mp4", max_frames=0)
