"""Training the sync measure: what is drawn, that it learns, and that it is judged on others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.face.model import load_face_model
from export import train_sync
from export.jobs_sync import train_sync as job
from export.sync_net import REACH_SAMPLES, WINDOW_SAMPLES, SyncMeasure
from export.train_sync import SyncClip, SyncProgress, SyncSampler, accuracy, read_sync_clip, train_sync_net
from export.training_set import write
from tests.support.toy_set import toy_packed
from tests.unit.test_sync_net import SIZE, Echo, talk


def clip(seed: int, *, seconds: float = 6.0, held_out: bool = False, late_s: float = 0.0) -> SyncClip:
    """Somebody whose mouth is open where the low bands are loud."""
    rng = np.random.default_rng(seed)
    knots = np.abs(rng.normal(size=60))
    at, time_s = np.arange(round(seconds * 100)) / 100, np.arange(round(seconds * 25)) / 25
    loud = np.interp(at, np.arange(60) / 7, knots)
    mels = -8 + loud[:, None] * np.linspace(3, 1, 80) + rng.normal(0, 0.3, (len(at), 80))
    opening = np.interp(time_s - late_s, at, loud)
    shape = np.random.default_rng(99).normal(size=(3, SIZE))
    mouth = np.stack([opening, np.gradient(opening), 0.1 * rng.normal(size=len(opening))], 1) @ shape
    return SyncClip(
        f"clip{seed}", f"p{seed}", held_out, mels.astype(np.float32), time_s, mouth.astype(np.float32)
    )


def test_a_drawn_window_is_where_its_target_says() -> None:
    sampler = SyncSampler([clip(0)], train_sync._new_net([clip(0)]), 0)
    for _ in range(20):
        mels, modes, target, place = sampler.draw()
        assert mels.shape == (2 * (WINDOW_SAMPLES + 2 * REACH_SAMPLES), 80)
        assert modes.shape[0] == WINDOW_SAMPLES
        assert len(target) == 2 * REACH_SAMPLES + 1
        assert target.clip(0).sum() == pytest.approx(1, abs=1e-4)
        assert target.argmax() == place
        assert np.isfinite(mels).all()


def test_the_drawn_sound_is_the_mouths() -> None:
    one = clip(1)
    sampler = SyncSampler([one], train_sync._new_net([one]), 0)
    agree = []
    for _ in range(30):
        mels, modes, _, place = sampler.draw()
        heard = mels[2 * place : 2 * place + 2 * WINDOW_SAMPLES : 2, :20].mean(1)
        if modes[:, 0].any():  # now and then a mode is missing
            agree.append(abs(np.corrcoef(heard, modes[:, 0])[0, 1]))
    assert np.median(agree) > 0.7


def test_a_short_clips_places_without_sound_are_masked() -> None:
    one = clip(2, seconds=3.0)
    sampler = SyncSampler([one], train_sync._new_net([one]), 0)
    masked = [(sampler.draw()[2] < 0).mean() for _ in range(20)]
    assert 0.2 < np.mean(masked) < 0.8


def test_it_learns_and_finds_offsets_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_sync, "BATCH", 8)
    lines: list[SyncProgress] = []
    people, others = [clip(i) for i in range(6)], [clip(i, held_out=True) for i in range(10, 13)]
    net = train_sync_net(people, others, steps=30, every=15, on_progress=lines.append)
    assert [line.step for line in lines] == [15, 30]
    found = accuracy(SyncMeasure(net), others)
    assert found == lines[-1].accuracy
    assert found is not None
    assert found.clips == 3
    assert found.hits > 0.7
    moved = accuracy(SyncMeasure(net), [replace(one, time_s=one.time_s + 0.3) for one in others])
    assert moved is not None
    assert moved.hits < 0.3
    assert moved.hits_own > 0.7


def test_accuracy_is_of_the_given_offset() -> None:
    mels, mouth, time_s = talk(0.0)
    one = SyncClip("a", "a", True, mels, time_s, mouth)
    found = accuracy(SyncMeasure(Echo()), [one, replace(one, time_s=time_s + 0.12)])
    assert found is not None
    assert (found.clips, found.clip_hits) == (2, 0.5)
    assert found.hits == pytest.approx(0.5, abs=0.05)
    assert found.hits_own == 1
    assert accuracy(SyncMeasure(Echo()), [replace(one, mels=mels[:150])]) is None


def test_offsets_are_corrected_and_unbelievable_clips_dropped() -> None:
    mels, mouth, time_s = talk(0.0)
    good = SyncClip("a", "a", False, mels, time_s + 0.1, mouth)
    lost = SyncClip("b", "b", False, mels, time_s + 0.6, mouth)
    kept = train_sync._moved(SyncMeasure(Echo()), [good, lost])
    assert [one.name for one in kept] == ["a"]
    np.testing.assert_allclose(kept[0].time_s, time_s, atol=0.021)
    assert train_sync._moved(SyncMeasure(Echo()), [lost]) == [lost]


def test_clips_are_read_where_sound_and_face_are_there() -> None:
    model = load_face_model()
    read = read_sync_clip(toy_packed(frames=70, audio_lag_ms=80.0), model)
    assert read is not None
    assert read.mouth.shape == (69, SIZE)
    assert read.time_s[0] == pytest.approx(-0.08)
    assert read_sync_clip(toy_packed(frames=70, sound=False), model) is None
    assert read_sync_clip(toy_packed(frames=70, sync="weak/unverified"), model) is None
    assert read_sync_clip(toy_packed(frames=20), model) is None


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no clip"):
        train_sync_net([], [])
    write(tmp_path / "set.safetensors", [toy_packed(sound=False)])
    with pytest.raises(InputError, match="no clip"):
        job(tmp_path / "set.safetensors", tmp_path / "o", steps=1, seed=0, on_progress=lambda *_: None)


def test_the_job_writes_and_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_sync, "BATCH", 4)
    people = [toy_packed(frames=70), toy_packed("bea", frames=70), toy_packed("eve", "dev", frames=110)]
    write(tmp_path / "set.safetensors", people)
    report = job(
        tmp_path / "set.safetensors",
        tmp_path / "sync.safetensors",
        steps=2,
        seed=0,
        on_progress=lambda *_: None,
    )
    assert (report.clips, report.people, report.held_out_clips, report.held_out_people) == (2, 2, 1, 1)
    assert report.windows > 0
    assert report.hits is not None
    assert report.wrong_hits is None  # it takes two clips
    assert (tmp_path / "sync.safetensors").stat().st_size > 10_000
