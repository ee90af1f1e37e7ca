"""An actor's two networks as ONNX, static and named, in float32 or less: for TensorRT, and for others to run.

Shapes are static and an audio step has a batch of one, for that is what runs as one CUDA graph. The shipped
graphs are taken apart into their PyTorch modules again and exported anew: only there can a layer be cast.

In `f16` and `bf16` it is the convolutions and products that are rounded (with float32 sums, as GPUs have
them); what a picture is made of at the end, the audio network's logarithms and all its state stay float32.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import version_converter
from torch import Tensor, nn
from torch.nn import functional as F

from engine.actor.pack import ActorPack
from engine.arrays import Array
from engine.backends import weights_of
from engine.backends.graph import parse
from engine.errors import AssetError
from engine.expression.audio import LOOK_AHEADS_MS, MELS_PER_STEP, STATES, STYLE_SIZE
from engine.render.renderer import INPUT, OUTPUT, WEIGHTS, renderer_graph
from export.audio_net import AudioNet
from export.onnx_file import write_onnx
from export.prior_net import CANVAS_CHANNELS, TIERS, PriorNet, make_canvas

ExportPrecision = Literal["f16", "bf16", "f32"]
DTYPES: dict[ExportPrecision, torch.dtype] = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
}
BF16_OPSET = 22  # the first whose convolutions may be of bfloat16
_GATES = 3
_EXPORTER_LOG = logging.getLogger("torch.onnx._internal.exporter._registration")
_LINEAR = ("slow", "out", "shut")  # whose weights the exporter stores turned, under names of its own


class _Cast(nn.Module):
    """A layer in another type: what comes in is cast before it, what goes out after it."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype, result: torch.dtype) -> None:
        super().__init__()
        self.layer, self.dtype, self.result = layer.to(dtype), dtype, result

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.to(self.dtype))
        return y.to(self.result)


class CutRenderer(nn.Module):
    """The renderer's network between our own kernels: `forward(canvas)` [1, S, S, 23] to [1, S, S, 4].

    Canvas and picture are float32 for `f32` and float16 otherwise: for numbers of 0 to 1 that is finer than
    bfloat16.
    """

    def __init__(self, net: PriorNet, precision: ExportPrecision) -> None:
        super().__init__()
        dtype = DTYPES[precision]
        self.net = deepcopy(net).to(dtype)
        self.net.stem.first = _Cast(self.net.stem.first, dtype, dtype)  # type: ignore[assignment]
        self.net.head = _Cast(self.net.head, dtype, torch.float32)  # type: ignore[assignment]
        self.dtype = torch.float32 if precision == "f32" else torch.float16

    def forward(self, canvas: Tensor) -> Tensor:
        """Picture of a canvas, in 0..1."""
        picture: Tensor = self.net(canvas)
        return picture.clamp(0, 1).to(self.dtype)


class WholeRenderer(nn.Module):
    """The renderer from the rasterised face on; see `forward`. All float32 outside, whatever it is inside."""

    def __init__(self, cut: CutRenderer) -> None:
        super().__init__()
        self.cut = cut

    def forward(
        self, texture: Tensor, uv: Tensor, cover: Tensor, source: Tensor, reference: Tensor, mask: Tensor
    ) -> Tensor:
        """Picture float32 [1, S, S, 4]; what the inputs are, `WHAT` says."""
        sampled = F.grid_sample(texture, uv * 2 - 1, padding_mode="border", align_corners=False)
        hole = mask[:, None, ..., 0]
        sampled = sampled * (cover[:, None, ..., 0] * (hole > 0))
        source, reference = source.permute(0, 3, 1, 2), reference.permute(0, 3, 1, 2)
        canvas = make_canvas(sampled, source, reference, hole)
        picture: Tensor = self.cut(canvas.to(self.cut.dtype))
        return picture.to(torch.float32)


class GruStep(nn.Module):
    """One step of a GRU as products and sums: the operator itself becomes a loop in TensorRT."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.into, self.back = nn.ModuleList(), nn.ModuleList()
        for layer in range(gru.num_layers):
            for kind, group in (("ih", self.into), ("hh", self.back)):
                weight = getattr(gru, f"weight_{kind}_l{layer}")
                linear = nn.Linear(weight.shape[1], weight.shape[0])
                linear.load_state_dict({"weight": weight, "bias": getattr(gru, f"bias_{kind}_l{layer}")})
                group.append(linear)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Of input [B, 1, I] and memory [L, B, H]: the answer [B, 1, H] and the next memory."""
        y, following = x[:, 0], []
        for before, into, back in zip(memory.unbind(0), self.into, self.back, strict=True):
            reset_in, update_in, new_in = into(y).chunk(_GATES, -1)
            reset_back, update_back, new_back = back(before).chunk(_GATES, -1)
            reset, update = torch.sigmoid(reset_in + reset_back), torch.sigmoid(update_in + update_back)
            new = torch.tanh(new_in + reset * new_back)
            y = new + update * (before - new)
            following.append(y)
        return y[:, None], torch.stack(following)


def renderer_modules(pack: ActorPack, precision: ExportPrecision) -> tuple[CutRenderer, WholeRenderer]:
    """The actor's renderer as modules, from its canvas on and from its texture on.

    Raises:
        ActorPackError: the pack belongs to another face model or prior than this livedub's, or is damaged.
        AssetError: the shipped prior is no network of its tier.
    """
    weights = weights_of(renderer_graph(pack))
    net = PriorNet(TIERS[pack.manifest.tier])
    try:
        net.load_state_dict(
            {name: torch.from_numpy(weights[WEIGHTS + name].copy()) for name in net.state_dict()}
        )
    except (KeyError, RuntimeError) as error:
        raise AssetError(f"the prior of tier {pack.manifest.tier} is incomplete: {error}") from error
    cut = CutRenderer(net.eval(), precision).eval()
    return cut, WholeRenderer(cut).eval()


def export_cut_renderer(pack: ActorPack, precision: ExportPrecision) -> bytes:
    """ONNX of the renderer's network, canvas to picture, which TensorRT runs between our own kernels.

    Raises:
        ActorPackError, AssetError: as for `renderer_modules`.
    """
    cut, _ = renderer_modules(pack, precision)
    size = pack.manifest.image_size_px
    canvas = torch.zeros(1, size, size, CANVAS_CHANNELS, dtype=cut.dtype)
    return _exported(cut, {INPUT: canvas}, [OUTPUT])


def export_whole_renderer(pack: ActorPack, precision: ExportPrecision) -> bytes:
    """ONNX of the renderer with the texture and all else that moves as named inputs.

    Raises:
        ActorPackError, AssetError: as for `renderer_modules`.
    """
    _, whole = renderer_modules(pack, precision)
    size = pack.manifest.image_size_px
    plane = (1, size, size)
    inputs = {
        "texture": torch.zeros(1, *pack.texture.shape),
        "uv": torch.zeros(*plane, 2),
        "cover": torch.zeros(*plane, 1),
        "source": torch.zeros(*plane, 3),
        "reference": torch.zeros(*plane, 3),
        "mask": torch.zeros(*plane, 1),
    }
    return _exported(whole, inputs, [OUTPUT])


def export_audio_step(model: bytes, precision: ExportPrecision) -> bytes:
    """ONNX of one 40 ms step of audio-to-expression for one stream; state goes in and out as float32.

    Args:
        model: the network as livedub ships it.
        precision: of its convolutions and products.

    Raises:
        AssetError: `model` is no audio-to-expression network.
    """
    net = audio_module(model, precision)
    inputs = {
        "mels": torch.zeros(1, MELS_PER_STEP, net.first_bands),
        "code": torch.zeros(1, len(LOOK_AHEADS_MS)),
        "style": torch.zeros(1, STYLE_SIZE),
        **{name: torch.zeros(1, *shape) for name, shape in STATES.items()},
    }
    return _exported(net, inputs, ["expression", *(f"next_{name}" for name in STATES)])


class AudioStep(AudioNet):
    """`AudioNet` for one step: its recurrent part is a `GruStep`, its layers are cast."""

    def __init__(self, net: AudioNet, precision: ExportPrecision) -> None:
        super().__init__(len(net.scale), net.first.in_channels)
        self.load_state_dict(net.state_dict())
        self.first_bands = net.first.in_channels
        self.gru = GruStep(net.gru)  # type: ignore[assignment]
        if precision != "f32":
            _cast_layers(self, DTYPES[precision])


def audio_module(model: bytes, precision: ExportPrecision) -> AudioStep:
    """A shipped audio-to-expression network as a module again.

    Raises:
        AssetError: it is no such network.
    """
    try:
        state = _audio_state(model)
        net = AudioNet(len(state["scale"]), len(state["offset"]))
        net.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError) as error:
        raise AssetError(f"no audio-to-expression network as this livedub knows it: {error}") from error
    return AudioStep(net, precision).eval()


def _audio_state(model: bytes) -> dict[str, Tensor]:
    stored = weights_of(model)
    nodes = parse(model).graph.node
    state = {name: array for name, array in stored.items() if not name.startswith("val_")}
    for name in _LINEAR:
        state[f"{name}.weight"] = _turned_weight(nodes, stored, f"{name}.bias")
    recurrent = [node for node in nodes if node.op_type == "GRU"]
    for layer, node in enumerate(recurrent):
        update_in, reset_in, new_in, update_back, reset_back, new_back = stored[node.input[3]].reshape(6, -1)
        state[f"gru.bias_ih_l{layer}"] = np.concatenate([reset_in, update_in, new_in])
        state[f"gru.bias_hh_l{layer}"] = np.concatenate([reset_back, update_back, new_back])
    known = AudioNet(len(state["scale"]), len(state["offset"])).state_dict()
    return {name: torch.from_numpy(np.array(state[name])) for name in known}


def _turned_weight(nodes: Sequence[onnx.NodeProto], stored: Mapping[str, Array], bias: str) -> Array:
    """The weight of a linear layer: in the product that its bias is added to."""
    makers = {output: node for node in nodes for output in node.output}
    added = next(iter(node for node in nodes if bias in node.input), None)
    if added is None:
        raise KeyError(bias)
    product = makers[next(name for name in added.input if name != bias)]
    return np.ascontiguousarray(stored[product.input[1]].T)


def _cast_layers(module: nn.Module, dtype: torch.dtype) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv1d | nn.Conv2d | nn.Linear):
            setattr(module, name, _Cast(child, dtype, torch.float32))
        else:
            _cast_layers(child, dtype)


def _exported(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> bytes:
    """Serialized and checked.

    Raises:
        AssetError: the exporter made what ONNX' own checker refuses.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet_exporter():
        path = Path(folder) / "graph.onnx"
        write_onnx(module, inputs, outputs, path)
        model = onnx.load(path)
    if any(tensor.data_type == onnx.TensorProto.BFLOAT16 for tensor in model.graph.initializer):
        model = version_converter.convert_version(model, BF16_OPSET)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise AssetError(f"the exported graph is not valid ONNX: {error}") from error
    return bytes(model.SerializeToString())


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """It warns of packages that it could serve as well."""
    level = _EXPORTER_LOG.level
    _EXPORTER_LOG.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _EXPORTER_LOG.setLevel(level)


WHAT: Mapping[str, str] = {
    "texture": "the actor's neural texture, 16 channels; in texture.safetensors",
    "uv": "which point of the texture each pixel shows, 0..1, texel i's centre at (i + 0.5) / size",
    "cover": "1 where the rasterised face covers the pixel, else 0",
    "source": "crop of the frame, RGB 0..1",
    "reference": "a crop of the actor, RGB 0..1; in reference.safetensors",
    "mask": "soft mask of what may be redrawn, 0..1",
    "canvas": "sampled texture (16), source times 1 - mask (3), reference (3), mask (1)",
    "picture": "RGB and how much of it to show over the source, 0..1",
    "mels": "log-mel frames of 40 ms of sound",
    "code": f"one-hot look-ahead: {', '.join(map(str, LOOK_AHEADS_MS))} ms",
    "style": "the actor's style code, in actor.json; zeros for the average speaker",
    "expression": "lower-face expression coefficients",
}
