"""A Whisper tiny that has learned nothing, as CTranslate2 stores it."""

import struct
from functools import cache

import numpy as np

from export.listener import BANDS, LAYERS, WIDTH

WIDE = 4 * WIDTH


@cache
def tiny_whisper() -> dict[str, np.ndarray]:
    """Variables by name."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1/weight": (WIDTH, BANDS, 3),
        "conv1/bias": (WIDTH,),
        "conv2/weight": (WIDTH, WIDTH, 3),
        "conv2/bias": (WIDTH,),
        "position_encodings/encodings": (1500, WIDTH),
        "layer_norm/gamma": (WIDTH,),
        "layer_norm/beta": (WIDTH,),
    }
    for layer in range(LAYERS):
        sizes = {
            "self_attention": ((3 * WIDTH, WIDTH), (WIDTH, WIDTH)),
            "ffn": ((WIDE, WIDTH), (WIDTH, WIDE)),
        }
        for part, matrices in sizes.items():
            for index, shape in enumerate(matrices):
                shapes[f"layer_{layer}/{part}/linear_{index}/weight"] = shape
                shapes[f"layer_{layer}/{part}/linear_{index}/bias"] = shape[:1]
            shapes[f"layer_{layer}/{part}/layer_norm/gamma"] = (WIDTH,)
            shapes[f"layer_{layer}/{part}/layer_norm/beta"] = (WIDTH,)
    drawn = {
        f"encoder/{name}": (rng.random(shape, np.float32) * 0.1 - 0.05).astype(np.float16)
        for name, shape in shapes.items()
    }
    return {**drawn, "encoder/num_heads": np.array(6, np.int16)}


def packed(variables: dict[str, np.ndarray]) -> bytes:
    """A file of them."""
    body = b"".join(_variable(name, value) for name, value in variables.items())
    return struct.pack("<I", 6) + _text("WhisperSpec") + struct.pack("<II", 3, len(variables)) + body


def _text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def _variable(name: str, value: np.ndarray) -> bytes:
    kind = {"float16": 4, "int16": 2}[value.dtype.name]
    shape = struct.pack("<B", value.ndim) + b"".join(struct.pack("<I", size) for size in value.shape)
    return _text(name) + shape + struct.pack("<BI", kind, value.nbytes) + value.tobytes()
