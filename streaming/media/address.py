"""Which programmes a server may open: files of given folders, and addresses of given hosts.

FFmpeg opens whatever it is given, other files and addresses named inside a playlist too, so what is allowed
is listed, not what is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from engine.errors import MediaError

SCHEMES: dict[str, str] = {
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "rtsp": "rtsp,rtp,udp,tcp",
    "http": "http,tcp,crypto",
    "https": "https,tls,tcp,crypto",
    "srt": "",
}
"""Schemes of programmes, and the protocols that FFmpeg may use for each."""


@dataclass(frozen=True)
class Address:
    """An allowed programme.

    Attributes:
        name: what FFmpeg is given.
        protocols: that it may use, for its option `protocol_whitelist`.
        scheme: "file" or a key of `SCHEMES`.
    """

    name: str
    protocols: str
    scheme: str

    @property
    def shown(self) -> str:
        """The address for logs and messages: without user and password, and without its path, often a key."""
        if self.scheme == "file":
            return Path(self.name).name
        parts = urlsplit(self.name)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def allowed(text: str, *, folders: Sequence[Path] = (), hosts: Sequence[str] = ()) -> Address:
    """Check what a client asks to open.

    Args:
        text: a path below one of the folders, or an address.
        folders: files below these may be opened.
        hosts: names, or name:port, that may be asked.

    Raises:
        MediaError: it may not be opened, or is no file.
    """
    if "://" in text:
        return _allowed_address(text, hosts)
    for folder in folders:
        root = folder.resolve()
        path = (root / text).resolve()
        if path.is_relative_to(root) and path.is_file():
            return Address(str(path), "file", "file")
    raise MediaError(f"there is no programme {text[:80]!r} in the folders that this server may read")


def _allowed_address(text: str, hosts: Sequence[str]) -> Address:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise MediaError(f"that is no address: {error}") from None
    if parts.scheme not in SCHEMES:
        raise MediaError(
            f"programmes come by {', '.join(sorted(SCHEMES))} or from a file, not {parts.scheme!r}"
        )
    if not host or not {host, f"{host}:{port}"} & set(hosts):
        raise MediaError(
            f"this server may not ask {host!r} for programmes; its configuration lists the hosts"
        )
    return Address(text, SCHEMES[parts.scheme], parts.scheme)
