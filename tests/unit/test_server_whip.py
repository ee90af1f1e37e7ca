from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from streaming.server.config import Access, Ice, Listen, Rates, ServerConfig, Sessions
from streaming.server.limits import MAX_SDP_BYTES
from tests.support.live_sessions import ANSWER, OFFER, Running, scene

SDP = {"Content-Type": "application/sdp"}
SECRET = "s" * 32
ELSEWHERE = "https://studio.example"


def token(server: Running, role: str, session: str = "*", life_s: float = 60) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.server.gate.mint([role], session, life_s)[0]}"}


async def offer(
    server: Running, path: str, headers: dict[str, str] | None = None, body: str | bytes = OFFER
) -> aiohttp.ClientResponse:
    async with server.client.post(server.url + path, data=body, headers=SDP | (headers or {})) as answer:
        await answer.read()
        return answer


@pytest.mark.parametrize(("protocol", "kind"), [("whip", "publisher"), ("whep", "viewer")])
def test_an_offer_is_answered_with_an_address_that_ends_it(protocol: str, kind: str, tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        answer = await offer(server, f"/{protocol}/show")
        assert answer.status == 201
        assert await answer.text() == ANSWER
        assert answer.headers["Content-Type"] == "application/sdp"
        assert answer.headers["ETag"] == f'"ice-{kind}-0"'
        assert answer.headers.getall("Link") == ['<stun:stun.example.org:3478>; rel="ice-server"']
        assert list(session.connections.values()) == [kind]
        where = server.url + answer.headers["Location"]
        for _ in range(2):  # idempotent
            async with server.client.delete(where) as gone:
                assert gone.status == 200
        assert session.connections == {}

    scene(tmp_path, scenario, ServerConfig(ice=Ice(("stun:stun.example.org:3478",))))


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, OFFER, 415),
        ({"Content-Type": "application/json"}, "{}", 415),
        ({"Accept": "application/json"}, OFFER, 406),
        ({"Accept": "application/sdp;q=0"}, OFFER, 406),
        ({"Accept": "text/html, */*;q=0.1"}, OFFER, 201),
        ({"Accept": "application/*"}, OFFER, 201),
        ({}, "", 400),
        ({}, "hello", 400),
        ({}, b"v=0\xff", 400),
        ({}, "v=0" + "a" * MAX_SDP_BYTES, 413),
    ],
)
def test_what_is_no_offer_is_refused(
    headers: dict[str, str], body: str | bytes, status: int, tmp_path: Path
) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        answer = await offer(server, "/whip/show", headers, body)
        assert answer.status == status
        if status == 415:
            assert answer.headers["Accept-Post"] == "application/sdp"
        if status >= 400:
            assert (await answer.json())["error"]

    scene(tmp_path, scenario)


def test_a_body_without_a_length_is_cut_off_too(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(1000):
                yield b"a" * 4096

        async with server.client.post(server.url + "/whip/show", data=endless(), headers=SDP) as answer:
            assert answer.status == 413

    scene(tmp_path, scenario)


def test_a_second_publisher_is_told_to_come_back(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        assert (await offer(server, "/whip/show")).status == 201
        answer = await offer(server, "/whip/show")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0

    scene(tmp_path, scenario)


def test_no_such_session_and_no_such_connection(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        assert (await offer(server, "/whip/nobody")).status == 404
        await server.session(name="show")
        async with server.client.delete(server.url + "/whip/show/viewer-0") as answer:
            assert answer.status == 404
        await offer(server, "/whip/show")
        await server.server.sessions.delete("show")
        async with server.client.delete(server.url + "/whip/show/publisher-0") as answer:
            assert answer.status == 200  # its session took it along

    scene(tmp_path, scenario)


OFFERED = OFFER + "a=ice-ufrag:EsAw\r\n"
FRAGMENT = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=end-of-candidates\r\n"
RESTART = FRAGMENT.replace("EsAw", "ysXw")
TRICKLE = "application/trickle-ice-sdpfrag"


@pytest.mark.parametrize(
    ("kind", "tag", "body", "status"),
    [
        (TRICKLE, "own", FRAGMENT, 204),
        (TRICKLE, '"other", own', FRAGMENT, 204),
        (TRICKLE, "*", FRAGMENT, 204),
        (TRICKLE, None, FRAGMENT, 428),
        (TRICKLE, '"other"', FRAGMENT, 412),
        (TRICKLE, "W/own", FRAGMENT, 412),
        (TRICKLE, "*", RESTART, 422),
        (TRICKLE, "own", RESTART, 422),
        (TRICKLE, "own", "a=end-of-candidates", 400),
        (TRICKLE, "own", b"a=ice-ufrag:\xff", 400),
        (TRICKLE, "own", FRAGMENT + "x" * MAX_SDP_BYTES, 413),
        ("application/sdp", "own", FRAGMENT, 415),
    ],
)
@pytest.mark.parametrize("protocol", ["whip", "whep"])
def test_candidates_come_by_patch_and_restarts_do_not(
    protocol: str, kind: str, tag: str | None, body: str | bytes, status: int, tmp_path: Path
) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        made = await offer(server, f"/{protocol}/show", body=OFFERED)
        headers = {"Content-Type": kind}
        if tag is not None:
            headers["If-Match"] = tag.replace("own", made.headers["ETag"])
        where = server.url + made.headers["Location"]
        async with server.client.patch(where, data=body, headers=headers) as answer:
            assert answer.status == status
            assert "ETag" not in answer.headers
            if status == 204:
                assert await answer.read() == b""
                assert session.trickled == [(made.headers["Location"].rpartition("/")[2], FRAGMENT)]
            else:
                assert (await answer.json())["error"]
                assert session.trickled == []
            if status == 415:
                assert answer.headers["Accept-Patch"] == TRICKLE
        assert session.peers == 1  # whatever was asked, it goes on

    scene(tmp_path, scenario)


def test_candidates_for_nothing_are_refused(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        headers = {"Content-Type": TRICKLE, "If-Match": "*"}

        async def patched(path: str) -> int:
            async with server.client.patch(server.url + path, data=FRAGMENT, headers=headers) as answer:
                return answer.status

        assert await patched("/whip/show/publisher-0") == 404
        where = (await offer(server, "/whip/show", body=OFFERED)).headers["Location"]
        session.connections.clear()
        assert await patched(where) == 404
        await server.server.sessions.delete("show")
        assert await patched(where) == 404

    scene(tmp_path, scenario)


def test_what_is_no_method_is_named_with_those_that_are(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        where = (await offer(server, "/whip/show")).headers["Location"]
        for method, path, known in (
            ("GET", "/whip/show", "POST"),
            ("PUT", "/whip/show", "POST"),
            ("HEAD", "/whip/show", "POST"),
            ("GET", where, "PATCH"),
            ("POST", where, "DELETE"),
        ):
            async with server.client.request(method, server.url + path) as answer:
                assert answer.status == 405
                assert known in answer.headers["Allow"]
        async with server.client.options(server.url + where) as answer:
            assert answer.headers["Accept-Patch"] == TRICKLE

    scene(tmp_path, scenario)


def test_options_say_what_is_taken_and_let_no_other_page_in(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        async with server.client.options(server.url + "/whip/show") as answer:
            assert answer.status == 204
            assert answer.headers["Accept-Post"] == "application/sdp"
            assert "Access-Control-Allow-Origin" not in answer.headers
        foreign = {"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST"}
        async with server.client.options(server.url + "/whip/show", headers=foreign) as answer:
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers

    scene(tmp_path, scenario)


def test_a_page_that_the_operator_names_may_come(tmp_path: Path) -> None:
    config = ServerConfig(server=Listen(origins=(ELSEWHERE,)), access=Access(SECRET))

    async def scenario(server: Running) -> None:
        await server.session(name="show")
        foreign = {"Origin": ELSEWHERE}
        async with server.client.options(server.url + "/whip/show", headers=foreign) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == ELSEWHERE
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        answer = await offer(server, "/whip/show", foreign | token(server, "publish"))
        assert answer.status == 201
        assert "Location" in answer.headers["Access-Control-Expose-Headers"]

    scene(tmp_path, scenario, config)


def test_only_the_right_token_opens(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        answer = await offer(server, "/whip/show")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await offer(server, "/whip/show", {"Authorization": "Bearer x"})).status == 401
        assert (await offer(server, "/whip/show", token(server, "publish", life_s=-1))).status == 401
        assert (await offer(server, "/whip/show", token(server, "view"))).status == 403
        assert (await offer(server, "/whip/show", token(server, "publish", "other"))).status == 403
        answer = await offer(server, "/whip/show", token(server, "publish", "show"))
        assert answer.status == 201
        where = server.url + answer.headers["Location"]
        async with server.client.delete(where) as refused:
            assert refused.status == 401
        late = token(server, "publish", "show", life_s=-100)  # who began it may also end it
        async with server.client.delete(where, headers=late) as gone:
            assert gone.status == 200

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_a_token_for_one_connection_makes_one(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        made = server.server.gate.mint(["publish", "view"], "show", 60, once=True)[0]
        once = {"Authorization": f"Bearer {made}"}
        assert (await offer(server, "/whep/show", once, "hello")).status == 400  # came to nothing
        answer = await offer(server, "/whep/show", once)
        assert answer.status == 201
        again = await offer(server, "/whep/show", once)
        assert again.status == 401
        assert "ask for another token" in await again.text()
        assert again.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await offer(server, "/whip/show", once)).status == 201
        assert (await offer(server, "/whip/show", once)).status == 401
        where = server.url + answer.headers["Location"]
        async with server.client.delete(where, headers=once) as gone:
            assert gone.status == 200
        assert (await offer(server, "/whep/show", once)).status == 401

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET), limits=Rates(offers_per_s=50)))


def test_offers_are_rationed_per_address(tmp_path: Path) -> None:
    config = ServerConfig(limits=Rates(offers_per_s=0.5), sessions=Sessions(most=4))

    async def scenario(server: Running) -> None:
        await server.session(name="show")
        answers = [await offer(server, "/whep/show") for _ in range(3)]
        assert [answer.status for answer in answers] == [201, 201, 429]
        assert int(answers[-1].headers["Retry-After"]) > 0

    scene(tmp_path, scenario, config)
