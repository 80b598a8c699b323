/** One binding request and its answer, where the two may use different sockets (RESPONSE-PORT, RFC 5780 section 7.5). */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Address } from "../domain/protocol/Address.ts"
import * as Stun from "../domain/protocol/StunMessage.ts"
import { Crypto } from "../services/Crypto.ts"
import type { BoundSocket } from "../services/UdpSocket.ts"

/** Copies of a request, and ms after each of them. */
const COPIES = 3
const WAIT_MS = 600

export interface Question {
  /** Asks. */
  readonly from: BoundSocket
  /** Gets the answer; the one that asks by default. */
  readonly at?: BoundSocket
  readonly server: Address
  /** RESPONSE-PORT: where the server is to answer. */
  readonly responsePort?: number
}

/** The answer, whatever it says; `undefined` when none has come after three copies and 1.8 s. */
export const ask = Effect.fnUntraced(function* ({ from, at = from, responsePort, server }: Question) {
  const { entropy } = yield* Crypto
  const id = entropy(Stun.TRANSACTION_ID_LENGTH)
  const writer = new Stun.StunWriter("request", Stun.Method.binding, id)
  if (responsePort !== undefined) writer.u32(Stun.Attribute.responsePort, responsePort * 0x1_0000)
  const bytes = writer.finish()
  for (let copy = 0; copy < COPIES; copy++) {
    yield* from.send([{ bytes: Uint8Array.from(bytes), remote: server }])
    const until = (yield* Clock.currentTimeMillis) + WAIT_MS
    for (;;) {
      const left = until - (yield* Clock.currentTimeMillis)
      if (left <= 0) break
      const arrived = yield* Effect.timeoutOption(at.receive, Duration.millis(left))
      if (Option.isNone(arrived)) break
      for (const datagram of arrived.value) {
        const message = Stun.decode(datagram.bytes)
        if (message !== undefined && message.class !== "request" && isSame(message.transactionId, id)) return message
      }
    }
  }
  return undefined
})

const isSame = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i])

/** Whether an answer is a success that tells our address. */
export const reflexive = (answer: Stun.Message | undefined): Address | undefined =>
  answer?.class === "success" ? Stun.mappedAddress(answer) : undefined
