"""`livedub train prior` as a whole, from a training set: what it writes, and that it goes on where it was."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from export.training_set import write
from tests.support.cli import Outcome, invoke
from tests.support.toy_set import toy_packed


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "set.safetensors"
    write(path, [toy_packed("bob"), toy_packed("ada"), toy_packed("cem", "dev")])
    return path


def test_training_leaves_all_files_and_can_go_on(
    training_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def run(*more: str | Path) -> Outcome:
        where = ("train", "prior", "--data", training_set, "-o", out, "--device", "cpu", "--json", "-")
        return invoke(capfd, *where, *more)

    first = run("--steps", "1")
    assert first.status == 0, first.err
    report = json.loads(first.out)
    assert (report["clips"], report["people"], report["frames"], report["device"]) == (2, 2, 14, "cpu")
    assert report["held_out_hole_psnr_db"] > 0
    names = {path.name for path in out.iterdir()}
    assert names >= {"prior_cpu.onnx", "prior_cpu_texture.safetensors", "prior_cpu.csv", "prior_cpu.png"}
    assert json.loads((out / "prior_cpu.clips.json").read_text()) == [
        "clips/bob_train.mp4",
        "clips/ada_train.mp4",
    ]
    with safe_open(out / "prior_cpu_texture.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["identities"]) == ["ada", "bob"]

    checkpoint = out / "prior_cpu.checkpoint.safetensors"
    second = run("--steps", "2", "--resume", checkpoint)
    assert second.status == 0, second.err
    assert [line.split(",")[0] for line in (out / "prior_cpu.csv").read_text().splitlines()] == [
        "step",
        "1",
        "2",
    ]
    with safe_open(checkpoint, framework="numpy") as file:
        assert file.metadata()["step"] == "2"

    fewer = run("--steps", "3", "--resume", checkpoint, "--people", "1")
    assert fewer.status == 2
    assert "give the same --data" in " ".join(fewer.err.split())
