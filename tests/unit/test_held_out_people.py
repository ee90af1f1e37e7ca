"""Nobody who is kept for scores is trained on: not from a list, not from a set, not in what is shipped."""

import csv
import json
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from export.dataset import list_clips
from export.jobs_prior import PriorOptions, choose
from export.prior_assets import texture_asset
from export.training_set import PackedClip, trainable
from tests.support.data import data_file
from tests.support.toy_set import toy_packed

SPLITS = ("train", "train-aux-lowres", "train-aux-silent", "dev", "dev-silent", "test", "")


def held_out_of(manifest: Path) -> set[str]:
    """Whom a real list keeps, read without the code under test."""
    with manifest.open(newline="") as file:
        return {row["identity"] for row in csv.DictReader(file) if not row["split"].startswith("train")}


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(SPLITS)), min_size=1, max_size=12))
def test_lists_keep_people_apart(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("list")
    lines = [f"{index}.mp4,{who},{split}" for index, (who, split) in enumerate(rows)]
    (folder / "manifest.csv").write_text("\n".join(["file,identity,split", *lines]) + "\n")
    clips = list_clips(folder)
    trained = {clip.identity for clip in clips if not clip.held_out}
    kept = {who for who, split in rows if not split.startswith("train")}
    assert not trained & kept
    assert trained == {who for who, _ in rows} - kept
    assert {clip.identity for clip in clips if clip.held_out} == kept


@pytest.fixture(scope="module")
def packed() -> dict[str, PackedClip]:
    return {
        f"{who} {split}": toy_packed(who, split, frames=3, size_px=32) for who in "abc" for split in SPLITS
    }


@settings(deadline=None, max_examples=50)
@given(
    keys=st.lists(st.sampled_from([f"{who} {split}" for who in "abc" for split in SPLITS]), max_size=8),
    people=st.none() | st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_sets_keep_people_apart(
    packed: dict[str, PackedClip], keys: list[str], people: int | None, seed: int
) -> None:
    clips = [packed[key] for key in keys]
    kept = {one.clip.identity for one in clips if not one.clip.split.startswith("train")}
    for chosen in (trainable(clips), choose(clips, PriorOptions(people=people, seed=seed))):
        assert not {one.clip.identity for one in chosen} & kept


def test_real_list_keeps_people_apart() -> None:
    manifest = data_file("manifest.csv")
    kept = held_out_of(manifest)
    clips = list_clips(manifest.parent)
    assert len(kept) >= 5
    assert not {clip.identity for clip in clips if not clip.held_out} & kept
    assert {clip.identity for clip in clips if clip.held_out} == kept


def test_shipped_prior_has_not_seen_them() -> None:
    asset = resources.files("engine.assets").joinpath(texture_asset("cpu"))
    with resources.as_file(asset) as path, safe_open(path, framework="numpy") as file:
        learned = set(json.loads((file.metadata() or {}).get("identities", "[]")))
    if not learned:
        pytest.skip("the shipped prior does not say whom it was learned from")
    assert not learned & held_out_of(data_file("manifest.csv"))
