"""What an offer may contain, checked before aiortc sees it.

An offer is text from a stranger that makes this machine allocate, listen, and send packets to addresses of
the stranger's choice. `check_offer` bounds it and takes out the candidates that must not be tried.
"""

import ipaddress
from dataclasses import dataclass

from engine.errors import OfferError

LINE_MAX_CHARS = 4096
LINES_MAX = 2000
PORT_MIN = 1024

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_CANDIDATE = "a=candidate:"
_REQUIRED = {
    "a=ice-ufrag:": "ICE credentials",
    "a=ice-pwd:": "ICE credentials",
    "a=fingerprint:": "a DTLS fingerprint",
}


@dataclass(frozen=True)
class OfferLimits:
    """Bounds of an offer.

    Attributes:
        bytes_max: of the whole text, UTF-8.
        media_max: media sections.
        candidates_max: over all sections, of those that would be tried; others cost nothing (Firefox has
            them over TCP, and for a second component).
        allow_private: whether candidates may lie in loopback and private networks. Right for a server that
            listens on loopback or in a private network; a public server says no, so that nobody can use its
            connectivity checks to probe what stands behind it.
    """

    bytes_max: int = 65_536
    media_max: int = 8
    candidates_max: int = 32
    allow_private: bool = True


def check_offer(text: str, limits: OfferLimits = OfferLimits()) -> str:
    """Check an offer against the limits and take out unusable candidates.

    Host names (also `.local`), TCP, privileged ports and addresses outside the policy are dropped silently:
    the peer's own checks still reach us, from whatever address it has. So is the end-of-candidates mark, for
    the same reason.

    Args:
        text: the offer's SDP.
        limits: what is allowed.

    Returns:
        The SDP to give to aiortc, with CRLF line ends.

    Raises:
        OfferError: it is too large, is no WebRTC offer, or asks for what we lack.
    """
    lines = _lines(text, limits)
    if not lines or not lines[0].startswith("v=0"):
        raise OfferError("the offer is not SDP: it must begin with v=0")
    _check_media([line for line in lines if line.startswith("m=")], limits)
    _check_keys(lines)
    kept = [line for line in lines if _keep(line, limits)]
    candidates = sum(line.startswith(_CANDIDATE) for line in kept)
    if candidates > limits.candidates_max:
        raise OfferError(f"an offer may have {limits.candidates_max} candidates, this one has {candidates}")
    return "\r\n".join(kept) + "\r\n"


def check_fragment(text: str, limits: OfferLimits = OfferLimits()) -> list[tuple[str, str]]:
    """Return the candidates of a fragment that comes after an offer (RFC 8840) and that may be tried.

    Args:
        text: of type application/trickle-ice-sdpfrag.
        limits: what is allowed; `candidates_max` holds for the fragment alone.

    Returns:
        For each the identification of its media section, and the candidate without `candidate:`.

    Raises:
        OfferError: it is too large, or has candidates outside of any section.
    """
    found, section = [], ""
    for line in _lines(text, limits):
        if line.startswith("m="):
            section = ""
        elif line.startswith("a=mid:"):
            section = line[len("a=mid:") :]
        elif line.startswith(_CANDIDATE):
            if not section:
                raise OfferError("a candidate must come after the a=mid of its media section")
            if _keep(line, limits):
                found.append((section, line[len(_CANDIDATE) :]))
    if len(found) > limits.candidates_max:
        raise OfferError(f"there may be {limits.candidates_max} candidates, here are {len(found)}")
    return found


def encourage(answer: str, start_bps: int) -> str:
    """Add to an answer what makes a browser send well from the first second.

    Opus gets in-band error correction, video begins at `start_bps` (Chromium's `x-google-start-bitrate`).
    """
    lines = answer.split("\r\n")
    for kind, name, wish in (
        ("audio", "opus/", "minptime=10;useinbandfec=1"),
        ("video", "", f"x-google-start-bitrate={start_bps // 1000}"),
    ):
        for number in _payload_types(lines, kind, name):
            _add_parameters(lines, number, wish)
    return "\r\n".join(lines)


def _lines(text: str, limits: OfferLimits) -> list[str]:
    """The lines that are not empty, of a text that is not too large to look at."""
    size = len(text.encode("utf-8", "replace"))
    if size > limits.bytes_max:
        raise OfferError(f"an offer may have {limits.bytes_max} bytes, this one has {size}")
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    if len(lines) > LINES_MAX or max(map(len, lines), default=0) > LINE_MAX_CHARS:
        raise OfferError("the offer has too many lines, or one that is too long")
    if not all(line.isprintable() for line in lines):
        raise OfferError("the offer has control characters in it")
    return lines


def _payload_types(lines: list[str], kind: str, name: str) -> list[str]:
    """Payload types of the codecs in sections of `kind`, without retransmission."""
    found, inside = [], False
    for line in lines:
        if line.startswith("m="):
            inside = line.startswith(f"m={kind} ")
        if inside and line.startswith("a=rtpmap:"):
            number, _, codec = line[len("a=rtpmap:") :].partition(" ")
            if codec.startswith(name) and not codec.startswith("rtx/"):
                found.append(number)
    return found


def _add_parameters(lines: list[str], number: str, wish: str) -> None:
    """Append `wish` to the payload type's format parameters, which begin after its rtpmap if it has none."""
    for index, line in enumerate(lines):
        if line.startswith(f"a=fmtp:{number} "):
            lines[index] = f"{line};{wish}"
            return
    for index, line in enumerate(lines):
        if line.startswith(f"a=rtpmap:{number} "):
            lines.insert(index + 1, f"a=fmtp:{number} {wish}")
            return


def allowed_address(host: str, *, allow_private: bool) -> bool:
    """Whether a candidate's address may be tried: a literal IP address inside the policy."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            usable = not (address.is_multicast or address.is_unspecified)
            return usable and (allow_private or (address.is_global and not _tunnels(address)))
        address = address.ipv4_mapped
    if address.is_multicast or address.is_unspecified or address.is_reserved or address.is_link_local:
        return False
    return allow_private or address.is_global


def _tunnels(address: ipaddress.IPv6Address) -> bool:
    """Whether the address stands for an IPv4 address, which then may be any."""
    return address.sixtofour is not None or address.teredo is not None or address in _NAT64


def _check_media(media: list[str], limits: OfferLimits) -> None:
    if not 0 < len(media) <= limits.media_max:
        raise OfferError(
            f"an offer must have 1 to {limits.media_max} media sections, this one has {len(media)}"
        )
    for line in media:
        kind, _, rest = line[2:].partition(" ")
        if kind == "application":
            raise OfferError("data channels are not supported: offer only audio and video")
        if kind not in ("audio", "video"):
            raise OfferError("only audio and video are supported")
        protocol = rest.split(" ")[1:2]
        if protocol != ["UDP/TLS/RTP/SAVPF"]:
            raise OfferError("media must be offered over UDP/TLS/RTP/SAVPF")


def _check_keys(lines: list[str]) -> None:
    for prefix, name in _REQUIRED.items():
        if not any(line.startswith(prefix) for line in lines):
            raise OfferError(f"the offer lacks {name}")
    if any(line.startswith("a=crypto:") for line in lines):
        raise OfferError("SDES keys are not accepted: use DTLS")


def _keep(line: str, limits: OfferLimits) -> bool:
    if line.startswith("a=end-of-candidates"):
        return False
    return not line.startswith(_CANDIDATE) or _usable(line[len(_CANDIDATE) :], limits)


def _usable(candidate: str, limits: OfferLimits) -> bool:
    """Whether `<foundation> <component> <transport> <priority> <address> <port> typ <type>` may be tried."""
    fields = candidate.split()
    if len(fields) < 8 or fields[1] != "1" or fields[2].lower() != "udp" or fields[6] != "typ":
        return False
    numbers = (fields[3], fields[5])
    if not all(number.isascii() and number.isdigit() and len(number) <= 10 for number in numbers):
        return False
    return PORT_MIN <= int(fields[5]) <= 65_535 and allowed_address(
        fields[4], allow_private=limits.allow_private
    )
