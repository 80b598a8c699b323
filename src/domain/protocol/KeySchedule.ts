/**
 * Every key and every value that looks random and is not, derived with HKDF-SHA256 (RFC 5869). Normative: what is
 * written in a docstring here is what the other end computes. `a | b` is concatenation, integers are big-endian, a
 * quoted text is ASCII, and every `info` begins with the protocol's name, so no two uses share an output.
 */
import { CONNECTION_ID_LENGTH, HINT_SLOT_MS, PROTOCOL_NAME, SECRET_LENGTH } from "./Constants.ts"
import { concat, utf8, Writer } from "./Cursor.ts"
import { KEY_LENGTH, NONCE_LENGTH, type Primitives } from "./Primitives.ts"

const EMPTY = new Uint8Array(0)
const HINT = utf8(`${PROTOCOL_NAME} hint`)
const ENVELOPE_INITIATION = utf8(`${PROTOCOL_NAME} envelope initiation`)
const ENVELOPE_ANSWER = utf8(`${PROTOCOL_NAME} envelope answer`)
const DEVICE = utf8(`${PROTOCOL_NAME} device`)
const AEAD = utf8(`${PROTOCOL_NAME} aead`)
const IV = utf8(`${PROTOCOL_NAME} iv`)
const HEADER = utf8(`${PROTOCOL_NAME} header`)
const REKEY = utf8(`${PROTOCOL_NAME} rekey`)

/** The hint slot of a wall-clock time: whole spans of `HINT_SLOT_MS` since 1970. */
export const slotOf = (wallMs: number): number => Math.floor(wallMs / HINT_SLOT_MS)

/**
 * The first 8 bytes of an initiation: `HKDF(salt = "", ikm = psk, info = "clawchat/1 hint" | slot u64 | j u16, 8)`.
 * `slot` is `slotOf` the time, or, for a credential file, its valid_from in milliseconds; `j` numbers the
 * hints of the slot, so that none is shown twice.
 */
export const hint = (p: Primitives, psk: Uint8Array, slot: number, j: number): Uint8Array => {
  const info = new Writer(new Uint8Array(HINT.length + 10)).put(HINT).u64(slot).u16(j)
  return p.hkdf(EMPTY, psk, info.bytes, CONNECTION_ID_LENGTH)
}

/** HKDF's extract step, `HMAC("", psk)`: what all that is derived from one psk has in common. As secret as the psk. */
export const extract = (p: Primitives, psk: Uint8Array): Uint8Array => p.hmac(EMPTY, psk)

/** The same hints from the extracted key, numbers `from` to `end - 1`: HKDF's expand step is one HMAC for each. */
export const hints = (
  p: Primitives,
  extracted: Uint8Array,
  slot: number,
  from: number,
  end: number
): ReadonlyArray<Uint8Array> => {
  const out: Array<Uint8Array> = []
  const info = new Uint8Array(HINT.length + 11)
  for (let j = from; j < end; j++) {
    new Writer(info).put(HINT).u64(slot).u16(j).u8(1)
    out.push(p.hmac(extracted, info).subarray(0, CONNECTION_ID_LENGTH))
  }
  return out
}

export interface EnvelopeKeys {
  readonly initiation: Uint8Array
  readonly answer: Uint8Array
}

/** `HKDF("", psk, "clawchat/1 envelope initiation", 32)` and the same with `answer`. */
export const envelopeKeys = (p: Primitives, psk: Uint8Array): EnvelopeKeys => ({
  initiation: p.hkdf(EMPTY, psk, ENVELOPE_INITIATION, KEY_LENGTH),
  answer: p.hkdf(EMPTY, psk, ENVELOPE_ANSWER, KEY_LENGTH)
})

/** Noise prologue: `"clawchat/1" | credential id`. */
export const prologue = (credentialId: Uint8Array): Uint8Array => concat(utf8(PROTOCOL_NAME), credentialId)

/**
 * The psk of an enrolled device: `HKDF(salt = file psk, ikm = DH(s_client, s_server), "clawchat/1 device" | credential
 * id, 32)`. Both ends compute it, at every attempt the same; whoever read only the credential file cannot.
 */
export const deviceSecret = (
  p: Primitives,
  filePsk: Uint8Array,
  staticDh: Uint8Array,
  credentialId: Uint8Array
): Uint8Array => p.hkdf(filePsk, staticDh, concat(DEVICE, credentialId), SECRET_LENGTH)

export interface TrafficKeys {
  /** 32 bytes. */
  readonly aead: Uint8Array
  /** 12 bytes; the packet number is xored into it. */
  readonly iv: Uint8Array
}

/** From one direction's key of one epoch: `HKDF("", key, "clawchat/1 aead", 32)`, `HKDF("", key, "clawchat/1 iv", 12)`. */
export const trafficKeys = (p: Primitives, key: Uint8Array): TrafficKeys => ({
  aead: p.hkdf(EMPTY, key, AEAD, KEY_LENGTH),
  iv: p.hkdf(EMPTY, key, IV, NONCE_LENGTH)
})

/** From one direction's first key, for the session's life: `HKDF("", key, "clawchat/1 header", 32)`. */
export const headerKey = (p: Primitives, key: Uint8Array): Uint8Array => p.hkdf(EMPTY, key, HEADER, KEY_LENGTH)

export interface Ratchet {
  readonly chainingKey: Uint8Array
  readonly initiatorKey: Uint8Array
  readonly responderKey: Uint8Array
}

/**
 * The keys of `epoch`: `chaining key | initiator's key | responder's key = HKDF(salt = ck, ikm = dh, "clawchat/1 rekey"
 * | epoch u32 | e1 | e2, 96)`. `dh` is DH(e1, e2), `e1` the public key in REKEY and `e2` the one in REKEY_ACK,
 * whoever sent which. The first chaining key is that of the finished Noise handshake. The caller wipes what it replaces.
 */
export const ratchet = (
  p: Primitives,
  chainingKey: Uint8Array,
  dh: Uint8Array,
  epoch: number,
  e1: Uint8Array,
  e2: Uint8Array
): Ratchet => {
  const info = new Writer(new Uint8Array(REKEY.length + 4 + e1.length + e2.length)).put(REKEY).u32(epoch)
  const out = p.hkdf(chainingKey, dh, info.put(e1).put(e2).bytes, 3 * KEY_LENGTH)
  const keys: Ratchet = {
    chainingKey: out.slice(0, KEY_LENGTH),
    initiatorKey: out.slice(KEY_LENGTH, 2 * KEY_LENGTH),
    responderKey: out.slice(2 * KEY_LENGTH)
  }
  out.fill(0)
  return keys
}
