"""Also of `export.onnx_parity`, which holds what is exported to the reference."""

import numpy as np
import onnx
import pytest
import torch

from engine.arrays import Array
from engine.backends import load_network, weights_of
from engine.backends.graph import describe
from engine.errors import AssetError, LivedubError
from engine.expression.audio import STATES, shipped_model
from engine.render.canvas import empty_canvas, fill_canvas_reference
from engine.render.raster import UvMap
from engine.render.renderer import INPUT, OUTPUT
from export.onnx_graphs import (
    ExportPrecision,
    GruStep,
    audio_module,
    export_audio_step,
    export_cut_renderer,
    export_whole_renderer,
    renderer_modules,
)
from export.onnx_parity import Parity, check_audio, check_renderer, example_frame
from tests.support import networks
from tests.support.toy_actor import CHANNELS, SIZE_PX, TEXTURE_PX, toy_actor

Described = dict[str, tuple[str, tuple[int | None, ...]]]
PACK = toy_actor("random")
PLANE = (1, SIZE_PX, SIZE_PX)
LESS: list[ExportPrecision] = ["f16", "bf16"]
WORST = 1e-4


@pytest.fixture(scope="module")
def cut() -> bytes:
    return export_cut_renderer(PACK, "f32")


@pytest.fixture(scope="module")
def whole() -> bytes:
    return export_whole_renderer(PACK, "f32")


@pytest.fixture(scope="module")
def step() -> bytes:
    return export_audio_step(shipped_model(), "f32")


def tensors(model: bytes) -> Described:
    graph = describe(model)
    return {spec.name: (str(spec.dtype), spec.shape) for spec in (*graph.inputs, *graph.outputs)}


def constants(model: bytes) -> set[str]:
    """Types of everything that was learned."""
    stored = onnx.load_model_from_string(model).graph.initializer
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    return {
        onnx.TensorProto.DataType.Name(t.data_type)
        for t in stored
        if t.data_type in floats and np.prod(t.dims) > 4
    }


def test_both_forms_of_the_renderer_are_named_and_static(cut: bytes, whole: bytes) -> None:
    assert tensors(cut) == {
        INPUT: ("float32", (*PLANE, CHANNELS + 7)),
        OUTPUT: ("float32", (*PLANE, 4)),
    }
    assert tensors(whole) == {
        "texture": ("float32", (1, CHANNELS, TEXTURE_PX, TEXTURE_PX)),
        "uv": ("float32", (*PLANE, 2)),
        "cover": ("float32", (*PLANE, 1)),
        "source": ("float32", (*PLANE, 3)),
        "reference": ("float32", (*PLANE, 3)),
        "mask": ("float32", (*PLANE, 1)),
        OUTPUT: ("float32", (*PLANE, 4)),
    }
    for model in (cut, whole):
        assert constants(model) == {"FLOAT"}


def test_both_forms_draw_what_the_reference_draws(cut: bytes, whole: bytes) -> None:
    found = check_renderer(PACK, cut, whole, "f32")
    assert found.keys() == {"cut", "whole"}
    assert all(0 < parity.worst < WORST for parity in found.values())
    assert found["cut"].rms_db is not None
    assert found["cut"].rms_db > 100


def test_the_whole_form_samples_as_the_renderer_does(cut: bytes, whole: bytes) -> None:
    """Beyond the texture's borders, where nothing covers a pixel, and where the mask ends."""
    random = np.random.default_rng(3)
    frame = dict(example_frame(PACK).feeds)
    uv = random.uniform(-0.2, 1.2, (SIZE_PX, SIZE_PX, 2)).astype(np.float32)
    layer = random.integers(-1, 2, (SIZE_PX, SIZE_PX)).astype(np.int8)
    mask = np.maximum(random.uniform(-1, 1, (SIZE_PX, SIZE_PX)), 0).astype(np.float32)
    texture = np.asarray(PACK.texture.transpose(1, 2, 0), np.float32)
    canvas = empty_canvas(texture, PACK.references[0])
    fill_canvas_reference(texture, UvMap(uv, layer), mask, PACK.references[0], canvas[0])
    frame |= {"uv": uv[None], "cover": (layer >= 0).astype(np.float32)[None, ..., None]}
    frame["mask"] = mask[None, ..., None]
    drawn = load_network(whole, backend="onnxruntime").run(frame)[OUTPUT]
    wanted = load_network(cut, backend="onnxruntime").run({INPUT: canvas})[OUTPUT]
    np.testing.assert_allclose(drawn, wanted, atol=WORST)


@pytest.mark.parametrize("precision", LESS)
def test_a_renderer_in_less_keeps_the_picture(precision: ExportPrecision) -> None:
    model = export_cut_renderer(PACK, precision)
    assert {kind for kind, _ in tensors(model).values()} == {"float16"}
    assert constants(model) == {"FLOAT16" if precision == "f16" else "BFLOAT16"}
    parity = check_renderer(PACK, model, None, precision)["cut"]
    assert parity.rms_db is not None
    assert parity.rms_db > (60 if precision == "f16" else 50)


def test_modules_do_not_share_what_is_cast() -> None:
    (half, _), (full, _) = renderer_modules(PACK, "f16"), renderer_modules(PACK, "f32")
    assert {p.dtype for p in half.parameters()} == {torch.float16}
    assert {p.dtype for p in full.parameters()} == {torch.float32}


def test_another_actors_renderer_is_refused(cut: bytes) -> None:
    with pytest.raises(LivedubError, match=r"export of the renderer \(cut\) differs from the reference by"):
        check_renderer(toy_actor("random", seed=1), cut, None, "f32")


def test_one_step_of_sound_is_static_and_has_no_loop(step: bytes) -> None:
    found = tensors(step)
    assert found["mels"] == ("float32", (1, 4, 80))
    assert found["expression"] == ("float32", (1, 1, 16))
    for name, shape in STATES.items():
        assert found[name] == found[f"next_{name}"] == ("float32", (1, *shape))
    assert list(found) == [
        spec.name
        for part in (describe(shipped_model()).inputs, describe(shipped_model()).outputs)
        for spec in part
    ]
    operators = {node.op_type for node in onnx.load_model_from_string(step).graph.node}
    assert not operators & {"GRU", "Loop", "Scan", "Shape"}


def test_steps_of_sound_are_the_shipped_networks(step: bytes) -> None:
    assert check_audio(shipped_model(), step, "f32").worst < WORST


@pytest.mark.parametrize("precision", LESS)
def test_sound_in_less_keeps_its_state_in_full(precision: ExportPrecision) -> None:
    model = export_audio_step(shipped_model(), precision)
    assert {kind for kind, _ in tensors(model).values()} == {"float32"}
    assert ("FLOAT16" if precision == "f16" else "BFLOAT16") in constants(model)
    assert check_audio(shipped_model(), model, precision).worst > WORST


def test_a_network_that_learned_something_else_is_refused(step: bytes) -> None:
    other = onnx.load_model_from_string(shipped_model())
    bias = next(t for t in other.graph.initializer if t.name == "out.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(weights_of(shipped_model())["out.bias"] + 0.1, bias.name))
    with pytest.raises(LivedubError, match="audio-to-expression differs"):
        check_audio(other.SerializeToString(), step, "f32")


def test_a_graph_that_is_something_else_is_no_audio_network() -> None:
    with pytest.raises(AssetError, match="no audio-to-expression network"):
        audio_module(networks.gru(), "f32")


def test_a_step_of_a_gru_is_the_grus() -> None:
    torch.manual_seed(0)
    gru = torch.nn.GRU(5, 7, 2, batch_first=True)
    x, memory = torch.randn(3, 1, 5), torch.randn(2, 3, 7)
    with torch.no_grad():
        have, want = GruStep(gru)(x, memory), gru(x, memory)
    for one, other in zip(have, want, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("away", "db"), [(0.0, None), (0.1, 20.0)])
def test_decibels(away: float, db: float | None) -> None:
    found = Parity(away, away).rms_db
    assert found == (None if db is None else pytest.approx(db))


def test_nothing_that_is_not_a_number_passes(step: bytes) -> None:
    model = onnx.load_model_from_string(step)
    bias = next(t for t in model.graph.initializer if t.name == "out.bias")
    nothing: Array = np.full(bias.dims, np.nan, np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(nothing, bias.name))
    with pytest.raises(LivedubError, match="differs from the reference by nan"):
        check_audio(shipped_model(), model.SerializeToString(), "f32")
