from pathlib import Path

import aiohttp
from yarl import URL

from streaming.server.actors import programmes
from streaming.server.config import Access, Programmes, ServerConfig
from tests.support.live_sessions import Running, scene


def test_videos_of_the_folders_can_be_played_and_seen(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    for folder, name in ((first, "b.mp4"), (first, "a.webm"), (first, "notes.txt"), (second, "a.webm")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(f"{folder.name}/{name}".encode())
    folders = (first, tmp_path / "none", second)
    assert programmes(folders) == ["a.webm", "b.mp4"]

    async def scenario(server: Running) -> None:
        headers = {"Authorization": f"Bearer {server.server.gate.mint(['admin'], '*', 60)[0]}"}
        asked = {"actor": "ann", "programme": "b.mp4", "voice": "publisher"}
        async with server.client.post(server.url + "/v1/sessions", json=asked, headers=headers) as answer:
            made = await answer.json()
        assert (made["programme"], made["voice"]) == ("b.mp4", "publisher")
        assert server.made[0].options.programme == "b.mp4"
        url = server.url + "/v1/programmes/"
        part = headers | {"Range": "bytes=0-2"}
        async with server.client.get(url + "a.webm", headers=part) as answer:
            assert (answer.status, await answer.read()) == (206, b"one")
        for name in ("notes.txt", "none.mp4", "%2e%2e%2ftwo%2fa.webm"):
            async with server.client.get(url + name, headers=headers) as answer:
                assert answer.status == 404
        async with server.client.get(url + "a.webm") as answer:
            assert answer.status == 401

    config = ServerConfig(access=Access("s" * 32), programmes=Programmes(folders))
    scene(tmp_path, scenario, config)


def test_a_page_with_a_token_shows_its_own_session_s_programme_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("a b.mp4", "c.mp4"):
        (folder / name).write_bytes(name.encode())

    async def scenario(server: Running) -> None:
        gate, url = server.server.gate, server.url + "/v1/programmes/"
        headers = {"Authorization": f"Bearer {gate.mint(['admin'], '*', 60)[0]}"}
        asked = {"actor": "ann", "programme": "a b.mp4"}
        async with server.client.post(server.url + "/v1/sessions", json=asked, headers=headers) as answer:
            made = await answer.json()

        async def watch(name: str, token: str) -> tuple[int, str]:
            headers = {"Authorization": f"Bearer {token}"}
            async with server.client.post(f"{url}{name}/watch", headers=headers) as answer:
                return answer.status, answer.headers.get("Set-Cookie", "")

        status, cookie = await watch("a%20b.mp4", made["token"])
        assert status == 204
        for part in ("Path=/v1/programmes/a%20b.mp4", "HttpOnly", "SameSite=Strict", "expires="):
            assert part in cookie
        assert made["token"] not in cookie
        sent = {"Cookie": cookie.partition(";")[0]}
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as page:
            async with page.get(URL(url + "a%20b.mp4", encoded=True), headers=sent) as answer:
                assert (answer.status, await answer.read()) == (200, b"a b.mp4")
            async with page.get(url + "c.mp4", headers=sent) as answer:
                assert answer.status == 403
            async with page.get(f"{server.url}/v1/sessions/{made['id']}", headers=sent) as answer:
                assert answer.status == 401
        assert (await watch("c.mp4", made["token"]))[0] == 403
        assert (await watch("a%20b.mp4", gate.mint(["publish"], made["id"], 60)[0]))[0] == 403
        assert (await watch("c.mp4", gate.mint(["view"], "*", 60)[0]))[0] == 204
        assert (await watch("d.mp4", gate.mint(["view"], "*", 60)[0]))[0] == 404
        assert (await watch("c.mp4", gate.mint(["view"], "another", 60)[0]))[0] == 404
        assert (await watch("c.mp4", "x"))[0] == 401
        once = gate.mint(["view"], made["id"], 60, once=True)[0]
        status, cookie = await watch("a%20b.mp4", once)
        assert status == 204
        taken = gate.check(cookie.partition(";")[0].partition("=")[2])
        assert (taken.once, taken.name) == (True, gate.check(once).name)

    scene(tmp_path, scenario, ServerConfig(access=Access("s" * 32), programmes=Programmes((folder,))))


def test_without_tokens_no_cookie_is_set(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")

    async def scenario(server: Running) -> None:
        async with server.client.post(f"{server.url}/v1/programmes/a.mp4/watch") as answer:
            assert (answer.status, "Set-Cookie" in answer.headers) == (204, False)

    scene(tmp_path, scenario, ServerConfig(programmes=Programmes((tmp_path,))))


def test_an_address_may_hold_a_password_that_is_not_told(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        asked = {"actor": "ann", "programme": "rtmp://me:geheim@cam.example/live?key=geheim"}
        async with server.client.post(server.url + "/v1/sessions", json=asked) as answer:
            assert answer.status == 201
            assert "geheim" not in await answer.text()
            assert (await answer.json())["programme"] == "cam.example"

    scene(tmp_path, scenario)
