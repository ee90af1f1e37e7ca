"""Mesh to UV picture: which point of the neural texture each pixel shows.

Layers are painted in order: skin with a depth test, the mouth's cavity where no skin is in front of it, then
the lower and the upper teeth, only where the open mouth shows. A pixel belongs to a triangle when its centre
is inside (edges included). Texture coordinates stay float32: 8 bits would shift texels by more than tracking
noise does.
"""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, I32, Array
from engine.face.model import CAVITY, LOWER_TEETH, SKIN

NOTHING = -1
FAR = np.float32(1e9)


@dataclass(frozen=True)
class UvMap:
    """A rasterised face.

    Attributes:
        uv: float32 [H, W, 2] in 0..1; 0 where nothing is.
        layer: int8 [H, W], the layer shown, NOTHING (-1) where none.
    """

    uv: F32
    layer: Array


def rasterise(vertices: F32, triangles: I32, layers: I32, uv: F32, height: int, width: int) -> UvMap:
    """Rasterise a mesh into a new UV map.

    Args:
        vertices: float32 [V, 3], px of the output picture; a smaller z is nearer.
        triangles: int32 [N, 3], sorted by layer.
        layers: int32 [N].
        uv: float32 [V, 2].
        height: of the output, px.
        width: of the output, px.
    """
    from engine.render import _kernels

    out = UvMap(np.zeros((height, width, 2), np.float32), np.full((height, width), NOTHING, np.int8))
    depth = np.full((height, width), FAR, np.float32)
    _kernels.rasterise(vertices, triangles, layers, uv, out.uv, out.layer, depth)
    return out


def rasterise_reference(
    vertices: F32, triangles: I32, layers: I32, uv: F32, height: int, width: int
) -> UvMap:
    """What `rasterise` computes, triangle by triangle over the whole picture, in numpy."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    out = UvMap(np.zeros((height, width, 2), np.float32), np.full((height, width), NOTHING, np.int8))
    depth = np.full((height, width), FAR, np.float32)
    for corners, layer in zip(triangles, layers, strict=True):
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = vertices[corners]
        area = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2)
        if abs(area) < 1e-8:
            continue
        i = ((y1 - y2) * (xs - x2) + (x2 - x1) * (ys - y2)) / area
        j = ((y2 - y0) * (xs - x2) + (x0 - x2) * (ys - y2)) / area
        h = 1 - i - j
        inside = (i >= 0) & (j >= 0) & (h >= 0)
        if layer in {SKIN, CAVITY}:
            z = i * z0 + j * z1 + h * z2
            inside &= z < depth
            depth[inside] = z[inside]
        else:
            inside &= (out.layer == CAVITY) | (out.layer == LOWER_TEETH)
        mixed = np.stack([i, j, h], -1) @ uv[corners]
        out.layer[inside] = layer
        out.uv[inside] = mixed[inside]
    return out


def sample(texture: F32, uv_map: UvMap, out: F32) -> None:
    """Write the texture, bilinearly sampled at the UV map, into `out`; 0 where nothing is.

    Args:
        texture: float32 [h, w, C]; texel centres at (i + 0.5) / size, clamped at the border.
        uv_map: float UVs [H, W].
        out: float32 [H, W, C], the caller's, written in full.
    """
    from engine.render import _kernels

    _kernels.sample(texture, uv_map.uv, uv_map.layer, out)


def sample_reference(texture: F32, uv_map: UvMap) -> F32:
    """What `sample` computes, in numpy."""
    rows, columns = texture.shape[:2]
    tx = np.clip(uv_map.uv[..., 0] * columns - 0.5, 0, columns - 1)
    ty = np.clip(uv_map.uv[..., 1] * rows - 0.5, 0, rows - 1)
    x0, y0 = tx.astype(int), ty.astype(int)
    x1, y1 = np.minimum(x0 + 1, columns - 1), np.minimum(y0 + 1, rows - 1)
    fx, fy = (tx - x0)[..., None], (ty - y0)[..., None]
    above = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    below = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    mixed = above * (1 - fy) + below * fy
    return np.where(uv_map.layer[..., None] >= 0, mixed, 0).astype(np.float32)
