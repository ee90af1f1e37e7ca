"""`livedub serve`: the live side on this machine, with the browser page, typed text and new actors."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiortc import RTCIceServer
from numpy.typing import NDArray

from clients.demo import speech
from clients.measure_cpu import confirm
from clients.options import now_iso
from clients.sealing import live_seal
from engine.composite.mark import Mark
from engine.errors import InputError
from streaming.rtc.peer import PeerOptions
from streaming.rtc.sdp import OfferLimits
from streaming.scheduling import going_first
from streaming.server.app import make_app, running
from streaming.server.auth import ANY_SESSION, Gate
from streaming.server.config import (
    ServerConfig,
    is_loopback,
    is_private,
    read_config,
    read_secret,
)
from streaming.server.manager import SessionManager
from streaming.server.metrics import Metrics
from streaming.server.threads import one_blas_thread
from streaming.session import LiveSession, Resources
from streaming.types import SessionOptions
from streaming.worker.pool import WorkerPool

WEB = Path(__file__).resolve().parent / "web" / "live"
ENROL_COMMAND = (sys.executable, "-m", "clients.enrol")
SECRET_VARIABLE = "LIVEDUB_SECRET"
LOOPBACK = ("127.0.0.1",)
Say = Callable[[str], None]


@dataclass(frozen=True)
class ServeOptions:
    """Options of `livedub serve`; what is None is as the file says, or the default.

    Attributes:
        config: TOML file; see `streaming.server.config`.
        host, port: where to listen.
        actors: folder of the actor packs.
        mark: what the pictures of sessions say of themselves.
    """

    config: Path | None = None
    host: str | None = None
    port: int | None = None
    actors: Path | None = None
    mark: Mark | None = None


def settled(options: ServeOptions) -> ServerConfig:
    """The file, with the options and the secret of the environment over it.

    Raises:
        InputError: as `read_config`.
    """
    secret = os.environ.get(SECRET_VARIABLE) or None
    return read_config(
        options.config,
        {
            "server": {"host": options.host, "port": options.port},
            "actors": {"folder": options.actors},
            "sessions": {"mark": options.mark},
            "access": {"secret": secret},
        },
    )


def main(options: ServeOptions, say: Say) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        options: what the command line says.
        say: takes lines for a person.

    Raises:
        InputError: the configuration cannot be used, or would leave the server open to others.
        OutputError: the address cannot be listened on.
        AssetError, BackendError: the machine cannot dub.
    """
    config = settled(options)
    with suppress(KeyboardInterrupt):
        run(_serve(config, say))
    say("The server has ended.")


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, in uvloop where that is installed: its wake-ups are late by a third as much."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


@asynccontextmanager
async def live_server(
    config: ServerConfig, *, web_folder: Path = WEB, say: Say | None = None
) -> AsyncIterator[str]:
    """Serve until the block ends; gives the server's address.

    Args:
        config: of the server.
        web_folder: of the browser page.
        say: takes lines for a person.

    Raises:
        InputError, OutputError, AssetError, BackendError: as `main`.
    """
    one_blas_thread()
    seal = _seal(config, say)
    metrics = Metrics()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    async with WorkerPool() as workers:
        carried: int | None = None
        if config.sessions.measure:
            await asyncio.to_thread(confirm, config.sessions.backend)
            capacity = await workers.measure()
            carried = capacity.sessions
            if say:
                ms = 1000 * capacity.frame_s
                say(f"A frame takes {ms:.0f} ms here: room for {carried} of 25 frames per second.")
        with (
            ThreadPoolExecutor(max(1, cores // 2), "livedub-video") as video_pool,
            ThreadPoolExecutor(1, "livedub-audio") as audio_pool,
        ):
            resources = Resources(
                workers=workers,
                video_pool=video_pool,
                audio_pool=audio_pool,
                reporter=metrics,
                peers=_peers(config),
                offers=_offers(config),
                programme_folders=config.programmes.folders,
                programme_hosts=config.programmes.hosts,
                output_folder=config.outputs.folder,
                output_hosts=config.outputs.hosts,
                seal=seal,
            )

            def make(name: str, options: SessionOptions) -> LiveSession:
                return LiveSession(name, options, resources)

            sessions = SessionManager(
                make,
                most=config.sessions.most,
                measured=None if carried is None else lambda: carried,
                idle_s=config.sessions.idle_s,
                longest_s=config.sessions.longest_s,
            )
            app = make_app(
                config,
                sessions,
                metrics=metrics,
                speak=EspeakSpeech(),
                enrol_command=ENROL_COMMAND,
                web_folder=web_folder,
            )
            gc.collect()
            gc.freeze()  # what is loaded stays: looking through it again and again stalls the loop for 50 ms
            try:
                with going_first():
                    async with running(app) as url:
                        yield url
            finally:
                gc.unfreeze()


class EspeakSpeech:
    """The text-to-speech of this machine, for typed text.

    Attributes:
        max_text: characters at once.
    """

    max_text = speech.MAX_TEXT

    def __init__(self) -> None:
        self._voices: list[tuple[str, str]] | None = None

    async def voices(self) -> list[tuple[str, str]]:
        """Code and name of every voice."""
        if self._voices is None:
            found = await asyncio.to_thread(speech.voices)
            self._voices = [(voice.code, voice.name) for voice in found]
        return self._voices

    async def speak(self, text: str, voice: str) -> tuple[NDArray[np.int16], int]:
        """Return the speech, int16 [T], and its rate in Hz; raises as `speech.speak`."""
        spoken = await asyncio.to_thread(speech.speak, text, voice)
        whole = np.clip(np.round(spoken.samples * 32767.0), -32768, 32767)
        return whole.astype(np.int16), spoken.rate_hz


def mint(
    config: ServerConfig, roles: list[str], session: str | None, minutes: float, *, once: bool = False
) -> str:
    """A token for somebody; see `Gate.mint`.

    Raises:
        InputError: the server has no secret.
        AccessError: there is no such role, or not for one connection.
    """
    secret = read_secret(config.access)
    if secret is None:
        raise InputError(
            f"there is no token secret: set access.secret_file in the configuration, or {SECRET_VARIABLE}"
        )
    gate = Gate(secret, config.access.audience)
    return gate.mint(roles, session or ANY_SESSION, 60 * minutes, once=once)[0]


async def _serve(config: ServerConfig, say: Say) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows has no such handlers
            loop.add_signal_handler(number, stop.set)
    say("Getting ready ...")
    async with live_server(config, say=say) as url:
        say(f"The live page is at {url}/")
        if is_loopback(config.server.host):
            say("It answers only to this machine. End it with Ctrl-C.")
        else:
            say("Others reach it with a token; `livedub token` makes one. End it with Ctrl-C.")
        await stop.wait()


def _seal(config: ServerConfig, say: Say | None) -> Callable[[Path, Path], None] | None:
    """What signs the files of sessions, where files may be written at all."""
    outputs = config.outputs
    if outputs.folder is None:
        return None
    seal, message = live_seal(outputs.sign_certificate, outputs.sign_key, now_iso)
    if say and message:
        say(f"Files: {message}.")
    return seal


def _peers(config: ServerConfig) -> PeerOptions:
    stun = [address for address in config.ice.servers if address.startswith("stun:")]
    return PeerOptions(
        ice_servers=tuple(RTCIceServer(address) for address in stun),
        addresses=config.ice.addresses or (LOOPBACK if is_loopback(config.server.host) else None),
    )


def _offers(config: ServerConfig) -> OfferLimits:
    private = config.ice.private
    return OfferLimits(allow_private=is_private(config.server.host) if private is None else private)
