"""Presentation times that never stand still or run backwards."""


class PtsRepair:
    """Give every frame a pts greater than the one before; good ones pass unchanged.

    The rules, in order:
      1. A frame without a pts plays one frame duration after the one before (the first one: at 0).
      2. A jump back by more than a second is a clock that was reset: this frame plays one frame duration
         after the one before, and all that follow are moved by the same amount.
      3. Any other pts that is not after the one before becomes the one before plus one tick.
    """

    def __init__(self, frame_ticks: int, second_ticks: int) -> None:
        self._frame_ticks = max(1, frame_ticks)
        self._second_ticks = max(1, second_ticks)
        self._shift_ticks = 0
        self._last: int | None = None

    def next(self, pts: int | None) -> int:
        """Return the pts of the next frame, ticks."""
        last = self._last
        if pts is None:
            fixed = 0 if last is None else last + self._frame_ticks
        else:
            fixed = pts + self._shift_ticks
            if last is not None and fixed < last - self._second_ticks:
                self._shift_ticks = last + self._frame_ticks - pts
                fixed = pts + self._shift_ticks
            elif last is not None and fixed <= last:
                fixed = last + 1
        self._last = fixed
        return fixed
