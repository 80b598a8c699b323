/**
 * The answer file: the one line by which a device tells a server, with no third host between them, where its datagrams
 * come from, so that the server can open its own NAT for them. It is carried by hand, the other way than the `.sec` file.
 *
 *     clawchat-answer:v1:BASE64URL(nonce 12 | AES-256-GCM(key, nonce, aad, content) 182 | tag 16)
 *     key     = HKDF("", psk, "clawchat/1 answer", 32)     psk: the file's or the device's secret
 *     aad     = "clawchat-answer:v1:"
 *     content = credential id 16 | made at u64, ms since 1970 | count u8 | count addresses (AddressCodec) | zeros to 182
 *
 * All files are of one length and say nothing without the secret, not even whose they are: the server tries the secrets
 * that it has.
 */
import * as Base64Url from "effect/encoding/Base64Url"
import * as Result from "effect/Result"
import type { Address } from "./protocol/Address.ts"
import * as AddressCodec from "./protocol/AddressCodec.ts"
import { CREDENTIAL_ID_LENGTH, PROTOCOL_NAME } from "./protocol/Constants.ts"
import { Reader, utf8, Writer } from "./protocol/Cursor.ts"
import { hostKind, isUnicast } from "./protocol/HostKind.ts"
import { KEY_LENGTH, NONCE_LENGTH, type Primitives, TAG_LENGTH } from "./protocol/Primitives.ts"

export const PREFIX = "clawchat-answer:v1:"
/** Milliseconds for which a file is good. */
export const VALIDITY_MS = 300_000
/** Milliseconds that the two clocks may be apart. */
export const CLOCK_SKEW_MS = 30_000
export const MAX_CANDIDATES = 8
/** Characters beyond which nothing is looked at. */
export const MAX_LENGTH = 1024

/** A multiple of three bytes in all, so that no bit of the text is without meaning. */
const CONTENT_LENGTH = 182
const SEALED_LENGTH = NONCE_LENGTH + CONTENT_LENGTH + TAG_LENGTH
const INFO = utf8(`${PROTOCOL_NAME} answer`)
const AAD = utf8(PREFIX)
const EMPTY = new Uint8Array(0)

export interface Answer {
  /** 16 bytes: whose secret it is sealed under. */
  readonly credentialId: Uint8Array
  /** Milliseconds since 1970, by the device's clock. */
  readonly madeAt: number
  /** Where the device's datagrams may come from, 1 to `MAX_CANDIDATES`, numeric, best first. */
  readonly candidates: ReadonlyArray<Address>
}

/** What a credential's owner needs to open one. */
export interface Key {
  /** 16 bytes. */
  readonly id: Uint8Array
  /** 32 bytes. */
  readonly psk: Uint8Array
}

const aeadOf = (primitives: Primitives, psk: Uint8Array) => {
  const key = primitives.hkdf(EMPTY, psk, INFO, KEY_LENGTH)
  const aead = primitives.aeadKey(key)
  key.fill(0)
  return aead
}

/** The line, without a line's end. `nonce` is 12 fresh bytes; more than `MAX_CANDIDATES` are left out. */
export const seal = (primitives: Primitives, psk: Uint8Array, nonce: Uint8Array, answer: Answer): string => {
  const candidates = answer.candidates.slice(0, MAX_CANDIDATES)
  const content = new Uint8Array(CONTENT_LENGTH)
  const writer = new Writer(content).put(answer.credentialId).u64(answer.madeAt).u8(candidates.length)
  for (const candidate of candidates) AddressCodec.encode(writer, candidate)
  const sealed = new Uint8Array(SEALED_LENGTH)
  sealed.set(nonce)
  aeadOf(primitives, psk).sealInto(nonce, AAD, content, sealed, NONCE_LENGTH)
  return PREFIX + Base64Url.encode(sealed)
}

/** Sealed bytes in the form they are opened from. */
export interface Sealed {
  /** Names the file among all others: 12 bytes, made at random. */
  readonly nonce: Uint8Array
  readonly body: Uint8Array
}

/** The bytes of a line, around and within which mail programs may have put white space; `undefined` for anything else. */
export const parse = (line: string): Sealed | undefined => {
  if (line.length > MAX_LENGTH) return undefined
  const text = line.replace(/\s/g, "")
  if (!text.startsWith(PREFIX)) return undefined
  const digits = text.slice(PREFIX.length)
  const bytes = Result.getOrElse(Base64Url.decode(digits), () => EMPTY)
  if (bytes.length !== SEALED_LENGTH || Base64Url.encode(bytes) !== digits) return undefined
  return { nonce: bytes.slice(0, NONCE_LENGTH), body: bytes.slice(NONCE_LENGTH) }
}

/** What it says, by whichever of the keys opens it; `undefined` when none does, or when no device of ours has written it. */
export const open = (primitives: Primitives, keys: Iterable<Key>, { body, nonce }: Sealed): Answer | undefined => {
  for (const { id, psk } of keys) {
    const content = aeadOf(primitives, psk).open(nonce, AAD, body)
    if (content === undefined) continue
    const answer = decode(content)
    return answer !== undefined && primitives.equal(answer.credentialId, id) ? answer : undefined
  }
  return undefined
}

const decode = (content: Uint8Array): Answer | undefined => {
  const reader = new Reader(content)
  const credentialId = reader.copy(CREDENTIAL_ID_LENGTH)
  const madeAt = reader.u64()
  const count = reader.u8()
  if (count === 0 || count > MAX_CANDIDATES) return undefined
  const candidates: Array<Address> = []
  for (let i = 0; i < count; i++) {
    const candidate = AddressCodec.decode(reader)
    if (candidate === undefined) return undefined
    candidates.push(candidate)
  }
  const isPadded = reader.view(reader.remaining).every((byte) => byte === 0)
  return isPadded ? { credentialId, madeAt, candidates } : undefined
}

/** Whether it is good at that time. */
export const validity = ({ madeAt }: Answer, now: number): "valid" | "expired" | "notYetValid" => {
  if (now > madeAt + VALIDITY_MS + CLOCK_SKEW_MS) return "expired"
  return now < madeAt - CLOCK_SKEW_MS ? "notYetValid" : "valid"
}

/**
 * The first address that nobody's datagrams come from, so that it was never a device's: multicast and the like anywhere,
 * loopback unless the server itself is on loopback.
 */
export const forbidden = ({ candidates }: Answer, isLocal: boolean): Address | undefined =>
  candidates.find(({ host }) => !isUnicast(host) || (hostKind(host) === "loopback" && !isLocal))

/** Whether a host has no address but loopback: then its devices are on loopback too. */
export const isLocal = (hosts: ReadonlyArray<string>): boolean => hosts.every((host) => hostKind(host) === "loopback")
