"""The server as a whole: routes over sessions, and a socket that is open to others only if that is safe."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from engine.errors import InputError, OutputError
from streaming.server.actors import actors
from streaming.server.auth import Gate
from streaming.server.config import Listen, ServerConfig, check_config, read_secret
from streaming.server.context import SERVER, Server, Speak, guard
from streaming.server.enrol import Enrolments
from streaming.server.manager import SessionManager
from streaming.server.metrics import Metrics, watch_loop
from streaming.server.outputs import outputs
from streaming.server.page import page
from streaming.server.rest import rest
from streaming.server.websocket import StreamLimits, stream
from streaming.server.whep import whep
from streaming.server.whip import whip

SHUTDOWN_S = 2.0
MAX_HEADER_BYTES = 8190
_SILENT = logging.getLogger("streaming.server.http")  # aiohttp's own words may quote what clients sent
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


def make_app(
    config: ServerConfig,
    sessions: SessionManager,
    *,
    metrics: Metrics | None = None,
    speak: Speak | None = None,
    enrol_command: Sequence[str] | None = None,
    web_folder: Path | None = None,
    stream_limits: StreamLimits | None = None,
) -> web.Application:
    """Build the routes.

    Args:
        config: of the operator.
        sessions: of the server.
        metrics: that sessions report to as well; None makes new ones.
        speak: text to speech, for typed text.
        enrol_command: starts the child that learns an actor; None: no enrolment.
        web_folder: of the browser page; None: no page.
        stream_limits: of WebSockets.

    Raises:
        InputError: the configuration would leave the server open, or cannot work.
    """
    check_config(config)
    enrolments = None
    if enrol_command and config.actors.enrol:
        enrolments = Enrolments(config.actors.folder, enrol_command, config.actors.upload_bytes)
    app = web.Application(middlewares=[guard], client_max_size=0)
    app[SERVER] = Server(
        config=config,
        sessions=sessions,
        gate=Gate(read_secret(config.access), config.access.audience),
        metrics=metrics or Metrics(),
        enrolments=enrolments,
        speak=speak,
    )
    app.add_routes([*rest(), *outputs(), *actors(), *whip().routes(), *whep().routes()])
    app.add_routes(stream(stream_limits))
    if web_folder is not None:
        app.add_routes(page(web_folder))
    return app


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[str]:
    """Listen until the block ends; gives the server's address. Sessions are ended before it returns.

    Raises:
        OutputError: the address cannot be listened on.
        InputError: the TLS files cannot be used.
    """
    server = app[SERVER]
    listen = server.config.server
    context = _tls(listen)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        logger=_SILENT,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )
    await runner.setup()
    try:
        await _start(web.TCPSite(runner, listen.host, listen.port, ssl_context=context), listen)
        server.port = int(runner.addresses[0][1])
        failure: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(server.sessions.watch()), tasks.create_task(watch_loop(server.metrics))]
            if server.enrolments:
                jobs.append(tasks.create_task(server.enrolments.work()))
            try:
                yield f"{'https' if context else 'http'}://{_host(listen.host)}:{server.port}"
            except Exception as error:  # noqa: BLE001  raised below: the group would wrap it
                failure = error
            finally:
                _cancel(jobs)
        if failure is not None:
            raise failure
    finally:
        await server.sentences.close()
        await server.sessions.close()
        await runner.cleanup()


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()


async def _start(site: web.TCPSite, listen: Listen) -> None:
    try:
        await site.start()
    except OSError as error:
        where = f"{_host(listen.host)}:{listen.port}"
        raise OutputError(f"cannot listen on {where} ({error.strerror}): give another --port") from None


def _tls(listen: Listen) -> ssl.SSLContext | None:
    if listen.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(listen.tls_certificate, listen.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{listen.tls_certificate} and {listen.tls_key} make no TLS: {error.strerror or error}"
        ) from None
    return context


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
