"""The compiled loops of `engine.image.yuv`, imported on first use because numba takes long to import.

All sums are float32 (int32 sums would widen to int64) and no multiply-add is fused, so the bytes are the same
on every machine.
"""

import numpy as np
from numba import njit

from engine.arrays import F32, U8


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _chroma_row(plane: U8, near: int, far: int, first: int, out: F32) -> None:
    """Blend two rows of a chroma plane, from column `first` on, clamped at the edges, less the 128 offset."""
    last = plane.shape[1] - 1
    for i in range(out.shape[0]):
        column = min(max(first + i, 0), last)
        out[i] = (
            np.float32(0.75) * np.float32(plane[near, column])
            + np.float32(0.25) * np.float32(plane[far, column])
            - np.float32(128.0)
        )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _widen(row: F32, odd_start: int, out: F32) -> None:
    """Interpolate a chroma row to luma columns; `row[1]` is the sample of the first column."""
    for i in range(out.shape[0]):
        column = i + odd_start
        near = 1 + (column >> 1)
        far = near - 1 + 2 * (column & 1)
        out[i] = np.float32(0.75) * row[near] + np.float32(0.25) * row[far]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _byte(value: np.float32) -> np.uint8:
    return np.uint8(min(max(value + np.float32(0.5), np.float32(0.0)), np.float32(255.0)))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def roi_to_rgb(y: U8, u: U8, v: U8, left: int, top: int, offset: np.float32, m: F32, out: U8) -> None:
    """See `engine.image.yuv.roi_to_rgb`; `m` is the 3 x 3 matrix to R'G'B'."""
    height, width = out.shape[0], out.shape[1]
    narrow_u = np.empty(width // 2 + 3, np.float32)
    narrow_v = np.empty(width // 2 + 3, np.float32)
    wide_u = np.empty(width, np.float32)
    wide_v = np.empty(width, np.float32)
    m_y = m[0, 0]
    m_rv, m_gu, m_gv, m_bu = m[0, 2], m[1, 1], m[1, 2], m[2, 1]
    for j in range(height):
        row = top + j
        near = row >> 1
        far = min(max(near - 1 + 2 * (row & 1), 0), u.shape[0] - 1)
        _chroma_row(u, near, far, (left >> 1) - 1, narrow_u)
        _chroma_row(v, near, far, (left >> 1) - 1, narrow_v)
        _widen(narrow_u, left & 1, wide_u)
        _widen(narrow_v, left & 1, wide_v)
        for i in range(width):
            luma = (np.float32(y[row, left + i]) - offset) * m_y
            out[j, i, 0] = _byte(luma + m_rv * wide_v[i])
            out[j, i, 1] = _byte(luma + m_gu * wide_u[i] + m_gv * wide_v[i])
            out[j, i, 2] = _byte(luma + m_bu * wide_u[i])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def sparse_to_rgb(y: U8, u: U8, v: U8, step_y: int, step_x: int, offset: np.float32, m: F32, out: U8) -> None:
    """See `engine.image.yuv.sparse_to_rgb`; every sum as in `roi_to_rgb`, so the bytes are the same."""
    m_y = m[0, 0]
    m_rv, m_gu, m_gv, m_bu = m[0, 2], m[1, 1], m[1, 2], m[2, 1]
    last_row, last_column = u.shape[0] - 1, u.shape[1] - 1
    u_pair, v_pair = np.empty(2, np.float32), np.empty(2, np.float32)
    wide_u, wide_v = np.empty(1, np.float32), np.empty(1, np.float32)
    for j in range(out.shape[0]):
        row = step_y // 2 + j * step_y
        near = row >> 1
        far = min(max(near - 1 + 2 * (row & 1), 0), last_row)
        for i in range(out.shape[1]):
            column = step_x // 2 + i * step_x
            for side in range(2):
                at = (column >> 1) + side * (2 * (column & 1) - 1)
                at = min(max(at, 0), last_column)
                u_pair[side] = (
                    np.float32(0.75) * np.float32(u[near, at])
                    + np.float32(0.25) * np.float32(u[far, at])
                    - np.float32(128.0)
                )
                v_pair[side] = (
                    np.float32(0.75) * np.float32(v[near, at])
                    + np.float32(0.25) * np.float32(v[far, at])
                    - np.float32(128.0)
                )
            wide_u[0] = np.float32(0.75) * u_pair[0] + np.float32(0.25) * u_pair[1]
            wide_v[0] = np.float32(0.75) * v_pair[0] + np.float32(0.25) * v_pair[1]
            luma = (np.float32(y[row, column]) - offset) * m_y
            out[j, i, 0] = _byte(luma + m_rv * wide_v[0])
            out[j, i, 1] = _byte(luma + m_gu * wide_u[0] + m_gv * wide_v[0])
            out[j, i, 2] = _byte(luma + m_bu * wide_u[0])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def write_roi(
    y: U8, u: U8, v: U8, left: int, top: int, rgb: U8, alpha: F32, offset: np.float32, m: F32
) -> None:
    """See `engine.image.yuv.write_roi`; `m` is the 3 x 3 matrix from R'G'B'."""
    height, width = alpha.shape
    for block_j in range((height + 1) // 2):
        rows = min(2, height - 2 * block_j)
        for block_i in range((width + 1) // 2):
            columns = min(2, width - 2 * block_i)
            cj, ci = (top >> 1) + block_j, (left >> 1) + block_i
            old_u, old_v = np.float32(u[cj, ci]), np.float32(v[cj, ci])
            sum_u = np.float32(0.0)
            sum_v = np.float32(0.0)
            touched = False
            for dj in range(rows):
                for di in range(columns):
                    j, i = 2 * block_j + dj, 2 * block_i + di
                    a = alpha[j, i]
                    if not a > np.float32(0.0):
                        continue
                    touched = True
                    a = min(a, np.float32(1.0))
                    red, green, blue = (
                        np.float32(rgb[j, i, 0]),
                        np.float32(rgb[j, i, 1]),
                        np.float32(rgb[j, i, 2]),
                    )
                    old = np.float32(y[top + j, left + i])
                    new = offset + m[0, 0] * red + m[0, 1] * green + m[0, 2] * blue
                    y[top + j, left + i] = _byte(old + a * (new - old))
                    new_u = np.float32(128.0) + m[1, 0] * red + m[1, 1] * green + m[1, 2] * blue
                    new_v = np.float32(128.0) + m[2, 0] * red + m[2, 1] * green + m[2, 2] * blue
                    sum_u += a * (new_u - old_u)
                    sum_v += a * (new_v - old_v)
            if touched:
                share = np.float32(1.0) / np.float32(rows * columns)
                u[cj, ci] = _byte(old_u + share * sum_u)
                v[cj, ci] = _byte(old_v + share * sum_v)
