"""`livedub export`: an actor's networks as ONNX for others to run, or as TensorRT engines for livedub."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from safetensors.numpy import save

from clients.console import OnProgress, check_place, write_report
from engine.actor.pack import ActorPack, read_pack
from engine.backends.engine_cache import PORTABLE
from engine.backends.graph import describe
from engine.backends.network import TensorSpec
from engine.errors import OutputError
from engine.expression.audio import SILENCE, STATES, shipped_model
from export.onnx_graphs import (
    WHAT,
    ExportPrecision,
    export_audio_step,
    export_cut_renderer,
    export_whole_renderer,
)
from export.onnx_parity import Parity, check_audio, check_renderer
from export.tensorrt_build import ActorEngine, build_actor

ExportBackend = Literal["tensorrt", "onnx"]
DEFAULT_PRECISION: Mapping[ExportBackend, ExportPrecision] = {"tensorrt": "f16", "onnx": "f32"}
FORMAT = 1
DESCRIPTION = "actor.json"
WHOLE, CUT, AUDIO = "renderer.onnx", "renderer_cut.onnx", "audio_to_expression.onnx"
_GRAPHS = {
    WHOLE: "the renderer, from the rasterised face on",
    CUT: "its network alone, from the canvas on: what TensorRT runs between livedub's own kernels",
    AUDIO: "one step of 40 ms of sound, for one stream",
}


@dataclass(frozen=True)
class OnnxReport:
    """What was written.

    Attributes:
        folder: where.
        precision: of the networks.
        files: size in bytes by name.
        parity: worst and rms difference from the numpy reference, by graph.
    """

    folder: str
    precision: ExportPrecision
    files: dict[str, int]
    parity: dict[str, Parity]


@dataclass(frozen=True)
class EngineReport:
    """One engine.

    Attributes:
        path: its file in the cache.
        size_bytes: of the plan in it.
        precision: what it computes in.
        library: flavour and version of TensorRT.
        built_for: the GPU, or "portable".
        parity: of the graph that it was built of, as run on a CPU.
    """

    path: str
    size_bytes: int
    precision: str
    library: str
    built_for: str
    parity: Parity


@dataclass(frozen=True)
class TensorRtReport:
    """What was built.

    Attributes:
        engines: by network.
        messages: what the user should know, one sentence each.
    """

    engines: dict[str, EngineReport]
    messages: tuple[str, ...]


def export_onnx(actor: Path, folder: Path, precision: ExportPrecision, on_progress: OnProgress) -> OnnxReport:
    """Write an actor's networks as ONNX into a folder; each file appears whole or not at all.

    A folder that is not there yet appears with all its files at once.

    Args:
        actor: the pack.
        folder: made if it is missing; files of the same names in it are replaced.
        precision: of the networks.
        on_progress: told stage, graphs done and graphs in all.

    Raises:
        InputError: the pack cannot be used, or the folder cannot be written.
        LivedubError: a graph differs from the reference; nothing is written then.
    """
    if not folder.exists():
        check_place(folder)
    pack = read_pack(actor)
    model = shipped_model()
    on_progress("renderer", 0, len(_GRAPHS))
    cut = export_cut_renderer(pack, precision)
    whole = export_whole_renderer(pack, precision)
    drawn = check_renderer(pack, cut, whole, precision)
    on_progress("audio to expression", 2, len(_GRAPHS))
    step = export_audio_step(model, precision)
    parity = {WHOLE: drawn["whole"], CUT: drawn["cut"], AUDIO: check_audio(model, step, precision)}
    graphs = {WHOLE: whole, CUT: cut, AUDIO: step}
    files = {
        **graphs,
        "texture.safetensors": save({"texture": np.asarray(pack.texture, np.float32)[None]}),
        "reference.safetensors": save({"reference": pack.references[:1].astype(np.float32) / 255}),
        DESCRIPTION: _description(pack, precision, graphs, parity),
    }
    _write_folder(folder, files)
    return OnnxReport(str(folder), precision, {name: len(data) for name, data in files.items()}, parity)


def export_tensorrt(
    actor: Path, folder: Path | None, precision: ExportPrecision, on_progress: OnProgress
) -> TensorRtReport:
    """Build an actor's TensorRT engines into the cache, where the backend finds them.

    Args:
        actor: the pack.
        folder: the engines' second place, to be carried into another machine's cache; None for none.
        precision: of the renderer's.
        on_progress: told stage, engines done and engines in all.

    Raises:
        InputError: the pack cannot be used, or an engine cannot be written.
        BackendUnavailable: TensorRT is not installed, or needs a GPU and there is none.
        BackendError: it refused a network.
        LivedubError: an exported graph differs from the reference.
    """
    engines = build_actor(read_pack(actor), precision, folder, on_progress)
    return TensorRtReport({one.network: _engine_report(one) for one in engines}, _messages(engines))


def _engine_report(one: ActorEngine) -> EngineReport:
    key = one.key
    library = f"{key.flavour} {key.version}"
    return EngineReport(str(one.path), one.plan_bytes, key.precision, library, key.gpu, one.parity)


def _messages(engines: list[ActorEngine]) -> tuple[str, ...]:
    notes = [f"{one.network}: {one.note}" for one in engines if one.note]
    if not notes and any(one.key.gpu == PORTABLE for one in engines):
        notes = [
            "No GPU was found here: the engines are portable, and are finished by the GPU that loads them."
        ]
    return tuple(notes)


def _description(
    pack: ActorPack, precision: ExportPrecision, graphs: Mapping[str, bytes], parity: Mapping[str, Parity]
) -> bytes:
    manifest = pack.manifest
    described = {
        name: {
            "what": _GRAPHS[name],
            "sha256": hashlib.sha256(data).hexdigest(),
            "inputs": [_tensor(spec) for spec in describe(data).inputs],
            "outputs": [_tensor(spec) for spec in describe(data).outputs],
            "difference_from_reference": asdict(parity[name]),
        }
        for name, data in graphs.items()
    }
    content = {
        "format": FORMAT,
        "actor": manifest.name,
        "rights": manifest.rights,
        "consent": manifest.consent,
        "tier": manifest.tier,
        "prior_sha256": manifest.prior_sha256,
        "image_size_px": manifest.image_size_px,
        "precision": precision,
        "style": pack.style.tolist(),
        "graphs": described,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": str(spec.dtype), "shape": spec.shape, "what": _what(spec.name)}


def _what(name: str) -> str:
    if name in STATES:
        start = f"{SILENCE}" if name == "mel_history" else "0"
        return f"state; everywhere {start} before the first step"
    before = name.removeprefix("next_")
    return f"the next step's {before}" if before in STATES else WHAT[name]


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    if folder.exists():
        for name, data in files.items():
            write_report(folder / name, data)
        return
    part: str | None = None
    try:
        part = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial")
        for name, data in files.items():
            (Path(part) / name).write_bytes(data)
        Path(part).chmod(0o755)
        os.rename(part, folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
