"""The suite runs without an actor, and measures an actor's own footage when there is one."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_precision as suite
from benchmarks.common import Settings
from engine.actor.pack import write_pack
from engine.backends import load_network
from engine.render.renderer import INPUT, OUTPUT, prior_graph
from tests.support import data
from tests.support.toy_actor import toy_actor

QUICK = Settings(runs=1, warmup=0, quick=True)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(suite.ACTOR, raising=False)
    monkeypatch.delenv(suite.VIDEO, raising=False)


def test_every_variant_is_timed_and_compared_with_f32() -> None:
    results = {(r.name, r.clock): r for r in suite.run(QUICK)}
    names = {name.rsplit(" time", 1)[0] for name, clock in results if clock == "wall"}
    assert names == {
        "onnxruntime f32",
        "onnxruntime int8",
        "openvino f32",
        "openvino bf16",
        "openvino int8",
    }
    loss = {name: results[f"{name} to f32", "none"].p50 for name in names}
    assert loss["onnxruntime f32"] == 100.0
    assert loss["openvino f32"] > 60.0
    assert 25.0 < loss["onnxruntime int8"] < 100.0
    assert 35.0 < loss["openvino bf16"] < 100.0
    assert not any("PSNR" in name for name, _ in results)  # nobody's real picture


def test_one_backend_and_an_unknown_one() -> None:
    results = suite.run(Settings("onnxruntime", runs=1, warmup=0, quick=True))
    assert {r.parameters["backend"] for r in results} == {"onnxruntime"}
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        suite.run(Settings("tpu", quick=True))


def test_the_f32_canvas_of_a_made_up_head_is_drawn_inside_its_mask() -> None:
    shot = next(suite._made_up(None, 1))
    assert shot.canvas.shape[-1] == 23
    assert not shot.real
    network = load_network(prior_graph("cpu"), backend="onnxruntime")
    assert network.run({INPUT: shot.canvas})[OUTPUT].shape[-1] in (3, 4)
    shown = suite._shown(network, shot)
    np.testing.assert_array_equal(shown[shot.mask == 0], shot.source[shot.mask == 0])
    assert (shown != shot.source).any()


@pytest.mark.slow
def test_an_actor_s_own_footage_is_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.model_file("face_landmarker")
    pack = tmp_path / "toy.actor"
    write_pack(toy_actor("random"), pack)
    monkeypatch.setenv(suite.ACTOR, str(pack))
    monkeypatch.setenv(suite.VIDEO, str(data.data_file("clips/gs_avatar6_1.mp4")))
    results = suite.run(Settings("onnxruntime", runs=1, warmup=0, quick=True))
    found = {r.name: r for r in results}
    assert 5 < found["onnxruntime f32 face PSNR"].p50 < 40
    assert found["onnxruntime int8 face SSIM"].unit == "1"
    assert "onnxruntime int8 to f32, worst pixel" in found
