from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import BackendError, InputError
from streaming.server.config import Access, Rates, ServerConfig, Sessions
from streaming.server.limits import MAX_JSON_BYTES
from streaming.server.speech import MAX_WAITING
from tests.support.live_sessions import OFFER, QUEUE_SAMPLES, Running, scene

SECRET = "s" * 32


class Speech:
    """Says a ramp as long as the text."""

    max_text = 100

    async def voices(self) -> list[tuple[str, str]]:
        return [("de", "German")]

    async def speak(self, text: str, voice: str) -> tuple[NDArray[np.int16], int]:
        if voice == "broken":
            raise BackendError("espeak-ng failed")
        if voice != "de":
            raise InputError("no such voice")
        return np.arange(len(text) * 1000, dtype=np.int16), 8_000


async def ask(
    server: Running, method: str, path: str, content: Any = None, token: str | None = None
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {} if content is None else {"json": content}
    async with server.client.request(method, server.url + path, headers=headers, **body) as answer:
        kind = answer.content_type
        return answer.status, await (answer.json() if kind == "application/json" else answer.text())


def test_a_session_from_its_start_to_its_end(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        asked = {
            "actor": "ann",
            "id": "show",
            "idle": "closed",
            "latency_budget_ms": 250,
            "look_ahead_ms": 60,
            "mark": "visible",
        }
        status, made = await ask(server, "POST", "/v1/sessions", asked)
        assert status == 201
        assert (made["id"], made["actor"], made["idle"]) == ("show", "ann", "closed")
        assert (made["whip"], made["whep"], made["stream"]) == ("/whip/show", "/whep/show", "/v1/stream/show")
        assert (made["mark"], server.made[0].options.mark) == ("visible", "visible")
        assert "token" not in made
        options = server.made[0].options
        assert (options.latency_budget_ms, options.look_ahead_ms, options.original_delay_ms) == (250, 60, 0)
        assert options.actor == tmp_path / "actors" / "ann.actor"
        assert not options.override_consent
        await server.made[0].view(OFFER)
        status, shown = await ask(server, "GET", "/v1/sessions/show")
        assert (status, shown["peers"], shown["now"]["queued"]) == (200, 1, 0)
        status, all_of_them = await ask(server, "GET", "/v1/sessions")
        assert [one["id"] for one in all_of_them["sessions"]] == ["show"]
        assert all_of_them["capacity"] == 16
        for _ in range(2):
            assert (await ask(server, "DELETE", "/v1/sessions/show"))[0] == 204
        assert server.made[0].reason == "deleted"
        assert (await ask(server, "GET", "/v1/sessions/show"))[0] == 404

    scene(tmp_path, scenario)


@pytest.mark.parametrize(
    ("content", "status", "about"),
    [
        ({}, 400, "actor"),
        ([], 400, "what this takes"),
        ({"actor": "bob"}, 400, "there is no actor 'bob'"),
        ({"actor": "../ann"}, 400, "a name has"),
        ({"actor": "ann", "id": "a/b"}, 400, "a name has"),
        ({"actor": "ann", "look_ahead_ms": 100}, 400, "0, 60, 120, 240"),
        ({"actor": "ann", "latency_budget_ms": -1}, 400, "latency_budget_ms"),
        ({"actor": "ann", "latency_budget_ms": 10**9}, 400, "latency_budget_ms"),
        ({"actor": "ann", "override_consent": True}, 400, "override_consent"),
        ({"actor": "ann", "idle": "dance"}, 400, "idle"),
        ({"actor": "ann", "mark": "loud"}, 400, "mark"),
        ({"actor": "ann" + " " * MAX_JSON_BYTES}, 413, "larger"),
    ],
    ids=range(12),
)
def test_what_cannot_be_a_session_is_refused(content: Any, status: int, about: str, tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        got, answer = await ask(server, "POST", "/v1/sessions", content)
        assert got == status
        assert about in answer["error"]
        assert server.made == []

    scene(tmp_path, scenario)


def test_bodies_that_are_no_json(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        for body in (b"{", b"\xff", b"[" * 5000, b'{"actor": "\\ud800"}'):
            async with server.client.post(server.url + "/v1/sessions", data=body) as answer:
                assert answer.status == 400

    scene(tmp_path, scenario)


def test_a_full_server_says_when_to_come_back(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        assert await ask(server, "GET", "/readyz") == (200, "ready\n")
        assert (await ask(server, "POST", "/v1/sessions", {"actor": "ann", "id": "a"}))[0] == 201
        async with server.client.post(server.url + "/v1/sessions", json={"actor": "ann"}) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
        assert (await ask(server, "POST", "/v1/sessions", {"actor": "ann", "id": "a"}))[0] == 409
        assert (await ask(server, "GET", "/readyz"))[0] == 503
        assert await ask(server, "GET", "/healthz") == (200, "ok\n")

    scene(tmp_path, scenario, ServerConfig(sessions=Sessions(most=1)))


def test_typed_text_is_spoken_into_the_session_as_it_has_room(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        session.queued = QUEUE_SAMPLES - 48_000
        status, said = await ask(server, "POST", "/v1/sessions/show/speak", {"text": "x" * 16, "voice": "de"})
        assert (status, said["duration_ms"]) == (202, 2000)
        while not session.ended:
            session.play(4_800)
            async with server.client.get(server.url + "/healthz"):
                pass
        heard = np.concatenate([piece.samples for piece, _ in session.pieces])
        np.testing.assert_array_equal(heard, np.arange(16_000, dtype=np.int16))
        assert {utterance for _, utterance in session.pieces} == {said["utterance"]} == set(session.ended)
        assert (await ask(server, "GET", "/v1/voices"))[1] == {"voices": [{"code": "de", "name": "German"}]}
        status, _ = await ask(server, "POST", "/v1/sessions/show/speak", {"text": "x", "voice": "xx"})
        assert status == 400
        status, _ = await ask(server, "POST", "/v1/sessions/show/speak", {"text": "x", "voice": "broken"})
        assert status == 503
        session.options = replace(session.options, voice="publisher")
        status, _ = await ask(server, "POST", "/v1/sessions/show/speak", {"text": "x", "voice": "de"})
        assert status == 400

    scene(tmp_path, scenario, ServerConfig(limits=Rates(requests_per_s=1e6)), speak=Speech())


def test_sentences_do_not_mix_and_do_not_pile_up(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        session.queued = QUEUE_SAMPLES
        path, asked = "/v1/sessions/show/speak", {"text": "x", "voice": "de"}
        answers = [await ask(server, "POST", path, asked) for _ in range(MAX_WAITING + 1)]
        assert [status for status, _ in answers] == [202] * MAX_WAITING + [503]
        while len(session.ended) < MAX_WAITING:
            session.play(24_000)
            await ask(server, "GET", "/healthz")
        order = [said["utterance"] for _, said in answers[:-1]]
        assert session.ended == order
        assert [utterance for _, utterance in session.pieces] == [u for u in order for _ in range(2)]

    rates = Rates(requests_per_s=1e6, offers_per_s=1e6)
    scene(tmp_path, scenario, ServerConfig(limits=rates), speak=Speech())


def test_a_server_without_speech_says_so(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        assert (await ask(server, "POST", "/v1/sessions/show/speak", {"text": "x"}))[0] == 501
        assert (await ask(server, "GET", "/v1/voices"))[1] == {"voices": []}

    scene(tmp_path, scenario)


def test_an_interrupt_by_http(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        session.queued = 48_000
        status, played = await ask(server, "POST", "/v1/sessions/show/interrupt")
        assert (status, played["dropped_ms"]) == (200, 1000)

    scene(tmp_path, scenario)


def test_what_clients_measure_is_counted(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="private-name")
        measured = {"g2g_s": 0.15, "av_skew_s": -0.02, "ttff_s": 0.4, "freezes": 2, "something_new": 1}
        assert (await ask(server, "POST", "/v1/sessions/private-name/stats", measured))[0] == 204
        for wrong in ({"freezes": -1}, {"g2g_s": 1e9}, {"g2g_s": "x"}):
            assert (await ask(server, "POST", "/v1/sessions/private-name/stats", wrong))[0] == 400
        status, text = await ask(server, "GET", "/metrics")
        assert status == 200
        assert "dub_g2g_seconds_count 1.0" in text
        assert "dub_client_freezes_total 2.0" in text
        assert 'dub_sessions{state="running"} 1.0' in text
        assert "private-name" not in text

    scene(tmp_path, scenario)


def test_rights_are_checked_everywhere(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        mint = server.server.gate.mint
        admin, view = mint(["admin"], "*", 60)[0], mint(["view"], "show", 60)[0]
        control = mint(["control"], "show", 60)[0]
        for method, path, least in (
            ("GET", "/v1/sessions", admin),
            ("GET", "/metrics", admin),
            ("GET", "/v1/sessions/show", view),
            ("POST", "/v1/sessions/show/stats", view),
            ("GET", "/v1/actors", view),
            ("GET", "/v1/voices", view),
            ("POST", "/v1/sessions/show/interrupt", control),
        ):
            assert (await ask(server, method, path))[0] == 401
            if least is not view:
                assert (await ask(server, method, path, token=view))[0] == 403
            assert (await ask(server, method, path, token=least))[0] in {200, 204}
        assert (await ask(server, "POST", "/v1/sessions", {"actor": "ann"}, control))[0] == 403
        assert (await ask(server, "DELETE", "/v1/sessions/show", token=view))[0] == 403
        assert (await ask(server, "DELETE", "/v1/sessions/show", token=control))[0] == 204
        assert (await ask(server, "GET", "/healthz"))[0] == 200

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_tokens_are_handed_on_but_never_grow(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        gate = server.server.gate
        admin, view = gate.mint(["admin"], "*", 60)[0], gate.mint(["view"], "show", 60)[0]
        status, made = await ask(server, "POST", "/v1/sessions", {"actor": "ann", "id": "show"}, admin)
        assert status == 201
        grant = gate.check(made["token"])
        assert grant.roles == {"publish", "view", "control"}
        assert grant.session == "show"
        path = "/v1/sessions/show/tokens"
        status, more = await ask(server, "POST", path, {"roles": ["view"], "ttl_s": 10_000}, made["token"])
        assert status == 201
        assert gate.check(more["token"]).roles == {"view"}
        assert more["expires_s"] <= grant.expires_s + 5
        for roles, by in ((["control"], view), (["admin"], made["token"]), (["admin"], view)):
            assert (await ask(server, "POST", path, {"roles": roles}, by))[0] == 401
        status, once = await ask(server, "POST", path, {"roles": ["view"], "once": True}, made["token"])
        assert (status, gate.check(once["token"]).once) == (201, True)
        assert (await ask(server, "GET", "/v1/sessions/show", token=once["token"]))[0] == 200
        assert (await ask(server, "POST", path, {"roles": ["view"]}, once["token"]))[0] == 403
        assert (await ask(server, "POST", path, {"roles": ["root"]}, admin))[0] == 400
        assert (await ask(server, "POST", "/v1/sessions/none/tokens", {}, admin))[0] == 404

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))
