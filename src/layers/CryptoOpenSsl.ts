/**
 * Crypto with packets sealed by OpenSSL itself. All else is CryptoNode's, and so are the packets until there were enough of
 * them, where koffi or a symbol is missing, and where the two do not agree byte for byte.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { PACKET_HEADER_LENGTH } from "../domain/protocol/Constants.ts"
import {
  KEY_LENGTH,
  type MaskKey,
  NONCE_LENGTH,
  type PacketKey,
  type Primitives,
  TAG_LENGTH
} from "../domain/protocol/Primitives.ts"
import { Crypto } from "../services/Crypto.ts"
import * as CryptoNode from "./CryptoNode.ts"
import * as Koffi from "./Koffi.ts"
import { OpenSsl } from "./OpenSsl.ts"

/** Packets before OpenSSL is bound: with koffi that takes 5 ms, which 1,500 packets win back. A question needs some 50. */
const PATIENCE = 1024

/** Whether the two make the same packets of the same input, and refuse the same. Takes less than a millisecond. */
const agree = (ssl: OpenSsl, node: Primitives): boolean => {
  const pattern = (length: number, step: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * step + length)
  const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i])
  const secret = pattern(KEY_LENGTH, 7)
  const nonce = pattern(NONCE_LENGTH, 11)
  const theirs = node.packetKey(secret)
  const ours = ssl.packetKey(secret)
  const masks = { theirs: node.maskKey(secret), ours: ssl.maskKey(secret) }
  const opens = (sealed: Uint8Array, plain: Uint8Array): boolean => {
    const end = sealed.length - TAG_LENGTH
    const refuses = (at: number): boolean => {
      const forged = sealed.slice()
      forged[at] = (forged[at] as number) ^ 1
      return !ours.open(nonce, forged, 0, forged.length)
    }
    if (!refuses(0) || !refuses(sealed.length - 1) || !refuses(end - 1)) return false
    const opened = sealed.slice()
    return ours.open(nonce, opened, 0, opened.length) && same(plain.subarray(0, end), opened)
  }
  try {
    for (const length of [0, 16, 100, 1168]) {
      const plain = pattern(PACKET_HEADER_LENGTH + length + TAG_LENGTH, 5)
      const expected = plain.slice()
      theirs.seal(nonce, expected, 0, expected.length)
      const sealed = plain.slice()
      ours.seal(nonce, sealed, 0, sealed.length)
      if (!same(expected, sealed) || !opens(sealed, plain)) return false
      nonce[0] = length
    }
    const samples = pattern(9 * 16, 3)
    return same(masks.theirs.mask(samples, 9), masks.ours.mask(samples, 9))
  } finally {
    for (const each of [theirs, ours, masks.theirs, masks.ours]) each.wipe()
  }
}

/** OpenSSL by way of `koffi`, or `undefined` where it is missing or does not do what node:crypto does. Throws nothing. */
export const bind = (koffi: Koffi.Koffi | undefined): OpenSsl | undefined => {
  if (koffi === undefined) return undefined
  try {
    const ssl = new OpenSsl(koffi)
    return agree(ssl, CryptoNode.primitives) ? ssl : undefined
  } catch {
    return undefined
  }
}

/** OpenSSL, bound when so many packets were sealed or opened that it is worth it, or when somebody asks. */
export class Late {
  readonly #bind: () => OpenSsl | undefined
  #patience: number
  #decision: OpenSsl | "none" | undefined

  constructor(bind: () => OpenSsl | undefined, patience: number) {
    this.#bind = bind
    this.#patience = patience
  }

  /** Undefined before the decision. */
  get decision(): OpenSsl | "none" | undefined {
    return this.#decision
  }

  decide(): OpenSsl | "none" {
    this.#decision ??= this.#bind() ?? "none"
    return this.#decision
  }

  /** Counts one packet. */
  work(): OpenSsl | "none" | undefined {
    return this.#decision === undefined && --this.#patience < 0 ? this.decide() : this.#decision
  }
}

/** A key of node:crypto until there is a decision, then perhaps one of OpenSSL. */
class LateKey<Key extends { readonly wipe: () => void }> {
  protected key: Key
  /** The key's bytes, kept until the decision. */
  protected secret: Uint8Array | undefined
  readonly #fast: (ssl: OpenSsl, secret: Uint8Array) => Key

  constructor(key: Key, secret: Uint8Array, fast: (ssl: OpenSsl, secret: Uint8Array) => Key) {
    this.key = key
    this.secret = new Uint8Array(new ArrayBuffer(secret.length))
    this.secret.set(secret)
    this.#fast = fast
  }

  protected settle(decision: OpenSsl | "none" | undefined): void {
    if (this.secret === undefined || decision === undefined) return
    if (decision !== "none") {
      try {
        const slow = this.key
        this.key = this.#fast(decision, this.secret)
        slow.wipe()
      } catch {
        // No memory for a context: what is there goes on.
      }
    }
    this.#forget()
  }

  wipe(): void {
    this.#forget()
    this.key.wipe()
  }

  #forget(): void {
    this.secret?.fill(0)
    this.secret = undefined
  }
}

class LatePacketKey extends LateKey<PacketKey> implements PacketKey {
  readonly #late: Late

  constructor(late: Late, slow: PacketKey, secret: Uint8Array) {
    super(slow, secret, (ssl, bytes) => ssl.packetKey(bytes))
    this.#late = late
  }

  seal(nonce: Uint8Array, buffer: Uint8Array, start: number, end: number): void {
    if (this.secret !== undefined) this.settle(this.#late.work())
    this.key.seal(nonce, buffer, start, end)
  }

  open(nonce: Uint8Array, buffer: Uint8Array, start: number, end: number): boolean {
    if (this.secret !== undefined) this.settle(this.#late.work())
    return this.key.open(nonce, buffer, start, end)
  }
}

class LateMaskKey extends LateKey<MaskKey> implements MaskKey {
  readonly #late: Late

  constructor(late: Late, slow: MaskKey, secret: Uint8Array) {
    super(slow, secret, (ssl, bytes) => ssl.maskKey(bytes))
    this.#late = late
  }

  mask(samples: Uint8Array, count: number): Uint8Array {
    if (this.secret !== undefined) this.settle(this.#late.decision)
    return this.key.mask(samples, count)
  }
}

/** `node`'s primitives, with packets by OpenSSL once `late` has it. */
export const primitivesWith = (node: Primitives, late: Late): Primitives => ({
  ...node,
  packetKey: (key) => {
    if (late.decision === undefined) return new LatePacketKey(late, node.packetKey(key), key)
    return late.decision === "none" ? node.packetKey(key) : late.decision.packetKey(key)
  },
  maskKey: (key) => {
    if (late.decision === undefined) return new LateMaskKey(late, node.maskKey(key), key)
    return late.decision === "none" ? node.maskKey(key) : late.decision.maskKey(key)
  }
})

/** `node` with packets by OpenSSL once `late` has it; to read `implementation` decides. */
export const serviceWith = (node: Crypto["Service"], late: Late): Crypto["Service"] => ({
  ...node,
  primitives: primitivesWith(node.primitives, late),
  get implementation() {
    return late.decide() === "none" ? node.implementation : "openssl"
  }
})

const here = new Late(() => bind(Koffi.load()), PATIENCE)

/** Whether packets of this process go through OpenSSL. Binds it if that has not happened: 5 ms, for servers at start. */
export const available = (): boolean => here.decide() !== "none"

/** The protocol's primitives with the fastest packets of this host. */
export const primitives: Primitives = primitivesWith(CryptoNode.primitives, here)

/** Crypto of this host with its fastest packets; CryptoNode's in everything else. */
export const layer: Layer.Layer<Crypto> = Layer.effect(
  Crypto,
  Effect.map(Crypto, (node) => serviceWith(node, here))
).pipe(Layer.provide(CryptoNode.layer))
