"""The audio-to-expression network as a shipped file: one step, state as named inputs and outputs."""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from engine.errors import AssetError
from engine.expression.audio import LOOK_AHEADS_MS, MELS_PER_STEP, STATES, STYLE_SIZE
from export.audio_net import AudioNet
from export.onnx_file import write_onnx
from export.speech_front import SpeechFront

_FRONT = "front."  # what the front end's weights are called in the file


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


def read_front(network: bytes) -> SpeechFront:
    """The front end that a shipped network begins with, to train another network behind it.

    Raises:
        AssetError: the network has none.
    """
    weights = {
        stored.name.removeprefix(_FRONT): torch.from_numpy(numpy_helper.to_array(stored).copy())
        for stored in onnx.load_from_string(network).graph.initializer
        if stored.name.startswith(_FRONT)
    }
    front = SpeechFront()
    try:
        front.load_state_dict(weights)
    except RuntimeError as error:
        raise AssetError(f"no speech front end in audio-to-expression: {error}; reinstall livedub") from error
    return front
