// The live page: choose a face, a picture and a voice; see the dub and how late it is.
// In the address after #: session=NAME joins one that runs, token=TOKEN is sent with every request.

import {Api} from './api.js'
import {Enrolment} from './enrol.js'
import {Readout} from './readout.js'
import {capture, mayView, publish, view} from './rtc.js'
import {VoiceStream, decodeFile} from './stream.js'

const byId = id => document.getElementById(id)
const given = new URLSearchParams(location.hash.slice(1))
const api = new Api(given.get('token'))
const readout = new Readout(byId('readout'))
const RETRY_MS = [500, 1000, 2000, 4000]
const UNMET = 'The server answers, but its picture and sound do not get through: something between it and this browser '
  + 'keeps back UDP (a firewall, a VPN, a setting of the browser).'
const LANGUAGES = [
  ['en-us+f3', 'English'], ['de+f3', 'Deutsch'], ['es+f3', 'Español'], ['fr+f3', 'Français'], ['it+f3', 'Italiano'],
  ['pl+f3', 'Polski'], ['pt-br+f3', 'Português'], ['tr+f3', 'Türkçe'],
]
let live = null // what runs: {session, own, camera, published, viewed, voice, timer}
let utterance = 0
let shown = null // a session that the page was opened for, and that was left

function fail(error) {
  byId('error').textContent = error ? error.message || String(error) : ''
  byId('error').hidden = !error
}

function state(text) {
  byId('state').textContent = text
}

const chosenVoice = () => document.querySelector('[name=voice]:checked').value

async function start() {
  fail(null)
  byId('start').disabled = true
  try {
    mayView()
    const join = given.get('session')
    given.delete('session')
    live = await (join ? joined(join) : created())
    byId('start').textContent = 'Stop'
    await listen()
    readout.event('ladder', {level: 0})
    live.timer = setInterval(() => sample().catch(() => {}), 1000)
  } catch (error) {
    await stop()
    fail(error)
  } finally {
    byId('start').disabled = false
    enable()
  }
}

async function joined(name) {
  const session = await api.json(`/v1/sessions/${name}`)
  shown = name
  await showProgramme(session.programme)
  return {session: name, own: false}
}

async function created() {
  const picture = byId('picture').value
  const microphone = chosenVoice() === 'microphone'
  const camera = picture === 'camera' || microphone ? await capture({microphone}) : null
  state('preparing…')
  const asked = {
    actor: byId('actor').value,
    voice: microphone ? 'publisher' : 'socket',
    programme: picture === 'camera' ? null : picture,
    look_ahead_ms: Number(byId('look-ahead').value),
    original_delay_ms: Number(byId('original-delay').value),
    idle: byId('idle').value,
  }
  const result = {camera, own: true}
  try {
    if (shown) await api.remove(`/v1/sessions/${shown}`).catch(() => {})
    shown = null
    const session = await api.post('/v1/sessions', asked)
    if (session.token) api.token = session.token
    result.session = session.id
    if (camera) {
      result.published = await publish(api, session.id, camera)
      result.published.onlost = () => lost('published')
      byId('source').srcObject = camera
      byId('source-waiting').hidden = true
    } else await showProgramme(session.programme)
  } catch (error) {
    live = result
    throw error
  }
  return result
}

async function showProgramme(name) {
  if (!name) return
  const address = `/v1/programmes/${encodeURIComponent(name)}`
  if (api.token && !(await api.post(`${address}/watch`, {}).catch(() => null))) return
  const video = byId('source')
  video.srcObject = null
  video.loop = true
  video.src = address
  byId('source-waiting').hidden = true
  byId('credit').hidden = !name.startsWith('portrait')
}

async function listen() {
  state('connecting…')
  const video = byId('dub')
  live.viewed = await view(api, live.session, video)
  live.viewed.onlost = () => lost('viewed')
  live.voice ??= openVoice()
  byId('badge').hidden = false
  byId('unmute').hidden = !video.muted
  const shows = () => {
    if (!live || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return
    byId('dub-waiting').hidden = true
    state('live')
  }
  video.onplaying = shows
  shows()
}

function openVoice() {
  const voice = new VoiceStream(api.stream(live.session), api.token)
  voice.onevent = (kind, fields) => {
    readout.event(kind, fields)
    if (kind === 'playback' && (fields.state ?? 'interrupted') === 'interrupted') byId('said').textContent = `Interrupted after ${fields.played_ms} ms.`
    if (kind === 'closed') stop().then(() => fail(new Error(`The session is over: ${fields.reason ?? 'it ended'}.`)))
    if (kind === 'error' && fields.message) fail(new Error(fields.message))
  }
  voice.onstate = now => enable(now === 'open')
  return voice
}

async function lost(which, tries = 0) {
  if (!live) return
  state('connection lost, trying again…')
  try {
    if (live[which]?.met === false && !live.met) throw Object.assign(new Error(UNMET), {hopeless: true})
    live.met = true
    await live[which]?.close()
    if (which === 'viewed') await listen()
    else {
      live.published = await publish(api, live.session, live.camera)
      live.published.onlost = () => lost('published')
    }
  } catch (error) {
    if (error.hopeless || [401, 404].includes(error.status) || tries >= 20) {
      await stop()
      fail(error)
    } else setTimeout(() => lost(which, tries + 1), RETRY_MS[Math.min(tries, RETRY_MS.length - 1)])
  }
}

async function stop() {
  const ended = live
  live = null
  if (!ended) return
  clearInterval(ended.timer)
  ended.voice?.close()
  await Promise.all([ended.viewed?.close(), ended.published?.close()])
  for (const track of ended.camera?.getTracks() ?? []) track.stop()
  if (ended.own && ended.session) await api.remove(`/v1/sessions/${ended.session}`).catch(() => {})
  for (const id of ['source', 'dub']) {
    byId(id).srcObject = null
    byId(id).removeAttribute('src')
    byId(`${id}-waiting`).hidden = false
  }
  byId('badge').hidden = byId('unmute').hidden = true
  byId('start').textContent = 'Start'
  readout.clear()
  state('not running')
  enable()
}

async function sample() {
  if (!live?.viewed || live.viewed.closed) return
  const measured = await readout.sample(live.viewed.peer)
  if (measured) await api.post(`/v1/sessions/${live.session}/stats`, measured)
}

async function speak() {
  fail(null)
  byId('said').textContent = 'Making the voice…'
  byId('speak').disabled = true
  try {
    const asked = {text: byId('text').value, voice: byId('language').value}
    const said = await api.post(`/v1/sessions/${live.session}/speak`, asked)
    byId('said').textContent = `${(said.duration_ms / 1000).toFixed(1)} s of speech.`
  } catch (error) {
    byId('said').textContent = ''
    fail(error)
  } finally {
    enable()
  }
}

async function play(file) {
  fail(null)
  try {
    const samples = await decodeFile(file)
    live.voice.say(samples, ++utterance)
    byId('said').textContent = `${file.name}: ${(samples.length / 48000).toFixed(1)} s.`
  } catch (error) {
    fail(error)
  }
}

function enable(open = Boolean(live?.voice)) {
  const running = Boolean(live) && open
  const file = chosenVoice() === 'file'
  byId('speak').disabled = byId('interrupt').disabled = !running
  byId('file').disabled = !running
  byId('file-label').hidden = !file
  byId('file-label').classList.toggle('off', !running)
  for (const field of document.querySelectorAll('#setup select, #setup input')) field.disabled = Boolean(live)
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, name]) => new Option(name, value)))
}

async function choices() {
  const known = await api.json('/v1/actors')
  fill(byId('actor'), known.actors.map(({name}) => [name, name]))
  fill(byId('picture'), [...(known.programmes ?? []).map(name => [name, name]), ['camera', 'My camera']])
  byId('look-ahead').value = String(known.defaults.look_ahead_ms)
  byId('original-delay').value = known.defaults.original_delay_ms
  byId('idle').value = known.defaults.idle
  return known
}

async function main() {
  fill(byId('language'), LANGUAGES)
  byId('text').value = 'Hello! I never said these words. My lips follow a voice that this computer makes up right now.'
  byId('setup').addEventListener('submit', event => {
    event.preventDefault()
    if (live) stop()
    else start()
  })
  byId('text-form').addEventListener('submit', event => {
    event.preventDefault()
    if (live) speak()
  })
  byId('text').addEventListener('keydown', event => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) byId('text-form').requestSubmit()
  })
  byId('interrupt').addEventListener('click', () => live?.voice?.interrupt())
  byId('file').addEventListener('change', event => {
    const [file] = event.target.files
    if (file && live) play(file)
    event.target.value = ''
  })
  byId('unmute').addEventListener('click', () => {
    byId('dub').muted = false
    byId('unmute').hidden = true
  })
  document.addEventListener('keydown', event => event.key === 'Escape' && live?.voice?.interrupt())
  document.querySelectorAll('[name=voice]').forEach(field => field.addEventListener('change', () => enable()))
  addEventListener('pagehide', () => stop())
  enable()
  try {
    const known = given.get('session') && given.get('token') ? null : await choices()
    if (known?.enrol) {
      byId('enrol').hidden = false
      new Enrolment(byId('enrol'), api, {
        statement: known.statement,
        uploadBytes: known.limits.upload_bytes,
        onactor: async name => {
          await choices()
          byId('actor').value = name
          byId('picture').value = 'camera'
        },
      })
    }
    if (given.get('session')) await start()
  } catch (error) {
    fail(error)
  }
}

main()
