"""A renderer's network in 8-bit integers: static quantisation, calibrated on canvases of an actor.

Every convolution gets its weights as int8, one scale per filter, and its input as uint8, one scale per
tensor, in the form that both ONNX Runtime and OpenVINO run with integer instructions (QuantizeLinear and
DequantizeLinear around the operator). Weights alone in 8 bits would make the file smaller and nothing faster.

An experiment: measured by `benchmarks precision`, not used at run time.
"""

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.arrays import Array
from engine.backends.onnxruntime_cpu import import_onnxruntime

HEAD = "net.head.weight"  # its output is the picture
QUIET = logging.ERROR  # the library asks for a preparation that these graphs do not need


def quantise(
    model: bytes, canvases: Iterable[Mapping[str, Array]], *, keep: Collection[str] = (HEAD,)
) -> bytes:
    """Quantise a graph's convolutions.

    Args:
        model: serialized ONNX graph in float32.
        canvases: inputs by name, of one actor; a dozen show the range of every tensor.
        keep: names of weights whose convolutions stay in float32.

    Returns:
        The serialized graph, with the same inputs and outputs.

    Raises:
        BackendUnavailable: onnxruntime is not installed.
        ValueError: there is no canvas, or a name to keep is none of a convolution's weights.
    """
    import_onnxruntime()  # before anything of it, so that it stays silent
    import onnx
    from onnxruntime import quantization

    proto = onnx.load_model_from_string(model)
    left = _nodes(proto, keep)
    feeds = list(canvases)
    if not feeds:
        raise ValueError("quantisation needs at least one canvas")
    level = logging.root.level
    logging.root.setLevel(max(level, QUIET))
    try:
        with tempfile.TemporaryDirectory(prefix="livedub-quantise-") as folder:
            out = Path(folder) / "quantised.onnx"
            quantization.quantize_static(
                proto,
                out,
                _reader(feeds),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=left,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"DedicatedQDQPair": False, "QuantizeBias": False},
            )
            return out.read_bytes()
    finally:
        logging.root.setLevel(level)


def _nodes(proto: Any, weights: Collection[str]) -> list[str]:
    """Names of the convolutions that these weights belong to."""
    found = {node.input[1]: node.name for node in proto.graph.node if node.op_type == "Conv"}
    unknown = sorted(set(weights) - found.keys())
    if unknown:
        raise ValueError(f"no convolution has weights named {unknown}")
    return [found[name] for name in weights]


def _reader(feeds: Sequence[Mapping[str, Array]]) -> Any:
    """What the library reads its calibration from."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One canvas after the other."""

        def __init__(self) -> None:
            self._left: Iterator[Mapping[str, Array]] = iter(feeds)

        def get_next(self) -> dict[str, Array] | None:
            """The next canvas, or None at the end."""
            following = next(self._left, None)
            return None if following is None else dict(following)

    return Reader()
