"""The live page in a real Firefox on the real server: what it shows, sends, records and says."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from aioice.ice import get_host_addresses

from clients.serve import live_server
from tests.integration.test_live_page import ERROR, LIVE, settings
from tests.integration.test_live_session import folder  # noqa: F401  the film and the toy actor
from tests.support.firefox import (
    DARK,
    FAKE_CAMERA,
    LIGHT,
    SHOWS_H264,
    FoxPage,
    Preferences,
    needs_firefox,
    opened,
)

needs_address = pytest.mark.skipif(
    not get_host_addresses(use_ipv4=True, use_ipv6=True),
    reason="no address but loopback, which Firefox avoids",
)
pytestmark = [needs_firefox, needs_address, pytest.mark.slow]
Scene = Callable[[FoxPage], Awaitable[None]]

PEERS = """globalThis.peers = [], globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); peers.push(this) }
}, 1"""
RATE_HZ = """new Promise(done => {
  const video = document.getElementById('dub')
  let count = 0, began = 0
  const next = (now, {mediaTime}) => {
    began ||= now
    if (count++ === 25) done(25000 / (now - began))
    else video.requestVideoFrameCallback(next)
  }
  video.requestVideoFrameCallback(next)
})"""
STATS = (
    "Promise.all(peers.map(peer => peer.getStats())).then(all => all.flatMap(stats => [...stats.values()]))"
)
HEARD = f"""{STATS}.then(all => all.filter(entry => entry.type === 'inbound-rtp' && entry.kind === 'audio')
  .reduce((sum, entry) => sum + entry.totalAudioEnergy, 0))"""
SENT = f"""{STATS}.then(all => all.filter(entry => entry.type === 'outbound-rtp' && entry.packetsSent > 50)
  .map(entry => entry.kind).sort().join())"""
OVERLAP = """(([label, button]) => button.bottom > label.top && button.left < label.right)(
  ['badge', 'unmute'].map(id => document.getElementById(id).getBoundingClientRect()))"""
TRICKLED = """(async () => {
  const peer = new RTCPeerConnection({bundlePolicy: 'max-bundle'}), found = []
  const gathered = new Promise(done => peer.addEventListener('icecandidate', ({candidate}) =>
    candidate?.candidate ? found.push(`a=${candidate.candidate}`) : done()))
  const met = new Promise(done => peer.addEventListener('connectionstatechange', () =>
    peer.connectionState === 'connected' && done()))
  peer.addTransceiver('audio', {direction: 'recvonly'})
  await peer.setLocalDescription(await peer.createOffer())
  const offer = peer.localDescription.sdp.replaceAll(/a=(candidate|end-of-candidates).*\\r\\n/g, '')
  const session = (await SESSIONS)[0].id, type = {'Content-Type': 'application/sdp'}
  const made = await fetch(`/whep/${session}`, {method: 'POST', body: offer, headers: type})
  await peer.setRemoteDescription({type: 'answer', sdp: await made.text()})
  await gathered
  const keys = offer.match(/a=ice-(ufrag|pwd):\\S+/g)
  const body = [...keys, 'm=audio 9 RTP/AVP 0', 'a=mid:0', ...found, 'a=end-of-candidates'].join('\\r\\n')
  const more = {'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': made.headers.get('ETag')}
  const where = made.headers.get('Location')
  const patched = await fetch(where, {method: 'PATCH', body, headers: more})
  await met
  peer.close()
  return [found.length > 0, patched.status, (await fetch(where, {method: 'DELETE'})).status]
})()"""
SESSIONS = "fetch('/v1/sessions').then(answer => answer.json()).then(answer => answer.sessions)"


def visit(folder: Path, scene: Scene, preferences: Preferences, expected: str = "nothing") -> None:  # noqa: F811
    """Run a scene on the page of a server with the toy actor; complaints are `expected`, or none."""

    async def whole() -> None:
        async with (
            asyncio.timeout(150),
            live_server(settings(folder)) as url,
            opened(f"{url}/", preferences) as page,
        ):
            await page.until("document.getElementById('actor')?.options.length > 0")
            await page.ask(PEERS)
            await scene(page)
            assert [line for line in page.complaints if expected not in line] == []

    asyncio.run(whole())


async def begin(page: FoxPage, picture: str) -> None:
    await page.ask(f"document.getElementById('picture').value = '{picture}'")
    await page.ask("document.getElementById('start').click()")
    await page.until(f"{LIVE} || {ERROR}", 60)
    assert await page.ask(ERROR) == ""


async def end(page: FoxPage) -> None:
    await page.ask("document.getElementById('start').click()")
    await page.until("document.getElementById('state').textContent === 'not running'")
    assert await page.ask(SESSIONS) == []
    assert await page.ask("peers.map(peer => peer.connectionState)") == ["closed"] * await page.ask(
        "peers.length"
    )


def test_a_programme_is_seen_and_heard_and_without_a_camera_it_says_so(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    async def scene(page: FoxPage) -> None:
        await page.size(1280, 1000)
        await begin(page, "film.mp4")
        assert await page.ask(RATE_HZ) > 5  # on a busy machine; 25 is what is sent
        await page.until("document.querySelector('[data-value=bitrate]').textContent.length > 1", 20)
        silence = await page.ask(HEARD)
        await page.ask("document.getElementById('speak').click()")
        await page.until(f"{HEARD}.then(energy => energy > {silence} + 1e-4)", 30)
        await page.picture(tmp_path / "wide.png")
        assert await page.ask(TRICKLED.replace("SESSIONS", SESSIONS)) == [True, 204, 200]
        await page.size(360, 740)
        assert await page.ask("document.documentElement.scrollWidth") <= 360
        await end(page)
        await page.ask("document.getElementById('picture').value = 'camera'")
        await page.ask("document.getElementById('start').click()")
        assert "camera" in await page.until(ERROR)  # there is none

    visit(folder, scene, {**SHOWS_H264, **LIGHT})
    wide = cv2.imread(str(tmp_path / "wide.png"))
    assert wide is not None
    assert wide[80:380, 660:1220].std() > 20  # the dub shows a picture
    assert np.median(wide) > 200  # light


def test_a_camera_and_a_microphone_go_live_and_are_let_go(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    async def scene(page: FoxPage) -> None:
        await page.size(360, 740)
        await page.ask("document.querySelector('[value=microphone]').click()")
        await page.ask("RTCRtpSender.getCapabilities = () => null, 1")  # so it sends VP8
        await begin(page, "camera")
        assert await page.ask("document.getElementById('source').srcObject.getTracks().length") == 2
        assert await page.ask(RATE_HZ) > 5
        await page.until(f"{SENT}.then(kinds => kinds === 'audio,video')", 30)
        await page.until(f"{HEARD}.then(energy => energy > 1e-4)", 30)  # the tone, as the dub's voice
        assert not await page.ask(OVERLAP)  # what says that it is a dub is seen
        await page.picture(tmp_path / "phone.png")
        await end(page)
        assert await page.ask("document.getElementById('source').srcObject") is None

    visit(folder, scene, {**SHOWS_H264, **FAKE_CAMERA, **DARK})
    phone = cv2.imread(str(tmp_path / "phone.png"))
    assert phone is not None
    assert phone.shape[1] <= 360  # less a scroll bar
    assert np.median(phone) < 60  # dark


def test_what_does_not_get_through_is_told(folder: Path) -> None:  # noqa: F811
    deaf = """RTCPeerConnection.prototype.setRemoteDescription = (original => function ({type, sdp}) {
      return original.call(this, {type, sdp: sdp.replaceAll(/a=candidate.*\\r\\n/g, '')})
    })(RTCPeerConnection.prototype.setRemoteDescription), 1"""

    async def scene(page: FoxPage) -> None:
        await page.ask(deaf)
        await page.ask("document.getElementById('start').click()")
        assert "UDP" in await page.until(ERROR, 30)
        assert await page.ask(SESSIONS) == []

    soon = {"media.peerconnection.ice.trickle_grace_period": 300}
    visit(folder, scene, {**SHOWS_H264, **soon}, expected="ICE failed")


def test_without_h264_it_says_what_to_do_and_a_face_can_be_recorded_all_the_same(folder: Path) -> None:  # noqa: F811
    said = "document.getElementById('enrol-status').textContent"

    async def scene(page: FoxPage) -> None:
        await page.ask("document.getElementById('start').click()")
        assert "about:addons" in await page.until(ERROR)
        assert await page.ask(SESSIONS) == []
        await page.ask("document.getElementById('enrol-consent').click()")
        await page.ask("document.getElementById('enrol-record').click()")
        await page.until(
            f"/Talk to the camera: 1 of 10 s. [A-Z]/.test({said})", 20
        )  # and what could be better
        await page.ask("document.getElementById('enrol-record').click()")
        await page.until(f"/too short/.test({said})", 10)
        assert await page.ask("document.getElementById('enrol-preview').srcObject") is None

    visit(folder, scene, FAKE_CAMERA)
