from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import MediaError
from streaming.media.address import SCHEMES, allowed


def test_a_file_of_a_listed_folder_is_opened_as_a_file(tmp_path: Path) -> None:
    clip = tmp_path / "shows" / "one.mp4"
    clip.parent.mkdir()
    clip.touch()
    address = allowed("shows/one.mp4", folders=[tmp_path])
    assert (address.name, address.protocols, address.shown) == (str(clip), "file", "one.mp4")


@pytest.mark.parametrize(
    "text", ["../secret.mp4", "/etc/passwd", "missing.mp4", "concat:a|b", "", "link.mp4"]
)
def test_nothing_outside_the_folders_is(tmp_path: Path, text: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    secret = tmp_path / "secret.mp4"
    secret.touch()
    (inside / "link.mp4").symlink_to(secret)
    with pytest.raises(MediaError, match="no programme"):
        allowed(text, folders=[inside])


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("rtsp://camera.example/live", ["camera.example"]),
        ("rtmp://u:p@feed.example:1935/a?key=1", ["feed.example:1935"]),
        ("https://cdn.example/live.m3u8", ["cdn.example"]),
    ],
)
def test_an_address_of_a_listed_host_is_allowed_and_shown_without_secrets(
    text: str, hosts: list[str]
) -> None:
    address = allowed(text, hosts=hosts)
    assert address.name == text
    assert "file" not in address.protocols
    assert not {"u:p", "key=1"} & set(address.shown.split("@") + address.shown.split("?"))


@pytest.mark.parametrize(
    "text",
    [
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "gopher://x/",
        "http://[::1",
        "rtmp:///x",
        "http://cdn.example.evil/",
    ],
)
def test_other_hosts_and_schemes_are_not(text: str) -> None:
    with pytest.raises(MediaError):
        allowed(text, hosts=["cdn.example"])


@given(st.text())
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(MediaError):
        allowed(text)


def test_no_scheme_may_read_files() -> None:
    assert not any("file" in protocols.split(",") for protocols in SCHEMES.values())
