"""The compiled loops of `engine.render`, imported on first use because numba takes long to import.

No multiply-add is fused and no sum is reordered, so that every machine puts the same pixels into the same
triangles, and the same colours into these. With all of `fastmath` a process that compiles rounds otherwise
than one that finds the code in numba's cache (0.68; `sample` and `fill_canvas`, in the last bit).
"""

import numpy as np
from numba import njit

from engine.arrays import F32, I32, U8, Array
from engine.face.model import CAVITY, LOWER_TEETH

_ROUNDED = {"nnan", "ninf", "nsz"}  # as fast, and rounded as written


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def rasterise(
    vertices: F32, triangles: I32, layers: I32, uv: F32, out_uv: F32, out_layer: Array, depth: F32
) -> None:
    """See `engine.render.raster.rasterise`; the last three are written, and come cleared."""
    height, width = depth.shape
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        x0, y0 = vertices[a, 0], vertices[a, 1]
        x1, y1 = vertices[b, 0], vertices[b, 1]
        x2, y2 = vertices[c, 0], vertices[c, 1]
        area = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2)
        if abs(area) < np.float32(1e-8):
            continue
        layer = layers[k]
        left = max(0, int(np.ceil(min(x0, x1, x2) - np.float32(0.5))))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - np.float32(0.5))))
        top = max(0, int(np.ceil(min(y0, y1, y2) - np.float32(0.5))))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - np.float32(0.5))))
        for y in range(top, bottom + 1):
            py = np.float32(y) + np.float32(0.5)
            for x in range(left, right + 1):
                px = np.float32(x) + np.float32(0.5)
                i = ((y1 - y2) * (px - x2) + (x2 - x1) * (py - y2)) / area
                j = ((y2 - y0) * (px - x2) + (x0 - x2) * (py - y2)) / area
                h = np.float32(1.0) - i - j
                if i < 0 or j < 0 or h < 0:
                    continue
                below = out_layer[y, x]
                if layer <= CAVITY:
                    z = i * vertices[a, 2] + j * vertices[b, 2] + h * vertices[c, 2]
                    if z >= depth[y, x]:
                        continue
                    depth[y, x] = z
                elif below not in (CAVITY, LOWER_TEETH):
                    continue
                out_layer[y, x] = layer
                out_uv[y, x, 0] = i * uv[a, 0] + j * uv[b, 0] + h * uv[c, 0]
                out_uv[y, x, 1] = i * uv[a, 1] + j * uv[b, 1] + h * uv[c, 1]


@njit(cache=True, nogil=True, fastmath=_ROUNDED)  # type: ignore[untyped-decorator, unused-ignore]
def _texel(texture: F32, u: np.float32, v: np.float32, channels: int, out: F32) -> None:
    """One bilinear sample; `out` is the pixel's row of channels."""
    rows, columns = texture.shape[0], texture.shape[1]
    half, zero, one = np.float32(0.5), np.float32(0), np.float32(1)
    tx = min(max(u * np.float32(columns) - half, zero), np.float32(columns - 1))
    ty = min(max(v * np.float32(rows) - half, zero), np.float32(rows - 1))
    x0, y0 = int(tx), int(ty)
    x1, y1 = min(x0 + 1, columns - 1), min(y0 + 1, rows - 1)
    fx, fy = tx - np.float32(x0), ty - np.float32(y0)
    w00, w01 = (one - fy) * (one - fx), (one - fy) * fx
    w10, w11 = fy * (one - fx), fy * fx
    for c in range(channels):
        out[c] = (
            w00 * texture[y0, x0, c]
            + w01 * texture[y0, x1, c]
            + w10 * texture[y1, x0, c]
            + w11 * texture[y1, x1, c]
        )


@njit(cache=True, nogil=True, fastmath=_ROUNDED)  # type: ignore[untyped-decorator, unused-ignore]
def sample(texture: F32, uv: F32, layer: Array, out: F32) -> None:
    """See `engine.render.raster.sample`."""
    channels = texture.shape[2]
    for y in range(layer.shape[0]):
        for x in range(layer.shape[1]):
            if layer[y, x] < 0:
                out[y, x, :channels] = np.float32(0)
            else:
                _texel(texture, uv[y, x, 0], uv[y, x, 1], channels, out[y, x])


@njit(cache=True, nogil=True, fastmath=_ROUNDED)  # type: ignore[untyped-decorator, unused-ignore]
def fill_canvas(texture: F32, uv: F32, layer: Array, mask: F32, source: U8, canvas: F32) -> None:
    """See `engine.render.canvas.fill_canvas`: sampling, hiding and scaling in one pass."""
    channels = texture.shape[2]
    for y in range(layer.shape[0]):
        for x in range(layer.shape[1]):
            if layer[y, x] < 0 or mask[y, x] <= 0:
                canvas[y, x, :channels] = np.float32(0)
            else:
                _texel(texture, uv[y, x, 0], uv[y, x, 1], channels, canvas[y, x])
            shown = (np.float32(1) - mask[y, x]) * np.float32(1 / 255)
            for c in range(3):
                canvas[y, x, channels + c] = np.float32(source[y, x, c]) * shown
            canvas[y, x, channels + 6] = mask[y, x]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def soft_mask(normals: F32, offsets: F32, margin: np.float32, slope: np.float32, out: F32) -> None:
    """See `engine.render.mask.soft_mask`; half planes by outward normals [K, 2] and offsets [K]."""
    for y in range(out.shape[0]):
        row = out[y]
        row[:] = np.float32(-1e9)
        for k in range(normals.shape[0]):
            start = normals[k, 1] * (np.float32(y) + np.float32(0.5)) - offsets[k]
            slant = normals[k, 0]
            for x in range(row.shape[0]):
                distance = slant * (np.float32(x) + np.float32(0.5)) + start
                row[x] = distance if distance > row[x] else row[x]
        for x in range(row.shape[0]):
            row[x] = min(max((margin - row[x]) * slope, np.float32(0)), np.float32(1))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def split_picture(picture: F32, mask: F32, steepness: np.float32, rgb: U8, alpha: F32) -> None:
    """See `engine.render.canvas.split_picture`."""
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            for c in range(3):
                rgb[y, x, c] = np.uint8(np.rint(picture[y, x, c] * np.float32(255)))
            alpha[y, x] = picture[y, x, 3] * min(mask[y, x] * steepness, np.float32(1))
