from pathlib import Path

import pytest

from engine.errors import OutputError
from streaming.session.targets import allowed_target, is_loopback, may_ask

HOSTS = ("live.example.org", "sfu.example.org:8443", "10.0.0.5", "::1")


@pytest.mark.parametrize(
    ("text", "kind", "shown", "host"),
    [
        ("rtmp://live.example.org/app/KEY", "rtmp", "rtmp://live.example.org", "live.example.org"),
        (
            "rtmps://live.example.org:443/a/KEY?x=KEY",
            "rtmp",
            "rtmps://live.example.org:443",
            "live.example.org",
        ),
        ("https://sfu.example.org:8443/whip/KEY", "whip", "https://sfu.example.org:8443", "sfu.example.org"),
        ("http://10.0.0.5/whip/KEY", "whip", "http://10.0.0.5", "10.0.0.5"),
        ("http://[::1]:8765/whip/KEY", "whip", "http://[::1]:8765", "::1"),
    ],
)
def test_listed_hosts_are_allowed_and_their_paths_hidden(text: str, kind: str, shown: str, host: str) -> None:
    target = allowed_target(text, folder=None, hosts=HOSTS)
    assert (target.kind, target.shown, target.host, target.address) == (kind, shown, host, text)
    assert "KEY" not in repr(target)


@pytest.mark.parametrize(
    "text",
    [
        "http://elsewhere.org/whip",
        "https://sfu.example.org/whip",
        "http://live.example.org@elsewhere.org/whip",
        "http://elsewhere.org\\@live.example.org/whip",
        "http://user:word@live.example.org/whip",
        "rtmp://live.example.org/app live=1",
        "rtmp://live.example.org:99999/app",
        "rtmp://[::1/app",
        "rtmp:///app",
        "rtsp://live.example.org/app",
        "file:///etc/passwd",
        "concat://live.example.org/a",
        "http://live.example.org/" + "a" * 3000,
        "http://live.example.org/\r\nHost: x",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(OutputError) as caught:
        allowed_target(text, folder=Path("."), hosts=HOSTS)
    assert "word" not in str(caught.value)


def test_files_lie_in_the_folder_and_nothing_is_overwritten(tmp_path: Path) -> None:
    target = allowed_target("show.mp4", folder=tmp_path, hosts=())
    assert (target.kind, target.shown, target.host) == ("file", "show.mp4", "")
    assert Path(target.address) == tmp_path / "show.mp4"
    (tmp_path / "show.mp4").touch()
    (tmp_path / "link.mkv").symlink_to(tmp_path / "nowhere")
    for name in ("show.mp4", "link.mkv"):
        with pytest.raises(OutputError, match="already"):
            allowed_target(name, folder=tmp_path, hosts=())
    with pytest.raises(OutputError, match="no folder"):
        allowed_target("show2.mp4", folder=None, hosts=())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "a.avi",
        "../a.mp4",
        "b/a.mp4",
        "/a.mp4",
        ".a.mp4",
        "a b.mp4",
        "a\n.mp4",
        "a" * 101 + ".ts",
        "é.ts",
    ],
)
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name"):
        allowed_target(name, folder=tmp_path, hosts=())


def test_what_may_be_asked_is_http_on_a_listed_host() -> None:
    assert may_ask("http://live.example.org/resource/1", HOSTS)
    assert not may_ask("rtmp://live.example.org/resource/1", HOSTS)
    assert not may_ask("http://169.254.169.254/", HOSTS)
    assert not may_ask("http://", HOSTS)


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.2", "::1")))
    assert not any(map(is_loopback, ("", "10.0.0.1", "example.org", "localhost.example.org")))
