"""The command line.

Exit status: 0 done, 1 livedub or the machine lacks something, 2 wrong input, 128 + n stopped by signal n.

Only what every command needs is imported here; a command imports what does its work when it runs, so that the
run-time install works without torch.
"""

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn

import typer

from clients.bench_command import bench
from clients.console import STDOUT, Console, check_place, encode_report, write_report
from clients.export_command import export
from clients.live_commands import serve, token
from clients.options import (
    PACK_ENDING,
    VIDEO_ENDINGS,
    Device,
    Face,
    Json,
    MarkOption,
    Verbose,
    check_choice,
    check_device,
    check_ending,
    check_folder,
    check_report,
    check_sound,
    check_video,
    console_of,
    give,
    needed_packages,
    now_iso,
    read_consent,
)
from clients.train import train
from engine.errors import InputError, LivedubError


class Interrupted(KeyboardInterrupt):
    """A signal asked us to stop; like Ctrl-C it passes through everything, and `with` blocks clean up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"livedub {version('livedub')}")
        raise typer.Exit


app = typer.Typer(
    help="livedub: a person's lips follow a second audio track.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(train, name="train", help="Learn what livedub ships from footage.")
app.command()(bench)
app.command()(export)
app.command()(serve)
app.command()(token)


@app.callback()
def _root(
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def adapt(
    ctx: typer.Context,
    video: Annotated[
        Path, typer.Argument(metavar="VIDEO", help="2 to 60 s of one person speaking, or a photo.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="NAME.actor", help="The actor pack to write.")],
    seconds: Annotated[
        float | None, typer.Option(min=0.04, help="How much of the video to use; else up to 60.")
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Where in the video to begin, s.")] = 0.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of optimisation.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "cpu",
    face: Face = None,
    name: Annotated[str | None, typer.Option(help="The actor's name; else the file's.")] = None,
    consent: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="The person's consent; else you attest to it.")
    ] = None,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn a person from seconds of video, or from one photo, and write an actor pack."""
    check_ending(out, (PACK_ENDING,))
    check_place(out, video)
    check_report(json, video, out)
    check_video(video, stills=True)
    record = read_consent(consent) if consent else None
    with needed_packages():
        from export.adapt import AdaptOptions
        from export.adapt import adapt as run_adapt
    check_device(device)
    options = AdaptOptions(
        seconds=seconds,
        start_s=start,
        steps=steps,
        seed=seed,
        device=device,
        face=face,
        name=name,
        consent=record,
    )
    with console_of(ctx).progress() as on_progress:
        report = run_adapt(video, out, options, now_iso=now_iso(), on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@app.command()
def dub(
    ctx: typer.Context,
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="The person to dub.")],
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="What they shall say.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.mp4", help="The video to write.")],
    actor: Annotated[Path, typer.Option(metavar="NAME.actor", help="Made by `livedub adapt`.")],
    look_ahead_ms: Annotated[
        int | None, typer.Option(help="How much coming sound decides a mouth, ms.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Who runs the renderer; see `livedub doctor`.")] = None,
    precision: Annotated[
        Literal["auto", "f32", "bf16", "f16", "int8"],
        typer.Option(help="What the renderer computes in; auto: the fastest here."),
    ] = "auto",
    drive: Annotated[
        Literal["audio", "tracked"],
        typer.Option(help="tracked: the video's own expression (self-reenactment)."),
    ] = "audio",
    face: Face = None,
    silence: Annotated[
        Literal["closed", "source"],
        typer.Option(help="While nobody speaks: a closed mouth, or the source's."),
    ] = "closed",
    debug_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write pictures of the steps here.")
    ] = None,
    override_consent: Annotated[
        bool, typer.Option("--override-consent", help="Dub without a valid consent; this is logged.")
    ] = False,
    mark: MarkOption = None,
    sign_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Signs the C2PA manifest; else one made here.")
    ] = None,
    sign_key: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Its key, P-256, PKCS #8.")
    ] = None,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Let the person in a video say something else."""
    check_ending(out, VIDEO_ENDINGS)
    check_place(out, video, audio, actor)
    check_report(json, video, audio, actor, out)
    check_folder(debug_dir)
    check_video(video)
    if drive == "audio":
        check_sound(audio)
    with needed_packages():
        from clients.dub import DubOptions
        from clients.dub import dub as run_dub
        from engine.backends import backend_names
        from engine.expression.audio import LOOK_AHEADS_MS
    check_choice("--backend", backend, backend_names())
    check_choice("--look-ahead-ms", look_ahead_ms, LOOK_AHEADS_MS)
    chosen: dict[str, Any] = {} if look_ahead_ms is None else {"look_ahead_ms": look_ahead_ms}
    options = DubOptions(
        backend=backend,
        precision=precision,
        drive=drive,
        silence=silence,
        face=face,
        debug_dir=debug_dir,
        override_consent=override_consent,
        mark=mark or "none",
        sign_certificate=sign_certificate,
        sign_key=sign_key,
        **chosen,
    )
    with console_of(ctx).progress() as on_progress:
        report = run_dub(video, audio, out, actor, options, now_iso=now_iso(), on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@app.command()
def evaluate(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT.mp4", help="The dub.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE.mp4", help="The truth, of the same size.")],
    person: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="Another real clip of the person, to compare faces.")
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio", help="Also how well the lips move to speech, and the sync measure.")
    ] = False,
    phones: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="When OUT says which sound: .phn.json, .lab or .TextGrid."),
    ] = None,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Measure quality and sync of a dub against ground truth."""
    check_report(json, out, reference)
    check_video(out)
    check_video(reference)
    if person is not None:
        check_video(person)
    if phones is not None and not audio:
        raise InputError("--phones: only with --audio")
    with needed_packages():
        from export.evaluate import evaluate as run_evaluate
        from export.evaluate import to_table
    console = console_of(ctx)
    with console.progress() as on_progress:
        report = run_evaluate(
            out,
            reference,
            person=person,
            audio=audio,
            phones=phones,
            on_progress=lambda stage, done: on_progress(stage, round(100 * done), 100),
        )
    if json:
        write_report(json, encode_report(report))
    if json != STDOUT:
        console.result(to_table(report))


@app.command()
def demo(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Option(help="What to say; else a sentence that introduces itself.")
    ] = None,
    voice: Annotated[
        str | None, typer.Option(help="Voice of the synthesiser, such as de or en-us+f3.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="VIDEO", help="Your own footage; else a portrait that is packaged.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(metavar="AUDIO", help="Speech from a file, in place of --text.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Of the page; 0 takes a free one.")] = 0,
    serve: Annotated[bool, typer.Option(help="Show a page; otherwise write the files and end.")] = True,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder for the results.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    verbose: Verbose = False,
) -> None:
    """See it work on this machine, in the browser, from nothing."""
    with needed_packages():
        from clients.demo import DemoOptions
        from clients.demo import main as run_demo
    options = DemoOptions(text, voice, video, audio, port, serve, out, open_browser)
    run_demo(options, console_of(ctx).say)


@app.command()
def doctor(
    ctx: typer.Context,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get the model files that are missing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
    verbose: Verbose = False,
) -> None:
    """Say what this machine can run, what is missing, and how to get it."""
    from clients import doctor as clinic

    console = console_of(ctx)
    if fetch:
        from clients.models import fetch_all

        fetch_all(say=console.say)
    findings = clinic.examine()
    if json:
        write_report(STDOUT, encode_report(clinic.as_report(findings)))
    else:
        console.result(clinic.as_table(findings))
        console.result(clinic.verdict(findings))
    if not clinic.can_dub(findings):
        raise typer.Exit(1)


def run(argv: Sequence[str], console: Console) -> int:
    """Run the command line once; returns the exit status. Errors that we know become one line on stderr."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("livedub", list(argv), obj=console) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        _explain_use(console, error)
        return 2
    except BrokenPipeError:  # who reads us has gone, and has heard enough
        return 1
    except (LivedubError, KeyboardInterrupt, MemoryError, OSError) as error:
        status, line = _explained(error)
        console.fail(error, line)
        return status
    return 0


def main() -> NoReturn:
    """The entry point `livedub`."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    with Console() as console:
        status = run(sys.argv[1:], console)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # so that Python does not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _explain_use(console: Console, error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)
    line = error.format_message()
    if context and line == context.get_help():  # no arguments at all
        console.say(line)
        return
    where = context.command_path if context else "livedub"
    console.fail(error, f"{line.replace('Value error, ', '').rstrip('.')}; see {where} --help")


def _explained(error: BaseException) -> tuple[int, str]:
    """Exit status and line for an error."""
    match error:
        case KeyboardInterrupt():
            number = error.number if isinstance(error, Interrupted) else signal.SIGINT
            return 128 + number, f"stopped by {signal.Signals(number).name}"
        case InputError():
            return 2, str(error)
        case MemoryError():
            return 1, "there is not enough memory for this"
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return 1, f"{where}{error.strerror or error}"
        case _:
            return 1, str(error)
