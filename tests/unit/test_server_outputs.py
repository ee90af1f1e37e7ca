"""Outputs by REST: who may ask for them, what is answered, and what is never shown."""

from pathlib import Path
from typing import Any

import pytest

from clients.sdk import add_output, create_session
from engine.errors import AccessError, InputError
from streaming.server.config import Access, Outputs, ServerConfig, read_config
from streaming.server.outputs import NewOutput
from tests.support.live_sessions import Running, scene

SECRET = "s" * 32
OUTPUTS = "/v1/sessions/show/outputs"


async def ask(
    server: Running, method: str, path: str, content: Any = None, token: str | None = None
) -> tuple[int, Any, dict[str, str]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {} if content is None else {"json": content}
    async with server.client.request(method, server.url + path, headers=headers, **body) as answer:
        told = await answer.json() if answer.content_type == "application/json" else None
        return answer.status, told, dict(answer.headers)


def test_an_output_from_its_start_to_its_end(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        status, made, headers = await ask(server, "POST", OUTPUTS, {"to": "show.mp4"})
        assert (status, made["id"], made["state"]) == (201, "o0", "live")
        assert headers["Location"] == f"{OUTPUTS}/o0"
        asked = {"to": "https://sfu.example.org/whip/KEY", "token": "TOKEN"}
        status, made, headers = await ask(server, "POST", OUTPUTS, asked)
        assert session.goes_to["o1"] == (asked["to"], asked["token"])
        assert not any(secret in f"{made}{headers}" for secret in ("KEY", "TOKEN"))
        status, listed, _ = await ask(server, "GET", OUTPUTS)
        assert (status, [one["id"] for one in listed["outputs"]]) == (200, ["o0", "o1"])
        assert (await ask(server, "GET", headers["Location"]))[1] == listed["outputs"][1]
        assert (await ask(server, "DELETE", headers["Location"]))[0] == 204
        for method in ("GET", "DELETE"):
            assert (await ask(server, method, headers["Location"]))[0] == 404
        assert list(session.goes_to) == ["o0"]

    scene(tmp_path, scenario)


@pytest.mark.parametrize(
    ("content", "about"),
    [
        ({}, "to"),
        ({"to": ""}, "to"),
        ({"to": "a" * 3000}, "to"),
        ({"to": "a.mp4", "token": "two words"}, "token"),
        ({"to": "a.mp4", "token": "line\r\nbreak"}, "token"),
        ({"to": "a.mp4", "folder": "/"}, "folder"),
        ({"to": "http://elsewhere/whip"}, "may not send"),
    ],
)
def test_what_cannot_be_an_output_is_refused(content: Any, about: str, tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        status, told, _ = await ask(server, "POST", OUTPUTS, content)
        assert status == 400
        assert about in told["error"]
        assert session.goes_to == {}
        assert (await ask(server, "POST", "/v1/sessions/other/outputs", {"to": "a.mp4"}))[0] == 404

    scene(tmp_path, scenario)


def test_only_who_controls_a_session_sends_it_elsewhere(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        await session.add_output("a.mp4")
        mint = server.server.gate.mint
        weak = [mint(["view", "publish"], "show", 60)[0], mint(["control"], "other", 60)[0]]
        calls = [("POST", OUTPUTS), ("GET", OUTPUTS), ("GET", f"{OUTPUTS}/o0"), ("DELETE", f"{OUTPUTS}/o0")]
        for method, path in calls:
            body = {"to": "b.mp4"} if method == "POST" else None
            for token in weak:
                assert (await ask(server, method, path, body, token))[0] == 403
            assert (await ask(server, method, path, body))[0] == 401
        assert list(session.goes_to) == ["o0"]
        assert (await ask(server, "DELETE", f"{OUTPUTS}/o0", token=mint(["control"], "show", 60)[0]))[
            0
        ] == 204

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_python_clients_add_outputs(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await create_session(server.url, "ann", id="show")
        made = await add_output(server.url, "show", "https://sfu.example.org/whip/1", to_token="TOKEN")
        assert made["state"] == "live"
        assert server.made[0].goes_to[made["id"]] == ("https://sfu.example.org/whip/1", "TOKEN")
        with pytest.raises(InputError, match="may not send"):
            await add_output(server.url, "show", "http://elsewhere/whip")

    scene(tmp_path, scenario)


def test_python_clients_need_their_own_token(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        token, _ = server.server.gate.mint(["control"], "show", 60)
        assert (await add_output(server.url, "show", "a.mp4", token=token))["id"] == "o0"
        with pytest.raises(AccessError):
            await add_output(server.url, "show", "a.mp4", to_token=token)

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_the_folder_counts_from_the_file_and_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "livedub.toml"
    path.write_text("[outputs]\nfolder = 'shows'\nhosts = ['sfu.example.org:8443']\n", encoding="utf-8")
    with pytest.raises(InputError, match="no folder"):
        read_config(path)
    (tmp_path / "shows").mkdir()
    assert read_config(path).outputs == Outputs(tmp_path / "shows", ("sfu.example.org:8443",))
    assert read_config().outputs == Outputs(None, ())
    assert "TOKEN" not in repr(NewOutput("a", "TOKEN"))
