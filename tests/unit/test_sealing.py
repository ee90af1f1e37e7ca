import sys
from pathlib import Path

import pytest

from clients.credential import credential
from clients.sealing import live_seal, prepared
from engine.actor.pack import write_pack
from engine.errors import BackendUnavailable, InputError
from tests.support.media import write_clip
from tests.support.packs import make_pack

NOW = "2026-02-01T00:00:00+00:00"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def own_files(folder: Path) -> tuple[Path, Path]:
    made = credential(None, None, NOW)
    certificate, key = folder / "c.pem", folder / "k.pem"
    certificate.write_bytes(made.certificates)
    key.write_bytes(made.key)
    return certificate, key


def test_who_signs_is_said_honestly(tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    own = prepared(Path("out.mp4"), None, None, NOW)
    assert own.provenance == "C2PA, self-signed"
    assert "no trust list" in own.message
    given = prepared(Path("out.mov"), *own_files(tmp_path), NOW)
    assert (given.provenance, given.message) == ("C2PA", "")


def test_a_container_without_a_place_for_it_gets_a_comment(tmp_path: Path) -> None:
    sealing = prepared(Path("out.mkv"), None, None, NOW)
    assert (sealing.provenance, sealing.credential) == ("comment", None)
    assert ".mp4, .m4v, .mov" in sealing.message
    with pytest.raises(InputError, match="can carry a C2PA manifest"):
        prepared(Path("out.mkv"), *own_files(tmp_path), NOW)


def test_without_c2pa_a_comment_says_it_and_a_line_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    sealing = prepared(Path("out.mp4"), None, None, NOW)
    assert sealing.provenance == "comment"
    assert "pip install" in sealing.message
    assert sealing.message.count("\n") == 0
    with pytest.raises(BackendUnavailable, match="pip install"):
        prepared(Path("out.mp4"), *own_files(tmp_path), NOW)


def test_files_of_live_sessions_are_signed_where_they_can_be(tmp_path: Path) -> None:
    c2pa = pytest.importorskip("c2pa")
    actor, film = tmp_path / "ada.actor", tmp_path / "live.mp4"
    write_pack(make_pack(), actor)
    write_clip(film)
    seal, message = live_seal(None, None, lambda: NOW)
    assert seal is not None
    assert "no trust list" in message
    seal(actor, film)
    with film.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
        assert reader.get_validation_state() == "Valid"
        assert reader.get_active_manifest()["title"] == "live.mp4"
    other = film.with_suffix(".mkv")
    other.write_bytes(b"as it is")
    seal(actor, other)
    assert other.read_bytes() == b"as it is"


def test_live_sessions_without_c2pa_get_a_comment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    seal, message = live_seal(None, None, lambda: NOW)
    assert seal is None
    assert "pip install" in message


def test_a_certificate_that_cannot_sign_is_refused_before_the_work(tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    certificate, key = own_files(tmp_path)
    with pytest.raises(InputError, match="cannot sign"):
        prepared(Path("out.mp4"), certificate, certificate, NOW)
    assert prepared(Path("out.mp4"), certificate, key, NOW).credential is not None
