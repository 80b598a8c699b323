/**
 * What an end and a rendezvous say to each other: binds one way, answers the other.
 *
 *     bind    nonce 12 | check 4 | AES-256-GCM(K_bind; words, zeros) | tag 16     1200 bytes, with a cookie 176
 *     answer  reply id 8 | nonce 12 | AES-256-GCM(K_answer; words, zeros) | tag 16         96 bytes
 *
 * The check is AES of the nonce under a key of the group: junk costs one block. What is inside a bind proves a ticket,
 * by a MAC under the ticket's key; the answer is sealed under a key that only this ticket's holder and the relay can make.
 */
import type { Address } from "./Address.ts"
import * as AddressCodec from "./AddressCodec.ts"
import {
  CONNECTION_ID_LENGTH,
  INITIATION_LENGTH,
  RENDEZVOUS_ANSWER_LENGTH,
  RENDEZVOUS_REBIND_LENGTH
} from "./Constants.ts"
import { Reader, utf8, Writer } from "./Cursor.ts"
import {
  type AeadKey,
  type Entropy,
  KEY_LENGTH,
  type MaskKey,
  NONCE_LENGTH,
  type Primitives,
  TAG_LENGTH
} from "./Primitives.ts"
import { INSTANCE_LENGTH, keyOf, PSEUDONYM_LENGTH, type Role } from "./RendezvousTicket.ts"

const CHECK_KEY = utf8("clawchat/1 rendezvous check")
const BIND_KEY = utf8("clawchat/1 rendezvous bind")
const ANSWER_KEY = utf8("clawchat/1 rendezvous answer")
const EMPTY = new Uint8Array(0)

const BLOCK = 16
const CHECK_LENGTH = 4
const SEALED_AT = NONCE_LENGTH + CHECK_LENGTH
const OVERHEAD = SEALED_AT + TAG_LENGTH
const PROOF_LENGTH = 16
export const COOKIE_LENGTH = 16

/** What an end asks for. */
export interface Bind {
  /** `release` ends what a bind began. */
  readonly op: "bind" | "release"
  readonly role: Role
  readonly house: Uint8Array
  readonly guest: Uint8Array
  /** Of the ticket, ms since 1970. */
  readonly expiry: number
  /** The end's time of day, ms since 1970. */
  readonly wall: number
  /** Begins the answer; random, of this bind alone. */
  readonly replyId: Uint8Array
  readonly instance: Uint8Array
  /** From the last answer; zeros without one. */
  readonly cookie: Uint8Array
}

/** Whether the sender has answered a challenge before. */
export const hasCookie = ({ cookie }: Bind): boolean => cookie.some((byte) => byte !== 0)

/** The keys that every holder of a ticket of a relay has. */
export class GroupKeys {
  readonly #check: MaskKey
  readonly #bind: AeadKey
  readonly #block = new Uint8Array(BLOCK)

  constructor(primitives: Primitives, group: Uint8Array) {
    this.#check = primitives.maskKey(primitives.hkdf(EMPTY, group, CHECK_KEY, KEY_LENGTH))
    this.#bind = primitives.aeadKey(primitives.hkdf(EMPTY, group, BIND_KEY, KEY_LENGTH))
  }

  /** Whether the datagram may be a bind: true by chance once in 2^32. Costs one block of AES. */
  mayBeBind(datagram: Uint8Array): boolean {
    if (datagram.length !== INITIATION_LENGTH && datagram.length !== RENDEZVOUS_REBIND_LENGTH) return false
    const check = this.#checkOf(datagram)
    for (let i = 0; i < CHECK_LENGTH; i++) if (check[i] !== datagram[NONCE_LENGTH + i]) return false
    return true
  }

  /** A bind under the ticket's key, in a buffer of its own. */
  sealBind(primitives: Primitives, entropy: Entropy, ticketKey: Uint8Array, bind: Bind): Uint8Array {
    const length = hasCookie(bind) ? RENDEZVOUS_REBIND_LENGTH : INITIATION_LENGTH
    const writer = new Writer(new Uint8Array(length - OVERHEAD))
    writer.u8(bind.op === "bind" ? 1 : 2).u8(bind.role === "house" ? 1 : 2)
    writer.put(bind.house).put(bind.guest).u64(bind.expiry).u64(bind.wall)
    writer.put(bind.replyId).put(bind.instance).put(bind.cookie)
    const proof = primitives.hmac(ticketKey, BIND_KEY, writer.bytes.subarray(0, writer.offset))
    writer.put(proof.subarray(0, PROOF_LENGTH))
    const out = new Uint8Array(length)
    const nonce = entropy(NONCE_LENGTH)
    out.set(nonce)
    out.set(this.#checkOf(out).subarray(0, CHECK_LENGTH), NONCE_LENGTH)
    this.#bind.sealInto(nonce, out.slice(0, SEALED_AT), writer.bytes, out, SEALED_AT)
    return out
  }

  /** A bind that proves its ticket, and that ticket's key; `undefined` for anything else. */
  openBind(
    primitives: Primitives,
    relayKey: Uint8Array,
    datagram: Uint8Array
  ): { readonly bind: Bind; readonly ticketKey: Uint8Array } | undefined {
    const words = this.#bind.open(
      datagram.slice(0, NONCE_LENGTH),
      datagram.subarray(0, SEALED_AT),
      datagram.subarray(SEALED_AT)
    )
    if (words === undefined) return undefined
    const reader = new Reader(words)
    const op = reader.u8()
    const role = reader.u8()
    if (op < 1 || op > 2 || role < 1 || role > 2) return undefined
    const bind: Bind = {
      op: op === 1 ? "bind" : "release",
      role: role === 1 ? "house" : "guest",
      house: reader.copy(PSEUDONYM_LENGTH),
      guest: reader.copy(PSEUDONYM_LENGTH),
      expiry: reader.u64(),
      wall: reader.u64(),
      replyId: reader.copy(CONNECTION_ID_LENGTH),
      instance: reader.copy(INSTANCE_LENGTH),
      cookie: reader.copy(COOKIE_LENGTH)
    }
    // Who has not proven its address says no less than it may hear.
    if (datagram.length < INITIATION_LENGTH && !hasCookie(bind)) return undefined
    const proved = words.subarray(0, reader.offset)
    const proof = reader.view(PROOF_LENGTH)
    if (reader.failed) return undefined
    const ticketKey = keyOf(primitives, relayKey, bind)
    const wanted = primitives.hmac(ticketKey, BIND_KEY, proved)
    return primitives.equal(proof, wanted.subarray(0, PROOF_LENGTH)) ? { bind, ticketKey } : undefined
  }

  #checkOf(datagram: Uint8Array): Uint8Array {
    this.#block.set(datagram.subarray(0, NONCE_LENGTH))
    return this.#check.mask(this.#block, 1)
  }
}

/** What a rendezvous answers. */
export interface Answer {
  /** `challenge` asks for the same bind again with the cookie; `bound` says that the end is bound. */
  readonly type: "challenge" | "bound"
  /** The relay's time of day, ms since 1970. */
  readonly wall: number
  readonly cookie: Uint8Array
  /** Milliseconds for which the end is bound; 0 in a challenge. */
  readonly lifeMs: number
  /** Whether the house of a guest is bound too. */
  readonly peer: boolean
  /** The end's address as the relay sees it. */
  readonly observed: Address
}

const ANSWER_SEALED_AT = CONNECTION_ID_LENGTH + NONCE_LENGTH
const ANSWER_WORDS_LENGTH = RENDEZVOUS_ANSWER_LENGTH - ANSWER_SEALED_AT - TAG_LENGTH

/** What answers to a ticket are sealed with. */
export const answerKey = (primitives: Primitives, ticketKey: Uint8Array): AeadKey =>
  primitives.aeadKey(primitives.hkdf(EMPTY, ticketKey, ANSWER_KEY, KEY_LENGTH))

/** The answer to the bind with this reply id, in a buffer of its own. */
export const sealAnswer = (key: AeadKey, entropy: Entropy, replyId: Uint8Array, answer: Answer): Uint8Array => {
  const writer = new Writer(new Uint8Array(ANSWER_WORDS_LENGTH))
  writer
    .u8(answer.type === "challenge" ? 1 : 2)
    .u64(answer.wall)
    .put(answer.cookie)
  writer.u32(answer.lifeMs).u8(answer.peer ? 1 : 0)
  AddressCodec.encode(writer, answer.observed)
  const out = new Uint8Array(RENDEZVOUS_ANSWER_LENGTH)
  const nonce = entropy(NONCE_LENGTH)
  out.set(replyId)
  out.set(nonce, CONNECTION_ID_LENGTH)
  key.sealInto(nonce, replyId, writer.bytes, out, ANSWER_SEALED_AT)
  return out
}

/** What an answer says, or `undefined`: another length, another bind's, any bit flipped. */
export const openAnswer = (key: AeadKey, replyId: Uint8Array, datagram: Uint8Array): Answer | undefined => {
  if (datagram.length !== RENDEZVOUS_ANSWER_LENGTH) return undefined
  for (let i = 0; i < CONNECTION_ID_LENGTH; i++) if (datagram[i] !== replyId[i]) return undefined
  const nonce = datagram.slice(CONNECTION_ID_LENGTH, ANSWER_SEALED_AT)
  const words = key.open(nonce, replyId, datagram.subarray(ANSWER_SEALED_AT))
  if (words === undefined) return undefined
  const reader = new Reader(words)
  const type = reader.u8()
  const wall = reader.u64()
  const cookie = reader.copy(COOKIE_LENGTH)
  const lifeMs = reader.u32()
  const peer = reader.u8() === 1
  const observed = AddressCodec.decode(reader)
  if (observed === undefined || (type !== 1 && type !== 2)) return undefined
  return { type: type === 1 ? "challenge" : "bound", wall, cookie, lifeMs, peer, observed }
}
