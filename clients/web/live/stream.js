// The WebSocket of a session: the voice goes in, events come out. The server says how much sound may wait.

import {pack, unpack} from './msgpack.js'

const VERSION = 1
const PIECE = 4800 // samples at 48 kHz: 100 ms
const RETRY_MS = [500, 1000, 2000, 4000]

/** `onevent(kind, fields)` for every message, `onstate('open' | 'lost')`. It connects again by itself. */
export class VoiceStream {
  constructor(url, token) {
    this.url = url
    this.token = token
    this.onevent = () => {}
    this.onstate = () => {}
    this.tries = 0
    this.ended = false
    this.queue = []
    this.open()
  }

  open() {
    this.sent = 0
    this.until = 0
    this.seq = 0
    const protocols = this.token ? ['livedub.v1', `token.${this.token}`] : ['livedub.v1']
    this.socket = new WebSocket(this.url, protocols)
    this.socket.binaryType = 'arraybuffer'
    this.socket.onmessage = ({data}) => this.take(unpack(new Uint8Array(data)))
    this.socket.onclose = ({code}) => this.lost(code)
  }

  take(message) {
    if (message.t === 'welcome') {
      this.tries = 0
      this.onstate('open')
    }
    if (message.t === 'welcome' || message.t === 'credit') {
      this.until = message.until
      this.pump()
    }
    if (message.t === 'event') this.onevent(message.kind, message.data)
    else this.onevent(message.t, message)
  }

  lost(code) {
    if (this.ended) return
    this.queue = []
    this.onstate('lost')
    if (code === 1001 || code === 1008) return // the session is over, or is not ours
    setTimeout(() => this.ended || this.open(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)])
  }

  /** Queue an utterance: Float32Array at 48 kHz. */
  say(samples, utterance) {
    this.queue.push({t: 'begin', utterance})
    for (let at = 0; at < samples.length; at += PIECE) this.queue.push(samples.subarray(at, at + PIECE))
    this.queue.push({t: 'end', utterance})
    this.pump()
  }

  /** Drop what has not been heard. */
  interrupt() {
    this.queue = []
    this.send({t: 'interrupt'})
  }

  pump() {
    while (this.queue.length) {
      const next = this.queue[0]
      if (next instanceof Float32Array) {
        if (this.sent + next.length > this.until) return
        this.sent += next.length
        this.send({t: 'audio', data: asPcm(next), rate_hz: 48000})
      } else this.send(next)
      this.queue.shift()
    }
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(pack({v: VERSION, seq: this.seq++, ...message}))
  }

  close() {
    this.ended = true
    this.socket.close()
  }
}

function asPcm(samples) {
  const bytes = new Uint8Array(2 * samples.length)
  const out = new DataView(bytes.buffer)
  samples.forEach((value, k) => out.setInt16(2 * k, Math.max(-1, Math.min(1, value)) * 32767, true))
  return bytes
}

/** Any sound file as Float32Array at 48 kHz, mono. */
export async function decodeFile(file) {
  const context = new OfflineAudioContext(1, 1, 48000)
  let buffer
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer())
  } catch {
    throw new Error('That file is no sound that this browser can read.')
  }
  const mono = new Float32Array(buffer.length)
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel)
    for (let k = 0; k < mono.length; k++) mono[k] += samples[k] / buffer.numberOfChannels
  }
  return mono
}
