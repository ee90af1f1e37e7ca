"""What is written into a film about how it was made; whether we can sign is found out before the work."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from clients.credential import credential
from engine.actor.pack import ActorPack, read_pack
from engine.errors import BackendUnavailable, InputError
from engine.expression.audio import ASSET as SPEECH_ASSET
from engine.models import file_sha256, pinned
from engine.provenance import (
    FORMATS,
    NAME,
    Credential,
    Material,
    Origin,
    check_credential,
    comment,
    sign,
)
from engine.render.renderer import asset_sha256

Provenance = Literal["C2PA", "C2PA, self-signed", "comment"]
SELF_SIGNED = (
    "the C2PA manifest is self-signed: its certificate was made on this machine and is on no trust list, so "
    "others see that nothing was changed since, not who made it; sign_certificate and sign_key take yours"
)


@dataclass(frozen=True)
class Sealing:
    """What goes into a file.

    Attributes:
        credential: who signs its manifest; None: it gets a comment only.
        comment: the container's tag.
        message: what the user should know.
    """

    credential: Credential | None
    comment: str
    message: str

    @property
    def provenance(self) -> Provenance:
        """In a word."""
        if self.credential is None:
            return "comment"
        return "C2PA, self-signed" if self.credential.self_made else "C2PA"

    def seal(self, name: str, origin: Origin) -> Callable[[Path], None] | None:
        """What to do with the finished file; see `engine.media.open_writer`."""
        signer = self.credential
        return None if signer is None else lambda path: sign(path, name, origin, signer)


def prepared(out: Path, certificate: Path | None, key: Path | None, now_iso: str) -> Sealing:
    """Find out whether and as whom we can sign.

    Args:
        out: the file to be written.
        certificate: the user's, or None.
        key: its key, or None.
        now_iso: ISO 8601 instant with a UTC offset.

    Raises:
        InputError: the user's certificate cannot sign, or not this kind of file.
        BackendUnavailable: the user has one, and what signs is not installed.
    """
    own, said = certificate is None and key is None, comment(version(NAME))
    try:
        if out.suffix.lower() not in FORMATS:
            raise InputError(f"{out.name}: only {', '.join(FORMATS)} can carry a C2PA manifest")
        signer = credential(certificate, key, now_iso)
        check_credential(signer)
    except (InputError, BackendUnavailable) as error:
        if own:
            return Sealing(None, said, f"no C2PA manifest, a comment says that it is synthetic: {error}")
        raise
    return Sealing(signer, said, SELF_SIGNED if own else "")


def live_seal(
    certificate: Path | None, key: Path | None, now_iso: Callable[[], str]
) -> tuple[Callable[[Path, Path], None] | None, str]:
    """What signs the files of live sessions, and what the user should know of it.

    Args:
        certificate: the user's, or None.
        key: its key, or None.
        now_iso: the time, ISO 8601 with a UTC offset.

    Returns:
        Something to call with the actor pack's path and a finished file's; None: nothing can be signed.

    Raises:
        InputError, BackendUnavailable: as `prepared`.
    """
    sealing = prepared(Path("live.mp4"), certificate, key, now_iso())
    signer = sealing.credential
    if signer is None:
        return None, sealing.message

    def seal(actor: Path, path: Path) -> None:
        if path.suffix.lower() in FORMATS:
            made_from = origin(None, None, actor, read_pack(actor), "audio", "live", now_iso())
            sign(path, path.name, made_from, signer)

    return seal, sealing.message


def origin(
    video: Path | None,
    audio: Path | None,
    actor: Path,
    pack: ActorPack,
    drive: Literal["audio", "tracked"],
    renderer: str,
    now_iso: str,
) -> Origin:
    """What a dub is made from, None being what comes live; reads the files for their hashes."""
    models = {
        "face_landmarker": pinned("face_landmarker").sha256,
        "face_model": pack.manifest.face_model_sha256,
        f"renderer_prior_{pack.manifest.tier}": pack.manifest.prior_sha256,
    }
    if drive == "audio":
        models["audio_to_expression"] = asset_sha256(SPEECH_ASSET)
    return Origin(
        version=version(NAME),
        when=now_iso,
        source=None if video is None else Material(video, file_sha256(video)),
        sound=None if audio is None else Material(audio, file_sha256(audio)),
        drive=drive,
        actor_sha256=file_sha256(actor),
        consent=pack.manifest.consent,
        models=models,
        renderer=renderer,
    )
