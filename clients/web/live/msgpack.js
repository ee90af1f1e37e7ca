// The part of msgpack that the stream's messages need: null, booleans, integers, floats, text, bytes, lists, maps.

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** Bytes of a plain value; maps are plain objects, bytes are Uint8Array. */
export function pack(value) {
  const parts = []
  write(parts, value)
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function write(parts, value) {
  if (value === null || value === undefined) parts.push(Uint8Array.of(0xc0))
  else if (typeof value === 'boolean') parts.push(Uint8Array.of(value ? 0xc3 : 0xc2))
  else if (typeof value === 'number') parts.push(Number.isInteger(value) ? integer(value) : float(value))
  else if (typeof value === 'string') {
    const bytes = encoder.encode(value)
    parts.push(header(bytes.length, 0xa0, 32, 0xd9, 0xda, 0xdb), bytes)
  } else if (value instanceof Uint8Array) parts.push(header(value.length, null, 0, 0xc4, 0xc5, 0xc6), value)
  else if (Array.isArray(value)) {
    parts.push(header(value.length, 0x90, 16, null, 0xdc, 0xdd))
    for (const item of value) write(parts, item)
  } else {
    const entries = Object.entries(value)
    parts.push(header(entries.length, 0x80, 16, null, 0xde, 0xdf))
    for (const [key, item] of entries) {
      write(parts, key)
      write(parts, item)
    }
  }
}

function header(length, small, smallEnd, one, two, four) {
  if (small !== null && length < smallEnd) return Uint8Array.of(small | length)
  if (one !== null && length < 256) return Uint8Array.of(one, length)
  if (length < 65536) return Uint8Array.of(two, length >> 8, length & 255)
  return Uint8Array.of(four, length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255)
}

function integer(value) {
  if (value >= 0 && value < 128) return Uint8Array.of(value)
  if (value < 0 && value >= -32) return Uint8Array.of(value & 255)
  const bytes = new Uint8Array(9)
  bytes[0] = value < 0 ? 0xd3 : 0xcf
  new DataView(bytes.buffer).setBigInt64(1, BigInt(value))
  return bytes
}

function float(value) {
  const bytes = new Uint8Array(9)
  bytes[0] = 0xcb
  new DataView(bytes.buffer).setFloat64(1, value)
  return bytes
}

/** The value that some bytes stand for. Throws RangeError for what is not such a value. */
export function unpack(bytes) {
  const reader = {view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), bytes, at: 0}
  const value = read(reader)
  if (reader.at !== bytes.length) throw new RangeError('msgpack: something follows the value')
  return value
}

function read(reader) {
  const code = reader.view.getUint8(reader.at++)
  if (code < 0x80) return code
  if (code >= 0xe0) return code - 256
  if (code < 0x90) return map(reader, code & 15)
  if (code < 0xa0) return list(reader, code & 15)
  if (code < 0xc0) return text(reader, code & 31)
  switch (code) {
    case 0xc0: return null
    case 0xc2: return false
    case 0xc3: return true
    case 0xc4: return raw(reader, take(reader, 1, 'getUint8'))
    case 0xc5: return raw(reader, take(reader, 2, 'getUint16'))
    case 0xc6: return raw(reader, take(reader, 4, 'getUint32'))
    case 0xca: return take(reader, 4, 'getFloat32')
    case 0xcb: return take(reader, 8, 'getFloat64')
    case 0xcc: return take(reader, 1, 'getUint8')
    case 0xcd: return take(reader, 2, 'getUint16')
    case 0xce: return take(reader, 4, 'getUint32')
    case 0xcf: return Number(take(reader, 8, 'getBigUint64'))
    case 0xd0: return take(reader, 1, 'getInt8')
    case 0xd1: return take(reader, 2, 'getInt16')
    case 0xd2: return take(reader, 4, 'getInt32')
    case 0xd3: return Number(take(reader, 8, 'getBigInt64'))
    case 0xd9: return text(reader, take(reader, 1, 'getUint8'))
    case 0xda: return text(reader, take(reader, 2, 'getUint16'))
    case 0xdb: return text(reader, take(reader, 4, 'getUint32'))
    case 0xdc: return list(reader, take(reader, 2, 'getUint16'))
    case 0xdd: return list(reader, take(reader, 4, 'getUint32'))
    case 0xde: return map(reader, take(reader, 2, 'getUint16'))
    case 0xdf: return map(reader, take(reader, 4, 'getUint32'))
    default: throw new RangeError(`msgpack: type ${code.toString(16)} is not spoken here`)
  }
}

function take(reader, size, getter) {
  const value = reader.view[getter](reader.at)
  reader.at += size
  return value
}

function raw(reader, length) {
  if (reader.at + length > reader.bytes.length) throw new RangeError('msgpack: the end is missing')
  reader.at += length
  return reader.bytes.subarray(reader.at - length, reader.at)
}

const text = (reader, length) => decoder.decode(raw(reader, length))
const list = (reader, length) => Array.from({length}, () => read(reader))

function map(reader, length) {
  const result = {}
  for (let i = 0; i < length; i++) {
    const key = read(reader)
    result[key] = read(reader)
  }
  return result
}
