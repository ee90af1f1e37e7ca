from pathlib import Path

from streaming.server.page import MAX_FILE_BYTES
from tests.support.live_sessions import Running, scene


def test_files_of_the_folder_are_served_with_a_policy_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    (folder / "inner").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>ä", encoding="utf-8")
    (folder / "main.js").write_text("1")
    (folder / "notes.txt").write_text("private")
    (folder / ".hidden.js").write_text("1")
    (folder / "inner" / "deep.js").write_text("1")
    (folder / "huge.png").write_bytes(bytes(MAX_FILE_BYTES + 1))
    (tmp_path / "secret.js").write_text("1")

    async def scenario(server: Running) -> None:
        for path, kind in (
            ("/", "text/html; charset=utf-8"),
            ("/index.html", "text/html; charset=utf-8"),
            ("/main.js", "text/javascript; charset=utf-8"),
        ):
            async with server.client.get(server.url + path) as answer:
                assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert "camera=(self)" in answer.headers["Permissions-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for path in (
            "/notes.txt",
            "/inner/deep.js",
            "/huge.png",
            "/../secret.js",
            "/%2e%2e/secret.js",
            "/web",
        ):
            async with server.client.get(server.url + path) as answer:
                assert answer.status == 404

    scene(tmp_path, scenario, web_folder=folder)


def test_an_empty_folder_is_no_page(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        async with server.client.get(server.url + "/") as answer:
            assert answer.status == 404

    (tmp_path / "web").mkdir()
    scene(tmp_path, scenario, web_folder=tmp_path / "web")
