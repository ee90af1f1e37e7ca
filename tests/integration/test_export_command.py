"""`livedub export`, on an actor made up for tests."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from clients.doctor import gpu_names
from engine.actor.pack import write_pack
from engine.backends import load_network
from engine.backends.engine_cache import decode_engine
from engine.expression.audio import STATES
from engine.render.renderer import OUTPUT
from tests.support.cli import Outcome, invoke
from tests.support.toy_actor import SIZE_PX, toy_actor

FILES = {
    "actor.json",
    "audio_to_expression.onnx",
    "reference.safetensors",
    "renderer.onnx",
    "renderer_cut.onnx",
    "texture.safetensors",
}
PACK = toy_actor("random")


@pytest.fixture
def actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "toy.actor"
    write_pack(PACK, path)
    return path


def shapes(graph: dict[str, Any], side: str) -> dict[str, list[int]]:
    return {tensor["name"]: tensor["shape"] for tensor in graph[side]}


def test_an_actor_as_onnx_runs_by_itself(actor: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = invoke(capfd, "export", actor, "--backend", "onnx")
    folder = actor.with_name("toy-onnx")
    assert (outcome.status, outcome.complaints) == (0, [])
    assert f"{folder} is written" in outcome.out
    assert {path.name for path in folder.iterdir()} == FILES
    assert {path.name for path in actor.parent.iterdir()} == {"toy.actor", "toy-onnx"}
    said = msgspec.json.decode((folder / "actor.json").read_bytes())
    assert (said["actor"], said["precision"], len(said["style"])) == ("Ada", "f32", 8)
    assert said["consent"]["subject"] == "Ada"
    for name, graph in said["graphs"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == graph["sha256"]
        assert 0 < graph["difference_from_reference"]["worst"] < 1e-4
        assert all(tensor["what"] for side in ("inputs", "outputs") for tensor in graph[side])
    sound = said["graphs"]["audio_to_expression.onnx"]
    assert shapes(sound, "inputs").keys() == {"mels", "code", "style", *STATES}
    whole = shapes(said["graphs"]["renderer.onnx"], "inputs")
    feeds = {name: np.zeros(shape, np.float32) for name, shape in whole.items()}
    feeds |= load_file(folder / "texture.safetensors") | load_file(folder / "reference.safetensors")
    feeds |= {"mask": feeds["mask"] + 1, "cover": feeds["cover"] + 1, "uv": feeds["uv"] + np.float32(0.5)}
    picture = load_network((folder / "renderer.onnx").read_bytes(), backend="onnxruntime").run(feeds)[OUTPUT]
    assert picture.shape == (1, SIZE_PX, SIZE_PX, 4)
    assert 0 <= picture.min() < picture.max() <= 1


def test_files_that_are_there_are_replaced_and_nothing_else(
    actor: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, report = actor.with_name("out"), actor.with_name("report.json")
    folder.mkdir()
    for name in ("renderer.onnx", "mine.txt"):
        (folder / name).write_bytes(b"before")
    outcome = invoke(
        capfd, "export", actor, "--backend", "onnx", "-o", folder, "--precision", "f16", "--json", report
    )
    assert (outcome.status, outcome.complaints) == (0, [])
    assert {path.name for path in folder.iterdir()} == FILES | {"mine.txt"}
    assert (folder / "mine.txt").read_bytes() == b"before"
    said = msgspec.json.decode(report.read_bytes())
    assert said["precision"] == "f16"
    assert said["files"] == {name: (folder / name).stat().st_size for name in FILES}
    assert said["parity"].keys() == {"renderer.onnx", "renderer_cut.onnx", "audio_to_expression.onnx"}


def test_engines_are_built_into_the_cache(actor: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx")
    carried, report = actor.with_name("carried"), actor.with_name("report.json")
    outcome = invoke(capfd, "export", actor, "--backend", "tensorrt", "-o", carried, "--json", report)
    assert (outcome.status, outcome.complaints) == (0, [])
    said = msgspec.json.decode(report.read_bytes())
    for network, precision in (("renderer", "f16"), ("audio_to_expression", "f32")):
        engine = said["engines"][network]
        path = Path(engine["path"])
        assert path.parent == actor.parent / "cache" / "engines"
        header = decode_engine(path.read_bytes()).header
        assert header.key.precision == engine["precision"] == precision
        assert header.key.gpu == engine["built_for"]
        assert (carried / path.name).read_bytes() == path.read_bytes()
    if not gpu_names():
        assert said["engines"]["renderer"]["built_for"] == "portable"
        assert "No GPU was found here: the engines are portable" in said["messages"][0]


@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU")
def test_a_backend_without_its_gpu_is_one_clear_line(
    actor: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for flavour in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, flavour, None)
    outcome = invoke(capfd, "export", actor, "--backend", "tensorrt")
    assert outcome.status == 1
    assert len(outcome.complaints) == 1
    assert "pip install 'livedub[gpu-rtx]'" in outcome.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--backend", "onnx", "-o", "absent/deep"], "there is no folder"),
        (["--backend", "onnx", "-o", "toy.actor"], "is a file; name a folder"),
        (["--backend", "onnx", "--json", "toy.actor"], "is another file of this command"),
        (["--backend", "onnx", "--precision", "int8"], "--precision"),
        (["--backend", "openvino"], "--backend"),
        ([], "Missing option '--backend'"),
    ],
)
def test_wrong_words(
    actor: Path,
    words: list[str],
    complaint: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(actor.parent)
    outcome: Outcome = invoke(capfd, "export", actor, *words)
    assert outcome.status == 2
    assert complaint in outcome.complaints[-1]
    assert [path.name for path in actor.parent.iterdir()] == ["toy.actor"]


@pytest.mark.parametrize("backend", ["onnx", "tensorrt"])
def test_what_is_no_actor_pack(
    backend: str, actor: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    actor.write_bytes(b"rubbish")
    outcome = invoke(capfd, "export", actor, "--backend", backend)
    assert outcome.status == 2
    assert "not an actor pack" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["toy.actor"]
