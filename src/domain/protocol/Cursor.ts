/**
 * Reading and writing of wire bytes: big-endian, variable-length integers as in RFC 9000 section 16, nothing allocated
 * but what the caller keeps. A `Reader` never throws: reading past the end sets `failed`, yields zeros from then on, and
 * the decoder asks once at its end. A `Writer` writes into a caller's buffer; to overflow it is the caller's bug.
 */
import { MAX_VARINT } from "./Constants.ts"

export class Reader {
  bytes: Uint8Array
  offset: number
  end: number
  /** Set by the first read that did not fit. */
  failed = false

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.bytes = bytes
    this.offset = offset
    this.end = end
  }

  /** Begins anew, elsewhere. */
  reset(bytes: Uint8Array, offset: number, end: number): void {
    this.bytes = bytes
    this.offset = offset
    this.end = end
    this.failed = false
  }

  get remaining(): number {
    return this.end - this.offset
  }

  /** Whether everything was read and nothing failed. */
  get done(): boolean {
    return !this.failed && this.offset === this.end
  }

  #take(length: number): number {
    const at = this.offset
    if (this.failed || length > this.end - at) {
      this.failed = true
      return -1
    }
    this.offset = at + length
    return at
  }

  u8(): number {
    const at = this.#take(1)
    return at < 0 ? 0 : (this.bytes[at] as number)
  }

  u16(): number {
    const at = this.#take(2)
    return at < 0 ? 0 : this.#uint(at, 2)
  }

  u32(): number {
    const at = this.#take(4)
    return at < 0 ? 0 : this.#uint(at, 4)
  }

  /** A 64-bit value; anything above 2^53 - 1 fails, for it would not be exact. */
  u64(): number {
    const at = this.#take(8)
    if (at < 0) return 0
    const value = this.#uint(at, 4) * 2 ** 32 + this.#uint(at + 4, 4)
    if (value <= MAX_VARINT) return value
    this.failed = true
    return 0
  }

  varint(): number {
    const at = this.#take(1)
    if (at < 0) return 0
    const bytes = this.bytes
    const first = bytes[at] as number
    if (first < 0x40) return first
    const length = 1 << (first >> 6)
    if (this.#take(length - 1) < 0) return 0
    if (length === 2) return ((first & 0x3f) << 8) | (bytes[at + 1] as number)
    const high = ((first & 0x3f) << 24) | this.#uint24(at + 1)
    if (length === 4) return high
    const value = high * 2 ** 32 + (bytes[at + 4] as number) * 2 ** 24 + this.#uint24(at + 5)
    if (value <= MAX_VARINT) return value
    this.failed = true
    return 0
  }

  /** A view of the next `length` bytes: no copy, the buffer's owner stays the owner. */
  view(length: number): Uint8Array {
    const at = this.#take(length)
    return at < 0 ? EMPTY : this.bytes.subarray(at, at + length)
  }

  /** A copy of the next `length` bytes. */
  copy(length: number): Uint8Array {
    return Uint8Array.from(this.view(length))
  }

  #uint24(at: number): number {
    const bytes = this.bytes
    return ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number)
  }

  #uint(at: number, length: number): number {
    let value = 0
    for (let i = 0; i < length; i++) value = value * 256 + (this.bytes[at + i] as number)
    return value
  }
}

export class Writer {
  bytes: Uint8Array
  offset: number
  end: number

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.bytes = bytes
    this.offset = offset
    this.end = end
  }

  /** Begins anew, elsewhere. */
  reset(bytes: Uint8Array, offset: number, end: number): void {
    this.bytes = bytes
    this.offset = offset
    this.end = end
  }

  get remaining(): number {
    return this.end - this.offset
  }

  #take(length: number): number {
    const at = this.offset
    if (length > this.end - at) throw new RangeError(`Writer: ${length} bytes do not fit into ${this.end - at}`)
    this.offset = at + length
    return at
  }

  u8(value: number): this {
    this.bytes[this.#take(1)] = value
    return this
  }

  u16(value: number): this {
    return this.#uint(value, 2)
  }

  u32(value: number): this {
    return this.#uint(value, 4)
  }

  u64(value: number): this {
    this.#uint(Math.floor(value / 2 ** 32), 4)
    return this.#uint(value % 2 ** 32, 4)
  }

  varint(value: number): this {
    const length = varintLength(value)
    const at = this.#take(length)
    const bytes = this.bytes
    if (length === 1) bytes[at] = value
    else if (length === 2) {
      bytes[at] = 0x40 | (value >>> 8)
      bytes[at + 1] = value
    } else if (length === 4) this.#put32(at, (0x80000000 | value) >>> 0)
    else {
      this.#put32(at, (0xc0000000 | Math.floor(value / 2 ** 32)) >>> 0)
      this.#put32(at + 4, value >>> 0)
    }
    return this
  }

  put(bytes: Uint8Array): this {
    this.bytes.set(bytes, this.#take(bytes.length))
    return this
  }

  fill(value: number, length: number): this {
    const at = this.#take(length)
    this.bytes.fill(value, at, at + length)
    return this
  }

  #put32(at: number, value: number): void {
    const bytes = this.bytes
    bytes[at] = value >>> 24
    bytes[at + 1] = value >>> 16
    bytes[at + 2] = value >>> 8
    bytes[at + 3] = value
  }

  #uint(value: number, length: number): this {
    const at = this.#take(length)
    let rest = value
    for (let i = length - 1; i >= 0; i--) {
      this.bytes[at + i] = rest % 256
      rest = Math.floor(rest / 256)
    }
    return this
  }
}

/** Bytes that `value` takes as a variable-length integer: 1, 2, 4 or 8. */
export const varintLength = (value: number): number => {
  if (value < 0x40) return 1
  if (value < 0x4000) return 2
  if (value < 0x40000000) return 4
  if (value <= MAX_VARINT) return 8
  throw new RangeError(`Writer: ${value} is no variable-length integer`)
}

const EMPTY = new Uint8Array(0)
const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** UTF-8 bytes of `text`. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text)

/** Text of UTF-8 bytes, or `undefined` when they are not valid UTF-8. */
export const text = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/** One buffer of the parts, one after the other. */
export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Lower-case hexadecimal, the key form of ids in maps and logs. */
export const hex = (bytes: Uint8Array): string => {
  let out = ""
  for (const byte of bytes) out += byte < 16 ? `0${byte.toString(16)}` : byte.toString(16)
  return out
}

/** Bytes of an even number of hexadecimal digits, or `undefined`. */
export const fromHex = (digits: string): Uint8Array | undefined => {
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) return undefined
  const out = new Uint8Array(digits.length / 2)
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16)
  return out
}
