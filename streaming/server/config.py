"""What the operator may set: one TOML file, and what the command line says instead.

    [server]    host, port, tls_certificate, tls_key, hosts, origins
    [access]    secret or secret_file, audience, token_s
    [sessions]  most, measure, idle_s, longest_s, look_ahead_ms, latency_budget_ms, original_delay_ms, idle,
                backend, precision, override_consent, mark
    [actors]    folder, enrol, upload_bytes
    [limits]    requests_per_s, offers_per_s, per_address
    [ice]       servers, addresses, private
    [programmes] folders, hosts
    [outputs]   folder, hosts, sign_certificate, sign_key

Everything has a default that is safe on one machine. An unknown name is an error that lists the known ones.
"""

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from engine.composite.mark import Mark
from engine.errors import InputError
from streaming.types import IdlePolicy, SessionOptions

DEFAULT_PORT = 8765
MIN_SECRET_BYTES = 32  # of an HS256 key: RFC 7518, section 3.2
_Section = TypeVar("_Section", bound=Struct)

Port = Annotated[int, Meta(ge=0, le=65_535)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
IceServer = Annotated[str, Meta(pattern=r"^(stun|turn)s?:[A-Za-z0-9.:\[\]_-]+(\?transport=\w+)?$")]


class Listen(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens.

    Attributes:
        host: address to bind; beyond loopback a secret and TLS are needed.
        port: TCP port, 0 for a free one.
        tls_certificate, tls_key: PEM files, both or none.
        hosts: names, besides the address itself, that clients may call this server by ("dub.example.org").
        origins: of other web pages that may use this server ("https://app.example.org").
    """

    host: str = "127.0.0.1"
    port: Port = DEFAULT_PORT
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


class Access(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what.

    Attributes:
        secret: key of the tokens, at least 32 bytes; none: everyone who reaches the server is its admin.
        secret_file: where it is kept instead; surrounding white space is not part of it.
        audience: `aud` of every token.
        token_s: how long a token lives that the server makes.
    """

    secret: str = ""
    secret_file: Path | None = None
    audience: str = "livedub"
    token_s: Annotated[int, Meta(ge=10, le=3600)] = 300

    def __repr__(self) -> str:
        return f"Access(secret={'set' if self.secret or self.secret_file else 'none'})"


class Sessions(Struct, frozen=True, forbid_unknown_fields=True):
    """How many sessions, for how long, and what they are like unless asked otherwise.

    Attributes:
        most: at the same time.
        measure: also how many this machine carries, at the start, and let no more in.
        idle_s: a session with nobody connected ends after so long.
        longest_s: any session ends after so long.
        override_consent: dub packs without a valid consent record; logged.
        look_ahead_ms, latency_budget_ms, original_delay_ms, idle, backend, precision, mark: see
            `SessionOptions`.
    """

    most: Count = 16
    measure: bool = True
    idle_s: Positive = 60.0
    longest_s: Positive = 4 * 3600.0
    look_ahead_ms: int = SessionOptions.look_ahead_ms
    latency_budget_ms: Milliseconds = SessionOptions.latency_budget_ms
    original_delay_ms: Milliseconds = SessionOptions.original_delay_ms
    idle: IdlePolicy = SessionOptions.idle
    backend: str | None = SessionOptions.backend
    precision: str = SessionOptions.precision
    override_consent: bool = SessionOptions.override_consent
    mark: Mark = SessionOptions.mark

    def options(self, actor: Path) -> SessionOptions:
        """The options of a session that asks for nothing else."""
        known = {field.name for field in fields(SessionOptions)}
        return SessionOptions(actor, **{name: value for name, value in asdict(self).items() if name in known})


class Actors(Struct, frozen=True, forbid_unknown_fields=True):
    """Who can be dubbed.

    Attributes:
        folder: of the actor packs, `NAME.actor`.
        enrol: let clients make new ones from a video.
        upload_bytes: largest video.
    """

    folder: Path = Path("actors")
    enrol: bool = True
    upload_bytes: Count = 200 * 2**20


class Rates(Struct, frozen=True, forbid_unknown_fields=True):
    """What one address may ask for.

    Attributes:
        requests_per_s: of any kind; bursts of four seconds' worth are let through.
        offers_per_s: WebRTC offers and new sessions.
        per_address: open WebSockets.
    """

    requests_per_s: Positive = 50.0
    offers_per_s: Positive = 4.0
    per_address: Count = 32


class Ice(Struct, frozen=True, forbid_unknown_fields=True):
    """How clients find a way through.

    Attributes:
        servers: STUN and TURN addresses that clients are told of, "stun:stun.example.org:3478".
        addresses: of this machine that media goes over; none: loopback if the server listens there, else all.
        private: let clients name addresses in loopback and private networks; None: if the server itself
            listens on one. A public server that did could be used to probe what stands behind it.
    """

    servers: tuple[IceServer, ...] = ()
    addresses: tuple[str, ...] = ()
    private: bool | None = None


class Programmes(Struct, frozen=True, forbid_unknown_fields=True):
    """What may be played as a session's picture.

    Attributes:
        folders: files below these.
        hosts: names, or name:port, of servers that may be asked (RTMP, RTSP, HLS, SRT).
    """

    folders: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()


class Outputs(Struct, frozen=True, forbid_unknown_fields=True):
    """Where sessions may go, besides their viewers.

    Attributes:
        folder: where files are written, and nowhere else; none: no files.
        hosts: names, or name:port, of servers that may be sent to (RTMP, WHIP).
        sign_certificate, sign_key: PEM files of who signs the C2PA manifests of files; none: made here.
    """

    folder: Path | None = None
    hosts: tuple[str, ...] = ()
    sign_certificate: Path | None = None
    sign_key: Path | None = None


class ServerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything of the above."""

    server: Listen = Listen()
    access: Access = Access()
    sessions: Sessions = Sessions()
    actors: Actors = Actors()
    limits: Rates = Rates()
    ice: Ice = Ice()
    programmes: Programmes = Programmes()
    outputs: Outputs = Outputs()


def read_config(
    path: Path | None = None, changes: Mapping[str, Mapping[str, object]] | None = None
) -> ServerConfig:
    """Read the file, put what the command line says over it, and check the whole.

    Args:
        path: TOML; None takes the defaults. Relative paths in it count from its folder.
        changes: per section, values that go before those of the file; None values are no change.

    Raises:
        InputError: it cannot be read, an unknown name, a wrong value, or a server open to others without
            a secret and TLS.
    """
    content = _load(path) if path else {}
    for section, values in (changes or {}).items():
        given = {name: value for name, value in values.items() if value is not None}
        if given:
            content[section] = {**_table(content, section), **given}
    config = _convert(content, path)
    if path is not None:
        config = _from_folder(config, path.absolute().parent)
    check_config(config)
    return config


def check_config(config: ServerConfig) -> None:
    """Refuse what would leave the server open, or cannot work.

    Raises:
        InputError: as said.
    """
    server = config.server
    if (server.tls_certificate is None) != (server.tls_key is None):
        raise InputError("TLS needs both server.tls_certificate and server.tls_key")
    secret = read_secret(config.access)
    if not is_loopback(server.host) and (secret is None or server.tls_certificate is None):
        missing = [
            *(["a token secret (access.secret_file)"] if secret is None else []),
            *(["TLS (server.tls_certificate, server.tls_key)"] if server.tls_certificate is None else []),
        ]
        raise InputError(
            f"listening on {server.host!r} is reachable by others and needs {' and '.join(missing)}"
        )
    folder = config.outputs.folder
    if folder is not None and not folder.is_dir():
        raise InputError(f"outputs.folder: there is no folder {str(folder)!r}")
    if (server.hosts or server.origins) and secret is None:
        raise InputError(
            "server.hosts and server.origins let others in: set a token secret (access.secret_file)"
        )


def read_secret(access: Access) -> bytes | None:
    """The key of the tokens, None where there is none.

    Raises:
        InputError: it cannot be read, or is too short to be one.
    """
    if access.secret and access.secret_file:
        raise InputError("give either access.secret or access.secret_file")
    secret = access.secret.encode()
    if access.secret_file:
        try:
            secret = access.secret_file.read_bytes().strip()
        except OSError as error:
            raise InputError(f"{access.secret_file}: cannot be read: {error.strerror}") from error
    elif not secret:
        return None
    if len(secret) < MIN_SECRET_BYTES:
        raise InputError(
            f"the token secret has {len(secret)} bytes; at least {MIN_SECRET_BYTES} random ones are needed"
        )
    return secret


def is_private(host: str) -> bool:
    """Whether an address lies in loopback or a private network; "every address" does not."""
    if is_loopback(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_private and not address.is_unspecified


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: it may stand for any address
        return False


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML: {error}") from error


def _table(content: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    table = content.get(section, {})
    if not isinstance(table, dict):
        raise InputError(f"{section} must be a table, [{section}]")
    return table


def _convert(content: dict[str, Any], path: Path | None) -> ServerConfig:
    where = path or "the command line"
    _check_names(where, "the file", content, ServerConfig)
    for field in msgspec.structs.fields(ServerConfig):
        _check_names(where, f"[{field.name}]", _table(content, field.name), field.type)
    try:
        return msgspec.convert(content, ServerConfig, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}") from None


def _check_names(where: object, what: str, table: Mapping[str, Any], kind: Any) -> None:
    known = [field.name for field in msgspec.structs.fields(kind)]
    unknown = [name for name in table if name not in known]
    if unknown:
        raise InputError(f"{where}: {what} has no {unknown[0]!r}; it has {', '.join(known)}")


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    raise TypeError(f"expected {'a path' if kind is Path else kind.__name__}, got {value!r}")


def _from_folder(config: ServerConfig, folder: Path) -> ServerConfig:
    """Relative paths count from the folder of the file."""

    def placed(section: _Section, *names: str) -> _Section:
        paths = {name: getattr(section, name) for name in names}
        return msgspec.structs.replace(section, **{n: folder / p for n, p in paths.items() if p is not None})

    return ServerConfig(
        server=placed(config.server, "tls_certificate", "tls_key"),
        access=placed(config.access, "secret_file"),
        sessions=config.sessions,
        actors=placed(config.actors, "folder"),
        limits=config.limits,
        ice=config.ice,
        programmes=Programmes(
            tuple(folder / path for path in config.programmes.folders), config.programmes.hosts
        ),
        outputs=placed(config.outputs, "folder", "sign_certificate", "sign_key"),
    )
