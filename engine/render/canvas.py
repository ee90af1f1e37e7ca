"""The network's input: the actor's texture under the mask, the source around it, a reference crop, mask.

And its output: a picture, and how much of it to show.
"""

import numpy as np

from engine.arrays import F32, U8
from engine.render.mask import ALPHA_STEEPNESS
from engine.render.raster import UvMap, sample_reference

SOURCE_CHANNELS = REFERENCE_CHANNELS = 3
OTHER_CHANNELS = SOURCE_CHANNELS + REFERENCE_CHANNELS + 1  # beside the texture's; the last is the mask


def empty_canvas(texture: F32, reference: U8) -> F32:
    """A canvas float32 [1, S, S, C + 7] that holds a reference crop [S, S, 3], for a texture [h, w, C]."""
    size, channels = reference.shape[0], texture.shape[2]
    canvas = np.zeros((1, size, size, channels + OTHER_CHANNELS), np.float32)
    canvas[0, ..., -1 - REFERENCE_CHANNELS : -1] = reference.astype(np.float32) / 255
    return canvas


def fill_canvas(texture: F32, uv_map: UvMap, mask: F32, source: U8, out: F32) -> None:
    """Write what changes from frame to frame; the reference crop stays.

    Args:
        texture: float32 [h, w, C].
        uv_map: what each pixel shows, [S, S].
        mask: float32 [S, S] in 0..1; the texture shows where it is not 0, the source is dimmed by it.
        source: uint8 [S, S, 3], RGB.
        out: float32 [S, S, C + 7], the caller's.
    """
    from engine.render import _kernels

    _kernels.fill_canvas(texture, uv_map.uv, uv_map.layer, mask, source, out)


def fill_canvas_reference(texture: F32, uv_map: UvMap, mask: F32, source: U8, out: F32) -> None:
    """What `fill_canvas` does, in numpy."""
    channels, soft = texture.shape[2], mask[..., None]
    out[..., :channels] = sample_reference(texture, uv_map) * (soft > 0)
    out[..., channels : channels + SOURCE_CHANNELS] = source / np.float32(255) * (1 - soft)
    out[..., -1] = mask


def split_picture(picture: F32, mask: F32, rgb_out: U8, alpha_out: F32) -> None:
    """Split what the network drew into a picture and its alpha, which ends where the mask does.

    Args:
        picture: float32 [S, S, 4] in 0..1: red, green, blue, alpha.
        mask: float32 [S, S] in 0..1, the soft mask.
        rgb_out: uint8 [S, S, 3], written.
        alpha_out: float32 [S, S] in 0..1, written.
    """
    from engine.render import _kernels

    _kernels.split_picture(picture, mask, np.float32(ALPHA_STEEPNESS), rgb_out, alpha_out)


def split_picture_reference(picture: F32, mask: F32, rgb_out: U8, alpha_out: F32) -> None:
    """What `split_picture` does, in numpy."""
    rgb_out[:] = np.rint(picture[..., :3] * np.float32(255)).astype(np.uint8)
    alpha_out[:] = picture[..., 3] * np.minimum(mask * np.float32(ALPHA_STEEPNESS), 1)
