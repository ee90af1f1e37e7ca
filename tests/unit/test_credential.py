import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from clients.credential import FILE, LIFE_DAYS, MAX_BYTES, credential
from engine.errors import InputError

NOW = "2026-02-01T00:00:00+00:00"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_machines_own_is_kept_for_its_user_alone(cache: Path) -> None:
    made = credential(None, None, NOW)
    assert made.self_made
    assert stat.S_IMODE((cache / FILE).stat().st_mode) == 0o600
    assert [path.name for path in cache.iterdir()] == [FILE]
    assert credential(None, None, NOW) == made


def test_it_says_that_it_is_self_signed_and_is_for_signing_only() -> None:
    leaf, root = x509.load_pem_x509_certificates(credential(None, None, NOW).certificates)
    leaf.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert "self-signed" in leaf.subject.rfc4514_string()
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature


def test_one_that_has_run_out_is_made_anew(cache: Path) -> None:
    made = credential(None, None, NOW)
    later = (datetime.fromisoformat(NOW) + timedelta(days=LIFE_DAYS + 1)).isoformat()
    assert credential(None, None, later).certificates != made.certificates


@pytest.mark.parametrize("damaged", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nnone"])
def test_a_damaged_one_is_made_anew(damaged: bytes, cache: Path) -> None:
    cache.mkdir()
    (cache / FILE).write_bytes(damaged)
    made = credential(None, None, NOW)
    assert credential(None, None, NOW) == made


def test_where_nothing_can_be_kept_there_is_one_all_the_same(cache: Path) -> None:
    cache.write_bytes(b"a file")
    assert credential(None, None, NOW).self_made


def test_the_users_own_goes_before_it(tmp_path: Path) -> None:
    made = credential(None, None, NOW)
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(made.certificates)
    key.write_bytes(made.key)
    given = credential(certificate, key, NOW)
    assert (given.certificates, given.key, given.self_made) == (made.certificates, made.key, False)


def test_what_is_no_credential_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    with pytest.raises(InputError, match="both"):
        credential(path, None, NOW)
    with pytest.raises(InputError, match=r"c\.pem: cannot be read: No such file"):
        credential(path, path, NOW)
    for data in (b"text", b"-----BEGIN " + b"x" * MAX_BYTES):
        path.write_bytes(data)
        with pytest.raises(InputError, match="is not a PEM file"):
            credential(path, path, NOW)
