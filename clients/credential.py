"""Who signs what livedub writes: the user's own certificate, else one that is made here and kept.

The one made here says "self-signed", and proves to nobody who signed. It does what the format asks: the
manifest cannot be changed unnoticed, and all files of one machine name one signer.
"""

import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.actor.consent import parse_instant
from engine.errors import BackendUnavailable, InputError
from engine.models import cache_dir
from engine.provenance import Credential

FILE = "signing.pem"
LIFE_DAYS = 3650
MAX_BYTES = 64 * 2**10
ORGANISATION = "livedub, self-signed"
_BEGIN = b"-----BEGIN CERTIFICATE-----"


def credential(certificate: Path | None, key: Path | None, now_iso: str) -> Credential:
    """The user's credential, or the machine's own where none was given.

    Args:
        certificate: PEM, the signer's first, then those that vouch for it.
        key: PEM, PKCS #8, P-256, without a password.
        now_iso: ISO 8601 instant with a UTC offset.

    Raises:
        InputError: only one was given, or they cannot be read.
        BackendUnavailable: the package that makes certificates is missing.
    """
    if (certificate is None) != (key is None):
        raise InputError("signing needs both, a certificate and its key (sign_certificate, sign_key)")
    if certificate is not None and key is not None:
        return Credential(_read(certificate), _read(key), self_made=False)
    return _own(cache_dir() / FILE, parse_instant("now", now_iso))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES or b"-----BEGIN " not in data:
        raise InputError(f"{path}: is not a PEM file")
    return data


def _own(path: Path, now: datetime) -> Credential:
    """The kept one, or a new one; on a machine where nothing can be kept, one for this time only."""
    with suppress(OSError):
        kept = _parts(path.read_bytes())
        if kept is not None and _holds(kept, now):
            return kept
    made = _made(now)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _keep(path, made.key + made.certificates)
    return made


def _parts(data: bytes) -> Credential | None:
    key, begin, certificates = data.partition(_BEGIN)
    return Credential(begin + certificates, key, self_made=True) if begin else None


def _holds(kept: Credential, now: datetime) -> bool:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(kept.certificates)
    except ValueError:
        return False
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _keep(path: Path, data: bytes) -> None:
    """Write it whole, for its owner's eyes only."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _made(now: datetime) -> Credential:
    """A key with a certificate, and the root that signed it; the root's key is forgotten at once.

    C2PA refuses a certificate that signed itself, so it takes two.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise BackendUnavailable("signing needs cryptography: pip install cryptography") from error

    def signed(
        title: str, own: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey
    ) -> x509.Certificate:
        root = own is by
        return (
            x509.CertificateBuilder()
            .subject_name(named(title))
            .issuer_name(named("livedub root"))
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now.astimezone(UTC) - timedelta(days=1))
            .not_valid_after(now.astimezone(UTC) + timedelta(days=LIFE_DAYS))
            .add_extension(x509.BasicConstraints(ca=root, path_length=0 if root else None), critical=True)
            .add_extension(usage(root), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
            )
            .sign(by, hashes.SHA256())
        )

    def named(title: str) -> x509.Name:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION)
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title), organisation])

    def usage(root: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not root, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=root, crl_sign=root,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = (signed("livedub on this machine", key, root_key), signed("livedub root", root_key, root_key))
    return Credential(
        b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        self_made=True,
    )
