"""The compiled loops round alike in every process, whoever compiled them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from engine.arrays import F32
from engine.render import _kernels

SIDE_PX, CHANNELS = 64, 6
DRAWN = """
import sys
from tests.unit.test_render_kernels import drawn, found_in_the_cache
sys.stdout.write(f"{drawn()} {found_in_the_cache()}")
"""


def drawn() -> str:
    """Hash of a canvas and of sampled texels."""
    random = np.random.default_rng(0)
    texture = random.random((48, 48, CHANNELS), dtype=np.float32)
    uv = random.random((SIDE_PX, SIDE_PX, 2), dtype=np.float32) * np.float32(1.1) - np.float32(0.05)
    layer = random.integers(-1, 4, (SIDE_PX, SIDE_PX)).astype(np.int8)
    mask = np.clip(random.random((SIDE_PX, SIDE_PX), dtype=np.float32) * 1.5 - 0.3, 0, 1).astype(np.float32)
    source = random.integers(0, 255, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    canvas = np.zeros((SIDE_PX, SIDE_PX, CHANNELS + 7), np.float32)
    _kernels.fill_canvas(texture, uv, layer, mask, source, canvas)
    texels = np.zeros((SIDE_PX, SIDE_PX, CHANNELS), np.float32)
    _kernels.sample(texture, uv, layer, texels)
    return hashlib.sha256(canvas.tobytes() + texels.tobytes()).hexdigest()


def found_in_the_cache() -> bool:
    return bool(_kernels.fill_canvas.stats.cache_hits)


def test_code_that_was_just_compiled_rounds_like_code_from_the_cache(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", DRAWN]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert (first[1], second[1]) == ("False", "True")
    assert first[0] == second[0] == drawn()


def test_texels_are_rounded_as_the_formula_is_written() -> None:
    """Products and sums one by one, none fused."""
    random = np.random.default_rng(1)
    texture = random.random((9, 9, 3), dtype=np.float32)
    uv = random.random((40, 40, 2), dtype=np.float32)
    out = np.zeros((40, 40, 3), np.float32)
    _kernels.sample(texture, uv, np.zeros((40, 40), np.int8), out)
    np.testing.assert_array_equal(out, _reference(texture, uv))


def _reference(texture: F32, uv: F32) -> F32:
    one = np.float32(1)
    at = np.clip(uv * np.float32(9) - np.float32(0.5), 0, 8).astype(np.float32)
    low = at.astype(int)
    high, part = np.minimum(low + 1, 8), at - low.astype(np.float32)
    (x0, y0), (x1, y1) = np.moveaxis(low, -1, 0), np.moveaxis(high, -1, 0)
    fx, fy = part[..., :1], part[..., 1:]
    above: F32 = (one - fy) * (one - fx) * texture[y0, x0] + (one - fy) * fx * texture[y0, x1]
    whole: F32 = above + fy * (one - fx) * texture[y1, x0] + fy * fx * texture[y1, x1]
    return whole
