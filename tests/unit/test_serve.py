import asyncio
from pathlib import Path

import numpy as np
import pytest

from clients import serve
from clients.demo import speech
from clients.serve import EspeakSpeech, ServeOptions, mint, settled
from engine.errors import AccessError, InputError
from streaming.server.auth import Gate
from streaming.server.config import Access, Ice, Listen, ServerConfig
from tests.support.cli import invoke

SECRET = "s" * 32


def test_options_and_environment_go_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDUB_SECRET", SECRET)
    path = tmp_path / "livedub.toml"
    path.write_text("[server]\nport = 1\n[actors]\nfolder = 'x'\n[access]\nsecret = 'short'\n")
    config = settled(ServeOptions(path, port=2, actors=tmp_path, mark="visible"))
    assert (config.server.port, config.actors.folder, config.access.secret) == (2, tmp_path, SECRET)
    assert config.sessions.options(tmp_path).mark == "visible"


def test_tokens_are_made_with_the_servers_secret() -> None:
    config = ServerConfig(access=Access(SECRET))
    grant = Gate(SECRET.encode(), "livedub").check(mint(config, ["view"], "show", 1))
    assert (grant.roles, grant.session) == (frozenset({"view"}), "show")
    with pytest.raises(InputError, match="no token secret"):
        mint(ServerConfig(), ["view"], None, 1)
    with pytest.raises(AccessError, match="roles are some of"):
        mint(config, ["root"], None, 1)


@pytest.mark.parametrize(
    ("argv", "about"),
    [
        (("serve", "--host", "0.0.0.0"), "needs a token secret"),
        (("serve", "--config", "none.toml"), "cannot be read"),
        (("serve", "--port", "99999"), "port"),
        (("serve", "--actors", __file__), "is a file"),
        (("token",), "no token secret"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    argv: tuple[str, ...], about: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIVEDUB_SECRET", raising=False)
    outcome = invoke(capfd, *argv)
    assert outcome.status == 2
    assert len(outcome.complaints) == 1
    assert about in outcome.complaints[0]


def test_a_token_is_alone_on_stdout(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEDUB_SECRET", SECRET)
    outcome = invoke(capfd, "token", "--role", "view", "--role", "control", "--session", "show")
    assert (outcome.status, outcome.err) == (0, "")
    gate = Gate(SECRET.encode(), "livedub")
    grant = gate.check(outcome.out.strip())
    assert grant.roles == {"view", "control"}
    assert not grant.once
    outcome = invoke(capfd, "token", "--once", "--role", "view", "--session", "show", "--minutes", "60")
    assert (outcome.status, gate.check(outcome.out.strip()).once) == (0, True)
    outcome = invoke(capfd, "token", "--once")
    assert (outcome.status, len(outcome.complaints)) == (2, 1)
    assert "cannot give the role admin" in outcome.complaints[0]


def test_the_machine_speaks_for_typed_text() -> None:
    async def scene() -> None:
        tts = EspeakSpeech()
        samples, rate_hz = await tts.speak("Hello.", "en-us")
        expected = speech.speak("Hello.", "en-us")
        assert rate_hz == expected.rate_hz
        np.testing.assert_allclose(samples / 32767.0, expected.samples, atol=1e-4)
        assert ("de", "German") in await tts.voices()
        with pytest.raises(InputError):
            await tts.speak("...", "en-us")

    asyncio.run(scene())


def test_media_goes_where_the_operator_says() -> None:
    stun = "stun:stun.example.org:3478"
    config = ServerConfig(ice=Ice((stun, "turn:turn.example.org"), ("192.0.2.1",)))
    peers = serve._peers(config)
    assert [server.urls for server in peers.ice_servers] == [stun]
    assert peers.addresses == ("192.0.2.1",)
    assert serve._peers(ServerConfig()).addresses == ("127.0.0.1",)
    assert serve._peers(ServerConfig(server=Listen(host="0.0.0.0"))).addresses is None


@pytest.mark.parametrize(
    ("host", "private", "allowed"),
    [
        ("127.0.0.1", None, True),
        ("192.168.1.5", None, True),
        ("0.0.0.0", None, False),
        ("9.9.9.9", None, False),
        ("dub.example.org", None, False),
        ("0.0.0.0", True, True),
        ("127.0.0.1", False, False),
    ],
)
def test_a_public_server_is_no_probe_of_private_networks(
    host: str, private: bool | None, allowed: bool
) -> None:
    config = ServerConfig(server=Listen(host=host), ice=Ice(private=private))
    assert serve._offers(config).allow_private is allowed


def test_without_uvloop_it_runs_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[str] = []

    async def look() -> None:
        loops.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    serve.run(look())
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    serve.run(look())
    assert loops == ["uvloop", "asyncio"]
