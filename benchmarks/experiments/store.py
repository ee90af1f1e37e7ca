"""Results on disk: written after every adaptation, found by the next run and by the other experiments."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.experiments.schema import Condition, Row, Study, decode_study, encode_study, key_of

NAMES = ("data", "speed", "parts", "scale")


class Store:
    """The studies in a folder.

    Args:
        folder: where they are; made when the first is written.
        fresh: know nothing of what is there.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self._rows: dict[bytes, Row] = {}
        for name in () if fresh else NAMES:
            if (study := self.read(name)) is not None:
                self._rows |= {key_of(row.condition): row for row in study.rows}

    def path(self, suite: str, ending: str = "json") -> Path:
        """The file of an experiment."""
        return self.folder / f"{suite}.{ending}"

    def read(self, suite: str) -> Study | None:
        """What is there of an experiment.

        Raises:
            ValueError: the file is none of ours.
        """
        try:
            data = self.path(suite).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return decode_study(data)
        except ValueError as error:
            raise ValueError(f"{self.path(suite)}: {error}; move it away") from error

    def find(self, condition: Condition) -> Row | None:
        """The row of a condition under that condition's own names, whichever experiment made it."""
        row = self._rows.get(key_of(condition))
        return None if row is None else renamed(row, condition)

    def keep(self, row: Row) -> None:
        """Remember a new row."""
        self._rows[key_of(row.condition)] = row

    def rows(self, conditions: Iterable[Condition]) -> list[Row]:
        """Those rows that are there, in the order of their conditions."""
        return [row for condition in conditions if (row := self.find(condition)) is not None]

    def write(self, study: Study) -> None:
        """Put a study in its place, whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=self.folder, prefix=f".{study.suite}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(encode_study(study))
            os.chmod(part, 0o644)
            os.replace(part, self.path(study.suite))
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise


def renamed(row: Row, condition: Condition) -> Row:
    """A row as the result of an equal condition."""
    fields = {name: getattr(row, name) for name in Row.__struct_fields__}
    return Row(**(fields | {"condition": condition}))
