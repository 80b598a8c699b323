/**
 * The cryptographic port of the protocol core. The core assembles handshakes and packets and owns no algorithm: whoever
 * runs it (the Crypto service, a test, a benchmark) hands these synchronous functions in.
 *
 * Buffers: inputs are only read, outputs are fresh unless a function says that it writes into its argument.
 * A function answers `undefined` where an attacker's input can make it fail; it throws only for a caller's bug
 * (a key of the wrong length).
 */

export const KEY_LENGTH = 32
export const NONCE_LENGTH = 12
export const TAG_LENGTH = 16
export const HASH_LENGTH = 32

/** X25519, RFC 7748: raw little-endian u-coordinates, 32 bytes each. */
export interface KeyPair {
  readonly privateKey: Uint8Array
  readonly publicKey: Uint8Array
}

/** AES-256-GCM under one key, made once per key and used for every packet of it. */
export interface AeadKey {
  /** Writes ciphertext and the 16-byte tag, `plaintext.length + 16` bytes, into `out` at `offset`. */
  readonly sealInto: (
    nonce: Uint8Array,
    aad: Uint8Array,
    plaintext: Uint8Array,
    out: Uint8Array,
    offset: number
  ) => void
  /** The plaintext of ciphertext ‖ tag, or `undefined` when the tag does not verify. */
  readonly open: (nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array) => Uint8Array | undefined
}

/**
 * AES-256-GCM under one key for transport packets, which are sealed and opened where they lie: in `buffer` from `start` to
 * `end`, a 16-byte unmasked header (the associated data), the text, and 16 bytes of tag.
 */
export interface PacketKey {
  /** Encrypts the text and writes the tag. `nonce` is 12 bytes. */
  readonly seal: (nonce: Uint8Array, buffer: Uint8Array, start: number, end: number) => void
  /** Decrypts the text; false when the tag does not verify, and then the text is anything. */
  readonly open: (nonce: Uint8Array, buffer: Uint8Array, start: number, end: number) => boolean
  /** Forgets the key; not to be used afterwards. */
  readonly wipe: () => void
}

/** AES-256-ECB, for header masks (RFC 9001 section 5.4.3). */
export interface MaskKey {
  /** Encrypts the first `count` blocks of 16 bytes of `samples`; the answer is valid until the next call. */
  readonly mask: (samples: Uint8Array, count: number) => Uint8Array
  /** Forgets the key; not to be used afterwards. */
  readonly wipe: () => void
}

export interface Primitives {
  readonly aeadKey: (key: Uint8Array) => AeadKey
  readonly packetKey: (key: Uint8Array) => PacketKey
  readonly maskKey: (key: Uint8Array) => MaskKey
  /** The key pair of a 32-byte X25519 private key. */
  readonly keyPair: (privateKey: Uint8Array) => KeyPair
  /** X25519; `undefined` for a key that is not 32 bytes and for the all-zero result (RFC 7748 section 6.1). */
  readonly dh: (privateKey: Uint8Array, publicKey: Uint8Array) => Uint8Array | undefined
  /** SHA-256 of the parts, one after the other. */
  readonly hash: (...parts: ReadonlyArray<Uint8Array>) => Uint8Array
  /** HMAC-SHA256 of the parts, one after the other. */
  readonly hmac: (key: Uint8Array, ...parts: ReadonlyArray<Uint8Array>) => Uint8Array
  /** HKDF-SHA256, RFC 5869: extract with `salt`, expand with `info` to `length` bytes. */
  readonly hkdf: (salt: Uint8Array, ikm: Uint8Array, info: Uint8Array, length: number) => Uint8Array
  /** Constant-time comparison; false for different lengths. */
  readonly equal: (a: Uint8Array, b: Uint8Array) => boolean
}

/** `length` fresh unpredictable bytes. Tests and simulations hand in a seeded one. */
export type Entropy = (length: number) => Uint8Array
