// Learn a face: record some seconds or choose a file, agree to the statement, watch the server learn.

import {sentence} from './api.js'
import {capture} from './rtc.js'

const LONGEST_S = 10
const LEAST_S = 4

export class Enrolment {
  constructor(root, api, {statement, uploadBytes, onactor}) {
    this.root = root
    this.api = api
    this.uploadBytes = uploadBytes
    this.onactor = onactor
    this.recorder = null
    this.part = name => root.querySelector(`#enrol-${name}`)
    this.part('statement').textContent = statement
    this.part('consent').addEventListener('change', () => this.enable())
    this.part('record').addEventListener('click', () => (this.recorder ? this.recorder.stop() : this.guard(this.record())))
    this.part('choose').addEventListener('change', event => {
      const [file] = event.target.files
      if (file) this.guard(this.learn(file))
      event.target.value = ''
    })
    this.part('cancel').addEventListener('click', () => this.cancelled?.())
    this.enable()
  }

  enable() {
    const may = this.part('consent').checked && !this.busy
    this.part('record').disabled = !may
    this.part('choose').disabled = !may
    this.part('choose').parentElement.classList.toggle('off', !may)
  }

  async guard(work) {
    this.busy = true
    this.enable()
    try {
      await work
    } catch (error) {
      this.say(error.message)
    } finally {
      this.busy = false
      this.enable()
      this.part('progress').hidden = this.part('cancel').hidden = true
    }
  }

  say(text) {
    this.part('status').textContent = text
  }

  async record() {
    if (!window.MediaRecorder) throw new Error('This browser cannot record. Choose a file instead.')
    const stream = await capture({microphone: true})
    const preview = this.part('preview')
    preview.srcObject = stream
    preview.hidden = false
    await preview.play().catch(() => {})
    try {
      const video = await this.recorded(stream)
      await this.learn(video)
    } finally {
      for (const track of stream.getTracks()) track.stop()
      preview.hidden = true
      preview.srcObject = null
    }
  }

  recorded(stream) {
    const type = ['video/webm;codecs=h264,opus', 'video/webm;codecs=vp8,opus', 'video/mp4']
      .find(name => MediaRecorder.isTypeSupported(name))
    const recorder = new MediaRecorder(stream, {mimeType: type, videoBitsPerSecond: 8_000_000})
    const parts = []
    const began = performance.now()
    const button = this.part('record')
    this.recorder = recorder
    button.disabled = false
    button.textContent = 'Stop'
    const seconds = () => (performance.now() - began) / 1000
    const watch = setInterval(() => {
      this.say(`Talk to the camera: ${Math.min(LONGEST_S, seconds()).toFixed(0)} of ${LONGEST_S} s. ${hint(this.part('preview'))}`)
      if (seconds() >= LONGEST_S && recorder.state === 'recording') recorder.stop()
    }, 250)
    return new Promise((resolve, reject) => {
      recorder.addEventListener('dataavailable', ({data}) => parts.push(data))
      recorder.addEventListener('stop', () => {
        clearInterval(watch)
        this.recorder = null
        button.textContent = 'Record 10 seconds'
        if (seconds() < LEAST_S) reject(new Error(`That was too short: ${LEAST_S} seconds at least, please.`))
        else resolve(new Blob(parts, {type: recorder.mimeType}))
      })
      recorder.start(500)
    })
  }

  async learn(video) {
    if (video.size > this.uploadBytes) throw new Error(`That video is larger than ${this.uploadBytes >> 20} MB.`)
    const name = `me-${new Date().toISOString().slice(0, 19).replace(/\D/g, '')}`
    const subject = encodeURIComponent(this.part('name').value)
    this.say('Sending the video…')
    const begun = await this.api.json(`/v1/actors/${name}?consent=yes&subject=${subject}`, {method: 'POST', body: video})
    this.part('cancel').hidden = false
    this.cancelled = () => this.api.remove(`/v1/enrolments/${begun.id}`).catch(() => {})
    await this.follow(begun.id)
    await this.onactor(name)
  }

  async follow(id) {
    const bar = this.part('progress')
    bar.hidden = false
    for (let after = -1; ;) {
      const now = await this.api.json(`/v1/enrolments/${id}?after=${after}`)
      after = now.version ?? after + 1
      if (Number.isFinite(now.fraction)) bar.value = now.fraction
      else bar.removeAttribute('value')
      this.say(now.error ? sentence(now.error) : `${now.text ?? 'Learning'}…`)
      if (now.state === 'done') return this.say(learned(now.report))
      if (now.state === 'failed') throw new Error(sentence(now.error ?? 'the face could not be learned'))
      if (now.state === 'stopped') throw new Error('Stopped.')
    }
  }
}

function learned(report) {
  const missing = report?.not_learned ?? report?.messages ?? []
  return ['Your face is learned.', ...missing.map(sentence)].join(' ')
}

/** What could be better about the picture; empty if nothing. */
function hint(video) {
  if (!video.videoWidth) return ''
  const canvas = new OffscreenCanvas(64, 36)
  const context = canvas.getContext('2d', {willReadFrequently: true})
  context.drawImage(video, 0, 0, 64, 36)
  const pixels = context.getImageData(16, 4, 32, 28).data
  let sum = 0
  for (let k = 0; k < pixels.length; k += 4) sum += 0.2126 * pixels[k] + 0.7152 * pixels[k + 1] + 0.0722 * pixels[k + 2]
  const light = (4 * sum) / pixels.length
  if (light < 50) return 'It is dark: turn to a light.'
  if (light > 215) return 'It is very bright: turn from the window.'
  if (video.videoHeight < 480) return 'The picture is small: the face should fill a third of it.'
  return 'Look at the camera, and show your teeth now and then.'
}
