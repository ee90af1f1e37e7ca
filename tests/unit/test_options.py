import sys
from pathlib import Path

import msgspec
import pytest

from clients.options import (
    MAX_CONSENT_BYTES,
    check_choice,
    check_ending,
    check_report,
    needed_packages,
    now_iso,
    read_consent,
)
from engine.actor.consent import parse_instant
from engine.errors import BackendUnavailable, InputError, OutputError
from tests.support.packs import make_consent


def test_now_is_an_instant_in_utc() -> None:
    assert now_iso().endswith("+00:00")
    assert parse_instant("now", now_iso()).year >= 2026


def test_endings() -> None:
    check_ending(Path("A.MP4"), (".mp4", ".mkv"))
    with pytest.raises(OutputError, match=r"must end in \.mp4 or \.mkv"):
        check_ending(Path("a.avi"), (".mp4", ".mkv"))


def test_choices() -> None:
    check_choice("--n", None, (1, 2))
    check_choice("--n", 2, (1, 2))
    with pytest.raises(InputError, match="--n 3: must be one of 1, 2"):
        check_choice("--n", 3, (1, 2))


def test_a_report_must_not_take_the_place_of_another_file(tmp_path: Path) -> None:
    check_report(None)
    check_report(Path("-"), tmp_path / "o")
    with pytest.raises(OutputError, match="another file"):
        check_report(tmp_path / "o", tmp_path / "o")


def test_consent_is_read(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    path.write_bytes(msgspec.json.encode(make_consent()))
    assert read_consent(path) == make_consent()


@pytest.mark.parametrize(
    ("data", "about"),
    [
        (b"", "not a consent record"),
        (b"{}", "not a consent record"),
        (b"\xff\xfe", "not a consent record"),
        (b"[1]", "not a consent record"),
        (msgspec.json.encode(make_consent()).replace(b'"de"', b'"d!"'), "consent.languages"),
        (b" " * (MAX_CONSENT_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_consent(data: bytes, about: str, tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=about):
        read_consent(path)


def test_consent_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_consent(tmp_path)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with (
        pytest.raises(BackendUnavailable, match=r"needs torch: pip install 'livedub\[train\]'"),
        needed_packages(),
    ):
        import torch.nn  # noqa: F401
    with pytest.raises(BackendUnavailable, match="livedub doctor"), needed_packages():
        raise ImportError("libGL.so.1: cannot open shared object file")
