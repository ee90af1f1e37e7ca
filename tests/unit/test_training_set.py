"""The packed training set: what goes in comes out, damage is told, and reading needs next to nothing."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from engine.errors import InputError, OutputError
from engine.face.landmarks import COUNT
from engine.face.model import load_face_model
from engine.image.resize import cut
from export.dataset import cut_crops, fit_crops
from export.training_set import (
    HEARD_STEP,
    MEL_STEP,
    face_clips,
    open_data,
    open_set,
    pack_landmarks,
    pack_mels,
    read,
    trainable,
    unpack_landmarks,
    unpack_mels,
    write,
)
from tests.support.toy_actor import landmarks, opened
from tests.support.toy_clip import head, opening, picture
from tests.support.toy_set import toy_packed


@settings(deadline=None, max_examples=30)
@given(
    frames=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    reach_px=st.floats(0.1, 5e3),
    step_px=st.floats(0.01, 2.0),
)
def test_landmarks_come_back_to_half_a_step(frames: int, seed: int, reach_px: float, step_px: float) -> None:
    points = np.random.default_rng(seed).uniform(-reach_px, reach_px, (frames, COUNT, 3)).astype(np.float32)
    back = unpack_landmarks(pack_landmarks(points, step_px), step_px)
    assert back.shape == points.shape
    assert np.abs(back - points).max() <= 0.5 * step_px + 1e-6 * reach_px


@settings(deadline=None, max_examples=30)
@given(blocks=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_log_mels_come_back_to_half_a_step(blocks: int, seed: int) -> None:
    mels = np.random.default_rng(seed).uniform(-13.8, 10, (4 * blocks, 80)).astype(np.float32)
    back = unpack_mels(pack_mels(mels))
    assert back.shape == mels.shape
    assert np.abs(back - mels).max() <= 0.5 * MEL_STEP + 1e-5


def test_crops_come_back_in_their_colours_and_places() -> None:
    packed, model = toy_packed(frames=12, size_px=64), load_face_model()
    points = [landmarks(head(i), opened(opening(i))) for i in range(12)]
    cutters = [partial(cut, picture(one, 0.3)) for one in points]
    shown = np.stack(points)
    shown[1] = np.nan
    before = cut_crops(cutters, shown, model, packed.neutral, size_px=64)
    after = packed.crops()
    assert after is not None
    np.testing.assert_array_equal(after.frames, before.frames)
    np.testing.assert_array_equal(after.squares, before.squares)
    error = (after.pictures.astype(np.float32) - before.pictures) ** 2
    assert 10 * np.log10(255**2 / error.mean()) >= 36  # small crops with hard edges; real ones: test_prepare
    assert np.abs(after.pictures.mean((0, 1, 2)) - before.pictures.mean((0, 1, 2))).max() < 0.6

    fitted, exact = (
        face_clips([packed], model, size_px=64)[0],
        fit_crops("ada", before, shown, model, packed.neutral),
    )
    assert fitted.frames.tolist() == [0, *range(2, 12)]
    np.testing.assert_allclose(fitted.translation_px, exact.translation_px, atol=0.1)
    np.testing.assert_allclose(fitted.expression, exact.expression, atol=0.1)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    clips = [toy_packed("ada"), toy_packed("bob", sound=False, large=False, sync="", audio_lag_ms=-40.0)]
    mels = clips[0].log_mels()
    assert mels is not None
    others = np.concatenate([mels + 0.5, mels - 1.0])
    clips[0] = replace(clips[0], heard=pack_mels(others, HEARD_STEP))
    write(tmp_path / "set.safetensors", clips)
    back = open_set(tmp_path / "set.safetensors")
    assert [one.clip for one in back] == [one.clip for one in clips]
    for one, other in zip(clips, back, strict=True):
        assert one.step_px == other.step_px
        for name in (
            "time_s",
            "found",
            "landmarks",
            "neutral",
            "mels",
            "film",
            "frames",
            "squares",
            "colour",
            "heard",
        ):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert back[1].log_mels() is None
    assert back[1].heard_mels() == ()
    assert len(back[0].heard_mels()) == 2
    np.testing.assert_allclose(np.concatenate(back[0].heard_mels()), others, atol=0.51 * HEARD_STEP)
    assert back[1].crops() is None
    assert np.isnan(back[1].all_landmarks()).all(axis=(1, 2)).tolist() == [False, True] + [False] * 6
    assert list(tmp_path.iterdir()) == [tmp_path / "set.safetensors"]
    assert len(open_data(tmp_path / "set.safetensors", on_progress=lambda *_: None)) == 2


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "absent" / "set.safetensors", [])


@pytest.mark.parametrize("content", [b"", b"no such thing", b"\xff" * 400], ids=["empty", "short", "bytes"])
def test_what_is_no_set_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"set\.safetensors"):
        open_set(tmp_path / "set.safetensors")


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"format": "livedub-training-set", "version": "0", "clips": "[]"},
        {"format": "livedub-training-set", "version": "1"},
        {"format": "livedub-training-set", "version": "1", "clips": "[{}]"},
        {"format": "livedub-training-set", "version": "1", "clips": "{"},
        {"format": "livedub-training-set", "version": "1", "clips": "[1]"},
    ],
)
def test_other_safetensors_are_refused(tmp_path: Path, about: dict[str, str]) -> None:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "x.safetensors", about)
    with pytest.raises(InputError, match="training set"):
        open_set(tmp_path / "x.safetensors")


def test_missing_and_cut_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    with pytest.raises(InputError, match="training set"):
        open_set(path)
    write(path, [toy_packed()])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="training set"):
        open_set(path)


def test_films_that_decode_otherwise_are_refused() -> None:
    packed = toy_packed()
    with pytest.raises(InputError, match="other colours"):
        replace(packed, colour=packed.colour + 10).crops()
    with pytest.raises(InputError, match="7 crops decode, 6 should"):
        replace(packed, frames=packed.frames[:-1]).crops()
    with pytest.raises(InputError, match="0 crops decode"):
        replace(packed, film=np.zeros(100, np.uint8)).crops()


def test_damaged_numbers_are_refused() -> None:
    packed, noise = toy_packed(), np.arange(90, dtype=np.uint8)
    with pytest.raises(InputError, match=r"ada_train\.mp4: the landmarks are damaged"):
        replace(packed, landmarks=noise).all_landmarks()
    with pytest.raises(InputError, match=r"ada_train\.mp4: the mels are damaged"):
        replace(packed, mels=noise).log_mels()


def test_nobody_held_out_is_trained_on(tmp_path: Path) -> None:
    clips = [
        toy_packed("ada"),
        toy_packed("bob", "dev"),
        toy_packed("bob", "train"),
        toy_packed("cem", "dev-silent", sound=False),
        toy_packed("dee", "train-aux-silent", sound=False),
        toy_packed("eva", ""),
    ]
    assert [one.clip.identity for one in trainable(clips)] == ["ada", "dee"]
    path = tmp_path / "set.safetensors"
    write(path, clips)
    model = load_face_model()
    assert [clip.identity for clip in read(path, model, size_px=32)] == ["ada", "dee"]
    assert [clip.identity for clip in read(path, model, size_px=32, held_out=True)] == ["bob", "cem", "eva"]


def test_only_sound_that_fits_speaks() -> None:
    model = load_face_model()

    def spoken(**known: object) -> np.ndarray | None:
        return face_clips([toy_packed(frames=16, **known)], model, size_px=32)[0].spoken  # type: ignore[arg-type]

    said = spoken()
    assert said is not None
    assert said.shape == (15, model.expressions)
    assert said.dtype == np.float32
    assert spoken(sound=False) is None
    assert spoken(sync="weak/unverified") is None
    late = spoken(audio_lag_ms=80.0)  # two frames
    assert late is not None
    np.testing.assert_allclose(late[4:], said[2:-2], atol=1e-5)
    np.testing.assert_array_equal(spoken(audio_lag_ms=400.0), said)  # not believed


def test_crops_of_another_size_are_resized() -> None:
    small = face_clips([toy_packed(size_px=64)], load_face_model(), size_px=32)[0]
    large = face_clips([toy_packed(size_px=64)], load_face_model(), size_px=64)[0]
    assert small.crops.shape[1:] == (32, 32, 3)
    np.testing.assert_allclose(2 * small.translation_px, large.translation_px)
    np.testing.assert_allclose(2 * small.scale_px, large.scale_px)
