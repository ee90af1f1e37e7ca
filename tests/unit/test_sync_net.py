"""The sync measure's plumbing, with networks whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.arrays import F32, F64
from engine.errors import AssetError, OutputError
from engine.face.model import load_face_model
from export.sync_net import (
    MODES,
    MOUTH_POINTS,
    RATE_HZ,
    WINDOW_SAMPLES,
    SyncCurve,
    SyncMeasure,
    SyncNet,
    fit_modes,
    load_sync_measure,
    mouth_geometry,
    net_from_bytes,
    save_net,
    slide,
)

SIZE = 3 * len(MOUTH_POINTS)
SECONDS = 8


class Echo(SyncNet):
    """Hears the first mel band and sees the first mode, as they are, without their means."""

    def __init__(self) -> None:
        super().__init__()
        self.modes[0, 0] = 1.0

    def audio(self, mels: torch.Tensor) -> torch.Tensor:
        heard = mels[:, ::2, 0]
        return (heard - heard.mean(1, keepdim=True))[:, None]

    def mouth(self, modes: torch.Tensor) -> torch.Tensor:
        seen = modes[:, :, 0]
        return (seen - seen.mean(1, keepdim=True))[:, None]


def talk(late_s: float, *, seconds: float = SECONDS, rate_hz: float = 25.0) -> tuple[F32, F32, F64]:
    """Log-mels, a mouth and its times: the first band and the first coordinate are the same random curve."""
    rng = np.random.default_rng(3)
    knots = rng.normal(size=200)
    at, time_s = np.arange(round(seconds * 100)) / 100, np.arange(round(seconds * rate_hz)) / rate_hz
    mels, mouth = np.zeros((len(at), 80), np.float32), np.zeros((len(time_s), SIZE), np.float32)
    mels[:, 0] = np.interp(at, np.arange(200) / 10, knots)
    mouth[:, 0] = np.interp(time_s - late_s + 1, np.arange(200) / 10 + 1, knots)
    return mels, mouth, time_s


@pytest.mark.parametrize("late_ms", [-300, -40, 0, 60, 500])
def test_a_planted_offset_is_found(late_ms: int) -> None:
    measure = SyncMeasure(Echo())
    curves = measure.curves(*talk(late_ms / 1000))
    assert len(curves) >= 15
    assert [curve.best_ms for curve in curves[2:-2]] == pytest.approx([late_ms] * (len(curves) - 4), abs=20)
    score = measure.score(*talk(late_ms / 1000))
    assert score is not None
    assert score.offset_ms == pytest.approx(late_ms, abs=20)
    assert (score.hits > 0.9) == (abs(late_ms) <= 40)
    assert score.best_confidence >= score.confidence


def test_constants_and_the_frame_rate_do_not_matter() -> None:
    measure = SyncMeasure(Echo())
    mels, mouth, time_s = talk(0.1, rate_hz=30.0)
    plain = measure.score(mels, mouth, time_s)
    moved = measure.score(mels + 3, mouth - 2, time_s)
    assert plain is not None
    assert moved is not None
    assert plain.offset_ms == moved.offset_ms == 100
    assert plain.confidence == pytest.approx(moved.confidence, rel=1e-3)


def test_windows_stay_inside_what_is_known() -> None:
    measure = SyncMeasure(Echo())
    mels, mouth, time_s = talk(0.0)
    whole = measure.curves(mels, mouth, time_s)
    assert min(curve.start_s for curve in whole) == 1.0  # sound before it for every offset
    assert max(curve.start_s for curve in whole) == 5.0
    lost = (time_s > 3.0) & (time_s < 3.6)
    parts = measure.curves(mels, mouth[~lost], time_s[~lost])
    assert all(curve.start_s + 2 <= 3.1 or curve.start_s >= 3.5 for curve in parts)
    assert all(np.isfinite(curve.score).all() for curve in whole)


def test_short_clips_have_fewer_offsets_or_no_window() -> None:
    measure = SyncMeasure(Echo())
    short = measure.curves(*talk(-0.04, seconds=3.2))
    assert short
    assert all(not np.isfinite(curve.score).all() for curve in short)
    assert all(np.isfinite(curve.confidence(0.0)) for curve in short)
    assert short[0].best_ms == -40
    assert measure.score(*talk(0.0, seconds=1.9)) is None


def test_sound_that_ends_early_is_not_judged_beyond() -> None:
    mels, mouth, time_s = talk(0.0, seconds=4.0)
    score = SyncMeasure(Echo()).score(mels[:310], mouth, time_s)
    assert score is not None
    assert np.isfinite([score.confidence, score.best_confidence]).all()
    assert score.offset_ms == 0


def test_confidence_is_over_the_median() -> None:
    curve = SyncCurve(0.0, np.array([-20.0, 0.0, 20.0]), np.array([1.0, 5.0, 2.0], np.float32))
    assert curve.best_ms == 0
    assert curve.confidence() == 3
    assert curve.confidence(-20.0) == -1


def test_sliding_is_a_sum_at_every_place() -> None:
    heard, seen = torch.randn(3, 4, 30), torch.randn(3, 4, 8)
    wanted = [[(heard[b, :, d : d + 8] * seen[b]).sum().item() for d in range(23)] for b in range(3)]
    np.testing.assert_allclose(slide(heard, seen).numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_embeddings_have_the_mouths_rate() -> None:
    net = SyncNet().eval()
    heard, seen = net.audio(torch.randn(2, 300, 80)), net.mouth(torch.randn(2, WINDOW_SAMPLES, MODES))
    assert heard.shape == (2, seen.shape[1], 150)
    assert seen.shape[2] == WINDOW_SAMPLES == 2 * RATE_HZ


def test_modes_are_white() -> None:
    rng = np.random.default_rng(0)
    mouth = (rng.normal(size=(500, 20)) @ rng.normal(size=(20, SIZE))).astype(np.float32)
    modes = (mouth - mouth.mean(0)) @ fit_modes(mouth)
    np.testing.assert_allclose(modes.T @ modes / len(modes), np.eye(MODES), atol=1e-2)


def test_geometry_is_of_lips_and_chin() -> None:
    model = load_face_model()
    expression = np.stack([np.zeros(model.expressions, np.float32), model.jaw_open])
    mouth = mouth_geometry(expression, model).reshape(2, -1, 3)
    assert not mouth[0].any()
    upper, lower = MOUTH_POINTS.index(13), MOUTH_POINTS.index(14)
    assert mouth[1, lower, 1] - mouth[1, upper, 1] == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="expression"):
        mouth_geometry(expression[:, :3], model)


def test_saved_networks_answer_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, path = SyncNet().eval(), tmp_path / "sync.safetensors"
    net.modes.normal_()
    save_net(net, path, {"clips": 1})
    again = net_from_bytes(path.read_bytes())
    mels, mouth, time_s = talk(0.0)
    curves, others = (SyncMeasure(one).curves(mels, mouth, time_s) for one in (net, again))
    np.testing.assert_allclose(curves[0].score, others[0].score, rtol=0.02, atol=0.02)
    assert path.stat().st_size < 300_000
    with pytest.raises(AssetError, match="damaged"):
        net_from_bytes(path.read_bytes()[:-100])
    with pytest.raises(OutputError, match="cannot write"):
        save_net(net, tmp_path / "no folder" / "sync.safetensors", {})


def test_what_ships_tells_sound_from_noise() -> None:
    measure = load_sync_measure()
    rng = np.random.default_rng(0)
    mels = rng.normal(-6, 2, (800, 80)).astype(np.float32)
    mouth = rng.normal(0, 0.1, (200, SIZE)).astype(np.float32)
    score = measure.score(mels, mouth, np.arange(200) / 25)
    assert score is not None
    assert score.hits < 0.5
    assert score.confidence < 5
