"""`livedub train ...`: what livedub ships, learned from footage."""

from pathlib import Path
from typing import Annotated

import typer

from clients.console import check_place
from clients.options import (
    Device,
    Json,
    Verbose,
    check_choice,
    check_ending,
    check_report,
    console_of,
    give,
    needed_packages,
)
from engine.errors import InputError

Footage = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="The folder of footage, with its lists.")
]
Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR|SET", help="The folder of footage, or what `prepare` made of it."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of optimisation.")]
Resume = Annotated[
    Path | None, typer.Option(metavar="CHECKPOINT", help="Go on from what an interrupted training left.")
]

Where = Annotated[Device | None, typer.Option(help="Where to train; a GPU if there is one.")]
MAX_SIZE_PX = 1024

train = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@train.command()
def prepare(
    ctx: typer.Context,
    data: Footage,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="SET.safetensors", help="What to write.")],
    size: Annotated[
        int, typer.Option("--size", min=64, max=MAX_SIZE_PX, help="Side of the crops, px; even.")
    ] = 224,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Pack footage into one small file to train from, here or on another machine."""
    check_files(data, out, ".safetensors", json, folder=True)
    if size % 2:
        raise InputError(f"--size {size}: must be even")
    with needed_packages():
        from export.prepare import write_training_set
    with console_of(ctx).progress() as on_progress:
        report = write_training_set(data, out, size_px=size, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@train.command()
def speech(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="SET.safetensors", help="What to write.")],
    seed: Seed = 0,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Make synthetic speech with known phonemes, as an extra task for `audio`; minutes."""
    check_ending(out, (".safetensors",))
    check_place(out)
    check_report(json, out)
    with needed_packages():
        from clients.speakers import espeak_say
        from export.synthetic_speech import write_speech_set
    with console_of(ctx).progress() as on_progress:
        report = write_speech_set(out, espeak_say, seed=seed, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@train.command("face-model")
def face_model(
    ctx: typer.Context,
    data: Footage,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.safetensors", help="What to write.")],
    seed: Seed = 0,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn the geometry of faces: topology, neutral, expressions."""
    check_files(data, out, ".safetensors", json, folder=True)
    with needed_packages():
        from export.jobs import train_face_model
    with console_of(ctx).progress() as on_progress:
        report = train_face_model(data, out, seed=seed, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@train.command()
def prior(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for what is written.")],
    tier: Annotated[str, typer.Option(help="Size of the renderer: cpu or gpu.")] = "cpu",
    steps: Steps = None,
    seed: Seed = 0,
    resume: Resume = None,
    device: Where = None,
    people: Annotated[int | None, typer.Option(min=1, help="Learn from only so many people.")] = None,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn the renderer that every actor starts from."""
    check_data(data)
    check_place(out / "prior" if out.is_dir() else out)
    check_report(json)
    with needed_packages():
        from export.jobs_prior import PriorOptions, train_prior
        from export.prior_net import TIERS
    check_choice("--tier", tier, sorted(TIERS))
    options = PriorOptions(tier, steps, seed, resume, device, people)
    with console_of(ctx).progress() as on_progress:
        report = train_prior(data, out, options, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@train.command()
def audio(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.onnx", help="What to write.")],
    speech: Annotated[
        Path | None,
        typer.Option(metavar="SET.safetensors", help="Synthetic speech to learn from too."),
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn which mouth belongs to which sound."""
    check_files(data, out, ".onnx", json)
    if speech is not None and not speech.is_file():
        raise InputError(f"--speech {speech}: there is no such file")
    with needed_packages():
        from export.jobs_audio import train_audio
    with console_of(ctx).progress() as on_progress:
        report = train_audio(data, out, speech=speech, steps=steps, seed=seed, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@train.command()
def sync(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.safetensors", help="What to write.")],
    steps: Steps = None,
    seed: Seed = 0,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn to judge whether a mouth fits its sound; for scores only."""
    check_files(data, out, ".safetensors", json)
    with needed_packages():
        from export.jobs_sync import train_sync
    with console_of(ctx).progress() as on_progress:
        report = train_sync(data, out, steps=steps, seed=seed, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


def check_files(data: Path, out: Path, ending: str, json: Path | None, *, folder: bool = False) -> None:
    """Refuse files that a training into one file cannot work with, before it begins.

    Raises:
        InputError: the footage is not there, or a file that is to be written cannot be.
    """
    check_data(data, folder=folder)
    check_ending(out, (ending,))
    check_place(out)
    check_report(json, out)


def check_data(data: Path, *, folder: bool = False) -> None:
    """Refuse footage that is not there; a training set passes unless only a `folder` will do.

    Raises:
        InputError: as said.
    """
    if not data.is_dir() and (folder or not data.is_file()):
        raise InputError(f"--data {data}: there is no such folder" + ("" if folder else " or training set"))
