/**
 * The client's half of STUN's long-term credentials (RFC 8489 section 9.2): takes up challenges (401, 438), signs requests,
 * verifies responses. What a server offers is used: SHA-256 passwords and hashed user names, else MD5 and HMAC-SHA1.
 */
import { Reader } from "./Cursor.ts"
import * as Stun from "./StunMessage.ts"

export interface LongTermCredentials {
  readonly username: string
  readonly password: string
}

/**
 * Bytes that we take. The RFC allows 763 (sections 14.9, 14.10), which no server uses; these, with a user name of 256
 * characters, always fit into a message of ours.
 */
const MAX_REALM = 256
const MAX_NONCE = 512
const MAX_ALGORITHMS = 64

/** RFC 8489 section 9.2: what a nonce begins with that says more, and the base64 digits of 24 bits behind it. */
const NONCE_COOKIE = "obMatJos2"
const FLAGS_END = NONCE_COOKIE.length + 4
const PASSWORD_ALGORITHMS = 0x80_00_00
const USERNAME_ANONYMITY = 0x40_00_00

/** RFC 8489 section 18.5. */
const MD5 = 1
const SHA256 = 2

/** What a challenge was worth: `Same` asks for what was just given, `Unusable` cannot be answered. */
export type Challenge = "Fresh" | "Same" | "Unusable"

interface Terms {
  readonly realm: string
  readonly nonce: Uint8Array
  /** PASSWORD-ALGORITHMS as it came, to be repeated; absent with an older server. */
  readonly algorithms: Uint8Array | undefined
  readonly algorithm: number
  readonly userhash: Uint8Array | undefined
}

export class LongTermAuth {
  readonly #primitives: Stun.StunPrimitives
  #credentials: LongTermCredentials
  #terms: Terms | undefined
  #key: Uint8Array | undefined

  constructor(primitives: Stun.StunPrimitives, credentials: LongTermCredentials) {
    this.#primitives = primitives
    this.#credentials = credentials
  }

  /** Whether a challenge was taken up, so that requests can be signed. */
  get ready(): boolean {
    return this.#terms !== undefined
  }

  /** Other credentials from now on; the next request will be challenged again. */
  use(credentials: LongTermCredentials): void {
    const { password, username } = this.#credentials
    if (credentials.username === username && credentials.password === password) return
    this.forget()
    this.#credentials = credentials
  }

  /** Drops what was agreed and the key. */
  forget(): void {
    this.#key?.fill(0)
    this.#key = undefined
    this.#terms = undefined
  }

  /**
   * A 401 or 438. `Same`: realm and algorithm are those that the request was signed with, so that only the nonce is new:
   * after a 438 that is what was asked for, after a 401 it means that the credentials are wrong.
   */
  challenge(message: Stun.Message): Challenge {
    const terms = this.#termsOf(message)
    if (terms === undefined) return "Unusable"
    const before = this.#terms
    this.#terms = terms
    if (before !== undefined && before.realm === terms.realm && before.algorithm === terms.algorithm) return "Same"
    this.#key?.fill(0)
    const { password, username } = this.#credentials
    const algorithm = terms.algorithm === SHA256 ? "sha256" : "md5"
    this.#key = Stun.longTermKey(this.#primitives, username, terms.realm, password, algorithm)
    return "Fresh"
  }

  /** The finished request; as it stands before the first challenge. */
  sign(writer: Stun.StunWriter): Uint8Array {
    const terms = this.#terms
    const key = this.#key
    if (terms === undefined || key === undefined) return writer.finish()
    if (terms.userhash === undefined) writer.text(Stun.Attribute.username, this.#credentials.username.normalize("NFC"))
    else writer.attribute(Stun.Attribute.userhash, terms.userhash)
    writer.text(Stun.Attribute.realm, terms.realm).attribute(Stun.Attribute.nonce, terms.nonce)
    if (terms.algorithms === undefined) return writer.integrity(this.#primitives, key).finish()
    return writer
      .attribute(Stun.Attribute.passwordAlgorithms, terms.algorithms)
      .attribute(Stun.Attribute.passwordAlgorithm, Uint8Array.of(0, terms.algorithm, 0, 0))
      .integritySha256(this.#primitives, key)
      .finish()
  }

  /** Whether the server has proven that it knows the password too. */
  verify(message: Stun.Message): boolean {
    return this.#key !== undefined && Stun.verify(message, this.#primitives, this.#key)
  }

  #termsOf(message: Stun.Message): Terms | undefined {
    const realm = Stun.text(message, Stun.Attribute.realm)
    const nonce = Stun.value(message, Stun.Attribute.nonce)
    if (realm === undefined || nonce === undefined) return undefined
    const realmLength = Stun.value(message, Stun.Attribute.realm)?.length ?? 0
    if (realmLength === 0 || realmLength > MAX_REALM || nonce.length === 0 || nonce.length > MAX_NONCE) return undefined
    const flags = flagsOf(nonce)
    const offered = Stun.value(message, Stun.Attribute.passwordAlgorithms)
    // Somebody took the list out, to have the weaker one (section 9.2.1).
    if ((flags & PASSWORD_ALGORITHMS) !== 0 && offered === undefined) return undefined
    const algorithm = offered === undefined ? MD5 : firstKnown(offered)
    if (algorithm === undefined) return undefined
    return {
      realm,
      nonce: Uint8Array.from(nonce),
      algorithms: offered === undefined ? undefined : Uint8Array.from(offered),
      algorithm,
      userhash:
        (flags & USERNAME_ANONYMITY) === 0
          ? undefined
          : Stun.userhash(this.#primitives, this.#credentials.username, realm)
    }
  }
}

/** The first algorithm of PASSWORD-ALGORITHMS that we know (RFC 8489 section 9.2.5). */
const firstKnown = (offered: Uint8Array): number | undefined => {
  if (offered.length > MAX_ALGORITHMS) return undefined
  const reader = new Reader(offered)
  while (reader.remaining > 0) {
    const algorithm = reader.u16()
    const length = reader.u16()
    reader.view((length + 3) & ~3)
    if (reader.failed) return undefined
    if ((algorithm === MD5 || algorithm === SHA256) && length === 0) return algorithm
  }
  return undefined
}

/** The security features that a nonce announces, bit 0 first; none when it does not begin with the cookie. */
const flagsOf = (nonce: Uint8Array): number => {
  if (nonce.length < FLAGS_END) return 0
  for (let i = 0; i < NONCE_COOKIE.length; i++) if (nonce[i] !== NONCE_COOKIE.charCodeAt(i)) return 0
  let bits = 0
  for (let i = NONCE_COOKIE.length; i < FLAGS_END; i++) {
    const digit = sextet(nonce[i] as number)
    if (digit < 0) return 0
    bits = (bits << 6) | digit
  }
  return bits
}

/** The value of a base64 digit, or -1. */
const sextet = (digit: number): number => {
  if (digit >= 0x41 && digit <= 0x5a) return digit - 0x41
  if (digit >= 0x61 && digit <= 0x7a) return digit - 0x61 + 26
  if (digit >= 0x30 && digit <= 0x39) return digit - 0x30 + 52
  return digit === 0x2b ? 62 : digit === 0x2f ? 63 : -1
}
