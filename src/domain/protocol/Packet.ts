/**
 * Transport datagrams, sealed and opened. This module owns the bytes; keys, epochs, the replay window and the meaning of
 * the plaintext belong to the session.
 *
 *     0        connection id     8   in clear: the receiver's table look-up
 *     8        header            8   2 bits epoch mod 4, 62 bits packet number, big-endian; masked
 *     16       ciphertext        16 n, n >= 1
 *     16+16n   tag               16
 *
 * Mask: the header is XORed with the first 8 bytes of AES-256-ECB(header key, first 16 ciphertext bytes) (RFC 9001 section
 * 5.4). Nonce: the direction's 12-byte IV, its last 8 bytes XORed with the packet number (RFC 9001 section 5.3). Associated
 * data: connection id and unmasked header. Both directions have keys of their own, so a reflected datagram fails.
 */
import {
  CONNECTION_ID_LENGTH,
  MAX_PACKET_LENGTH,
  MAX_PACKET_NUMBER,
  PACKET_HEADER_LENGTH,
  PADDING_BLOCK
} from "./Constants.ts"
import { type AeadKey, type MaskKey, NONCE_LENGTH, TAG_LENGTH } from "./Primitives.ts"

/** One direction's keys of one epoch; `iv` is 12 bytes. */
export interface DirectionKeys {
  readonly aead: AeadKey
  readonly iv: Uint8Array
}

/** What an unmasked but not yet authenticated header claims. */
export interface Header {
  /** Epoch mod 4. */
  readonly epochBits: number
  readonly packetNumber: number
}

/** Bytes that a transport datagram adds to its plaintext. */
export const OVERHEAD = PACKET_HEADER_LENGTH + TAG_LENGTH
/** Bytes of the shortest transport datagram. */
export const MIN_LENGTH = OVERHEAD + PADDING_BLOCK

const SAMPLE_LENGTH = 16
const WORD = 2 ** 32

/** Writes `iv` XOR `high ‖ low` (two 32-bit halves of a packet number) into `nonce`. */
const writeNonce = (nonce: Uint8Array, iv: Uint8Array, high: number, low: number): void => {
  for (let i = 0; i < 4; i++) nonce[i] = iv[i] as number
  for (let i = 0; i < 4; i++) {
    const shift = 24 - 8 * i
    nonce[4 + i] = (iv[4 + i] as number) ^ (high >>> shift)
    nonce[8 + i] = (iv[8 + i] as number) ^ (low >>> shift)
  }
}

/** Copies the first ciphertext bytes of `datagram` into `sample`. */
const readSample = (sample: Uint8Array, datagram: Uint8Array): void => {
  for (let i = 0; i < SAMPLE_LENGTH; i++) sample[i] = datagram[PACKET_HEADER_LENGTH + i] as number
}

/** Seals one direction of one session. Not re-entrant: nonce, header and sample are scratch buffers. */
export class Sealer {
  readonly #mask: MaskKey
  readonly #nonce = new Uint8Array(NONCE_LENGTH)
  readonly #header = new Uint8Array(PACKET_HEADER_LENGTH)
  readonly #sample = new Uint8Array(SAMPLE_LENGTH)
  #last = -1

  constructor(header: MaskKey) {
    this.#mask = header
  }

  /**
   * A fresh datagram of exactly `plaintext.length + OVERHEAD` bytes. Packet numbers must rise from call to call, over all
   * epochs and paths, so no nonce can recur. Throws `RangeError` for a number that does not rise or exceeds
   * `MAX_PACKET_NUMBER`, a plaintext that is empty, unpadded or too long, and a connection id or IV of the wrong length.
   */
  seal(
    keys: DirectionKeys,
    epoch: number,
    connectionId: Uint8Array,
    packetNumber: number,
    plaintext: Uint8Array
  ): Uint8Array {
    if (!Number.isInteger(packetNumber) || packetNumber <= this.#last || packetNumber > MAX_PACKET_NUMBER) {
      throw new RangeError(`Packet: number ${packetNumber} may not follow ${this.#last}`)
    }
    const length = plaintext.length + OVERHEAD
    if (length < MIN_LENGTH || length > MAX_PACKET_LENGTH || length % PADDING_BLOCK !== 0) {
      throw new RangeError(`Packet: a plaintext of ${plaintext.length} bytes is not padded or does not fit`)
    }
    if (connectionId.length !== CONNECTION_ID_LENGTH || keys.iv.length !== NONCE_LENGTH) {
      throw new RangeError("Packet: connection id or IV of the wrong length")
    }
    this.#last = packetNumber
    const low = packetNumber >>> 0
    const high = Math.floor(packetNumber / WORD)
    const first = ((epoch & 3) << 30) | high
    const header = this.#header
    header.set(connectionId)
    for (let i = 0; i < 4; i++) {
      const shift = 24 - 8 * i
      header[CONNECTION_ID_LENGTH + i] = first >>> shift
      header[CONNECTION_ID_LENGTH + 4 + i] = low >>> shift
    }
    writeNonce(this.#nonce, keys.iv, high, low)

    const datagram = new Uint8Array(length)
    keys.aead.sealInto(this.#nonce, header, plaintext, datagram, PACKET_HEADER_LENGTH)
    readSample(this.#sample, datagram)
    const mask = this.#mask.mask(this.#sample)
    datagram.set(header)
    for (let i = 0; i < 8; i++) {
      const at = CONNECTION_ID_LENGTH + i
      datagram[at] = (datagram[at] as number) ^ (mask[i] as number)
    }
    return datagram
  }
}

/**
 * Opens one direction of one session: `header` to learn the epoch and packet number, so that the caller may consult its
 * replay window and choose keys, then `open`. Not re-entrant.
 */
export class Opener implements Header {
  readonly #mask: MaskKey
  readonly #nonce = new Uint8Array(NONCE_LENGTH)
  readonly #header = new Uint8Array(PACKET_HEADER_LENGTH)
  readonly #sample = new Uint8Array(SAMPLE_LENGTH)
  #datagram: Uint8Array | undefined
  #high = 0
  #low = 0
  /** Of the last datagram given to `header`, not authenticated. */
  epochBits = 0
  /** Of the last datagram given to `header`, not authenticated. */
  packetNumber = 0

  constructor(header: MaskKey) {
    this.#mask = header
  }

  /**
   * Unmasks the header. `undefined` for a length that no transport datagram has and for packet numbers beyond
   * `MAX_PACKET_NUMBER`. The answer is this object: it holds until the next call.
   */
  header(datagram: Uint8Array): Header | undefined {
    this.#datagram = undefined
    const length = datagram.length
    if (length < MIN_LENGTH || length > MAX_PACKET_LENGTH || length % PADDING_BLOCK !== 0) return undefined
    readSample(this.#sample, datagram)
    const mask = this.#mask.mask(this.#sample)
    const header = this.#header
    for (let i = 0; i < CONNECTION_ID_LENGTH; i++) header[i] = datagram[i] as number
    let first = 0
    let low = 0
    for (let i = 0; i < 4; i++) {
      const at = CONNECTION_ID_LENGTH + i
      const a = (datagram[at] as number) ^ (mask[i] as number)
      const b = (datagram[at + 4] as number) ^ (mask[i + 4] as number)
      header[at] = a
      header[at + 4] = b
      first = (first << 8) | a
      low = (low << 8) | b
    }
    const high = first & 0x3fffffff
    const packetNumber = high * WORD + (low >>> 0)
    // 62 bits do not fit a double exactly, but rounding never brings a larger number down to the limit.
    if (packetNumber > MAX_PACKET_NUMBER) return undefined
    this.#datagram = datagram
    this.#high = high
    this.#low = low
    this.epochBits = first >>> 30
    this.packetNumber = packetNumber
    return this
  }

  /**
   * The plaintext, or `undefined` when the datagram does not authenticate under `keys`. `header` need not have been called
   * for it, but its work is reused when it was; the same datagram may be tried under several keys.
   */
  open(keys: DirectionKeys, datagram: Uint8Array): Uint8Array | undefined {
    if (this.#datagram !== datagram && this.header(datagram) === undefined) return undefined
    writeNonce(this.#nonce, keys.iv, this.#high, this.#low)
    return keys.aead.open(this.#nonce, this.#header, datagram.subarray(PACKET_HEADER_LENGTH))
  }
}
