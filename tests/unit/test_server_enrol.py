import sys
from pathlib import Path
from typing import Any

import pytest

from engine.actor.consent import ConsentRecord
from engine.errors import InputError
from streaming.server.config import Access, Actors, Rates, ServerConfig
from streaming.server.enrol import STATEMENT, consent_of
from tests.support.live_sessions import Running, scene

COMMAND = (sys.executable, "-m", "tests.support.fake_learner")
SECRET = "s" * 32
CONFIG = ServerConfig(limits=Rates(offers_per_s=100.0, requests_per_s=1000.0))


async def send(server: Running, name: str, video: bytes, query: str = "consent=yes") -> tuple[int, Any]:
    url = f"{server.url}/v1/actors/{name}?{query}"
    async with server.client.post(url, data=video) as answer:
        return answer.status, await answer.json()


async def poll(server: Running, enrolment: str, *states: str) -> dict[str, Any]:
    """Wait, as a page does, until it is in one of the states."""
    version = -1
    while True:
        async with server.client.get(f"{server.url}/v1/enrolments/{enrolment}?after={version}") as answer:
            assert answer.status == 200
            shown: dict[str, Any] = await answer.json()
        version = shown["version"]
        if shown["state"] in states:
            return shown


def play(tmp_path: Path, scenario: Any, config: ServerConfig = CONFIG) -> None:
    scene(tmp_path, scenario, config, enrol_command=COMMAND)


def test_a_video_becomes_an_actor_with_the_consent_that_was_given(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        status, begun = await send(server, "me", b"good\nvideo", "consent=yes&subject=Ada&steps=7")
        assert (status, begun["name"]) == (202, "me")
        done = await poll(server, begun["id"], "done", "failed")
        assert (done["state"], done["fraction"], done["error"]) == ("done", 1.0, None)
        assert (tmp_path / "actors" / "me.actor").read_bytes() == b"pack of me"
        consent = done["report"]["consent"]
        assert ConsentRecord(**{**consent, "languages": tuple(consent["languages"])}).subject == "Ada"
        assert consent["statement"] == STATEMENT
        assert done["report"]["steps"] == 7
        video = Path(done["report"]["video"])
        assert (await send(server, "me", b"good"))[0] == 409
        async with server.client.delete(server.url + "/v1/actors/me") as answer:
            assert answer.status == 204
        assert not (tmp_path / "actors" / "me.actor").exists()
        while video.parent.exists():  # the video goes when its run is over
            async with server.client.get(server.url + "/healthz"):
                pass

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("name", "video", "query", "status", "about"),
    [
        ("me", b"good", "", 400, "consent"),
        ("me", b"good", "consent=no", 400, "consent"),
        ("me", b"good", "consent=yes&steps=x", 400, "steps"),
        ("me", b"good", "consent=yes&steps=100000", 400, "steps"),
        ("me", b"good", "consent=yes&subject=%01", 400, "cannot be recorded"),
        ("a.b", b"good", "consent=yes", 400, "a name has"),
        ("ann", b"good", "consent=yes", 409, "already"),
        ("me", b"", "consent=yes", 400, "empty"),
        ("me", b"x" * 2000, "consent=yes", 413, "larger"),
    ],
    ids=range(9),
)
def test_what_is_not_taken(
    name: str, video: bytes, query: str, status: int, about: str, tmp_path: Path
) -> None:
    async def scenario(server: Running) -> None:
        got, answer = await send(server, name, video, query)
        assert got == status
        assert about in answer["error"]
        assert sorted(path.name for path in (tmp_path / "actors").iterdir()) == ["ann.actor"]

    play(tmp_path, scenario, ServerConfig(actors=Actors(upload_bytes=1000)))


@pytest.mark.parametrize(("how", "about"), [("fail", "it shows no face"), ("crash", "Segmentation fault")])
def test_a_failure_is_told(how: str, about: str, tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        _, begun = await send(server, "me", how.encode())
        done = await poll(server, begun["id"], "done", "failed")
        assert done["state"] == "failed"
        assert about in done["error"]
        _, again = await send(server, "me", b"good")
        assert (await poll(server, again["id"], "done", "failed"))["state"] == "done"

    play(tmp_path, scenario)


def test_a_run_can_be_cancelled_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        _, first = await send(server, "one", b"wait")
        _, second = await send(server, "two", b"wait")
        _, third = await send(server, "three", b"good")
        shown = await poll(server, first["id"], "running")
        while not shown["fraction"]:
            shown = await poll(server, first["id"], "running")
        assert (shown["step"], shown["fraction"]) == ("adapt", 0.5)
        for enrolment in (second, first):
            async with server.client.delete(f"{server.url}/v1/enrolments/{enrolment['id']}") as answer:
                assert answer.status == 204
            assert (await poll(server, enrolment["id"], "stopped"))["state"] == "stopped"
        assert (await poll(server, third["id"], "done", "failed"))["state"] == "done"
        assert sorted(path.name for path in (tmp_path / "actors").iterdir()) == ["ann.actor", "three.actor"]

    play(tmp_path, scenario)


def test_too_many_that_wait_are_sent_away(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        _, first = await send(server, "one", b"wait")
        await poll(server, first["id"], "running")
        statuses = [(await send(server, f"more{number}", b"wait"))[0] for number in range(4)]
        assert statuses == [202, 202, 202, 503]

    play(tmp_path, scenario)


def test_only_an_admin_enrols(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        view = server.server.gate.mint(["view", "control"], "*", 60)[0]
        headers = {"Authorization": f"Bearer {view}"}
        for method, path in (
            ("POST", "/v1/actors/me?consent=yes"),
            ("DELETE", "/v1/actors/ann"),
            ("GET", "/v1/enrolments/x"),
            ("DELETE", "/v1/enrolments/x"),
        ):
            async with server.client.request(method, server.url + path, headers=headers) as answer:
                assert answer.status == 403
        assert (tmp_path / "actors" / "ann.actor").exists()

    play(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_a_server_may_enrol_nobody(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        assert (await send(server, "me", b"good"))[0] == 501
        async with server.client.get(server.url + "/v1/enrolments/x") as answer:
            assert answer.status == 404

    play(tmp_path, scenario, ServerConfig(actors=Actors(enrol=False)))


def test_actors_and_what_a_page_needs_are_listed(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        (tmp_path / "actors" / "broken.actor").write_bytes(b"x")
        (tmp_path / "actors" / "bad name.actor").write_bytes(b"x")
        async with server.client.get(server.url + "/v1/actors") as answer:
            known = await answer.json()
        assert [actor["name"] for actor in known["actors"]] == ["ann"]
        assert known["actors"][0]["consent"] is True
        assert (known["enrol"], known["speak"], known["statement"]) == (True, False, STATEMENT)
        assert known["limits"]["upload_bytes"] == CONFIG.actors.upload_bytes
        assert known["defaults"]["look_ahead_ms"] == 120

    play(tmp_path, scenario)


def test_consent_is_a_record_or_nothing() -> None:
    assert consent_of("").subject == "the person in the video (no name given)"
    assert len(consent_of("x" * 500).subject) == 200
    with pytest.raises(InputError, match="cannot be recorded"):
        consent_of("a\x00b")
