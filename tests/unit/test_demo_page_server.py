import asyncio
import io
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from clients.demo import page_server
from clients.demo.job import ACTOR_S, DemoRequest
from clients.demo.page_server import ServerOptions, demo_server
from clients.demo.runner import Take
from engine.actor.consent import ConsentRecord
from engine.errors import OutputError
from engine.face.track import cache_key
from engine.models import cache_dir

Scenario = Callable[[aiohttp.ClientSession, str], Awaitable[None]]
VIDEO = b"0123456789" * 1000


class Runs:
    """Stands for the child processes: notes the requests and leaves two small files."""

    def __init__(self) -> None:
        self.requests: list[DemoRequest] = []

    async def __call__(self, request: DemoRequest, on_progress: Take, on_preview: Take) -> dict[str, Any]:
        self.requests.append(request)
        request.out_dir.mkdir(parents=True)
        for name in ("source.mp4", "dubbed.mp4"):
            (request.out_dir / name).write_bytes(VIDEO)
        if request.video and request.keep_dir:
            request.keep_dir.mkdir(exist_ok=True)
            shutil.copy(request.video, request.keep_dir / "learnt.actor")
            prepared = request.keep_dir / "footage.mp4"
            prepared.write_bytes(VIDEO + b"prepared")
            track = cache_dir() / "tracks" / f"{cache_key(prepared, None, ACTOR_S)}.safetensors"
            track.parent.mkdir(parents=True, exist_ok=True)
            track.write_bytes(b"where the face is")
        return {"report": {"frames": len(self.requests)}, "dubbed": str(request.out_dir / "dubbed.mp4")}


def serve(tmp_path: Path, scenario: Scenario, runs: Runs | None = None, **first: Any) -> Runs:
    runs = runs or Runs()

    async def session() -> None:
        options = ServerOptions(DemoRequest(tmp_path, **first), work_dir=tmp_path / "work")
        async with (
            asyncio.timeout(20),
            demo_server(options, run=runs) as url,
            aiohttp.ClientSession() as client,
        ):
            await result(client, url, 1)
            await scenario(client, url)

    asyncio.run(session())
    return runs


async def result(client: aiohttp.ClientSession, url: str, number: int) -> dict[str, Any]:
    """Return the state once that many runs are done."""
    version = -1
    while True:
        async with client.get(f"{url}api/state?after={version}") as answer:
            state: dict[str, Any] = await answer.json()
        version = state["version"]
        if (state["result"] or {}).get("report", {}).get("frames", 0) >= number and state["job"] is None:
            return state


async def error(answer: aiohttp.ClientResponse) -> str:
    assert answer.status == 400, await answer.text()
    return str((await answer.json())["error"])


def test_the_page_and_its_parts_come_with_a_policy_that_lets_nothing_else_in(tmp_path: Path) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        for name, kind in (("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")):
            async with client.get(url + name) as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                text = await answer.text()
                assert "http://" not in text
                assert "https://" not in text

    serve(tmp_path, scenario)


def test_only_who_knows_the_token_gets_an_answer(tmp_path: Path) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        root = url.rsplit("/", 2)[0]
        assert len(url.rstrip("/").rsplit("/", 1)[1]) >= 24
        for path in ("/", "/api/state", "/x/api/state", "/page.js", "/x/"):
            async with client.get(root + path) as answer:
                assert answer.status == 404
                assert answer.headers["X-Content-Type-Options"] == "nosniff"

    serve(tmp_path, scenario)


def test_other_hosts_and_other_pages_are_refused(tmp_path: Path) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        port = URL(url).port
        for headers in (
            {"Host": f"rebound.example:{port}"},
            {"Host": "127.0.0.1"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
        ):
            async with client.post(url + "api/stop", headers=headers) as answer:
                assert answer.status == 403
        own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
        async with client.post(url + "api/stop", headers=own) as answer:
            assert answer.status == 202

    serve(tmp_path, scenario)


def test_a_sentence_becomes_a_result_with_media_that_can_be_sought(tmp_path: Path) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        asked = {"text": " Guten\nTag ", "voice": "de", "footage": "portrait"}
        async with client.post(url + "api/dub", json=asked) as answer:
            assert answer.status == 202
        state = await result(client, url, 2)
        async with client.get(url + state["result"]["dubbed"], headers={"Range": "bytes=10-19"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"0123456789")
            assert answer.content_type == "video/mp4"

    runs = serve(tmp_path, scenario, text="Hello.")
    assert [request.text for request in runs.requests] == ["Hello.", "Guten Tag"]
    assert runs.requests[1].voice == "de"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "JSON"),
        (b"[]", "JSON"),
        (b'{"text": 5, "voice": "de", "footage": "portrait"}', "missing"),
        (b'{"text": "...", "voice": "de", "footage": "portrait"}', "nothing to say"),
        (b'{"text": "Hello", "voice": "de", "footage": "../../etc"}', "not here"),
        (b'{"text": "Hello", "voice": "de", "footage": "given"}', "not here"),
    ],
)
def test_a_wrong_request_is_answered_in_words(tmp_path: Path, body: bytes, words: str) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "api/dub", data=body) as answer:
            assert words in await error(answer)

    assert len(serve(tmp_path, scenario).requests) == 1


def test_own_video_is_taken_with_consent_used_and_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))

    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "api/footage?consent=yes&name=Ada%20L", data=VIDEO) as answer:
            assert answer.status == 201
            name = (await answer.json())["footage"]
        async with client.get(url + "api/choices") as answer:  # a page that was loaded again
            assert (await answer.json())["own"] == name
        asked = {"text": "Hello", "voice": "de", "footage": name}
        async with client.post(url + "api/dub", json=asked) as answer:
            assert answer.status == 202
        await result(client, url, 2)
        assert (tmp_path / "work" / "own" / "learnt.actor").read_bytes() == VIDEO
        assert len(os.listdir(tmp_path / "cache" / "tracks")) == 1
        async with client.delete(url + "api/footage") as answer:
            assert answer.status == 200
        assert not os.listdir(tmp_path / "cache" / "tracks")
        assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
        async with client.post(url + "api/dub", json=asked) as answer:
            assert "not here" in await error(answer)

    consent = serve(tmp_path, scenario).requests[1].consent
    assert isinstance(consent, ConsentRecord)
    assert (consent.subject, consent.statement) == ("Ada L", page_server.STATEMENT)


def test_a_video_is_refused_without_consent_and_above_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "MAX_UPLOAD_BYTES", 1 << 20)

    async def slowly() -> Any:
        for _ in range(3):
            yield bytes(1 << 19)

    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        for query, body, words in (
            ("", VIDEO, "consent"),
            ("?consent=yes", io.BytesIO(bytes((1 << 20) + 1)), "larger than 1 MB"),
            ("?consent=yes", slowly(), "larger than 1 MB"),
            ("?consent=yes", b"", "empty"),
            ("?consent=yes&name=%07", VIDEO, "name"),
        ):
            async with client.post(url + "api/footage" + query, data=body) as answer:
                assert words in await error(answer)
        assert not list((tmp_path / "work").glob("upload-*"))

    serve(tmp_path, scenario)


def test_old_results_are_removed_and_nothing_but_results_is_given_out(tmp_path: Path) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        first = (await result(client, url, 1))["result"]
        for number in (2, 3):
            asked = {"text": "Hello", "voice": "de", "footage": "portrait"}
            async with client.post(url + "api/dub", json=asked) as answer:
                assert answer.status == 202
            await result(client, url, number)
        for path in (first["dubbed"], "media/..%2f..%2fetc/source.mp4", f"media/{first['run']}/report.json"):
            async with client.get(url + path) as answer:
                assert answer.status == 404
        assert len(list((tmp_path / "work").glob("run-*"))) == 2

    serve(tmp_path, scenario)


def test_what_can_be_chosen_is_told(tmp_path: Path) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        async with client.get(url + "api/choices") as answer:
            choices = await answer.json()
        codes = [voice["code"] for voice in choices["featured"] + choices["voices"]]
        assert len(codes) == len(set(codes)) > 100
        assert (choices["text"], choices["own"]) == ("Hello.", None)

    serve(tmp_path, scenario, text="Hello.")


def test_a_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    async def scenario(client: aiohttp.ClientSession, url: str) -> None:
        port = int(URL(url).port or 0)
        with pytest.raises(OutputError, match="another --port"):
            async with demo_server(ServerOptions(DemoRequest(tmp_path), port, tmp_path / "b"), run=Runs()):
                pass

    serve(tmp_path, scenario)


def test_a_temporary_folder_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[str] = []

    async def session() -> None:
        async with demo_server(ServerOptions(DemoRequest(tmp_path)), run=Runs()):
            seen.extend(os.listdir(tmp_path))

    asyncio.run(session())
    assert len(seen) == 1
    assert not list(tmp_path.iterdir())
