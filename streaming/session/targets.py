"""Where a session may be sent or written: files of one folder, and addresses of given hosts.

What is allowed is listed, not what is refused; and an address is so plain that everyone who reads it, we, an
HTTP client, FFmpeg, finds the same host in it.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from engine.errors import OutputError

LONGEST_CHARS = 2048
ENDINGS = (".mp4", ".mkv", ".ts")
Kind = Literal["file", "rtmp", "whip"]
_KINDS: dict[str, Kind] = {"rtmp": "rtmp", "rtmps": "rtmp", "http": "whip", "https": "whip"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PLAIN = re.compile(r"[!-\[\]-~]+")  # ASCII without blanks and backslashes
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Target:
    """Where an output goes.

    Attributes:
        kind: of it.
        address: path or address; the path of an address may be a secret, so it is not shown.
        shown: for logs, messages and answers: a file's name; scheme, host and port of an address.
        host: of an address, "" for a file.
    """

    kind: Kind
    address: str = field(repr=False)
    shown: str
    host: str = ""


def allowed_target(text: str, *, folder: Path | None, hosts: Sequence[str]) -> Target:
    """Check where a client wants a session to go.

    Args:
        text: a name ending in one of `ENDINGS`, or an address rtmp(s):// or, for WHIP, http(s)://.
        folder: where files go; None: nowhere.
        hosts: names, or name:port, that may be sent to.

    Raises:
        OutputError: it may not go there.
    """
    if "://" not in text:
        return _file(text, folder)
    parts = _split(text)
    if parts is None or parts.scheme not in _KINDS:
        raise OutputError("an output's address is rtmp://, rtmps://, or, for WHIP, http:// or https://")
    host = parts.hostname or ""
    if not _listed(parts, hosts):
        raise OutputError(
            f"this server may not send to {host!r}; its configuration lists the hosts, [outputs]"
        )
    return Target(_KINDS[parts.scheme], text, f"{parts.scheme}://{parts.netloc}", host)


def may_ask(url: str, hosts: Sequence[str]) -> bool:
    """Whether an HTTP address that another server named may be asked."""
    parts = _split(url)
    return parts is not None and _KINDS.get(parts.scheme) == "whip" and _listed(parts, hosts)


def is_loopback(host: str) -> bool:
    """Whether an address's host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _file(name: str, folder: Path | None) -> Target:
    if folder is None:
        raise OutputError("this server writes no files: its configuration names no folder for them")
    if not _NAME.fullmatch(name) or not name.lower().endswith(ENDINGS):
        raise OutputError(
            f"an output file's name has letters, digits, . _ - and ends in {', '.join(ENDINGS)}"
        )
    path = folder.absolute() / name
    if path.exists() or path.is_symlink():
        raise OutputError(f"there is a file {name!r} already: give another name")
    return Target("file", str(path), name)


def _split(text: str) -> SplitResult | None:
    """The parts of a plain address, None if it is not one."""
    if len(text) > LONGEST_CHARS or not _PLAIN.fullmatch(text):
        return None
    try:
        parts = urlsplit(text)
        known = 0 <= (parts.port or 0) <= 65_535
    except ValueError:
        return None
    return parts if known and _HOST.fullmatch(parts.netloc) else None


def _listed(parts: SplitResult, hosts: Sequence[str]) -> bool:
    return bool({parts.hostname, f"{parts.hostname}:{parts.port}"} & set(hosts))
