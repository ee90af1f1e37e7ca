import asyncio
import os
import struct
from typing import Any

import aioice.ice
import aiortc.rtcdtlstransport
import aiortc.rtcicetransport
import aiortc.rtcpeerconnection
import pytest
import uvloop
from aioice import Candidate, stun
from aiortc.rtp import RtcpPsfbPacket

from streaming.rtc import guards
from streaming.rtc.guards import GuardedConnection, GuardedDtls, GuardedProtocol
from streaming.rtc.peer import Peer, open_peer
from tests.support.rtc_peers import Steps, Stranger, Tone, connected, run, until, worst_stall_ms


def stun_like() -> bytes:
    return (
        struct.pack("!HHL", 0x0001, 8, 0x2112A442)
        + os.urandom(12)
        + struct.pack("!HH", 0x0006, 4)
        + b"\xff\xfe\xfd\xfc"
    )


def binding_request(username: str) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = username
    message.add_message_integrity(b"not the password")
    return bytes(message)


JUNK = {
    "empty": b"",
    "random": b"\x80" + os.urandom(199),
    "RTP-like": struct.pack("!BBHLL", 0x90, 96, 1, 2, 3) + b"\xbe\xde\xff\xff" + os.urandom(40),
    "RTCP-like": struct.pack("!BBHL", 0x81, 201, 7, 9) + os.urandom(28),
    "DTLS-like": b"\x16\xfe\xfd" + os.urandom(60),
    "DTLS alert": b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28",
    "STUN-like": stun_like(),
    "STUN, cut": stun_like()[:23],
    "STUN, short": b"\x00\x01",
    "check with a wrong password": binding_request("ab:cd"),
    "check without a colon": binding_request("x" * 300),
    "oversized": b"\x80" * 60_000,
}


async def survives(source: str) -> tuple[int, Peer]:
    """Throw all junk at a connected peer; media must go on."""
    async with connected(Steps(), Tone()) as (sender, receiver):
        track: Any = receiver.getReceivers()[0].track
        await track.recv()
        if source == "stranger":
            stranger = Stranger()
            for data in JUNK.values():
                stranger.send(data, receiver)
            stranger.close()
        else:
            for data in JUNK.values():
                if data[:1] != b"\x15":  # an alert in the clear from the peer itself is its own affair
                    await sender.connections()[0].send(data)
        await until(lambda: sum(agent.dropped for agent in receiver.connections()) >= 3)
        heard = receiver.heard
        for _ in range(5):
            await track.recv()
        await until(lambda: receiver.heard > heard + 10)
        assert receiver.connectionState == "connected"
        return sum(agent.dropped for agent in receiver.connections()), receiver


def test_the_guarded_classes_take_the_place_of_the_libraries() -> None:
    guards.install()
    assert aioice.ice.StunProtocol is GuardedProtocol
    assert vars(aiortc.rtcicetransport)["Connection"] is GuardedConnection
    assert vars(aiortc.rtcpeerconnection)["RTCDtlsTransport"] is GuardedDtls


def test_what_a_peer_opens_is_guarded_down_to_the_socket() -> None:
    async def work() -> None:
        async with connected(Steps()) as (_, receiver):
            assert [type(dtls) for dtls in receiver.transports] == [GuardedDtls]
            agent = receiver.connections()[0]
            assert type(agent) is GuardedConnection
            assert {type(protocol) for protocol in agent._protocols} == {GuardedProtocol}
            assert {c.host for c in agent.local_candidates} == {"127.0.0.1"}

    run(work())


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (aioice.ice.StunProtocol, "datagram_received"),
        (aioice.ice.Connection, "check_incoming"),
        (aioice.ice.Connection, "data_received"),
        (aioice.ice.Connection, "get_component_candidates"),
        (aioice.ice.Connection, "build_request"),
        (aiortc.rtcdtlstransport.RTCDtlsTransport, "_recv_next"),
        (aiortc.rtcdtlstransport.RTCDtlsTransport, "_handle_rtp_data"),
        (aiortc.rtcdtlstransport.RTCDtlsTransport, "_handle_rtcp_data"),
    ],
)
def test_the_methods_that_are_overridden_exist_upstream(owner: type, name: str) -> None:
    guarded = {GuardedProtocol, GuardedConnection, GuardedDtls}
    base = owner.__mro__[1] if owner in guarded else owner
    assert callable(getattr(base, name))


def test_the_private_state_that_is_used_exists_upstream() -> None:
    async def work() -> None:
        agent = GuardedConnection(ice_controlling=False)
        assert isinstance(agent._queue, asyncio.Queue)
        assert agent._check_list == []
        assert agent._remote_candidates == []
        assert agent._nominated == {}
        assert agent.remote_password is None
        await agent.close()

    run(work())


@pytest.mark.parametrize("source", ["stranger", "peer"])
def test_junk_ends_no_session(source: str) -> None:
    dropped, _ = run(survives(source))
    assert dropped >= 3


def test_junk_ends_no_session_on_uvloop() -> None:
    dropped, _ = uvloop.run(survives("stranger"))
    assert dropped >= 3


def test_a_flood_from_a_stranger_does_not_stall_the_loop() -> None:
    async def work() -> tuple[float, int]:
        async with connected(Steps()) as (_, receiver):
            stop = asyncio.Event()
            watching = asyncio.ensure_future(worst_stall_ms(stop))
            stranger = Stranger()
            for _ in range(20):
                for _ in range(10):
                    for data in JUNK.values():
                        stranger.send(data, receiver)
                await asyncio.sleep(0.005)
            stop.set()
            stranger.close()
            return await watching, receiver.connections()[0]._queue.qsize()

    stall_ms, waiting = run(work())
    assert stall_ms < 50
    assert waiting < 50


def test_a_flood_from_the_peer_gives_way_to_other_tasks_and_its_queue_is_bounded() -> None:
    async def work() -> tuple[float, int, int]:
        async with connected(Steps()) as (_, receiver):
            agent = receiver.connections()[0]
            stop = asyncio.Event()
            watching = asyncio.ensure_future(worst_stall_ms(stop))
            for _ in range(20):
                for _ in range(1000):
                    agent.data_received(b"\x80" + bytes(1200), 1)
                longest = agent._queue.qsize()
                await asyncio.sleep(0.02)
            stop.set()
            assert receiver.connectionState == "connected"
            return await watching, longest, agent.dropped

    stall_ms, longest, dropped = run(work())
    assert stall_ms < 50
    assert longest <= guards.QUEUE_MAX_DATAGRAMS
    assert dropped > 5000


def test_malformed_packets_of_the_peer_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    bad_extension = (
        struct.pack("!BBHLL", 0x90, 97, 1, 2, 3) + b"\xbe\xde\x00\x01" + b"\x30\x00\x00\x00" + b"x"
    )
    bad_remb = bytes(RtcpPsfbPacket(15, 1, 0, b"REMB" + b"\xff\x00\x00\x00"))

    async def work() -> None:
        async with connected(Steps()) as (sender, receiver):
            dtls = receiver.transports[0]
            assert isinstance(dtls, GuardedDtls)
            await until(lambda: len(dtls._rtp_router.receivers) > 0)
            for data in (bad_extension, bad_remb, struct.pack("!BBHL", 0x81, 200, 1, 0)):
                await sender.transports[0]._send_rtp(data)
            await until(lambda: dtls.malformed >= 2)
            heard = receiver.heard
            await until(lambda: receiver.heard > heard + 5)
            assert receiver.connectionState == "connected"

    run(work())
    assert sum("malformed" in record.message for record in caplog.records) == 1


def test_a_peer_gets_only_so_many_sources() -> None:
    async def work() -> tuple[int, int]:
        async with connected(Steps()) as (sender, receiver):
            dtls = receiver.transports[0]
            assert isinstance(dtls, GuardedDtls)
            await until(lambda: len(dtls._rtp_router.ssrc_table) > 0)
            for ssrc in range(1000, 1200):
                await sender.transports[0]._send_rtp(struct.pack("!BBHLL", 0x80, 97, 1, 2, ssrc) + b"x")
            await until(lambda: dtls.malformed >= 200 - guards.STREAMS_MAX)
            return len(dtls._rtp_router.ssrc_table), dtls.malformed

    sources, refused = run(work())
    assert sources <= guards.STREAMS_MAX
    assert refused <= 200


def test_an_agent_learns_only_so_many_addresses() -> None:
    async def work() -> tuple[int, int]:
        async with connected(Steps()) as (_, receiver):
            agent = receiver.connections()[0]
            message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
            message.attributes["PRIORITY"] = 1
            for port in range(20_000, 20_500):
                agent.check_incoming(message, ("127.0.0.1", port), agent._protocols[0])
            return len(agent.remote_candidates), agent.dropped

    addresses, dropped = run(work())
    assert addresses <= guards.ADDRESSES_MAX
    assert dropped >= 500 - guards.ADDRESSES_MAX


def test_a_check_without_a_priority_is_refused() -> None:
    async def work() -> int:
        agent = GuardedConnection(ice_controlling=False)
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        agent.check_incoming(message, ("127.0.0.1", 20_000), None)  # type: ignore[arg-type]
        await agent.close()
        return agent.dropped

    assert run(work()) == 1


def test_only_addresses_that_passed_a_check_are_known() -> None:
    async def work() -> None:
        async with connected(Steps()) as (sender, receiver):
            agent, other = receiver.connections()[0], sender.connections()[0]
            local = other.local_candidates[0]
            assert agent.knows((local.host, local.port))
            assert not agent.knows((local.host, 9))
            await agent.add_remote_candidate(
                Candidate("f", 1, "udp", 1, "127.0.0.1", 20_001, "host")
            )  # named by the peer, proven by nobody
            assert not agent.knows(("127.0.0.1", 20_001))

    run(work())


def test_an_agent_beside_its_peer_listens_on_one_more_address_and_hears_no_other_machine() -> None:
    async def work() -> None:
        agent = GuardedConnection(ice_controlling=False)
        agent.addresses, agent.beside = ("127.0.0.1",), True
        await agent.gather_candidates()
        hosts = [candidate.host for candidate in agent.local_candidates]
        if len(own := aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True)):
            assert hosts[0] == "127.0.0.1"
            assert hosts[1:] == [host for host in hosts[1:2] if host in own]
        assert all(agent.hears(host) for host in hosts)
        assert not agent.hears("198.51.100.7")
        binding = bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST))
        agent._protocols[0].datagram_received(binding, ("198.51.100.7", 20_000))
        assert agent.dropped == 1
        await agent.close()

    run(work())


def test_other_agents_hear_everybody() -> None:
    async def work() -> bool:
        agent = GuardedConnection(ice_controlling=False)
        await agent.gather_candidates()
        heard = agent.hears("198.51.100.7")
        await agent.close()
        return heard

    assert run(work())


def test_a_ping_is_answered_and_its_time_is_kept() -> None:
    async def work() -> tuple[bool, bool, int]:
        idle = open_peer()
        async with connected(Steps()) as (_, receiver):
            answered = await receiver.ping()
            return answered, await idle.ping(), receiver.connections()[0].round_trip_ns

    answered, unconnected, round_trip_ns = run(work())
    assert answered
    assert not unconnected
    assert 0 < round_trip_ns < 500_000_000
