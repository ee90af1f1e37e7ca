"""The audio-to-expression network as a shipped file: one step, state as named inputs and outputs."""

from pathlib import Path

import torch

from engine.expression.audio import LOOK_AHEADS_MS, MELS_PER_STEP, STATES, STYLE_SIZE
from export.audio_net import AudioNet
from export.onnx_file import write_onnx


def export_audio(net: AudioNet, path: Path) -> None:
    """Write one 40 ms step as ONNX; every tensor has the batch, of any size, as its first axis."""
    batch = 2  # an example; 1 would be taken for a constant
    bands = net.first.in_channels
    inputs = {
        "mels": torch.zeros(batch, MELS_PER_STEP, bands),
        "code": torch.zeros(batch, len(LOOK_AHEADS_MS)),
        "style": torch.zeros(batch, STYLE_SIZE),
        **{name: torch.zeros(batch, *shape) for name, shape in STATES.items()},
    }
    axis = torch.export.Dim("batch", min=1, max=64)
    outputs = ["expression", *(f"next_{name}" for name in STATES)]
    write_onnx(net, inputs, outputs, path, dynamic_shapes=tuple({0: axis} for _ in inputs))
