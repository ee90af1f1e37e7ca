// The server's REST surface, with errors in plain words.

/** All requests go through here; the token, if any, comes after # in the address and is never sent in one. */
export class Api {
  constructor(token) {
    this.token = token
  }

  headers(more = {}) {
    return this.token ? {Authorization: `Bearer ${this.token}`, ...more} : more
  }

  async ask(path, options = {}) {
    let answer
    try {
      answer = await fetch(path, {...options, headers: this.headers(options.headers)})
    } catch {
      throw new Error('The server does not answer. Is it still running?')
    }
    if (answer.ok) return answer
    const said = await answer.json().catch(() => ({}))
    throw Object.assign(new Error(inWords(answer.status, said.error, Boolean(this.token))), {status: answer.status})
  }

  async json(path, options = {}) {
    const answer = await this.ask(path, options)
    return answer.status === 204 ? {} : answer.json()
  }

  post(path, content) {
    return this.json(path, {
      method: 'POST', body: JSON.stringify(content), headers: {'Content-Type': 'application/json'},
    })
  }

  async offer(path, sdp) {
    const answer = await this.ask(path, {method: 'POST', body: sdp, headers: {'Content-Type': 'application/sdp'}})
    return {address: answer.headers.get('Location'), sdp: await answer.text()}
  }

  remove(path) {
    return this.ask(path, {method: 'DELETE', keepalive: true})
  }

  /** Address of a session's WebSocket. */
  stream(session) {
    return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/stream/${session}`
  }
}

function inWords(status, said, token) {
  switch (status) {
    case 401: return token && said ? sentence(said) : 'This server asks for a token. Open the page by the link that you were given.'
    case 403: return 'Your token does not allow this.'
    case 404: return 'That session is over.'
    case 429: return 'Too many requests. Wait some seconds, then try again.'
    case 503: return said ? sentence(said) : 'The server is full. Try again in a moment.'
    default: return said ? sentence(said) : `The server answered ${status}.`
  }
}

export function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(start) ? start : `${start}.`
}
