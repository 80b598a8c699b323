/**
 * What client and llm tier say to each other inside a spliced stream: records under keys that the server between them
 * never has (`SealedHandshake.ts`). It sees lengths and times.
 *
 *     record     length u16 | ciphertext and tag            AAD: 14 zeros, length; nonce: 4 zeros, record's number u64
 *     plaintext  type u8 | padding u8 | data | zeros        a multiple of 16 bytes; `padding` counts the zeros
 *
 * The record types are 1 data, 2 close (the authenticated end: a stream that ends without it was cut), 3 rekey (what
 * follows is under the next key: Noise's REKEY). Records are numbered per direction and stream and the number is never
 * sent: one that was changed, left out, repeated or moved does not open, and nothing opens after it.
 *
 * Owns no stream and no clock. Failures are values and final.
 */
import {
  MAX_SEALED_DATA,
  MAX_SEALED_RECORD,
  PADDING_BLOCK,
  SEALED_REKEY_BYTES,
  SEALED_REKEY_MS,
  SEALED_REKEY_RECORDS
} from "./Constants.ts"
import { KEY_LENGTH, NONCE_LENGTH, type PacketKey, type Primitives, TAG_LENGTH } from "./Primitives.ts"

const EMPTY = new Uint8Array(0)
const Type = { Data: 1, Close: 2, Rekey: 3 } as const
/** Bytes before the ciphertext, before the data, and of the shortest record behind its length. */
const LENGTH_BYTES = 2
const HEADER_BYTES = 2
/** Bytes of associated data, which lie before the ciphertext where a record is sealed or opened: zeros and the length. */
const AAD_BYTES = 16
const AAD_ZEROS = AAD_BYTES - LENGTH_BYTES
const MIN_RECORD = PADDING_BLOCK + TAG_LENGTH
/** The last nonce there is belongs to REKEY (Noise, section 4.2). */
const REKEY_NONCE = new Uint8Array(NONCE_LENGTH).fill(0xff, 4)
const ZEROS = new Uint8Array(KEY_LENGTH)

/** Bytes that `length` bytes of data take as one record. */
const recordLength = (length: number): number =>
  LENGTH_BYTES + Math.ceil((HEADER_BYTES + length) / PADDING_BLOCK) * PADDING_BLOCK + TAG_LENGTH

/** One direction's key and counter. */
class Chain {
  readonly #p: Primitives
  readonly #secret: Uint8Array
  readonly nonce = new Uint8Array(NONCE_LENGTH)
  readonly #view = new DataView(this.nonce.buffer)
  #packets: PacketKey | undefined
  #number = 0

  /** Takes the key over. */
  constructor(p: Primitives, key: Uint8Array) {
    this.#p = p
    this.#secret = key
    this.#packets = p.packetKey(key)
  }

  /** The key, with `nonce` set to the next number. */
  next(): PacketKey {
    if (this.#packets === undefined) throw new Error("SealedStream: the key was wiped")
    if (this.#number === Number.MAX_SAFE_INTEGER) throw new RangeError("SealedStream: out of nonces")
    this.#view.setUint32(4, Math.floor(this.#number / 2 ** 32))
    this.#view.setUint32(8, this.#number % 2 ** 32)
    this.#number++
    return this.#packets
  }

  /** Noise's REKEY: nobody goes back from the new key to the old one. The number goes on. */
  rekey(): void {
    if (this.#packets === undefined) throw new Error("SealedStream: the key was wiped")
    const out = new Uint8Array(KEY_LENGTH + TAG_LENGTH)
    this.#p.aeadKey(this.#secret).sealInto(REKEY_NONCE, EMPTY, ZEROS, out, 0)
    this.#packets.wipe()
    this.#secret.set(out.subarray(0, KEY_LENGTH))
    out.fill(0)
    this.#packets = this.#p.packetKey(this.#secret)
  }

  wipe(): void {
    this.#secret.fill(0)
    this.#packets?.wipe()
    this.#packets = undefined
  }
}

/** Seals one direction of one stream. */
export class Sealer {
  readonly #chain: Chain
  readonly #limits: Limits
  /** What lies where a record's associated data must be. */
  readonly #aside = new Uint8Array(AAD_ZEROS)
  #keyedAt: number
  #bytes = 0
  #records = 0
  #closed = false

  /** Takes `key` over and wipes it at the end. `now` in ms on a steady clock. */
  constructor(p: Primitives, key: Uint8Array, now: number, limits: Limits = LIMITS) {
    this.#chain = new Chain(p, key)
    this.#keyedAt = now
    this.#limits = limits
  }

  /** Whether nothing can be sealed any more. */
  get closed(): boolean {
    return this.#closed
  }

  /** The data as records, and a change of key before them when it is due. To be sent whole and in the order of the calls. */
  seal(now: number, data: Uint8Array): Uint8Array {
    if (this.#closed) throw new Error("SealedStream: sealed after the end")
    const due =
      now - this.#keyedAt >= this.#limits.rekeyMs ||
      this.#bytes >= this.#limits.rekeyBytes ||
      this.#records >= this.#limits.rekeyRecords
    let length = due ? recordLength(0) : 0
    for (let at = 0; at < data.length; at += MAX_SEALED_DATA) {
      length += recordLength(Math.min(MAX_SEALED_DATA, data.length - at))
    }
    if (length === 0) return EMPTY
    const out = new Uint8Array(AAD_ZEROS + length)
    let end = AAD_ZEROS
    if (due) {
      end = this.#record(out, end, Type.Rekey, EMPTY)
      this.#chain.rekey()
      this.#keyedAt = now
      this.#bytes = 0
      this.#records = 0
    }
    for (let at = 0; at < data.length; at += MAX_SEALED_DATA) {
      end = this.#record(out, end, Type.Data, data.subarray(at, at + MAX_SEALED_DATA))
    }
    return out.subarray(AAD_ZEROS)
  }

  /** The authenticated end. Once; wipes the key. */
  close(): Uint8Array {
    if (this.#closed) throw new Error("SealedStream: closed twice")
    const out = new Uint8Array(AAD_ZEROS + recordLength(0))
    this.#record(out, AAD_ZEROS, Type.Close, EMPTY)
    this.wipe()
    return out.subarray(AAD_ZEROS)
  }

  /** Gives the direction up without an end. */
  wipe(): void {
    this.#closed = true
    this.#chain.wipe()
  }

  /** Writes a record at `at`, sealed where it lies; `AAD_ZEROS` bytes before it are borrowed. */
  #record(out: Uint8Array, at: number, type: number, data: Uint8Array): number {
    const inner = Math.ceil((HEADER_BYTES + data.length) / PADDING_BLOCK) * PADDING_BLOCK
    const sealed = inner + TAG_LENGTH
    const text = at + LENGTH_BYTES
    const end = text + sealed
    out[at] = sealed >>> 8
    out[at + 1] = sealed & 0xff
    out[text] = type
    out[text + 1] = inner - HEADER_BYTES - data.length
    out.set(data, text + HEADER_BYTES)
    const start = at - AAD_ZEROS
    this.#aside.set(out.subarray(start, at))
    out.fill(0, start, at)
    const key = this.#chain.next()
    key.seal(this.#chain.nonce, out, start, end)
    out.set(this.#aside, start)
    this.#bytes += inner
    this.#records++
    return end
  }
}

/** When a direction changes its key; milliseconds, bytes, records. */
export interface Limits {
  readonly rekeyMs: number
  readonly rekeyBytes: number
  readonly rekeyRecords: number
}

const LIMITS: Limits = {
  rekeyMs: SEALED_REKEY_MS,
  rekeyBytes: SEALED_REKEY_BYTES,
  rekeyRecords: SEALED_REKEY_RECORDS
}

/**
 * - `Forged`: a record does not open: changed, left out, repeated, moved, or under another key.
 * - `Malformed`: a length or a plaintext that no peer writes.
 * - `AfterEnd`: bytes behind the authenticated end.
 * - `Truncated`: the stream ended without it.
 */
export type Fault = "Forged" | "Malformed" | "AfterEnd" | "Truncated"

/** What `pull` finds: `More` waits for bytes, `Data` are some (a copy), `End` is the peer's authenticated end. */
export type Pulled =
  | { readonly type: "More" }
  | { readonly type: "Data"; readonly bytes: Uint8Array }
  | { readonly type: "End" }
  | { readonly type: "Fault"; readonly fault: Fault }

const MORE: Pulled = { type: "More" }
const END: Pulled = { type: "End" }

/** Opens one direction of one stream: `push` what came, then `pull` until `More`, `End` or `Fault`. */
export class Unsealer {
  readonly #chain: Chain
  /** What was pushed last and is not taken yet. */
  #pushed: Uint8Array = EMPTY
  #at = 0
  readonly #head = new Uint8Array(AAD_BYTES)
  /** The associated data and, once that is whole, what has come of the record, which is opened where it lies. */
  #record = this.#head
  /** Bytes of it that are there; the length is complete at `AAD_BYTES`. */
  #filled = AAD_ZEROS
  #fault: Fault | undefined
  #ended = false
  #opened = 0

  /** Takes `key` over and wipes it at the end. */
  constructor(p: Primitives, key: Uint8Array) {
    this.#chain = new Chain(p, key)
  }

  /** Records that opened: one proves that the peer has the keys. */
  get opened(): number {
    return this.#opened
  }

  /** Takes bytes over, once all that was pushed before has been pulled. */
  push(bytes: Uint8Array): void {
    if (this.#fault !== undefined) return
    if (this.#at < this.#pushed.length) throw new Error("SealedStream: pushed before all was pulled")
    this.#pushed = bytes
    this.#at = 0
  }

  pull(): Pulled {
    for (;;) {
      if (this.#fault !== undefined) return { type: "Fault", fault: this.#fault }
      if (this.#ended) return this.#at < this.#pushed.length ? this.#fail("AfterEnd") : END
      if (!this.#gather()) return MORE
      if (this.#record === this.#head) {
        const length = ((this.#record[AAD_ZEROS] as number) << 8) | (this.#record[AAD_ZEROS + 1] as number)
        if (length < MIN_RECORD || length > MAX_SEALED_RECORD || length % PADDING_BLOCK !== 0) {
          return this.#fail("Malformed")
        }
        const whole = new Uint8Array(AAD_BYTES + length)
        whole.set(this.#record)
        this.#record = whole
        continue
      }
      const record = this.#record
      const tag = record.length - TAG_LENGTH
      const key = this.#chain.next()
      if (!key.open(this.#chain.nonce, record, 0, record.length)) return this.#fail("Forged")
      this.#opened++
      this.#record = this.#head
      this.#filled = AAD_ZEROS
      const padding = record[AAD_BYTES + 1] as number
      const start = AAD_BYTES + HEADER_BYTES
      const end = tag - padding
      if (padding >= PADDING_BLOCK || end < start) return this.#fail("Malformed")
      for (let i = end; i < tag; i++) if (record[i] !== 0) return this.#fail("Malformed")
      const type = record[AAD_BYTES]
      if (type === Type.Data && end > start) return { type: "Data", bytes: record.subarray(start, end) }
      if (end !== start) return this.#fail("Malformed")
      if (type === Type.Rekey) {
        this.#chain.rekey()
      } else if (type === Type.Close) {
        this.#ended = true
        this.#chain.wipe()
      } else {
        return this.#fail("Malformed")
      }
    }
  }

  /** The stream is over: `End` when the peer said so before, else `Truncated`. */
  finish(): Pulled {
    const last = this.pull()
    if (last.type === "End" || last.type === "Fault") return last
    return this.#fail("Truncated")
  }

  wipe(): void {
    this.#fault ??= "Truncated"
    this.#pushed = EMPTY
    this.#at = 0
    this.#record = this.#head
    this.#chain.wipe()
  }

  /** Moves what was pushed to the record; whether that is complete now. */
  #gather(): boolean {
    const part = this.#pushed.subarray(this.#at, this.#at + this.#record.length - this.#filled)
    this.#record.set(part, this.#filled)
    this.#filled += part.length
    this.#at += part.length
    return this.#filled === this.#record.length
  }

  #fail(fault: Fault): Pulled {
    this.#fault = fault
    this.wipe()
    return { type: "Fault", fault }
  }
}
