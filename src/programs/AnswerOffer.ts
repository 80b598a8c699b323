/**
 * A device's side of answer files: while it dials and nobody answers, learns where its datagrams come from, by the very
 * socket that it dials from, and writes that down for the server. The socket's NAT mapping is kept alive meanwhile.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as AnswerFile from "../domain/AnswerFile.ts"
import { type Address, equals } from "../domain/protocol/Address.ts"
import { NONCE_LENGTH } from "../domain/protocol/Primitives.ts"
import type { Reflexive } from "../domain/protocol/StunClient.ts"
import type { ServerName } from "../domain/ServerName.ts"
import { Crypto } from "../services/Crypto.ts"
import { type Dialling, TransportError } from "../services/Transport.ts"
import * as ReflexiveAddress from "./ReflexiveAddress.ts"

/** Milliseconds that STUN servers may take until the file is written without them. */
const PATIENCE_MS = 3000
/** Milliseconds for further answers: whether the address depends on who is asked takes two of them. */
const SETTLE_MS = 500

/** What is written, and what to say about it. */
export interface Sheet {
  /** The line of the file. */
  readonly line: string
  readonly candidates: ReadonlyArray<Address>
  /**
   * - `known`: our address on the internet is among them. - `dependent`: every destination sees another one, so the server
   *   most likely cannot open its NAT for us. - `unknown`: no STUN server has told.
   */
  readonly outside: "known" | "dependent" | "unknown"
  /** Not the first one: the address has changed, and an earlier file is worth nothing. */
  readonly isAnew: boolean
}

export interface Options {
  readonly socket: Dialling
  readonly stun: ReadonlyArray<ServerName>
  /** The credential that is dialled with. */
  readonly key: AnswerFile.Key
  /** The server is on this host: then loopback is where we are. */
  readonly isLocal: boolean
  /** Puts it where somebody will carry it from. */
  readonly write: (sheet: Sheet) => Effect.Effect<void, TransportError>
}

const outsideOf = (found: ReadonlyArray<Reflexive>): Sheet["outside"] => {
  if (found.length === 0) return "unknown"
  return found.every(({ dependent }) => dependent === true) ? "dependent" : "known"
}

/** Writes a file now and whenever our address changes, for as long as the scope. */
export const keep = Effect.fn("AnswerOffer.keep")(function* ({ isLocal, key, socket, stun, write }: Options) {
  const { entropy, primitives } = yield* Crypto
  const reflexive = yield* ReflexiveAddress.keep({ servers: stun, carry: socket.carry })
  let last: ReadonlyArray<Address> = []

  const writeNow = Effect.fnUntraced(function* (found: ReadonlyArray<Reflexive>) {
    const own = isLocal ? [{ host: "127.0.0.1", port: socket.address.port }] : yield* socket.local
    const all = [...found.map(({ address }) => address), ...own]
    const candidates = all
      .filter((one, i) => all.findIndex((other) => equals(one, other)) === i)
      .slice(0, AnswerFile.MAX_CANDIDATES)
    if (candidates.length === 0) {
      return yield* new TransportError({
        reason: "Bind",
        message: "no answer file: this host has no address but loopback, and no STUN server has told another"
      })
    }
    if (candidates.length === last.length && candidates.every((one, i) => equals(one, last[i] ?? one))) return
    const isAnew = last.length > 0
    last = candidates
    const madeAt = yield* Clock.currentTimeMillis
    const answer = { credentialId: key.id, madeAt, candidates }
    const line = AnswerFile.seal(primitives, key.psk, entropy(NONCE_LENGTH), answer)
    yield* write({ line, candidates, outside: outsideOf(found), isAnew })
  })

  const changes = SubscriptionRef.changes(reflexive)
  if (stun.length > 0) {
    const first = Stream.runHead(Stream.filter(changes, (found) => found.length > 0))
    const heard = yield* Effect.timeoutOption(first, PATIENCE_MS)
    if (Option.isSome(heard)) yield* Effect.sleep(SETTLE_MS)
  }
  // A server that falls silent takes nothing back.
  yield* Stream.runForEach(changes, (found) => (found.length === 0 && last.length > 0 ? Effect.void : writeNow(found)))
})
