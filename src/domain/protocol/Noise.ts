/**
 * The Noise Protocol Framework, revision 34, for the suite 25519_AESGCM_SHA256: every one-way, interactive and deferred
 * pattern, with pre-shared keys at any of their places. ClawChat runs IKpsk2; the others are rows of a table and let
 * the published vectors run through the very code that the handshake uses.
 *
 * It owns no randomness (ephemeral keys are handed in), no algorithm (`Primitives`), no transport. A failure is
 * `undefined` and final: the state wipes itself and answers `undefined` from then on. What it throws is a caller's bug:
 * a key missing that the pattern needs, a message written out of turn, a split before the end.
 */
import { concat, utf8 } from "./Cursor.ts"
import { type AeadKey, HASH_LENGTH, KEY_LENGTH, type KeyPair, type Primitives, TAG_LENGTH } from "./Primitives.ts"

const SUITE = "25519_AESGCM_SHA256"
/** Bytes: section 3. */
export const MAX_MESSAGE_LENGTH = 65535
const EMPTY = new Uint8Array(0)

// -- patterns --------------------------------------------------------------------------------------------------------

export type Token = "e" | "s" | "ee" | "es" | "se" | "ss" | "psk"

export interface Pattern {
  /** As in the protocol name, modifiers included: `IKpsk2`. */
  readonly name: string
  /** Whether the responder knows the initiator's static key beforehand. */
  readonly initiatorKnown: boolean
  /** Whether the initiator knows the responder's static key beforehand. */
  readonly responderKnown: boolean
  /** The tokens of each message; the initiator writes the first, then they take turns. */
  readonly messages: ReadonlyArray<ReadonlyArray<Token>>
  /** How many pre-shared keys it takes. */
  readonly psks: number
}

/** Sections 7.4, 7.5 and 18.1: whose static keys are known (`i`, `r`, `ir`), then the messages' tokens. */
const TABLE: Readonly<Record<string, readonly [known: string, messages: string]>> = {
  N: ["r", "e es"],
  K: ["ir", "e es ss"],
  X: ["r", "e es s ss"],

  NN: ["", "e | e ee"],
  NK: ["r", "e es | e ee"],
  NX: ["", "e | e ee s es"],
  XN: ["", "e | e ee | s se"],
  XK: ["r", "e es | e ee | s se"],
  XX: ["", "e | e ee s es | s se"],
  KN: ["i", "e | e ee se"],
  KK: ["ir", "e es ss | e ee se"],
  KX: ["i", "e | e ee se s es"],
  IN: ["", "e s | e ee se"],
  IK: ["r", "e es s ss | e ee se"],
  IX: ["", "e s | e ee se s es"],

  NK1: ["r", "e | e ee es"],
  NX1: ["", "e | e ee s | es"],
  X1N: ["", "e | e ee | s | se"],
  X1K: ["r", "e es | e ee | s | se"],
  XK1: ["r", "e | e ee es | s se"],
  X1K1: ["r", "e | e ee es | s | se"],
  X1X: ["", "e | e ee s es | s | se"],
  XX1: ["", "e | e ee s | es s se"],
  X1X1: ["", "e | e ee s | es s | se"],
  K1N: ["i", "e | e ee | se"],
  K1K: ["ir", "e es | e ee | se"],
  KK1: ["ir", "e | e ee se es"],
  K1K1: ["ir", "e | e ee es | se"],
  K1X: ["i", "e | e ee s es | se"],
  KX1: ["i", "e | e ee se s | es"],
  K1X1: ["i", "e | e ee s | se es"],
  I1N: ["", "e s | e ee | se"],
  I1K: ["r", "e es s | e ee | se"],
  IK1: ["r", "e s | e ee se es"],
  I1K1: ["r", "e s | e ee es | se"],
  I1X: ["", "e s | e ee s es | se"],
  IX1: ["", "e s | e ee se s | es"],
  I1X1: ["", "e s | e ee s | se es"]
}

/** The pattern of a name such as `XX`, `NK1`, `IKpsk2` or `XXpsk0+psk3`; `undefined` when there is none. */
export const pattern = (name: string): Pattern | undefined => {
  const parts = /^([A-Z1]+)((?:psk\d(?:\+(?=psk)|$))*)$/.exec(name)
  const base = parts?.[1] ?? ""
  const modifiers = parts?.[2] ?? ""
  if (!Object.hasOwn(TABLE, base)) return undefined
  const [known, tokens] = TABLE[base] as readonly [string, string]
  const messages = tokens.split(" | ").map((message) => message.split(" ") as Array<Token>)
  const places = modifiers === "" ? [] : modifiers.split("+").map((modifier) => Number(modifier.slice(3)))
  if (new Set(places).size !== places.length) return undefined
  // psk0 opens the first message, pskN closes the N-th (section 9.3).
  for (const place of places) {
    const message = messages[Math.max(place - 1, 0)]
    if (message === undefined) return undefined
    if (place === 0) message.unshift("psk")
    else message.push("psk")
  }
  return {
    name,
    initiatorKnown: known.includes("i"),
    responderKnown: known.includes("r"),
    messages,
    psks: places.length
  }
}

// -- cipher state ----------------------------------------------------------------------------------------------------

/** One key and its counter (section 5.1): for handshakes and for vectors; packets have a schedule of their own. */
export class CipherState {
  readonly #key: AeadKey
  /** 4 zero bytes and the counter, big-endian (section 12.4). */
  readonly #nonce = new Uint8Array(12)
  readonly #view = new DataView(this.#nonce.buffer)
  #counter = 0

  constructor(primitives: Primitives, key: Uint8Array) {
    this.#key = primitives.aeadKey(key)
  }

  #next(): Uint8Array {
    if (this.#counter === Number.MAX_SAFE_INTEGER) throw new RangeError("CipherState: out of nonces")
    this.#view.setUint32(4, Math.floor(this.#counter / 2 ** 32))
    this.#view.setUint32(8, this.#counter % 2 ** 32)
    return this.#nonce
  }

  encrypt(associated: Uint8Array, plaintext: Uint8Array): Uint8Array {
    const out = new Uint8Array(plaintext.length + TAG_LENGTH)
    this.#key.sealInto(this.#next(), associated, plaintext, out, 0)
    this.#counter++
    return out
  }

  /** The plaintext, or `undefined` when it does not verify: then the counter stays. */
  decrypt(associated: Uint8Array, ciphertext: Uint8Array): Uint8Array | undefined {
    const plaintext = this.#key.open(this.#next(), associated, ciphertext)
    if (plaintext !== undefined) this.#counter++
    return plaintext
  }
}

// -- handshake -------------------------------------------------------------------------------------------------------

export interface HandshakeOptions {
  readonly pattern: Pattern
  readonly initiator: boolean
  readonly prologue: Uint8Array
  /** Our static key pair, where the pattern uses one. */
  readonly local?: KeyPair | undefined
  /** The peer's static public key, where the pattern knows it beforehand. */
  readonly remote?: Uint8Array | undefined
  /** Pre-shared keys of 32 bytes, in the order in which the messages mix them. */
  readonly psks?: ReadonlyArray<Uint8Array>
}

/** The keys after the handshake, one per direction: named after who sends under them. */
export interface SplitKeys {
  readonly initiatorKey: Uint8Array
  readonly responderKey: Uint8Array
}

/** One side of one handshake: `writeMessage` and `readMessage` in turn until `complete`, then `split`. */
export class Handshake {
  readonly #p: Primitives
  readonly #pattern: Pattern
  readonly #initiator: boolean
  readonly #local: KeyPair | undefined
  readonly #psks: ReadonlyArray<Uint8Array>
  #ephemeral: KeyPair | undefined
  #remoteStatic: Uint8Array | undefined
  #remoteEphemeral: Uint8Array | undefined
  #chainingKey: Uint8Array
  #hash: Uint8Array
  #cipher: CipherState | undefined
  #message = 0
  #psk = 0
  #dead = false

  constructor(primitives: Primitives, options: HandshakeOptions) {
    const { initiator, local, prologue, remote, psks = [] } = options
    this.#p = primitives
    this.#pattern = options.pattern
    this.#initiator = initiator
    this.#local = local
    this.#psks = psks

    const { initiatorKnown, responderKnown } = options.pattern
    const remoteKnown = initiator ? responderKnown : initiatorKnown
    if (remoteKnown !== (remote !== undefined)) throw new Error("Handshake: remote static key against the pattern")
    if (remote !== undefined && remote.length !== KEY_LENGTH) throw new RangeError("Handshake: remote static key")
    if (psks.length !== options.pattern.psks || psks.some((psk) => psk.length !== KEY_LENGTH)) {
      throw new Error("Handshake: pre-shared keys against the pattern")
    }
    this.#remoteStatic = remote?.slice()

    const name = utf8(`Noise_${options.pattern.name}_${SUITE}`)
    if (name.length <= HASH_LENGTH) {
      this.#hash = new Uint8Array(HASH_LENGTH)
      this.#hash.set(name)
    } else {
      this.#hash = primitives.hash(name)
    }
    this.#chainingKey = this.#hash.slice()
    this.#mixHash(prologue)
    if (initiatorKnown) this.#mixHash(initiator ? this.#ourStatic().publicKey : this.#theirStatic())
    if (responderKnown) this.#mixHash(initiator ? this.#theirStatic() : this.#ourStatic().publicKey)
  }

  /** Whether every message of the pattern is through and `split` may be called. */
  get complete(): boolean {
    return !this.#dead && this.#message === this.#pattern.messages.length
  }

  /** The peer's static public key once it is known and nothing failed. */
  get remoteStatic(): Uint8Array | undefined {
    return this.#dead ? undefined : this.#remoteStatic
  }

  /** Names this one run of the handshake, the same for both ends when complete (section 11.2). */
  get handshakeHash(): Uint8Array {
    return this.#hash.slice()
  }

  /** Secret; the root of later key ratchets. */
  get chainingKey(): Uint8Array {
    return this.#chainingKey.slice()
  }

  /**
   * The next message, carrying `payload`. `ephemeral` is fresh for every message that has an `e` (all but a few third
   * and fourth ones). `undefined` when a public key of the peer is unfit for X25519.
   */
  writeMessage(payload: Uint8Array, ephemeral?: KeyPair): Uint8Array | undefined {
    if (this.#dead) return undefined
    const tokens = this.#turn(this.#initiator)
    if (tokens === undefined) throw new Error("Handshake: not our turn to write")
    const parts: Array<Uint8Array> = []
    for (const token of tokens) {
      if (token === "e") {
        if (ephemeral === undefined) throw new Error("Handshake: this message takes an ephemeral key pair")
        this.#ephemeral = ephemeral
        parts.push(ephemeral.publicKey)
        this.#mixEphemeral(ephemeral.publicKey)
      } else if (token === "s") {
        parts.push(this.#encryptAndHash(this.#ourStatic().publicKey))
      } else if (!this.#mixToken(token)) {
        return this.#fail()
      }
    }
    parts.push(this.#encryptAndHash(payload))
    this.#message++
    const message = concat(...parts)
    if (message.length > MAX_MESSAGE_LENGTH) throw new RangeError(`Handshake: a message of ${message.length} bytes`)
    return message
  }

  /**
   * The payload of the peer's next message, or `undefined`: it was cut short, forged, bound to another prologue, psk or
   * key, and the handshake is over. Out of turn or after the end it is `undefined` too and changes nothing.
   */
  readMessage(message: Uint8Array): Uint8Array | undefined {
    if (this.#dead) return undefined
    const tokens = this.#turn(!this.#initiator)
    if (tokens === undefined) return undefined
    if (message.length > MAX_MESSAGE_LENGTH) return this.#fail()
    let offset = 0
    for (const token of tokens) {
      if (token === "e") {
        if (message.length - offset < KEY_LENGTH) return this.#fail()
        this.#remoteEphemeral = Uint8Array.from(message.subarray(offset, offset + KEY_LENGTH))
        offset += KEY_LENGTH
        this.#mixEphemeral(this.#remoteEphemeral)
      } else if (token === "s") {
        const length = KEY_LENGTH + (this.#cipher === undefined ? 0 : TAG_LENGTH)
        if (message.length - offset < length) return this.#fail()
        this.#remoteStatic = this.#decryptAndHash(message.subarray(offset, offset + length))
        if (this.#remoteStatic === undefined) return this.#fail()
        offset += length
      } else if (!this.#mixToken(token)) {
        return this.#fail()
      }
    }
    const payload = this.#decryptAndHash(message.subarray(offset))
    if (payload === undefined) return this.#fail()
    this.#message++
    return payload
  }

  /** The transport keys (section 5.2). Copy `chainingKey` before `wipe` where keys are to be ratcheted on. */
  split(): SplitKeys {
    if (!this.complete) throw new Error("Handshake: split before the end")
    const keys = this.#p.hkdf(this.#chainingKey, EMPTY, EMPTY, 2 * KEY_LENGTH)
    return { initiatorKey: keys.slice(0, KEY_LENGTH), responderKey: keys.slice(KEY_LENGTH) }
  }

  /** Ends the handshake and overwrites its secrets, the private ephemeral key among them. */
  wipe(): void {
    this.#dead = true
    this.#chainingKey.fill(0)
    this.#ephemeral?.privateKey.fill(0)
    this.#ephemeral = undefined
    this.#cipher = undefined
  }

  #fail(): undefined {
    this.wipe()
    return undefined
  }

  /** The tokens of the next message when `byInitiator` is the side that writes it. */
  #turn(byInitiator: boolean): ReadonlyArray<Token> | undefined {
    return byInitiator === (this.#message % 2 === 0) ? this.#pattern.messages[this.#message] : undefined
  }

  #ourStatic(): KeyPair {
    if (this.#local === undefined) throw new Error("Handshake: the pattern takes a static key pair")
    return this.#local
  }

  #theirStatic(): Uint8Array {
    if (this.#remoteStatic === undefined) throw new Error("Handshake: the peer's static key is not known yet")
    return this.#remoteStatic
  }

  #mixToken(token: "ee" | "es" | "se" | "ss" | "psk"): boolean {
    if (token === "psk") {
      this.#mixKeyAndHash(this.#psks[this.#psk++] as Uint8Array)
      return true
    }
    // The first letter is the initiator's key, the second the responder's.
    const [ours, theirs] = this.#initiator ? [token[0], token[1]] : [token[1], token[0]]
    const pair = ours === "e" ? this.#ephemeral : this.#ourStatic()
    const peer = theirs === "e" ? this.#remoteEphemeral : this.#theirStatic()
    const shared = pair === undefined || peer === undefined ? undefined : this.#p.dh(pair.privateKey, peer)
    if (shared === undefined) return false
    this.#mixKey(shared)
    shared.fill(0)
    return true
  }

  #mixEphemeral(publicKey: Uint8Array): void {
    this.#mixHash(publicKey)
    // With pre-shared keys, so that no two handshakes run under one key (section 9.2).
    if (this.#pattern.psks > 0) this.#mixKey(publicKey)
  }

  #mixHash(data: Uint8Array): void {
    this.#hash = this.#p.hash(this.#hash, data)
  }

  #mixKey(material: Uint8Array): void {
    const out = this.#p.hkdf(this.#chainingKey, material, EMPTY, 2 * HASH_LENGTH)
    this.#chainingKey = out.slice(0, HASH_LENGTH)
    this.#cipher = new CipherState(this.#p, out.subarray(HASH_LENGTH))
    out.fill(0)
  }

  #mixKeyAndHash(material: Uint8Array): void {
    const out = this.#p.hkdf(this.#chainingKey, material, EMPTY, 3 * HASH_LENGTH)
    this.#chainingKey = out.slice(0, HASH_LENGTH)
    this.#mixHash(out.subarray(HASH_LENGTH, 2 * HASH_LENGTH))
    this.#cipher = new CipherState(this.#p, out.subarray(2 * HASH_LENGTH))
    out.fill(0)
  }

  #encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const out = this.#cipher === undefined ? plaintext : this.#cipher.encrypt(this.#hash, plaintext)
    this.#mixHash(out)
    return out
  }

  #decryptAndHash(data: Uint8Array): Uint8Array | undefined {
    const out = this.#cipher === undefined ? Uint8Array.from(data) : this.#cipher.decrypt(this.#hash, data)
    this.#mixHash(data)
    return out
  }
}
