// WHIP and WHEP (RFC 9725) from a browser: one offer by HTTP, one answer, one address to delete.

import {LipSync} from './lipsync.js'

const GATHER_MS = 1500
const LEAST_HEIGHT = 720

const NO_WEBRTC = 'This browser has no WebRTC, so nothing can be live in it.'
const VIEWED = 'video/H264'
const NO_H264 = 'The picture comes as H.264, which this browser does not show live. In Firefox it comes with a plugin: '
  + 'open about:addons, choose Plugins, switch on “OpenH264 Video Codec”, wait a minute, and load this page again. '
  + 'Chromium, Chrome, Edge and Safari have it.'

/** A connection with the server. `onlost` is called when it breaks and was not closed here; `met`: it was whole once. */
export class Connection {
  constructor(peer, address, api) {
    this.peer = peer
    this.address = address
    this.api = api
    this.closed = this.met = false
    this.onlost = () => {}
    let waiting = null
    peer.addEventListener('connectionstatechange', () => {
      clearTimeout(waiting)
      if (this.closed) return
      if (peer.connectionState === 'connected') this.met = true
      if (peer.connectionState === 'failed') this.onlost()
      if (peer.connectionState === 'disconnected') waiting = setTimeout(() => this.closed || this.onlost(), 3000)
    })
  }

  async close() {
    if (this.closed) return
    this.closed = true
    this.peer.close()
    await this.api.remove(this.address).catch(() => {})
  }
}

/** Send a stream's picture, and its sound if it has any. */
export async function publish(api, session, stream) {
  const peer = newPeer()
  for (const track of stream.getTracks()) {
    if (track.kind === 'video') track.contentHint = 'motion'
    const transceiver = peer.addTransceiver(track, {
      direction: 'sendonly',
      streams: [stream],
      sendEncodings: track.kind === 'video' ? [{maxBitrate: 4_000_000, scaleResolutionDownBy: 1}] : undefined,
    })
    if (track.kind === 'video') preferH264(transceiver)
  }
  const connection = await connect(api, `/whip/${session}`, peer)
  for (const sender of peer.getSenders()) {
    if (sender.track?.kind !== 'video') continue
    const parameters = sender.getParameters()
    parameters.degradationPreference = 'maintain-resolution'
    await sender.setParameters(parameters).catch(() => {})
  }
  return connection
}

/** Throws, in plain words, where a session cannot be shown. */
export function mayView() {
  if (!window.RTCPeerConnection) throw new Error(NO_WEBRTC)
  const codecs = RTCRtpReceiver.getCapabilities?.('video')?.codecs
  if (codecs && !codecs.some(codec => codec.mimeType === VIEWED)) throw new Error(NO_H264)
}

/** Receive a session into a video element. */
export async function view(api, session, element) {
  const peer = newPeer()
  peer.addTransceiver('video', {direction: 'recvonly'})
  peer.addTransceiver('audio', {direction: 'recvonly'})
  const stream = new MediaStream()
  peer.addEventListener('track', ({track}) => stream.addTrack(track))
  const connection = await connect(api, `/whep/${session}`, peer)
  new LipSync(peer).run()
  element.srcObject = stream
  element.play().catch(() => {}) // answered with the first picture, which may never come
  return connection
}

/** The camera, and the microphone if wanted; in words what is wrong if there is none. */
export async function capture({microphone}) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error('This browser gives no camera to this page. Open it by https, or on this computer itself.')
  }
  const video = {
    width: {ideal: 1280}, height: {ideal: LEAST_HEIGHT}, frameRate: {ideal: 25, max: 30}, facingMode: 'user',
  }
  const audio = microphone && {echoCancellation: true, noiseSuppression: true, autoGainControl: true}
  try {
    return await navigator.mediaDevices.getUserMedia({video, audio})
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The camera cannot be used: ${error.message || error.name}.`, {cause: error})
  }
}

const REASONS = {
  NotAllowedError: 'The camera was refused. Allow it for this page in the browser, then try again.',
  NotFoundError: 'No camera was found. Plug one in, or choose another picture.',
  NotReadableError: 'The camera is in use by another program.',
  OverconstrainedError: 'The camera cannot give a picture of the size that is needed.',
}

function newPeer() {
  if (!window.RTCPeerConnection) throw new Error(NO_WEBRTC)
  return new RTCPeerConnection({iceServers: [], bundlePolicy: 'max-bundle'}) // else Firefox gathers for every track
}

function preferH264(transceiver) {
  const codecs = RTCRtpSender.getCapabilities('video')?.codecs ?? []
  const first = codecs.filter(codec => codec.mimeType === VIEWED)
  if (first.length && transceiver.setCodecPreferences) {
    transceiver.setCodecPreferences([...first, ...codecs.filter(codec => !first.includes(codec))])
  }
}

async function connect(api, path, peer) {
  try {
    await peer.setLocalDescription(await peer.createOffer())
    await gathered(peer)
    const {address, sdp} = await api.offer(path, peer.localDescription.sdp)
    await peer.setRemoteDescription({type: 'answer', sdp})
    return new Connection(peer, address, api)
  } catch (error) {
    peer.close()
    throw error
  }
}

function gathered(peer) {
  return new Promise(resolve => {
    const check = () => peer.iceGatheringState === 'complete' && resolve()
    peer.addEventListener('icegatheringstatechange', check)
    check()
    setTimeout(resolve, GATHER_MS)
  })
}
