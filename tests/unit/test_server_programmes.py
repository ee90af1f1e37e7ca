from pathlib import Path

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


def test_an_address_may_hold_a_password_that_is_not_told(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        asked = {"actor": "ann", "programme": "rtmp://me:geheim@cam.example/live?key=geheim"}
        async with server.client.post(server.url + "/v1/sessions", json=asked) as answer:
            assert answer.status == 201
            assert "geheim" not in await answer.text()
            assert (await answer.json())["programme"] == "cam.example"

    scene(tmp_path, scenario)
