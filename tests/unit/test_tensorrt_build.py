"""TensorRT-RTX really parses and builds, without a GPU. Of the audio network no two plans are equal."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from clients.doctor import gpu_names
from engine.backends.cuda.driver import DeviceInfo
from engine.backends.engine_cache import PORTABLE, find_engine
from engine.backends.graph import describe
from engine.backends.tensorrt_module import RTX, TensorRt, load_tensorrt
from engine.errors import BackendError, BackendUnavailable
from engine.expression.audio import STATES, shipped_model
from engine.render.renderer import INPUT, OUTPUT, renderer_graph
from export.onnx_graphs import ExportPrecision, export_audio_step, export_cut_renderer
from export.tensorrt_build import BuiltEngine, build_actor, build_engine, this_device
from tests.support import networks
from tests.support.toy_actor import SIZE_PX, toy_actor

PACK = toy_actor("random")
PRECISIONS: list[ExportPrecision] = ["f32", "f16", "bf16"]
SOMETHING = DeviceInfo("NVIDIA Something", (9, 0), (13, 0), 1 << 30)
RENDERER_BYTES: dict[ExportPrecision, int] = {"f32": 8_233_324, "f16": 4_499_956, "bf16": 4_500_324}
AUDIO_BYTES: dict[ExportPrecision, int] = {"f32": 7_726_940, "f16": 5_823_116, "bf16": 5_823_116}
ABOUT = 0.15


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))


@cache
def rtx() -> TensorRt:
    library = load_tensorrt()
    if library.flavour != RTX:
        pytest.skip("TensorRT itself is installed, which builds on a GPU only")
    return library


@cache
def renderer(precision: ExportPrecision) -> BuiltEngine:
    return build_engine(
        rtx(), renderer_graph(PACK), export_cut_renderer(PACK, precision), precision, device=None
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_renderer_is_built(precision: ExportPrecision) -> None:
    built = renderer(precision)
    dtype = "float32" if precision == "f32" else "float16"
    plane = (1, SIZE_PX, SIZE_PX)
    assert [(t.name, t.dtype, t.shape) for t in built.header.inputs] == [(INPUT, dtype, (*plane, 23))]
    assert [(t.name, t.dtype, t.shape) for t in built.header.outputs] == [(OUTPUT, dtype, (*plane, 4))]
    assert (built.header.key.gpu, built.header.key.precision) == (PORTABLE, precision)
    assert len(built.plan) == pytest.approx(RENDERER_BYTES[precision], rel=ABOUT)
    assert not built.note


def test_the_renderer_is_built_the_same_twice() -> None:
    assert renderer("f16") == renderer.__wrapped__("f16")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_audio_to_expression_is_built(precision: ExportPrecision) -> None:
    model = shipped_model()
    built = build_engine(rtx(), model, export_audio_step(model, precision), precision, None)
    graph = describe(model)
    assert [t.name for t in built.header.inputs] == [spec.name for spec in graph.inputs]
    assert [t.name for t in built.header.outputs] == [spec.name for spec in graph.outputs]
    shapes = {t.name: t.shape for t in (*built.header.inputs, *built.header.outputs)}
    assert {t.dtype for t in (*built.header.inputs, *built.header.outputs)} == {"float32"}
    assert all(shapes[name] == shapes[f"next_{name}"] == (1, *shape) for name, shape in STATES.items())
    assert shapes["expression"] == (1, 1, 16)
    assert len(built.plan) == pytest.approx(AUDIO_BYTES[precision], rel=ABOUT)


def test_an_actors_engines_are_found_again(tmp_path: Path) -> None:
    rtx()
    stages: list[tuple[str, int, int | None]] = []
    engines = build_actor(PACK, "f16", tmp_path / "out", lambda *stage: stages.append(stage))
    assert [(one.network, one.key.precision) for one in engines] == [
        ("renderer", "f16"),
        ("audio_to_expression", "f32"),
    ]
    assert stages == [("renderer", 0, 2), ("audio_to_expression", 1, 2)]
    for one in engines:
        assert (tmp_path / "out" / one.path.name).read_bytes() == one.path.read_bytes()
        assert one.parity.worst < 1e-2
    if not gpu_names():
        found = find_engine(renderer_graph(PACK), "f16", rtx(), SOMETHING)
        assert found.plan == renderer("f16").plan


def test_what_is_no_graph_is_refused_in_the_librarys_words() -> None:
    with pytest.raises(BackendError, match=r"tensorrt_rtx 1\.\S+ failed while building an engine: .*parse"):
        build_engine(rtx(), b"", b"rubbish", "f32", None)


def test_an_operator_that_is_not_known_is_named() -> None:
    builder = networks.GraphBuilder(0)
    builder.node("Bernoulli", ["x"], "y")
    model = builder.finish({"x": (1, 4)}, {"y": (1, 4)})
    with pytest.raises(BackendError, match=r"building an engine: operator Bernoulli \(checkBernoulli\)"):
        build_engine(rtx(), model, model, "f32", None)


def test_an_open_axis_is_refused() -> None:
    model = networks.gru(batch="B")
    with pytest.raises(BackendError, match="no optimization profile"):
        build_engine(rtx(), model, model, "f32", None)


def test_the_next_build_does_not_repeat_the_last_ones_complaint() -> None:
    with pytest.raises(BackendError, match="parse"):
        build_engine(rtx(), b"", b"rubbish", "f32", None)
    model = networks.unet(size_px=16, widths=(8, 16))
    assert build_engine(rtx(), model, model, "f32", None).plan
    assert not rtx().complaints


def test_tensorrt_itself_is_not_asked_without_a_gpu() -> None:
    full = replace(rtx(), flavour="tensorrt")
    with pytest.raises(BackendUnavailable, match=r"only on the GPU that runs them.*livedub\[gpu-rtx\]"):
        build_engine(full, b"", b"", "f16", None)


@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_built_for_one() -> None:
    assert this_device() is None
    model = networks.unet(size_px=16, widths=(8, 16))
    built = build_engine(rtx(), model, model, "f32", SOMETHING)
    assert built.header.key.gpu == PORTABLE
    assert "portable, for there is none for this GPU alone: tensorrt_rtx" in built.note
    with pytest.raises(BackendError, match="failed while building an engine"):
        build_engine(replace(rtx(), flavour="tensorrt"), model, b"rubbish", "f32", SOMETHING)
