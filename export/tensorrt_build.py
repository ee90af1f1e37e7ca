"""Building TensorRT engines of an actor's networks, on the machine that will run them or, portable, on any.

TensorRT-RTX builds without a GPU: such an engine holds code for every GPU that the library knows, and is
finished on the GPU when it is loaded. TensorRT itself, and TensorRT-RTX for this GPU alone, need the GPU.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.actor.pack import ActorPack
from engine.backends.cuda.driver import DeviceInfo
from engine.backends.engine_cache import EngineHeader, EngineKey, engine_header, engine_key, store_engine
from engine.backends.network import TensorSpec
from engine.backends.tensorrt_gpu import open_driver
from engine.backends.tensorrt_module import RTX, Refused, TensorRt, load_tensorrt
from engine.errors import BackendError, BackendUnavailable, OutputError
from engine.expression.audio import shipped_model
from engine.render.renderer import renderer_graph
from export.onnx_graphs import ExportPrecision, export_audio_step, export_cut_renderer
from export.onnx_parity import Parity, check_audio, check_renderer

AUDIO_PRECISION: ExportPrecision = "f32"  # what runs the audio network asks for: its state goes round
OnStage = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class BuiltEngine:
    """One engine, built.

    Attributes:
        header: what its file says.
        plan: as TensorRT serialized it.
        note: what else there is to say about it, one line; may be empty.
    """

    header: EngineHeader
    plan: bytes
    note: str = ""


@dataclass(frozen=True)
class ActorEngine:
    """One engine of an actor, in the cache.

    Attributes:
        network: "renderer" or "audio_to_expression".
        key: what it was built of and for.
        path: its file.
        plan_bytes: its size.
        parity: how far the graph that it was built of is from the reference, on a CPU.
        note: as of `BuiltEngine`.
    """

    network: str
    key: EngineKey
    path: Path
    plan_bytes: int
    parity: Parity
    note: str


def build_actor(
    pack: ActorPack, precision: ExportPrecision, folder: Path | None, on_stage: OnStage
) -> list[ActorEngine]:
    """Build both engines of an actor and store them in the cache, and in a folder if one is given.

    Args:
        pack: the actor.
        precision: of the renderer; audio-to-expression is AUDIO_PRECISION.
        folder: a second place for the files, to be carried to another machine's cache.
        on_stage: told stage, engines done and engines in all.

    Raises:
        ActorPackError: the pack belongs to another livedub, or is damaged.
        BackendUnavailable: TensorRT is not installed, or needs a GPU and there is none.
        BackendError: it refused a network.
        LivedubError: an exported graph differs from the reference.
        OutputError: an engine cannot be written.
    """
    library, device = load_tensorrt(), this_device()
    on_stage("renderer", 0, 2)
    graph = renderer_graph(pack)
    cut = export_cut_renderer(pack, precision)
    parity = check_renderer(pack, cut, None, precision)["cut"]
    built = build_engine(library, graph, cut, precision, device)
    engines = [_stored("renderer", built, parity, folder)]
    on_stage("audio_to_expression", 1, 2)
    model = shipped_model()
    step = export_audio_step(model, AUDIO_PRECISION)
    heard = check_audio(model, step, AUDIO_PRECISION)
    built = build_engine(library, model, step, AUDIO_PRECISION, device)
    return [*engines, _stored("audio_to_expression", built, heard, folder)]


def this_device() -> DeviceInfo | None:
    """The GPU to build for; None where there is none that can be used."""
    with suppress(BackendUnavailable):
        driver = open_driver()
        try:
            return driver.info
        finally:
            driver.close()
    return None


def build_engine(
    library: TensorRt, graph: bytes, exported: bytes, precision: ExportPrecision, device: DeviceInfo | None
) -> BuiltEngine:
    """Build one engine.

    TensorRT-RTX is first asked for an engine for this GPU alone; if it refuses, it gets a portable one.

    Args:
        library: who builds it.
        graph: the float32 graph that run time has; the engine is found by its hash.
        exported: what the engine is built of: the same, static, in `precision`.
        precision: of the engine.
        device: the GPU to build for; None builds a portable engine.

    Raises:
        BackendUnavailable: this flavour of TensorRT needs a GPU, and there is none.
        BackendError: the library refused the graph; with its first message.
    """
    if device is None and library.flavour != RTX:
        raise BackendUnavailable(
            f"{library.flavour} {library.version} builds engines only on the GPU that runs them, and no CUDA"
            " device is here; run the command there, or pip install 'livedub[gpu-rtx]'"
        )
    note = ""
    if device is not None:
        try:
            return _built(library, engine_key(graph, precision, library, device), exported)
        except BackendError as error:
            if library.flavour != RTX:
                raise
            note = f"portable, for there is none for this GPU alone: {error}"
    built = _built(library, engine_key(graph, precision, library, None), exported)
    return BuiltEngine(built.header, built.plan, note)


def _built(library: TensorRt, key: EngineKey, exported: bytes) -> BuiltEngine:
    trt = library.trt
    with library.refusing("building an engine"):
        builder = trt.Builder(library.logger)
        network = _parsed(library, builder, exported)
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # f32 is what it says: a state that goes round drifts else
        if library.flavour == RTX:
            _configure_rtx(trt, config, alone=bool(key.driver))
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise Refused
        inputs = [_spec(trt, network.get_input(index)) for index in range(network.num_inputs)]
        outputs = [_spec(trt, network.get_output(index)) for index in range(network.num_outputs)]
        data = bytes(plan)
        return BuiltEngine(engine_header(key, inputs, outputs, data), data)


def _parsed(library: TensorRt, builder: Any, exported: bytes) -> Any:
    """A strongly typed network: what the graph says is what is computed in."""
    trt = library.trt
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(exported):
        raise Refused(*(_reason(parser.get_error(index)) for index in range(parser.num_errors)))
    return network


def _reason(error: Any) -> str:
    operator = error.node_operator()
    return f"operator {operator} ({error.func()}): {error.desc()}" if operator else str(error.desc())


def _configure_rtx(trt: Any, config: Any, *, alone: bool) -> None:
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else it may not be capturable
    if alone:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(trt.ComputeCapability.CURRENT, 0):
            raise Refused


def _spec(trt: Any, tensor: Any) -> TensorSpec:
    kinds = {trt.DataType.HALF: np.float16, trt.DataType.FLOAT: np.float32}
    if tensor.dtype not in kinds:
        raise Refused(f"tensor '{tensor.name}' is of {tensor.dtype}, which livedub does not use")
    return TensorSpec(tensor.name, tuple(tensor.shape), np.dtype(kinds[tensor.dtype]))


def _stored(network: str, built: BuiltEngine, parity: Parity, folder: Path | None) -> ActorEngine:
    try:
        path = store_engine(built.header, built.plan)
        if folder is not None:
            store_engine(built.header, built.plan, folder)
    except OSError as error:
        raise OutputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    return ActorEngine(network, built.header.key, path, len(built.plan), parity, built.note)
