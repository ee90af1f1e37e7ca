"""`livedub train ...`: what livedub ships, learned from footage."""

from pathlib import Path
from typing import Annotated

import typer

from clients.console import check_place
from clients.options import Json, Verbose, check_ending, check_report, console_of, give, needed_packages
from engine.errors import InputError

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder of footage, with its lists.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of optimisation.")]
Resume = Annotated[
    Path | None, typer.Option(metavar="CHECKPOINT", help="Go on from what an interrupted training left.")
]

train = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@train.command("face-model")
def face_model(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.safetensors", help="What to write.")],
    seed: Seed = 0,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn the geometry of faces: topology, neutral, expressions."""
    check_data(data)
    check_ending(out, (".safetensors",))
    check_place(out)
    check_report(json, out)
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
    steps: Steps = None,
    seed: Seed = 0,
    resume: Resume = None,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn the renderer that every actor starts from."""
    check_data(data)
    check_place(out / "prior" if out.is_dir() else out)
    check_report(json)
    with needed_packages():
        from export.jobs import train_prior
    with console_of(ctx).progress() as on_progress:
        report = train_prior(data, out, steps=steps, seed=seed, resume=resume, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


@train.command()
def audio(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.onnx", help="What to write.")],
    steps: Steps = None,
    seed: Seed = 0,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Learn which mouth belongs to which sound."""
    check_data(data)
    check_ending(out, (".onnx",))
    check_place(out)
    check_report(json, out)
    with needed_packages():
        from export.jobs import train_audio
    with console_of(ctx).progress() as on_progress:
        report = train_audio(data, out, steps=steps, seed=seed, on_progress=on_progress)
    give(ctx, f"{out} is written", report, json)


def check_data(folder: Path) -> None:
    """Refuse footage that is not there.

    Raises:
        InputError: as said.
    """
    if not folder.is_dir():
        raise InputError(f"--data {folder}: there is no such folder")
