"""An actor's manner of speaking, on top of what the sound says of everybody's lips.

Two things last from one clip of a person to the next: how far the lips open, and how the lower face is held
while there is speech. Neither touches what sound decides: lips that meet still meet, because the opening is
only stretched and the hold has none; and a face at rest stays at rest, because the hold comes with the voice.
"""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, Array, check_array
from engine.face.model import FaceModel, aperture

EXTRA = "manner"  # of an actor pack: float32 [2, E], `stretch` and `hold`
OPENS = 1e-3  # a hold that opens the lips further than this, cm, is damaged


@dataclass(frozen=True, eq=False)
class Manner:
    """How one actor speaks.

    Attributes:
        stretch: float32 [E], what is added for each cm that the lips are open.
        hold: float32 [E], what is added while there is speech; opens nothing.
        opening: float32 [E], of the face model: an expression's product with it is the opening, about cm.
    """

    stretch: F32
    hold: F32
    opening: F32

    @classmethod
    def average(cls, model: FaceModel) -> "Manner":
        """Nobody's in particular: what the sound says, as it is."""
        nothing = np.zeros(model.expressions, np.float32)
        return cls(nothing, nothing, aperture(model.basis).astype(np.float32))

    @classmethod
    def of(cls, rows: Array, model: FaceModel) -> "Manner":
        """That of an actor pack.

        Args:
            rows: float32 [2, E], as `rows` gives them.
            model: the face model.

        Raises:
            TypeError, ValueError: another type or shape, or a hold that would keep lips from meeting.
        """
        check_array("manner", rows, (2, model.expressions), np.float32)
        found = cls(rows[0], rows[1], aperture(model.basis).astype(np.float32))
        if not abs(float(found.hold @ found.opening)) <= OPENS:
            raise ValueError("manner: its hold opens the lips")
        return found

    @property
    def rows(self) -> F32:
        """Float32 [2, E], for a pack."""
        return np.stack([self.stretch, self.hold])

    def apply(self, expression: F32, speaking: float = 1.0) -> F32:
        """Expressions [..., E] as this actor makes them; `speaking` 0..1 is how surely they are speech."""
        said = expression + (expression @ self.opening)[..., None] * self.stretch
        return np.asarray(said + np.float32(speaking) * self.hold, np.float32)
