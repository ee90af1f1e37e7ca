"""The commands of the live side."""

from pathlib import Path
from typing import Annotated

import typer

from clients.options import MarkOption, Verbose, check_folder, console_of, needed_packages


def serve(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings, TOML; see the README.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; beyond loopback tokens and TLS are needed.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = None,
    actors: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the actor packs.")] = None,
    mark: MarkOption = None,
    verbose: Verbose = False,
) -> None:
    """Dub live: video and voice in, dubbed video out over WebRTC."""
    check_folder(actors)
    with needed_packages():
        from clients.serve import ServeOptions
        from clients.serve import main as run_serve
    run_serve(ServeOptions(config, host, port, actors, mark), console_of(ctx).say)


def token(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of the server; its secret signs.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(help="publish, view, control or admin; may be given more than once; else admin."),
    ] = None,
    session: Annotated[str | None, typer.Option(help="The only session it is for; else any.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, max=1440, help="How long it holds.")] = 5,
    once: Annotated[
        bool, typer.Option("--once", help="It begins one connection of each kind, within 5 minutes.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Make a token for somebody who may use a server of yours."""
    with needed_packages():
        from clients.serve import ServeOptions, mint, settled
    made = mint(settled(ServeOptions(config)), role or ["admin"], session, minutes, once=once)
    console_of(ctx).result(made)
