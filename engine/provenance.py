"""What a dubbed file says about how it was made: a C2PA manifest, and a comment that any player shows.

The manifest follows C2PA 2.x: what was filmed was opened, then edited with a digital source type that says
"real footage, partly made by a trained model"; an assertion of our own names what it was made from, by hash.
Pure but for the file that is signed: the time comes in as an argument, and nothing here reaches the network.
"""

import hashlib
import importlib
import io
import json
import mimetypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from engine.actor.consent import ConsentRecord
from engine.errors import BackendUnavailable, InputError, OutputError

Builder = Any  # c2pa.Builder: it has no types, and is imported in one place only

NAME = "livedub"
ASSERTION = "org.livedub.dub"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
FORMATS = {".mp4": "video/mp4", ".m4v": "video/x-m4v", ".mov": "video/quicktime"}
"""By a name's ending, the containers that can carry a manifest; Matroska and WebM have no place for one."""

_SOURCE, _SOUND = "source", "sound"
_TRIAL = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'
_SETTINGS: dict[str, Any] = {
    "core": {"backing_store_memory_threshold_in_mb": 128},  # of a film that is signed; the rest goes by disk
    "verify": {
        "verify_after_sign": True,
        "verify_trust": False,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True)
class Credential:
    """Who signs.

    Attributes:
        certificates: PEM, the signer's certificate first, then those that vouch for it.
        key: PEM, PKCS #8, of an ECDSA key on P-256 (ES256).
        self_made: livedub made it on this machine, so it is on nobody's trust list.
    """

    certificates: bytes
    key: bytes
    self_made: bool

    def __repr__(self) -> str:
        return f"Credential(self_made={self.self_made})"


@dataclass(frozen=True)
class Material:
    """A file that went into a dub.

    Attributes:
        path: where it is.
        sha256: of its bytes, lower-case hex.
    """

    path: Path
    sha256: str


@dataclass(frozen=True)
class Origin:
    """What a dub was made from.

    Attributes:
        version: of livedub.
        when: ISO 8601 instant with a UTC offset.
        source: the video that was filmed; None: it came live.
        sound: what is heard; None: it came live.
        drive: what moved the mouth: that sound ("audio"), or the video's own expression ("tracked").
        actor_sha256: of the actor pack.
        consent: the record that the pack carries.
        models: sha256 of each network by its name.
        renderer: backend and precision.
    """

    version: str
    when: str
    source: Material | None
    sound: Material | None
    drive: Literal["audio", "tracked"]
    actor_sha256: str
    consent: ConsentRecord | None
    models: Mapping[str, str]
    renderer: str


def consent_sha256(record: ConsentRecord) -> str:
    """Names a consent record without saying what is in it.

    The hex SHA-256 of the record as JSON: keys sorted, no white space, UTF-8.
    """
    text = json.dumps(asdict(record), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def comment(version: str) -> str:
    """What the file's comment tag says, for players and for people."""
    return f"synthetic: the mouth was made by an AI, {NAME} {version}, {SOURCE_TYPE}"


def manifest(origin: Origin, title: str, media_type: str) -> dict[str, Any]:
    """The claim about a dub, as `c2pa.Builder` takes it.

    Args:
        origin: what it was made from.
        title: the file's name.
        media_type: of the file.
    """
    agent = {"name": NAME, "version": origin.version}
    first = {"action": "c2pa.opened", "when": origin.when, "parameters": {"ingredientIds": [_SOURCE]}}
    made = {
        "action": "c2pa.created" if origin.source is None else "c2pa.edited",
        "when": origin.when,
        "softwareAgent": agent,
        "digitalSourceType": SOURCE_TYPE,
        "description": "the lower face was rendered to another voice",
    }
    last = {"action": "c2pa.placed", "when": origin.when, "parameters": {"ingredientIds": [_SOUND]}}
    actions = [
        *([] if origin.source is None else [first]),
        made,
        *([] if origin.sound is None else [last]),
    ]
    return {
        "claim_generator_info": [agent],
        "title": title,
        "format": media_type,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": ASSERTION, "data": _said(origin)},
        ],
    }


def check_credential(credential: Credential) -> None:
    """Sign a picture of nothing, so that what cannot sign shows before the work.

    Raises:
        BackendUnavailable: c2pa is not installed.
        InputError: certificate and key cannot sign.
    """
    created = {"action": "c2pa.created", "digitalSourceType": "http://c2pa.org/digitalsourcetype/empty"}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    claim = {"claim_generator_info": [{"name": NAME}], "assertions": [actions]}
    with _builder(claim) as builder, _signing("certificate and key"), _signer(credential) as signer:
        builder.sign(signer, "image/svg+xml", io.BytesIO(_TRIAL), io.BytesIO())


def sign(path: Path, name: str, origin: Origin, credential: Credential) -> None:
    """Put a signed manifest into a finished file, which is exchanged whole or left as it was.

    Args:
        path: the file.
        name: what it is going to be called; its ending says what it is, one of `FORMATS`.
        origin: what it was made from; its files are read.
        credential: who signs; one that passed `check_credential`.

    Raises:
        BackendUnavailable: c2pa is not installed.
        OutputError: it cannot be signed.
    """
    media_type = FORMATS[Path(name).suffix.lower()]
    signed = path.with_name(f"{path.name}.signed")
    try:
        with _builder(manifest(origin, name, media_type)) as builder, _signing(name, OutputError):
            if origin.source is not None:
                _add(builder, origin.source, _SOURCE, "parentOf")
            if origin.sound is not None:
                _add(builder, origin.sound, _SOUND, "componentOf")
            with _signer(credential) as signer, path.open("rb") as unsigned, signed.open("xb+") as out:
                builder.sign(signer, media_type, unsigned, out)
            os.replace(signed, path)
    finally:
        with suppress(OSError):
            signed.unlink(missing_ok=True)


def _said(origin: Origin) -> dict[str, Any]:
    consent = origin.consent
    return {
        "source": origin.source and _named(origin.source),
        "sound": origin.sound and _named(origin.sound),
        "drive": origin.drive,
        "actor_pack_sha256": origin.actor_sha256,
        "consent": consent
        and {
            "sha256": consent_sha256(consent),
            "granted_at": consent.granted_at,
            "expires_at": consent.expires_at,
        },
        "models_sha256": dict(origin.models),
        "renderer": origin.renderer,
    }


def _named(material: Material) -> dict[str, str]:
    return {"name": material.path.name, "sha256": material.sha256}


def _add(builder: Builder, material: Material, label: str, relationship: str) -> None:
    about = {"title": material.path.name, "relationship": relationship, "label": label}
    media_type = mimetypes.guess_type(material.path.name)[0] or "application/octet-stream"
    with material.path.open("rb") as file:
        builder.add_ingredient(json.dumps(about), media_type, file)


def _library() -> ModuleType:
    try:
        return importlib.import_module("c2pa")
    except (ImportError, OSError, RuntimeError) as error:  # its binary may be missing, or another machine's
        raise BackendUnavailable("c2pa is missing: pip install c2pa-python") from error


@contextmanager
def _builder(claim: Mapping[str, Any]) -> Iterator[Builder]:
    c2pa = _library()
    with c2pa.Context.from_dict(_SETTINGS) as context, c2pa.Builder(dict(claim), context=context) as builder:
        yield builder


def _signer(credential: Credential) -> Any:
    c2pa = _library()
    no_time_authority = None
    info = c2pa.C2paSignerInfo(
        c2pa.C2paSigningAlg.ES256, credential.certificates, credential.key, no_time_authority
    )
    return c2pa.Signer.from_info(info)


@contextmanager
def _signing(what: str, kind: type[InputError] = InputError) -> Iterator[None]:
    c2pa = _library()
    try:
        yield
    except c2pa.C2paError as error:
        raise kind(f"{what}: cannot sign: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise kind(f"{what}: cannot be signed: {error.strerror}") from error
