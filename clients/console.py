"""What the command line says: progress, logs and errors to stderr, results to stdout, reports to files.

On a terminal progress is a bar; elsewhere it is a plain line now and then, and none for short work.
"""

import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import rich.console
import rich.progress
from rich.table import Table

from engine.errors import OutputError

OnProgress = Callable[[str, int, int | None], None]

STDOUT = Path("-")
FIRST_LINE_S = 2.0  # work that is over by then needs no line
LINE_EVERY_S = 10.0
WIDTH_COLUMNS = 110  # where no terminal says its own
_OURS = ("engine", "streaming", "export", "clients", "benchmarks")


class Console:
    """One run of the command line; a context manager that takes our logs for its length.

    Attributes:
        verbose: show logs of every level, and tracebacks.
    """

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.verbose = False
        self._clock_s = clock_s
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(logging.Formatter("livedub: %(levelname)s: %(message)s"))
        self._handler.addFilter(self._shows)

    def __enter__(self) -> "Console":
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level)

    def be_verbose(self) -> None:
        """Show logs of every level of ours, and tracebacks."""
        self.verbose = True
        logging.getLogger().setLevel(logging.DEBUG)

    def say(self, line: str) -> None:
        """One line for a person."""
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def fail(self, error: BaseException | None, line: str) -> None:
        """Say on one line why nothing came of it, after the traceback if that was asked for."""
        if self.verbose and error is not None:
            traceback.print_exception(error, file=sys.stderr)
        self.say(f"livedub: {' '.join(line.split())}")

    def result(self, what: Table | str) -> None:
        """Show what was asked for, on stdout."""
        if isinstance(what, str):
            sys.stdout.write(what + "\n")
            return
        width = None if sys.stdout.isatty() else WIDTH_COLUMNS
        rich.console.Console(file=sys.stdout, width=width, highlight=False).print(what)

    @contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """Show how far the work inside is: stage, units done, and units in all if that is known."""
        if not sys.stderr.isatty():
            yield PlainProgress(self.say, self._clock_s)
            return
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
        )
        screen = rich.console.Console(file=sys.stderr)
        with rich.progress.Progress(*columns, console=screen, transient=True) as bars:
            yield _Bar(bars)

    def _shows(self, record: logging.LogRecord) -> bool:
        ours = record.name.partition(".")[0] in _OURS
        return ours and (self.verbose or record.levelno >= logging.WARNING)


class PlainProgress:
    """Progress as lines of text: the first one after two seconds, then one every ten."""

    def __init__(self, say: Callable[[str], None], clock_s: Callable[[], float]) -> None:
        self._say, self._clock_s = say, clock_s
        self._next_s = clock_s() + FIRST_LINE_S

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take note, and speak if it is time."""
        now_s = self._clock_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + LINE_EVERY_S
        self._say(
            f"... {stage}: {done} of {total} ({100 * done // total} %)" if total else f"... {stage}: {done}"
        )


class _Bar:
    """Progress as one bar, which starts anew with every stage."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._stage = ""
        self._task: rich.progress.TaskID | None = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if self._task is None or stage != self._stage:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._stage, self._task = stage, self._bars.add_task(stage, total=total)
        self._bars.update(self._task, completed=done, total=total)


def encode_report(report: object) -> bytes:
    """A report as indented JSON; `null` for what was not measured."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def summary(report: object) -> Table:
    """The numbers of a report for a person; a dot joins the names of what is inside one another."""
    table = Table(show_header=False)
    for name, value in _flat("", msgspec.to_builtins(report)):
        table.add_row(name, _shown(value))
    return table


def write_report(path: Path, data: bytes) -> None:
    """Write a report, `-` being stdout; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    if path == STDOUT:
        sys.stdout.write(data.decode())
        return
    part: str | None = None
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).chmod(0o644)
        os.replace(part, path)
    except BaseException as error:
        if part is not None:
            with suppress(OSError):
                Path(part).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        raise


def check_place(path: Path, *inputs: Path) -> None:
    """Find out before the work, as far as that is possible, that a result could not be written.

    Raises:
        OutputError: it is a folder or one of the inputs; its folder is missing or closed to us.
    """
    if path == STDOUT:
        return
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {folder}")
    for other in inputs:
        if path.exists() and other.exists() and path.samefile(other):
            raise OutputError(f"{path}: is the input; choose another name for the output")


def _flat(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "\n".join(str(item) for item in value)
    return str(value)
