"""The page's lip sync, in a real Chromium: against buffers that do as they are told, and real receivers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.chromium import needs_chromium, opened

pytestmark = needs_chromium
LIVE = Path(__file__).resolve().parents[2] / "clients" / "web" / "live"

# Buffers hold what they need, or more if told; each second they say which moment they play.
PLAYED = """(async (needs_by_second, tells) => {
  const {LipSync} = await import('/lipsync.js')
  const receivers = {video: {jitterBufferTarget: null}, audio: {jitterBufferTarget: null}}
  const lips = new LipSync(null, receivers)
  const total = {video: {count: 0, delay: 0}, audio: {count: 0, delay: 0}}
  return needs_by_second.map((needs, second) => {
    const entries = {}
    for (const kind of ['video', 'audio']) {
      const held = Math.max(needs[kind], receivers[kind].jitterBufferTarget ?? 0)
      total[kind].count += 25
      total[kind].delay += 25 * held / 1000
      const {count, delay} = total[kind]
      entries[kind] = {kind, jitterBufferEmittedCount: count, jitterBufferDelay: delay}
      if (tells) entries[kind].estimatedPlayoutTimestamp = 1000 * second - held
    }
    lips.step(entries)
    return [entries.audio.estimatedPlayoutTimestamp - entries.video.estimatedPlayoutTimestamp,
            receivers.video.jitterBufferTarget, receivers.audio.jitterBufferTarget]
  })
})"""

RECEIVERS = """(async () => {
  const {LipSync} = await import('/lipsync.js')
  const peer = new RTCPeerConnection()
  peer.addTransceiver('video', {direction: 'recvonly'})
  peer.addTransceiver('audio', {direction: 'recvonly'})
  const lips = new LipSync(peer)
  const entry = (kind, k) => ({kind, jitterBufferEmittedCount: k, jitterBufferDelay: k * 0.06})
  for (const k of [1, 2]) {
    const moment = {video: 100, audio: 0}
    const of = kind => ({...entry(kind, k), estimatedPlayoutTimestamp: moment[kind]})
    lips.step({video: of("video"), audio: of("audio")})
  }
  peer.close()
  return [lips.receivers.video.jitterBufferTarget, lips.receivers.audio.jitterBufferTarget]
})"""

# For so many seconds, the picture's and the sound's buffers need so many ms.
PICTURE_EARLY, SOUND_EARLY, FAR, TURNS, NEAR, UNKNOWN = (
    [(20, 40, 100)],
    [(20, 120, 60)],
    [(20, 20, 240)],
    [(15, 40, 120), (25, 90, 60)],
    [(10, 60, 60)],
    [(10, 60, 4_000_000_000)],
)


async def _asked(expressions: list[str]) -> list[Any]:
    """The values of JavaScript in a page that has the module beside it."""

    async def blank(request: web.Request) -> web.Response:
        del request
        return web.Response(text="<!doctype html><title>here</title>", content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", blank), web.static("/", LIVE)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with asyncio.timeout(90), opened(f"http://127.0.0.1:{runner.addresses[0][1]}/") as page:
            await page.until("document.title === 'here'")
            return [await page.ask(expression) for expression in expressions]
    finally:
        await runner.cleanup()


def _played(parts: list[tuple[int, int, int]], *, tells: bool = True) -> str:
    needs = [{"video": video, "audio": audio} for count, video, audio in parts for _ in range(count)]
    return f"{PLAYED}({json.dumps(needs)}, {json.dumps(tells)})"


@pytest.fixture(scope="module")
def answers() -> list[Any]:
    """Second by second: by how much the picture is late, and both targets; of real receivers, the targets."""
    scenes = [_played(parts) for parts in (PICTURE_EARLY, SOUND_EARLY, FAR, TURNS, NEAR, UNKNOWN)]
    return asyncio.run(_asked([*scenes, _played(FAR, tells=False), f"{RECEIVERS}()"]))


@pytest.mark.parametrize(("scene", "late_ms"), [(0, -60), (1, 60), (2, -220)])
def test_what_is_early_waits(answers: list[Any], scene: int, late_ms: float) -> None:
    rows = answers[scene]
    assert rows[0][0] == late_ms
    assert all(abs(late) <= 10 for late, _, _ in rows[12:])
    assert sum(target is not None for target in rows[-1][1:]) == 1


def test_what_was_added_is_given_back_when_the_network_turns(answers: list[Any]) -> None:
    rows = answers[3]
    assert all(abs(late) <= 10 for late, _, _ in rows[-10:])
    assert rows[14][1] > 100
    assert rows[-1][1] is None  # the picture waits for nothing any more
    assert 75 <= rows[-1][2] <= 100  # but the sound does


def test_near_enough_is_left_alone(answers: list[Any]) -> None:
    assert all(row[1:] == [None, None] for row in answers[4])


def test_what_no_report_has_placed_yet_is_left_alone(answers: list[Any]) -> None:
    assert all(row[1:] == [None, None] for row in answers[5])


def test_a_browser_that_does_not_tell_plays_as_it_did(answers: list[Any]) -> None:
    assert all(row[1:] == [None, None] for row in answers[6])


def test_chromiums_own_receivers_listen(answers: list[Any]) -> None:
    video_ms, audio_ms = answers[7]
    assert video_ms > 60
    assert audio_ms is None
