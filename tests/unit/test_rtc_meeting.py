"""How a connection is met: on another address than loopback, or by candidates that come after the offer."""

import re
from collections.abc import Awaitable, Callable

import pytest

from engine.errors import OfferError
from streaming.rtc.peer import Peer, PeerOptions, add_candidates, close_peer, negotiate, open_peer
from streaming.rtc.sdp import OfferLimits, check_offer
from tests.support.rtc_peers import LOOPBACK, Steps, Tone, accept, addresses, offering, run, until

CANDIDATE = re.compile(r"a=(candidate:.*|end-of-candidates)\r\n")
UNUSABLE = "a=candidate:x 1 udp 1 192.0.2.1 2000 typ"


def met(browser: Peer, server: Peer, meet: Callable[[str], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Two peers, of which the server does not know where the browser is before `meet`, given its answer."""

    async def work() -> None:
        offer = check_offer(CANDIDATE.sub("", browser.localDescription.sdp))
        await meet(await negotiate(server, offer))
        await until(lambda: {browser.connectionState, server.connectionState} == {"connected"})

    return work


def test_a_peer_that_cannot_use_loopback_is_met_on_another_address() -> None:
    async def work() -> None:
        browser, server = await offering(Steps(), options=PeerOptions()), open_peer(LOOPBACK)
        try:
            if not addresses(browser):
                pytest.skip("this machine has no address but loopback")

            async def meet(answer: str) -> None:
                await accept(browser, re.sub(r"a=candidate:.* 127\.0\.0\.1 .*\r\n", "", answer))

            await met(browser, server, meet)()
            assert addresses(server)[0][0] == "127.0.0.1"
        finally:
            await close_peer(browser)
            await close_peer(server)

    run(work())


def test_one_that_offers_loopback_is_met_there() -> None:
    async def work() -> None:
        browser, server = await offering(Steps()), open_peer(LOOPBACK)
        await negotiate(server, check_offer(browser.localDescription.sdp))
        assert {host for host, _ in addresses(server)} == {"127.0.0.1"}
        await close_peer(browser)
        await close_peer(server)

    run(work())


def test_candidates_may_come_after_the_offer() -> None:
    async def work() -> None:
        browser, server = await offering(Steps(), Tone()), open_peer(LOOPBACK)
        known = re.findall("a=candidate:.*", browser.localDescription.sdp)[0].strip()
        fragment = "\n".join(["m=video 9 RTP/AVP 0", "a=mid:0", UNUSABLE, known])

        async def meet(answer: str) -> None:
            await accept(browser, CANDIDATE.sub("", answer))  # so that it is the server that must find it
            await add_candidates(server, fragment, OfferLimits())

        await met(browser, server, meet)()
        await add_candidates(server, fragment, OfferLimits())  # late, and known
        assert len(server.connections()[0].remote_candidates) == 1
        await close_peer(browser)
        await close_peer(server)
        await add_candidates(server, fragment, OfferLimits())  # gone meanwhile: nothing happens

    run(work())


def test_so_many_may_come_and_no_more() -> None:
    async def work() -> None:
        browser, server = await offering(Steps()), open_peer(LOOPBACK)
        await negotiate(server, check_offer(browser.localDescription.sdp))
        many = [f"a=candidate:1 1 udp 1 127.0.0.1 {2000 + i} typ host" for i in range(20)]
        fragment = "\n".join(["a=mid:0", *many])
        await add_candidates(server, fragment, OfferLimits())
        with pytest.raises(OfferError, match="32 candidates"):
            await add_candidates(server, fragment, OfferLimits())
        assert len(server.connections()[0].remote_candidates) <= 21
        await close_peer(browser)
        await close_peer(server)

    run(work())
