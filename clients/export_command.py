"""The command `livedub export`; `clients.export` does its work."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from clients.options import Json, Verbose, check_folder, check_report, console_of, give, needed_packages


def export(
    ctx: typer.Context,
    actor: Annotated[Path, typer.Argument(metavar="NAME.actor", help="Made by `livedub adapt`.")],
    backend: Annotated[
        Literal["tensorrt", "onnx"],
        typer.Option(help="tensorrt: engines for this livedub; onnx: files for others to run."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Folder for the files; else NAME-onnx beside the pack. Of engines: a second place for them.",
        ),
    ] = None,
    precision: Annotated[
        Literal["f16", "bf16", "f32"] | None,
        typer.Option(help="What the renderer computes in; else f16 with tensorrt, f32 with onnx."),
    ] = None,
    json: Json = None,
    verbose: Verbose = False,
) -> None:
    """Build an actor's TensorRT engines, or write its networks as ONNX."""
    check_folder(out)
    check_report(json, actor)
    with needed_packages():
        from clients import export as jobs
    chosen = precision or jobs.DEFAULT_PRECISION[backend]
    with console_of(ctx).progress() as on_progress:
        if backend == "onnx":
            folder = out or actor.parent / f"{actor.stem}-onnx"
            check_folder(folder)
            report: object = jobs.export_onnx(actor, folder, chosen, on_progress)
            done = f"{folder} is written"
        else:
            report = jobs.export_tensorrt(actor, out, chosen, on_progress)
            done = f"the engines of {actor} are built"
    give(ctx, done, report, json)
