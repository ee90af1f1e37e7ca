"""Writing a network as ONNX."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import AssetError


def write_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    *,
    dynamic_shapes: tuple[Any, ...] | None = None,
) -> None:
    """Export a module with named inputs, in the order of its `forward`, and named outputs; one file.

    Raises:
        AssetError: the exporter gave nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of what its own parts will lose
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
        if program is None:
            raise AssetError(f"the network could not be exported to {path}")
        program.save(str(path), external_data=False)
