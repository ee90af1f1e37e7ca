import asyncio
import random
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import OfferError
from streaming.rtc.peer import close_peer, negotiate, open_peer
from streaming.rtc.sdp import OfferLimits, allowed_address, check_fragment, check_offer, encourage
from tests.support.rtc_peers import LOOPBACK, Steps, Tone, offering, run, worst_stall_ms

NUMBERS = [-1, 0, 255, 65_536, 2**31, 2**64, 10**30]
ATTRIBUTES = [
    "candidate:1 1 udp 1 a.b.local 9 typ host",
    "candidate:",
    "fingerprint:sha-256",
    "ssrc:1",
    "rtpmap:",
    "fmtp:97 a;b=",
    "extmap:",
    "group:BUNDLE",
    "msid:",
    "rtcp-fb:",
    "setup:foo",
    "mid:",
    "ssrc-group:FID 1",
    "sctp-port:x",
    "ice-ufrag:",
    "crypto:1",
]


@cache
def good_offer() -> str:
    async def work() -> str:
        peer = await offering(Steps(), Tone())
        sdp = str(peer.localDescription.sdp)
        await close_peer(peer)
        return sdp

    return run(work())


def with_lines(*lines: str) -> str:
    return good_offer() + "".join(f"{line}\r\n" for line in lines)


def candidates(sdp: str) -> list[str]:
    return [line for line in sdp.split("\r\n") if line.startswith("a=candidate:")]


def mutate(sdp: str, r: random.Random) -> str:
    """One kind of damage, done one to three times."""
    lines = sdp.split("\r\n")
    kind = r.choice(
        ["delete", "cut", "repeat", "character", "numbers", "join", "shuffle", "append", "attribute"]
    )
    for _ in range(r.randrange(1, 4)):
        if not lines:
            break
        i, other = r.randrange(len(lines)), r.choice(lines)
        line = lines[i]
        match kind:
            case "delete":
                del lines[i]
            case "cut":
                lines[i] = line[: r.randrange(len(line) + 1)]
            case "repeat":
                lines.insert(i, other)
            case "character" if line:
                j = r.randrange(len(line))
                lines[i] = line[:j] + chr(r.randrange(1, 0x2FFF)) + line[j + 1 :]
            case "numbers":
                lines[i] = re.sub(r"\d+", lambda _: str(r.choice(NUMBERS)), line)
            case "join":
                lines[i] = line.replace(" ", "", 1)
            case "shuffle":
                r.shuffle(lines)
            case "append":
                lines[i] = f"{line} {other}"
            case "attribute":
                lines[i] = "a=" + r.choice(ATTRIBUTES)
    return "\r\n".join(lines)


def test_a_good_offer_passes_unchanged_but_for_its_end_of_candidates() -> None:
    offer = good_offer()
    assert "a=end-of-candidates" in offer
    assert check_offer(offer) == offer.replace("a=end-of-candidates\r\n", "")
    assert candidates(check_offer(offer))


def test_lf_line_ends_become_crlf() -> None:
    assert check_offer(good_offer().replace("\r\n", "\n")) == check_offer(good_offer())


@pytest.mark.parametrize(
    ("offer", "says"),
    [
        ("", "not SDP"),
        ("hello", "not SDP"),
        ("v=0\r\n" * 2001, "too many lines"),
        ("v=0\r\na=" + "x" * 5000, "too long"),
        ("v=0\r\n", "1 to 8 media sections, this one has 0"),
        ("v=0\r\n" + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" * 9, "this one has 9"),
        ("v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "data channels"),
        ("v=0\r\nm=text 9 UDP/TLS/RTP/SAVPF 0\r\n", "only audio and video"),
        ("v=0\r\nm=audio 9 RTP/AVP 0\r\n", "UDP/TLS/RTP/SAVPF"),
        ("v=0\r\nm=audio 9 TCP/TLS/RTP/SAVPF 0\r\n", "UDP/TLS/RTP/SAVPF"),
        ("v=0\r\nm=audio\r\n", "UDP/TLS/RTP/SAVPF"),
        ("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", "lacks ICE credentials"),
        ("v=0\r\na=tool:\x00\r\n", "control characters"),
        ("x" * 70_000, "65536 bytes, this one has 70000"),
    ],
)
def test_what_is_no_offer_for_us_is_refused_in_plain_words(offer: str, says: str) -> None:
    with pytest.raises(OfferError, match=says):
        check_offer(offer)


def test_size_counts_in_bytes() -> None:
    with pytest.raises(OfferError, match="bytes"):
        check_offer("v=0\r\na=" + "ü" * 40_000)


def test_an_offer_without_a_fingerprint_or_with_sdes_keys_is_refused() -> None:
    bare = "\r\n".join(line for line in good_offer().split("\r\n") if "fingerprint" not in line)
    with pytest.raises(OfferError, match="fingerprint"):
        check_offer(bare)
    with pytest.raises(OfferError, match="SDES"):
        check_offer(with_lines("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x"))


def test_a_flood_of_candidates_is_refused() -> None:
    flood = [f"a=candidate:1 1 udp 1 192.0.2.{i} {2000 + i} typ host" for i in range(32)]
    with pytest.raises(OfferError, match="32 candidates, this one has"):
        check_offer(with_lines(*flood))


def test_candidates_that_cost_nothing_do_not_count() -> None:
    useless = [f"a=candidate:{i} 2 UDP 1 192.0.2.{i} {2000 + i} typ host" for i in range(20)]
    useless += [f"a=candidate:{i} 1 TCP 1 192.0.2.{i} 9 typ host tcptype active" for i in range(20)]
    assert candidates(check_offer(with_lines(*useless))) == candidates(good_offer())


FRAGMENT = """a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
m=audio 9 RTP/AVP 0
a=mid:0
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1
a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0 ufrag EsAw
m=video 9 RTP/AVP 0
a=mid:1
a=candidate:3471623853 1 udp 2122194687 abcd.local 61765 typ host generation 0 ufrag EsAw network-id 2
a=candidate:3471623854 1 udp 2122194687 2001:db8::1 61766 typ host
a=end-of-candidates
"""


def test_a_fragment_gives_the_candidates_that_can_be_tried_with_their_section() -> None:
    found = [(section, line.split()[4]) for section, line in check_fragment(FRAGMENT)]
    assert found == [("0", "192.0.2.1"), ("1", "2001:db8::1")]
    assert check_fragment(FRAGMENT.replace("\n", "\r\n")) == check_fragment(FRAGMENT)
    assert check_fragment(FRAGMENT, OfferLimits(allow_private=False)) == []
    assert check_fragment("a=ice-ufrag:x\r\na=end-of-candidates\r\n") == []


@pytest.mark.parametrize(
    ("fragment", "says"),
    [
        ("a=candidate:1 1 udp 1 192.0.2.1 2000 typ host\n", "a=mid"),
        ("a=mid:0\n" + "a=candidate:1 1 udp 1 192.0.2.1 2000 typ host\n" * 33, "32 candidates, here are 33"),
        ("a=mid:0\n" * 2001, "too many lines"),
        ("a=mid:\x00\n", "control characters"),
        ("a" * 70_000, "65536 bytes"),
    ],
)
def test_what_is_no_fragment_for_us_is_refused(fragment: str, says: str) -> None:
    with pytest.raises(OfferError, match=says):
        check_fragment(fragment)


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 udp 1 abcd.local 50000 typ host",
        "1 1 udp 1 example.org 50000 typ host",
        "1 1 tcp 1 192.0.2.9 50000 typ host tcptype active",
        "1 2 udp 1 192.0.2.9 50000 typ host",
        "1 1 udp 1 192.0.2.9 53 typ host",
        "1 1 udp 1 192.0.2.9 0 typ host",
        "1 1 udp 1 192.0.2.9 70000 typ host",
        "1 1 udp 1 192.0.2.9 ٣٣٣٣ typ host",
        "1 1 udp x 192.0.2.9 50000 typ host",
        "1 1 udp 1 169.254.169.254 50000 typ host",
        "1 1 udp 1 224.0.0.1 50000 typ host",
        "1 1 udp 1 255.255.255.255 50000 typ host",
        "1 1 udp 1 0.0.0.0 50000 typ host",
        "1 1 udp 1 :: 50000 typ host",
        "1 1 udp 1 ff02::1 50000 typ host",
        "1 1 udp 1 ::ffff:169.254.169.254 50000 typ host",
        "1 1 udp",
        "",
    ],
)
def test_candidates_that_must_not_be_tried_are_dropped(candidate: str) -> None:
    line = f"a=candidate:{candidate}"
    assert candidates(check_offer(with_lines(line))) == candidates(good_offer())


@pytest.mark.parametrize(
    ("host", "private", "public"),
    [
        ("127.0.0.1", True, False),
        ("10.1.2.3", True, False),
        ("192.168.1.1", True, False),
        ("100.64.0.1", True, False),
        ("::1", True, False),
        ("fd00::1", True, False),
        ("fe80::1", True, False),
        ("::ffff:10.0.0.1", True, False),
        ("2002:0a00:0001::1", True, False),
        ("64:ff9b::a00:1", True, False),
        ("8.8.8.8", True, True),
        ("2001:4860:4860::8888", True, True),
        ("169.254.169.254", False, False),
        ("224.0.0.1", False, False),
        ("host.example", False, False),
        ("1.2.3", False, False),
        ("0x7f000001", False, False),
    ],
)
def test_addresses_are_allowed_by_policy(host: str, private: bool, public: bool) -> None:
    assert allowed_address(host, allow_private=True) is private
    assert allowed_address(host, allow_private=False) is public


def test_a_public_server_drops_private_candidates() -> None:
    public = "a=candidate:1 1 udp 1 8.8.8.8 50000 typ srflx raddr 0.0.0.0 rport 0"
    checked = check_offer(with_lines(public), OfferLimits(allow_private=False))
    assert candidates(checked) == [public]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=300), st.integers(0, 10_000))
def test_whatever_is_put_in_an_offer_passes_or_is_an_offer_error(text: str, at: int) -> None:
    offer = good_offer()
    at %= len(offer)
    try:
        checked = check_offer(offer[:at] + text + offer[at:])
    except OfferError:
        return
    assert checked.startswith("v=0")
    assert len(candidates(checked)) <= 32


def test_five_hundred_mutated_offers_are_answered_or_refused_and_leave_nothing() -> None:
    offer, r = good_offer(), random.Random(1)
    outcomes = {"answered": 0, "refused": 0}

    async def work() -> float:
        stop = asyncio.Event()
        watching = asyncio.ensure_future(worst_stall_ms(stop))
        for _ in range(500):
            peer = open_peer(LOOPBACK)
            try:
                answer = await negotiate(peer, check_offer(mutate(offer, r)))
                assert answer.startswith("v=0")
                outcomes["answered"] += 1
            except OfferError:
                outcomes["refused"] += 1
            await close_peer(peer)
            assert not any(agent._protocols for agent in peer.connections())
        stop.set()
        return await watching

    stall_ms = run(work(), within_s=120)
    assert sum(outcomes.values()) == 500
    assert min(outcomes.values()) > 50
    assert stall_ms < 50


def test_an_answer_asks_for_error_correction_and_a_good_start() -> None:
    async def work() -> str:
        peer = open_peer(LOOPBACK)
        sdp = await negotiate(peer, check_offer(good_offer()))
        await close_peer(peer)
        return sdp

    answer = run(work())
    lines = encourage(answer, 3_000_000).split("\r\n")
    opus = next(line for line in lines if line.startswith("a=rtpmap:") and "opus/" in line)
    number = opus[len("a=rtpmap:") :].split()[0]
    assert f"a=fmtp:{number} minptime=10;useinbandfec=1" in lines
    starts = [line for line in lines if "x-google-start-bitrate=3000" in line]
    coded = [line for line in lines if re.match(r"a=rtpmap:\d+ (VP8|H264)/90000", line)]
    assert len(starts) == len(coded) > 1
    assert [line for line in lines if "apt=" in line] == [s for s in answer.split("\r\n") if "apt=" in s]
