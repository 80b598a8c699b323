/**
 * Transport datagrams, sealed and opened where they lie. This module owns the bytes; keys, epochs, the replay window and the
 * meaning of the plaintext belong to the session.
 *
 *     0        connection id     8   in clear: the receiver's table look-up
 *     8        header            8   2 bits epoch mod 4, 62 bits packet number, big-endian; masked
 *     16       ciphertext        16 n, n >= 1
 *     16+16n   tag               16
 *
 * Mask: the header is XORed with the first 8 bytes of AES-256-ECB(header key, first 16 ciphertext bytes) (RFC 9001 section
 * 5.4). Nonce: the direction's 12-byte IV, its last 8 bytes XORed with the packet number (RFC 9001 section 5.3). Associated
 * data: connection id and unmasked header. Both directions have keys of their own, so a reflected datagram fails.
 *
 * A cipher call costs more than the block it encrypts, so masks are made for many datagrams at a time: a sender seals a
 * burst and masks it as a whole, a receiver prepares what came together and then takes it one by one.
 */
import {
  CONNECTION_ID_LENGTH,
  MAX_BURST_DATAGRAMS,
  MAX_PACKET_LENGTH,
  MAX_PACKET_NUMBER,
  PACKET_HEADER_LENGTH,
  PADDING_BLOCK
} from "./Constants.ts"
import { type MaskKey, NONCE_LENGTH, type PacketKey, TAG_LENGTH } from "./Primitives.ts"

/** One direction's keys of one epoch; `iv` is 12 bytes. */
export interface DirectionKeys {
  readonly packet: PacketKey
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

/** Whether a transport datagram may have this length. */
const isLength = (length: number): boolean =>
  length >= MIN_LENGTH && length <= MAX_PACKET_LENGTH && length % PADDING_BLOCK === 0

/** Samples of many datagrams, to be encrypted in one call. */
class Samples {
  readonly bytes = new Uint8Array(MAX_BURST_DATAGRAMS * SAMPLE_LENGTH)

  /** Copies the first ciphertext bytes of the datagram that begins at `start`. */
  take(index: number, buffer: Uint8Array, start: number): void {
    const bytes = this.bytes
    const to = index * SAMPLE_LENGTH
    const from = start + PACKET_HEADER_LENGTH
    for (let i = 0; i < SAMPLE_LENGTH; i++) bytes[to + i] = buffer[from + i] as number
  }
}

/** XORs the header of the datagram at `start` with the mask's block at `index`. */
const applyMask = (buffer: Uint8Array, start: number, masks: Uint8Array, index: number): void => {
  const from = index * SAMPLE_LENGTH
  const to = start + CONNECTION_ID_LENGTH
  for (let i = 0; i < 8; i++) buffer[to + i] = (buffer[to + i] as number) ^ (masks[from + i] as number)
}

/** The direction's IV XORed with a packet number, given as two halves of 32 bits. */
class Nonce {
  readonly bytes = new Uint8Array(NONCE_LENGTH)
  #iv: Uint8Array | undefined
  #high = -1

  set(iv: Uint8Array, high: number, low: number): void {
    const bytes = this.bytes
    if (iv !== this.#iv || high !== this.#high) {
      this.#iv = iv
      this.#high = high
      for (let i = 0; i < 4; i++) {
        bytes[i] = iv[i] as number
        bytes[4 + i] = (iv[4 + i] as number) ^ (high >>> (24 - 8 * i))
      }
    }
    bytes[8] = (iv[8] as number) ^ (low >>> 24)
    bytes[9] = (iv[9] as number) ^ (low >>> 16)
    bytes[10] = (iv[10] as number) ^ (low >>> 8)
    bytes[11] = (iv[11] as number) ^ low
  }
}

/** Seals one direction of one session. */
export class Sealer {
  readonly #mask: MaskKey
  readonly #nonce = new Nonce()
  readonly #samples = new Samples()
  /** Sealed and not yet masked: where they begin in `#buffer`. */
  readonly #starts = new Int32Array(MAX_BURST_DATAGRAMS)
  #count = 0
  #buffer: Uint8Array | undefined
  #last = -1

  constructor(header: MaskKey) {
    this.#mask = header
  }

  /**
   * Seals the datagram that lies in `buffer` from `start` to `end`, its plaintext already in place (after 16 bytes, before
   * 16 bytes); the header stays unmasked until `mask`. Packet numbers must rise from call to call, over all epochs and
   * paths, so no nonce can recur. Throws `RangeError` for a number that does not rise or exceeds `MAX_PACKET_NUMBER`, a
   * plaintext that is empty, unpadded or too long, and a connection id or IV of the wrong length.
   */
  seal(
    keys: DirectionKeys,
    epoch: number,
    connectionId: Uint8Array,
    packetNumber: number,
    buffer: Uint8Array,
    start: number,
    end: number
  ): void {
    if (!Number.isInteger(packetNumber) || packetNumber <= this.#last || packetNumber > MAX_PACKET_NUMBER) {
      throw new RangeError(`Packet: number ${packetNumber} may not follow ${this.#last}`)
    }
    if (!isLength(end - start)) {
      throw new RangeError(`Packet: a plaintext of ${end - start - OVERHEAD} bytes is not padded or does not fit`)
    }
    if (connectionId.length !== CONNECTION_ID_LENGTH || keys.iv.length !== NONCE_LENGTH) {
      throw new RangeError("Packet: connection id or IV of the wrong length")
    }
    if (this.#count === MAX_BURST_DATAGRAMS || (this.#count > 0 && this.#buffer !== buffer)) this.mask()
    this.#last = packetNumber
    const low = packetNumber >>> 0
    const high = Math.floor(packetNumber / WORD)
    const first = ((epoch & 3) << 30) | high
    for (let i = 0; i < CONNECTION_ID_LENGTH; i++) buffer[start + i] = connectionId[i] as number
    const at = start + CONNECTION_ID_LENGTH
    for (let i = 0; i < 4; i++) {
      const shift = 24 - 8 * i
      buffer[at + i] = first >>> shift
      buffer[at + 4 + i] = low >>> shift
    }
    this.#nonce.set(keys.iv, high, low)
    keys.packet.seal(this.#nonce.bytes, buffer, start, end)
    this.#samples.take(this.#count, buffer, start)
    this.#starts[this.#count++] = start
    this.#buffer = buffer
  }

  /** Masks the headers of all that was sealed since the last call, which must still be where it was. */
  mask(): void {
    const buffer = this.#buffer
    if (buffer === undefined) return
    const masks = this.#mask.mask(this.#samples.bytes, this.#count)
    for (let i = 0; i < this.#count; i++) applyMask(buffer, this.#starts[i] as number, masks, i)
    this.#count = 0
    this.#buffer = undefined
  }
}

/**
 * Opens one direction of one session: `prepare` what came together, then for each `header`, to learn the epoch and packet
 * number, so that the caller may consult its replay window and choose keys, and `open`. Datagrams are changed: after
 * `header` theirs is unmasked, after `open` their plaintext lies where the ciphertext was.
 */
export class Opener implements Header {
  readonly #mask: MaskKey
  readonly #nonce = new Nonce()
  readonly #samples = new Samples()
  #masks: Uint8Array = new Uint8Array(0)
  #high = 0
  #low = 0
  /** Of the last datagram given to `header`, not authenticated. */
  epochBits = 0
  /** Of the last datagram given to `header`, not authenticated. */
  packetNumber = 0

  constructor(header: MaskKey) {
    this.#mask = header
  }

  /** Makes the masks of the datagrams `from` to `to`, at most `MAX_BURST_DATAGRAMS`; good until the next call. */
  prepare(datagrams: ReadonlyArray<{ readonly bytes: Uint8Array }>, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const { bytes } = datagrams[i] as { readonly bytes: Uint8Array }
      if (isLength(bytes.length)) this.#samples.take(i - from, bytes, 0)
    }
    this.#masks = this.#mask.mask(this.#samples.bytes, to - from)
  }

  /**
   * Unmasks the header of a datagram, the `index`-th of those prepared. `undefined`, and nothing changed, for a length that
   * no transport datagram has; `undefined` for packet numbers beyond `MAX_PACKET_NUMBER`. The answer is this object: it
   * holds until the next call.
   */
  header(datagram: Uint8Array, index: number): Header | undefined {
    if (!isLength(datagram.length)) return undefined
    applyMask(datagram, 0, this.#masks, index)
    let first = 0
    let low = 0
    for (let i = 0; i < 4; i++) {
      first = (first << 8) | (datagram[CONNECTION_ID_LENGTH + i] as number)
      low = (low << 8) | (datagram[CONNECTION_ID_LENGTH + 4 + i] as number)
    }
    const high = first & 0x3fffffff
    const packetNumber = high * WORD + (low >>> 0)
    // 62 bits do not fit a double exactly, but rounding never brings a larger number down to the limit.
    if (packetNumber > MAX_PACKET_NUMBER) return undefined
    this.#high = high
    this.#low = low
    this.epochBits = first >>> 30
    this.packetNumber = packetNumber
    return this
  }

  /**
   * Opens the datagram whose `header` was the last: its plaintext lies between `PACKET_HEADER_LENGTH` and `TAG_LENGTH` from
   * the end. False when it does not authenticate under `keys`; then its text is lost.
   */
  open(keys: DirectionKeys, datagram: Uint8Array): boolean {
    this.#nonce.set(keys.iv, this.#high, this.#low)
    return keys.packet.open(this.#nonce.bytes, datagram, 0, datagram.length)
  }
}
