import asyncio
import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.errors import InputError, OutputError
from streaming.server.app import make_app, running
from streaming.server.config import Access, Listen, Rates, ServerConfig
from streaming.server.manager import SessionManager
from streaming.types import SessionOptions
from tests.support.live_sessions import OFFER, MemorySession, Running, scene

SECRET = "s" * 32
SDP = {"Content-Type": "application/sdp"}


class Broken(MemorySession):
    """Fails in a way that nobody foresaw, quoting what it was given."""

    async def publish(self, sdp: str) -> None:  # type: ignore[override]
        raise KeyError(sdp)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody else trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


def test_other_hosts_and_other_pages_are_refused(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        port = server.server.port
        for headers in (
            {"Host": f"rebound.example:{port}"},
            {"Host": "127.0.0.1.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"https://127.0.0.1:{port}"},
        ):
            async with server.client.get(server.url + "/healthz", headers=headers) as answer:
                assert answer.status == 403
        for host in ("localhost", "127.0.0.1", "[::1]"):
            own = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}
            async with server.client.get(server.url + "/healthz", headers=own) as answer:
                assert answer.status == 200

    scene(tmp_path, scenario)


def test_a_proxy_may_stand_before_a_server_that_is_told_its_name(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        for host, origin, status in (
            ("dub.example.org", "https://dub.example.org", 200),
            ("dub.example.org", "https://evil.example", 403),
            ("evil.example", None, 403),
        ):
            headers = {"Host": host} | ({"Origin": origin} if origin else {})
            async with server.client.get(server.url + "/healthz", headers=headers) as answer:
                assert answer.status == status

    listen = Listen(hosts=("dub.example.org",))
    scene(tmp_path, scenario, ServerConfig(server=listen, access=Access(SECRET)))


def test_every_answer_carries_the_headers_that_keep_browsers_out_of_trouble(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        for path, status in (
            ("/healthz", 200),
            ("/nothing", 404),
            ("/v1/sessions/none", 404),
            ("/metrics", 200),
        ):
            async with server.client.get(server.url + path) as answer:
                assert answer.status == status
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                assert answer.headers["Cache-Control"] == "no-store"
                assert "aiohttp" not in answer.headers["Server"]
        async with server.client.put(server.url + "/healthz") as answer:
            assert answer.status == 405
            assert (await answer.json())["error"]

    scene(tmp_path, scenario)


def test_what_nobody_foresaw_is_answered_and_logged_without_what_was_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: Running) -> None:
        await server.server.sessions.create(SessionOptions(Path("ann.actor")), "private-name")
        secret = OFFER + "a=ice-pwd:geheim\r\n"
        url = server.url + "/whip/private-name"
        async with server.client.post(url, data=secret, headers=SDP) as answer:
            assert answer.status == 500
            assert "geheim" not in await answer.text()
        async with server.client.get(server.url + "/healthz") as answer:
            assert answer.status == 200

    caplog.set_level(logging.DEBUG)
    scene(tmp_path, scenario, make=Broken)
    assert "POST /whip/{session} failed: KeyError at test_server_app.py" in caplog.text
    assert "geheim" not in caplog.text
    assert "Traceback" not in caplog.text


def test_requests_are_rationed_per_address(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        statuses = []
        for _ in range(8):
            async with server.client.get(server.url + "/healthz") as answer:
                statuses.append(answer.status)
        assert statuses == [200] * 4 + [429] * 4

    scene(tmp_path, scenario, ServerConfig(limits=Rates(requests_per_s=1.0)))


def test_tls_is_spoken_where_it_is_set_up(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)

    async def scenario(server: Running) -> None:
        assert server.url.startswith("https://")
        trust = ssl.create_default_context(cafile=str(cert))
        url = server.url.replace("127.0.0.1", "localhost")
        async with server.client.get(url + "/healthz", ssl=trust) as answer:
            assert answer.status == 200
        own = {"Origin": url}
        async with server.client.get(url + "/healthz", ssl=trust, headers=own) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await server.client.get(server.url.replace("https", "http") + "/healthz")

    scene(tmp_path, scenario, ServerConfig(server=Listen(tls_certificate=cert, tls_key=key)))


def test_files_that_make_no_tls_are_named(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")

    async def start() -> None:
        config = ServerConfig(
            server=Listen(port=0, tls_certificate=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")
        )
        async with running(make_app(config, SessionManager(MemorySession))):
            pass

    with pytest.raises(InputError, match=r"cert\.pem .* make no TLS"):
        asyncio.run(start())


def test_an_open_server_is_not_built() -> None:
    config = ServerConfig(server=Listen(host="0.0.0.0"))
    with pytest.raises(InputError, match="reachable by others"):
        make_app(config, SessionManager(MemorySession))


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        config = ServerConfig(server=Listen(port=server.server.port))
        with pytest.raises(OutputError, match="give another --port"):
            async with running(make_app(config, SessionManager(MemorySession))):
                pass

    scene(tmp_path, scenario)


def test_the_end_of_the_server_is_the_end_of_its_sessions(tmp_path: Path) -> None:
    made: list[MemorySession] = []

    async def scenario(server: Running) -> None:
        made.append(await server.session())

    scene(tmp_path, scenario)
    assert made[0].reason == "the server ends"
