// Puts the lips on the sound at the viewer, closer than browsers do by themselves.
//
// From sender reports a browser knows which moment each picture and each sound is of, and lets the one that is early
// wait. libwebrtc leaves up to 30 ms as they are (kMinDeltaMs in its stream_synchronization.cc). This asks once a
// second which moments are played (estimatedPlayoutTimestamp), and moves the jitter buffer's target of the early one,
// or gives back what it had added to the late one. A browser that does not tell, or does not listen, plays as it
// always did.

const EVERY_MS = 1000
const GAIN = 0.35 // of the error, a step after the first: an answer is seen a step later, and more would swing
const NEAR_MS = 4
const MOST_MS = 300
const UNKNOWN_MS = 5000 // so far apart they are not: one of them has no sender's report yet
const IDLE_MS = 40 // a target that far below what is held does nothing any more
const UNSEEN_MS = 3 // by which pictures are shown before Chromium says so: between 18 and -5, from one start to another

export class LipSync {
  // `peer` receives one picture and one sound; `receivers` are these, for tests.
  constructor(peer, receivers = receiversOf(peer)) {
    this.peer = peer
    this.receivers = receivers
    this.targets = {video: null, audio: null} // what the buffers were asked to hold, ms; null: nothing
    this.ahead = null // by how much the picture shows newer moments than the sound plays, ms
    this.last = {}
  }

  run() {
    const timer = setInterval(async () => {
      if (this.peer.connectionState === 'closed') return clearInterval(timer)
      const stats = {}
      for (const entry of (await this.peer.getStats()).values()) if (entry.type === 'inbound-rtp') stats[entry.kind] = entry
      this.step(stats)
    }, EVERY_MS)
    return this
  }

  // `stats`: {video, audio}, the inbound-rtp entries of getStats().
  step({video, audio}) {
    const held = {video: this.#held(video), audio: this.#held(audio)}
    const ahead = video?.estimatedPlayoutTimestamp - audio?.estimatedPlayoutTimestamp + UNSEEN_MS
    if (!(Math.abs(ahead) < UNKNOWN_MS) || held.video === null || held.audio === null) return
    this.ahead = ahead
    if (Math.abs(ahead) < NEAR_MS) return
    const [early, late] = ahead > 0 ? ['video', 'audio'] : ['audio', 'video']
    const move = GAIN * Math.abs(ahead)
    if (this.targets[late] === null) {
      const more = this.targets[early] === null ? held[early] + Math.abs(ahead) : this.targets[early] + move
      return this.#set(early, Math.min(MOST_MS, more))
    }
    const less = this.targets[late] - move
    this.#set(late, less < Math.max(0, held[late] - IDLE_MS) ? null : less)
  }

  // How long the buffer held what it gave out since the last step, ms; null: nothing.
  #held(entry) {
    const before = this.last[entry?.kind]
    if (entry) this.last[entry.kind] = entry
    const count = before ? entry.jitterBufferEmittedCount - before.jitterBufferEmittedCount : 0
    return count > 0 ? 1000 * (entry.jitterBufferDelay - before.jitterBufferDelay) / count : null
  }

  #set(kind, target) {
    this.targets[kind] = target
    if ('jitterBufferTarget' in this.receivers[kind]) this.receivers[kind].jitterBufferTarget = target
  }
}

function receiversOf(peer) {
  return Object.fromEntries(peer.getReceivers().map(receiver => [receiver.track.kind, receiver]))
}
