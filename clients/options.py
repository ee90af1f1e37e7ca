"""What the commands share: options, and checks that find a mistake before the work does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from clients.console import STDOUT, Console, check_place, encode_report, summary, write_report
from engine.errors import BackendUnavailable, InputError, MediaError, OutputError

if TYPE_CHECKING:
    from engine.actor.consent import ConsentRecord

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
PACK_ENDING = ".actor"
MAX_CONSENT_BYTES = 64 * 2**10
_TRAIN_PACKAGES = ("torch", "onnxscript", "matplotlib")


def be_verbose(ctx: typer.Context, value: bool) -> bool:
    """Callback of `-v`, which every command has."""
    if value:
        console_of(ctx).be_verbose()
    return value


Device = Literal["cpu", "cuda"]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", callback=be_verbose, help="Show logs, and tracebacks of errors.")
]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="REPORT", help="Write the report as JSON; - is stdout.")
]
Face = Annotated[
    int | None,
    typer.Option(min=1, help="Which face, 1 is the leftmost; else the largest and most central."),
]
MarkOption = Annotated[
    Literal["none", "visible"] | None,
    typer.Option("--mark", help="visible: every picture says AI dub in a corner; else none does."),
]


def now_iso() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_ending(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse an output name that says no format we write.

    Raises:
        OutputError: its ending is none of these.
    """
    if path.suffix.lower() not in endings:
        raise OutputError(f"{path}: the name must end in {' or '.join(endings)}")


def check_report(json: Path | None, *others: Path) -> None:
    """Refuse a place for the report that cannot be written, or is one of the other files.

    Raises:
        OutputError: as said.
    """
    if json is None:
        return
    if any(json.absolute() == other.absolute() for other in others):
        raise OutputError(f"{json}: is another file of this command; choose another name for the report")
    check_place(json, *others)


def check_video(path: Path, *, stills: bool = False) -> None:
    """Refuse what is no video, before anything heavy is loaded; `stills` lets a single picture pass.

    Raises:
        MediaError: it cannot be read, or has no moving pictures.
    """
    with needed_packages():
        from engine.media import open_video
    with open_video(path, stills=stills):
        pass


def check_sound(path: Path) -> None:
    """Refuse what has no sound, before anything heavy is loaded.

    Raises:
        MediaError: it cannot be read, or is silent.
    """
    with needed_packages():
        from engine.media import probe
    if not probe(path).has_audio:
        raise MediaError(f"{path}: has no sound")


def check_folder(path: Path | None) -> None:
    """Refuse a file where a folder belongs.

    Raises:
        OutputError: as said.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; name a folder")


def check_choice(option: str, value: object, known: Sequence[object]) -> None:
    """Refuse a value that is not known; None is.

    Raises:
        InputError: as said, with all that are known.
    """
    if value is not None and value not in known:
        raise InputError(f"{option} {value}: must be one of {', '.join(map(str, known))}")


def check_device(device: Device) -> None:
    """Refuse CUDA where torch has none.

    Raises:
        BackendUnavailable: as said.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(
            f"--device cuda: torch {torch.__version__} sees no CUDA device; use --device cpu"
        )


def read_consent(path: Path) -> "ConsentRecord":
    """Read a consent record from JSON.

    Raises:
        InputError: it cannot be read, or is no such record.
    """
    from engine.actor.consent import ConsentRecord

    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONSENT_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_CONSENT_BYTES:
        raise InputError(f"{path}: a consent record has at most {MAX_CONSENT_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=ConsentRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a consent record: {error}") from error


@contextmanager
def needed_packages() -> Iterator[None]:
    """Imports inside that fail become an error that says what to do.

    Raises:
        BackendUnavailable: a package, or a system library below it, is missing.
    """
    try:
        yield
    except ImportError as error:
        root = (error.name or "").partition(".")[0]
        if root in _TRAIN_PACKAGES:
            raise BackendUnavailable(f"this needs {root}: pip install 'livedub[train]'") from error
        raise BackendUnavailable(f"{error}; see `livedub doctor`") from error


def console_of(ctx: typer.Context) -> Console:
    """The console of this run."""
    console = ctx.find_root().obj
    if not isinstance(console, Console):
        raise TypeError(f"the root context holds {type(console).__name__}, not a Console")
    return console


def give(ctx: typer.Context, done: str, report: object, json: Path | None) -> None:
    """Hand over a job's report: to a person, or to a program, or both."""
    if json:
        write_report(json, encode_report(report))
    if json != STDOUT:
        console_of(ctx).result(done)
        console_of(ctx).result(summary(report))
