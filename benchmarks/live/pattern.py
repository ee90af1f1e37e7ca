"""Marks that survive a codec: a frame number in the pixels, a flash, and a beep to go with it.

The number is a row of blocks in the top left corner: a white start block, then 24 bits, the low one first.
"""

import numpy as np

from engine.arrays import F32, U8

BLOCK_PX = 16
BITS = 24
NUMBER_WIDTH_PX, NUMBER_HEIGHT_PX = BLOCK_PX * (BITS + 1), 2 * BLOCK_PX
WHITE, BLACK, MIDDLE = 235, 16, 128
FLASH_TOP_PX, FLASH_SIDE_PX = 3 * BLOCK_PX, 6 * BLOCK_PX
FLASH_FRAMES = 2
SOUND_RATE_HZ = 48_000
BEEP_HZ, BEEP_S, BEEP_LEVEL = 3000, 0.06, 0.6
BEEP_FLOOR = 0.3  # speech stays below this, a beep does not


def draw(luma: U8, number: int, *, flash: bool) -> None:
    """Write a frame number of up to 24 bits, and the flash or its dark place, into a luma plane [H, W]."""
    row = luma[:NUMBER_HEIGHT_PX]
    row[:, :BLOCK_PX] = WHITE
    for bit in range(BITS):
        left = BLOCK_PX * (bit + 1)
        row[:, left : left + BLOCK_PX] = WHITE if number >> bit & 1 else BLACK
    luma[FLASH_TOP_PX : FLASH_TOP_PX + FLASH_SIDE_PX, :FLASH_SIDE_PX] = WHITE if flash else BLACK


def read(luma: U8) -> int | None:
    """The number in a luma plane of the size it was drawn at; None without the start block."""
    cells = luma[BLOCK_PX, BLOCK_PX // 2 : NUMBER_WIDTH_PX : BLOCK_PX].astype(int)
    if len(cells) <= BITS or cells[0] < MIDDLE:
        return None
    return sum(1 << bit for bit in range(BITS) if cells[bit + 1] >= MIDDLE)


def with_beeps(speech: F32) -> F32:
    """Sound [T] at 48 kHz with a beep at the start of each second, the speech below it made quieter."""
    at = np.arange(len(speech))
    loudest = float(np.abs(speech).max(initial=1e-6))
    beep = np.where(
        at % SOUND_RATE_HZ < BEEP_S * SOUND_RATE_HZ, np.sin(2 * np.pi * BEEP_HZ * at / SOUND_RATE_HZ), 0
    )
    return np.asarray(speech * (0.5 * BEEP_FLOOR / loudest) + BEEP_LEVEL * beep, np.float32)


def beeps_in(samples: F32) -> list[int]:
    """Sample indices at which beeps begin in sound [T] at 48 kHz."""
    loud = np.flatnonzero(np.abs(samples) > BEEP_FLOOR)
    if not len(loud):
        return []
    first = np.flatnonzero(np.diff(loud, prepend=-SOUND_RATE_HZ) > SOUND_RATE_HZ // 5)
    return [int(index) for index in loud[first]]
