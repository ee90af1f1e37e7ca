from pathlib import Path

import pytest

from engine.errors import InputError
from streaming.server.config import (
    DEFAULT_PORT,
    Access,
    Listen,
    ServerConfig,
    check_config,
    is_loopback,
    read_config,
    read_secret,
)
from streaming.types import SessionOptions

SECRET = "s" * 32


def written(folder: Path, text: str) -> Path:
    path = folder / "livedub.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_stay_on_this_machine() -> None:
    config = read_config()
    assert config == ServerConfig()
    assert (config.server.host, config.server.port) == ("127.0.0.1", DEFAULT_PORT)
    assert is_loopback(config.server.host)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [server]
        port = 9000
        [sessions]
        most = 3
        idle = "closed"
        mark = "visible"
        latency_budget_ms = 250
        [actors]
        folder = "people"
        [ice]
        servers = ["stun:stun.example.org:3478"]
        """,
    )
    config = read_config(path, {"server": {"port": 9001, "host": None}, "actors": {"folder": None}})
    assert (config.server.port, config.server.host) == (9001, "127.0.0.1")
    assert config.actors.folder == tmp_path / "people"
    options = config.sessions.options(Path("ann.actor"))
    assert (options.idle, options.latency_budget_ms, options.look_ahead_ms) == ("closed", 250, 120)
    assert (options.mark, SessionOptions.mark) == ("visible", "none")
    assert options.actor == Path("ann.actor")


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("port = 1", "has no 'port'; it has server, access"),
        ("[server]\nprot = 1", "has no 'prot'; it has host, port"),
        ("[server]\nport = 'x'", "port"),
        ("[server]\nport = 65536", "port"),
        ("server = 1", "must be a table"),
        ("[sessions]\nidle = 'dance'", "idle"),
        ("[sessions]\nmost = 0", "most"),
        ("[ice]\nservers = ['http://x']", "servers"),
        ("[actors]\nfolder = 3", "path"),
        ("[server", "not TOML"),
        ("[server]\ntls_key = 'k.pem'", "both"),
        ("[access]\nsecret = 'short'", "at least 32"),
        (f"[access]\nsecret = '{SECRET}'\nsecret_file = 'x'", "either"),
        ("[access]\nsecret_file = 'nothing'", "cannot be read"),
        ("[server]\nhost = '0.0.0.0'", "needs a token secret .* and TLS"),
        (f"[server]\nhost = '0.0.0.0'\n[access]\nsecret = '{SECRET}'", "needs TLS"),
        ("[server]\nhost = '::'\ntls_certificate = 'c'\ntls_key = 'k'", "needs a token secret"),
        ("[server]\nhost = 'dub.example.org'", "reachable by others"),
        ("[server]\norigins = ['https://x.example']", "let others in"),
        ("[server]\nhosts = ['dub.example.org']", "let others in"),
    ],
)
def test_mistakes_are_named_in_one_line(text: str, about: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=about) as refused:
        read_config(written(tmp_path, text))
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not TOML"):
        read_config(tmp_path / "bad.toml")


def test_a_server_for_others_has_a_secret_and_tls(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"\n{SECRET}\n")
    text = "[server]\nhost = '0.0.0.0'\ntls_certificate = 'c.pem'\ntls_key = 'k.pem'"
    text += "\n[access]\nsecret_file = 'key'"
    config = read_config(written(tmp_path, text))
    assert config.server.tls_certificate == tmp_path / "c.pem"
    assert read_secret(config.access) == SECRET.encode()


def test_secrets_do_not_show() -> None:
    config = ServerConfig(access=Access(SECRET))
    check_config(config)
    assert SECRET not in repr(config)
    assert read_secret(Access()) is None


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.2", False),
        ("localhost.example.org", False),
    ],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
    if not local:
        with pytest.raises(InputError):
            check_config(ServerConfig(server=Listen(host=host)))
