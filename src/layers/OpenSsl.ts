/**
 * The OpenSSL that Node carries, called directly. A cipher object of node:crypto costs 4 us per packet and copies the text;
 * a context of OpenSSL keeps its key schedule, takes a nonce per packet, works in place, and costs 0.3 us for 1200 bytes.
 *
 * What crosses into C are numbers: addresses of memory that neither moves nor dies while the call lasts, for its
 * ArrayBuffer is held here and calls are synchronous. Every length is checked before, as nothing behind would.
 */
import { PACKET_HEADER_LENGTH } from "../domain/protocol/Constants.ts"
import { KEY_LENGTH, type MaskKey, NONCE_LENGTH, type PacketKey, TAG_LENGTH } from "../domain/protocol/Primitives.ts"
import type { Koffi } from "./Koffi.ts"

/** A C pointer. User space ends below 2^53 on every system Node runs on; 0 is NULL. */
type Address = number

const BLOCK_LENGTH = 16
/** C's int holds more; no datagram is longer than 64 KiB. */
const MAX_LENGTH = 2 ** 30

/** openssl/evp.h: EVP_CTRL_AEAD_GET_TAG and EVP_CTRL_AEAD_SET_TAG. */
const GET_TAG = 0x10
const SET_TAG = 0x11
const ENCRYPT = 1
const DECRYPT = 0

const WIPED = "this key was wiped"

/** The functions of OpenSSL's EVP that packets need, and the contexts made with them. */
export class OpenSsl {
  readonly init: (ctx: Address, cipher: Address, engine: 0, key: Address, iv: Address, encrypt: 0 | 1) => number
  /** Associated data when `out` is NULL, the end when `input` is; -1 on failure, as when a tag does not verify. */
  readonly cipher: (ctx: Address, out: Address, input: Address, length: number) => number
  readonly control: (ctx: Address, type: number, length: number, at: Address) => number
  /** Address of an ArrayBuffer's first byte. */
  readonly address: (memory: ArrayBufferLike) => Address
  readonly gcm: Address
  readonly ecb: Address
  /** The nonce of the packet at hand. Memory of an explicit ArrayBuffer never lies on V8's heap, where things move. */
  readonly nonce = new Uint8Array(new ArrayBuffer(NONCE_LENGTH))
  readonly nonceAt: Address
  /** Buffers of the last packet sealed and the last opened. */
  readonly sealing: Place
  readonly opening: Place
  /** Contexts not yet freed. */
  live = 0
  readonly #key = new Uint8Array(new ArrayBuffer(KEY_LENGTH))
  readonly #keyAt: Address
  readonly #make: () => Address
  readonly #free: (ctx: Address) => void
  readonly #forgotten = new FinalizationRegistry<Address>((ctx) => this.#drop(ctx))

  /** Throws where a symbol is missing. */
  constructor(koffi: Koffi) {
    const node = koffi.load(null)
    // Pointers are declared as integers: koffi passes those on without asking whether they are buffers or strings.
    this.#make = node.func("intptr_t EVP_CIPHER_CTX_new()")
    this.#free = node.func("void EVP_CIPHER_CTX_free(intptr_t ctx)")
    this.init = node.func(
      "int EVP_CipherInit_ex(intptr_t ctx, intptr_t cipher, intptr_t engine, intptr_t key, intptr_t iv, int encrypt)"
    )
    this.cipher = node.func("int EVP_Cipher(intptr_t ctx, intptr_t out, intptr_t input, unsigned int length)")
    this.control = node.func("int EVP_CIPHER_CTX_ctrl(intptr_t ctx, int type, int length, intptr_t at)")
    this.gcm = node.func<() => Address>("intptr_t EVP_aes_256_gcm()")()
    this.ecb = node.func<() => Address>("intptr_t EVP_aes_256_ecb()")()
    this.address = (memory) => Number(koffi.address(memory))
    this.sealing = new Place(this)
    this.opening = new Place(this)
    this.nonceAt = this.address(this.nonce.buffer)
    this.#keyAt = this.address(this.#key.buffer)
  }

  /** A context for `owner`, freed by `release` or when `owner` is gone. */
  context(owner: object, cipher: Address, key: Uint8Array): Address {
    if (key.length !== KEY_LENGTH) throw new RangeError(`a key of ${key.length} bytes`)
    const ctx = this.#make()
    if (!Number.isSafeInteger(ctx) || ctx === 0) throw new Error("OpenSSL makes no context")
    this.live++
    this.#key.set(key)
    const done = this.init(ctx, cipher, 0, this.#keyAt, 0, ENCRYPT)
    this.#key.fill(0)
    if (done !== 1) {
      this.#drop(ctx)
      throw new Error("OpenSSL takes no key")
    }
    this.#forgotten.register(owner, ctx, owner)
    return ctx
  }

  /** Throws where OpenSSL has no memory. */
  packetKey(key: Uint8Array): PacketKey {
    return new PacketContext(this, key)
  }

  /** Throws where OpenSSL has no memory. An answer may be longer than what was asked for. */
  maskKey(key: Uint8Array): MaskKey {
    return new MaskContext(this, key)
  }

  release(owner: object, ctx: Address): void {
    this.#forgotten.unregister(owner)
    this.#drop(ctx)
  }

  /** Overwrites the key schedule and frees it. */
  #drop(ctx: Address): void {
    this.#free(ctx)
    this.live--
  }
}

/** Where the bytes of a Uint8Array lie, remembered for as long as the same array or one of the same memory is asked for. */
class Place {
  readonly #ssl: OpenSsl
  #bytes: Uint8Array | undefined
  #at: Address = 0
  // Held, so that the address stays good.
  #memory: ArrayBufferLike | undefined
  #base: Address = 0

  constructor(ssl: OpenSsl) {
    this.#ssl = ssl
  }

  of(bytes: Uint8Array): Address {
    if (bytes === this.#bytes) return this.#at
    const memory = bytes.buffer
    if (memory !== this.#memory) {
      this.#base = this.#ssl.address(memory)
      this.#memory = memory
    }
    this.#bytes = bytes
    this.#at = this.#base + bytes.byteOffset
    return this.#at
  }
}

/** AES-256-GCM in one context, which both seals and opens: the key schedule is the same. */
class PacketContext implements PacketKey {
  readonly #ssl: OpenSsl
  #ctx: Address

  constructor(ssl: OpenSsl, key: Uint8Array) {
    this.#ssl = ssl
    this.#ctx = ssl.context(this, ssl.gcm, key)
  }

  seal(nonce: Uint8Array, buffer: Uint8Array, start: number, end: number): void {
    this.#check(nonce, buffer, start, end)
    const ssl = this.#ssl
    const ctx = this.#ctx
    const at = ssl.sealing.of(buffer) + start
    const text = at + PACKET_HEADER_LENGTH
    const length = end - start - PACKET_HEADER_LENGTH - TAG_LENGTH
    const sealed =
      ssl.init(ctx, 0, 0, 0, ssl.nonceAt, ENCRYPT) === 1 &&
      ssl.cipher(ctx, 0, at, PACKET_HEADER_LENGTH) >= 0 &&
      ssl.cipher(ctx, text, text, length) >= 0 &&
      ssl.cipher(ctx, 0, 0, 0) >= 0 &&
      ssl.control(ctx, GET_TAG, TAG_LENGTH, text + length) === 1
    if (!sealed) throw new Error("OpenSSL does not seal")
  }

  open(nonce: Uint8Array, buffer: Uint8Array, start: number, end: number): boolean {
    this.#check(nonce, buffer, start, end)
    const ssl = this.#ssl
    const ctx = this.#ctx
    const at = ssl.opening.of(buffer) + start
    const text = at + PACKET_HEADER_LENGTH
    const length = end - start - PACKET_HEADER_LENGTH - TAG_LENGTH
    return (
      ssl.init(ctx, 0, 0, 0, ssl.nonceAt, DECRYPT) === 1 &&
      ssl.control(ctx, SET_TAG, TAG_LENGTH, text + length) === 1 &&
      ssl.cipher(ctx, 0, at, PACKET_HEADER_LENGTH) >= 0 &&
      ssl.cipher(ctx, text, text, length) >= 0 &&
      ssl.cipher(ctx, 0, 0, 0) >= 0
    )
  }

  wipe(): void {
    if (this.#ctx !== 0) this.#ssl.release(this, this.#ctx)
    this.#ctx = 0
  }

  /** The last gate before C; also takes the nonce over. */
  #check(nonce: Uint8Array, buffer: Uint8Array, start: number, end: number): void {
    if (this.#ctx === 0) throw new Error(WIPED)
    if (nonce.length !== NONCE_LENGTH) throw new RangeError(`a nonce of ${nonce.length} bytes`)
    const length = end - start
    // Written so that NaN fails.
    if (!(start >= 0 && end <= buffer.length && length >= PACKET_HEADER_LENGTH + TAG_LENGTH && length <= MAX_LENGTH))
      throw new RangeError(`a packet from ${start} to ${end} in ${buffer.length} bytes`)
    const own = this.#ssl.nonce
    for (let i = 0; i < NONCE_LENGTH; i++) own[i] = nonce[i] as number
  }
}

/** AES-256-ECB. */
class MaskContext implements MaskKey {
  readonly #ssl: OpenSsl
  readonly #samples: Place
  #ctx: Address
  #masks = new Uint8Array(0)
  #masksAt: Address = 0

  constructor(ssl: OpenSsl, key: Uint8Array) {
    this.#ssl = ssl
    this.#samples = new Place(ssl)
    this.#ctx = ssl.context(this, ssl.ecb, key)
  }

  mask(samples: Uint8Array, count: number): Uint8Array {
    if (this.#ctx === 0) throw new Error(WIPED)
    const length = count * BLOCK_LENGTH
    if (!(Number.isInteger(count) && count >= 0 && length <= samples.length && length <= MAX_LENGTH))
      throw new RangeError(`${count} samples in ${samples.length} bytes`)
    if (length > this.#masks.length) {
      this.#masks = new Uint8Array(new ArrayBuffer(samples.length - (samples.length % BLOCK_LENGTH)))
      this.#masksAt = this.#ssl.address(this.#masks.buffer)
    }
    const done = length === 0 || this.#ssl.cipher(this.#ctx, this.#masksAt, this.#samples.of(samples), length) >= 0
    if (!done) throw new Error("OpenSSL does not encrypt")
    return this.#masks
  }

  wipe(): void {
    if (this.#ctx !== 0) this.#ssl.release(this, this.#ctx)
    this.#ctx = 0
  }
}
