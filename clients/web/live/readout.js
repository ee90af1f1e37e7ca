// What is happening, once a second: latency by stage, skew, frame rate, ladder, bitrate, from events and getStats.

const NAMES = { // of the server's stages, in their order
  received: 'network', decoded: 'decoding', taken: 'planned wait', tracked: 'face',
  queued: 'rest of the sound', dubbed: 'mouth', encoded: 'encoding', first_packet: 'sending',
}
const STAGES = Object.keys(NAMES)
const RUNGS = ['everything', 'mouth at half rate', 'lower picture quality', 'new sound only']
const HISTORY = 120

export class Readout {
  constructor(root) {
    this.root = root
    this.history = []
    this.last = null
    this.field = name => root.querySelector(`[data-value="${name}"]`)
  }

  /** A `latency` or `ladder` event of the session. */
  event(kind, fields) {
    if (kind === 'latency') {
      this.set('latency', fields.mouth_ms, 'ms')
      this.set('skew', fields.skew_ms, 'ms')
      this.bars(fields.stages_ms ?? {})
      if (Number.isFinite(fields.mouth_ms)) {
        this.history.push(fields.mouth_ms)
        this.history.splice(0, this.history.length - HISTORY)
        this.draw()
      }
    }
    if (kind === 'ladder') this.text('ladder', RUNGS[fields.level] ?? String(fields.level))
    if (kind === 'face') this.text('face', fields.text ?? fields.shown ?? '')
  }

  /** Once a second: what the browser itself receives. */
  async sample(peer) {
    const now = {at: performance.now()}
    for (const entry of (await peer.getStats()).values()) if (entry.type === 'inbound-rtp') now[entry.kind] = entry
    const before = this.last
    this.last = now
    if (!now.video || !before?.video) return null
    const seconds = (now.at - before.at) / 1000
    const per = name => (now.video[name] - before.video[name]) / seconds
    this.set('fps', per('framesDecoded'))
    this.set('bitrate', (8 * per('bytesReceived')) / 1e6, 'Mbit/s', 1)
    this.set('freezes', now.video.freezeCount ?? 0)
    const emitted = now.video.jitterBufferEmittedCount - before.video.jitterBufferEmittedCount
    return {
      freezes: (now.video.freezeCount ?? 0) - (before.video.freezeCount ?? 0),
      frames_decoded: now.video.framesDecoded - before.video.framesDecoded,
      frames_dropped: now.video.framesDropped - before.video.framesDropped,
      jitter_buffer_s: emitted > 0 ? (now.video.jitterBufferDelay - before.video.jitterBufferDelay) / emitted : null,
    }
  }

  clear() {
    for (const field of this.root.querySelectorAll('[data-value]')) field.textContent = '–'
    this.history = []
    this.last = null
    this.bars({})
    this.draw()
  }

  set(name, value, unit = '', digits = 0) {
    this.text(name, Number.isFinite(value) ? `${value.toFixed(digits)}${unit && ' '}${unit}` : '–')
  }

  text(name, value) {
    const field = this.field(name)
    if (field && field.textContent !== value) field.textContent = value
  }

  bars(stages) {
    const list = this.root.querySelector('.stages')
    const total = STAGES.reduce((sum, stage) => sum + (stages[stage] ?? 0), 0)
    list.replaceChildren(...STAGES.filter(stage => stages[stage] > 0.05).map(stage => {
      const item = document.createElement('li')
      item.dataset.stage = stage
      item.style.flexGrow = stages[stage] / total
      item.textContent = `${NAMES[stage]} ${stages[stage].toFixed(0)}`
      item.title = `${NAMES[stage]}: ${stages[stage].toFixed(1)} ms`
      return item
    }))
  }

  draw() {
    const canvas = this.root.querySelector('canvas')
    const context = canvas.getContext('2d')
    const {width, height} = canvas
    context.clearRect(0, 0, width, height)
    if (this.history.length < 2) return
    const most = Math.max(250, ...this.history)
    context.strokeStyle = getComputedStyle(canvas).color
    context.lineWidth = 2
    context.beginPath()
    this.history.forEach((value, k) => {
      context.lineTo((k / (HISTORY - 1)) * width, height - 2 - (value / most) * (height - 4))
    })
    context.stroke()
  }
}
