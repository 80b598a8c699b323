/**
 * The client's end of sealed streams to the llm tier: one handshake per connection and hour, which costs a round trip;
 * all further streams go on from it at once.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Constants from "../domain/protocol/Constants.ts"
import { concat, hex } from "../domain/protocol/Cursor.ts"
import { KEY_LENGTH, type KeyPair } from "../domain/protocol/Primitives.ts"
import * as Sealed from "../domain/protocol/SealedHandshake.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { TransportError, type TransportStream } from "../services/Transport.ts"
import * as SealedStream from "./SealedStream.ts"
import { take } from "./StreamReader.ts"

/** Milliseconds for which a session is used: the llm tier forgets it a little later. */
const RENEW_MS = 0.9 * Constants.SEALED_SESSION_MS

/**
 * - `KeyChanged`: the server offers another key of the llm tier than the one this device holds to.
 * - `Stranger`: the llm tier knows this device by another key.
 * - `Refused`: the llm tier, or somebody before it, did not take the handshake.
 */
export class SealError extends Data.TaggedError("SealError")<{
  readonly reason: "KeyChanged" | "Stranger" | "Refused"
  /** One line for people: what, and what to do. */
  readonly message: string
}> {}

const keyChanged = new SealError({
  reason: "KeyChanged",
  message:
    "the assistant's key is not the one that this device was given: its machine was set up anew, or somebody stands between. " +
    "Ask whoever runs the server; if it was set up anew, pair again: clawchat pair FILE with a fresh .sec file"
})
const stranger = new SealError({
  reason: "Stranger",
  message:
    "the assistant knows this device by another key, or takes on no more devices: pair again, clawchat pair FILE with a fresh .sec file"
})
const refused = new SealError({
  reason: "Refused",
  message:
    "the assistant did not take this device's handshake: update both sides; if that does not help, somebody stands between"
})
/** Nobody knows the llm tier's key before it has run for the first time. */
const away = new TransportError({
  reason: "Reset",
  message: "the assistant's key is not known yet",
  code: StreamHeader.Code.TierAway
})

export interface Options {
  readonly identity: KeyPair
  /** 16 bytes. */
  readonly device: Uint8Array
  /** The llm tier's static key that this device holds to; `undefined` before it has one. */
  readonly pinned: Effect.Effect<Uint8Array | undefined, SealError>
  /** The key that the server names now, for the first use and to say what went wrong. */
  readonly offered: Effect.Effect<Uint8Array | undefined>
  /** Holds to the key from now on. */
  readonly pin: (key: Uint8Array) => Effect.Effect<void>
}

export interface SealedClient {
  /**
   * Takes a fresh stream over: sends its header and opening. Where a handshake is needed it returns after one round trip,
   * else at once; then a session that the llm tier has forgotten shows as `Reset` with `Renew` on reading, and the next
   * stream makes a new one.
   */
  readonly open: (stream: TransportStream) => Effect.Effect<TransportStream, TransportError | SealError>
}

interface Current {
  readonly session: Sealed.Session
  readonly since: number
  number: number
}

/** One per connection; its keys are wiped with the scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const sealing = yield* SealedStream.sealing
  const { generateKeyPair, now, primitives } = sealing
  const header = StreamHeader.llm()
  let current: Current | undefined
  /** What `pinned` said, or what was taken at the first use. */
  let held: Uint8Array | undefined

  /** Whatever the server says: a key, or none. */
  const offered = Effect.map(options.offered, (key) => (key?.length === KEY_LENGTH ? key : undefined))

  const forget = (which: Current | undefined): void => {
    which?.session.secret.fill(0)
    if (current === which) current = undefined
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => forget(current)))

  const wrapped = (stream: TransportStream, used: Current, number: number): TransportStream => {
    const { clientKey, tierKey } = Sealed.streamKeys(primitives, used.session, number)
    const sealed = SealedStream.wrap(stream, { sealing, sendKey: clientKey, receiveKey: tierKey })
    const read = Effect.tapError(sealed.read, (error) =>
      Effect.sync(() => {
        if (!Cause.isDone(error) && (error.reason === "Reset" || error.reason === "Seal")) forget(used)
      })
    )
    return { ...sealed, read }
  }

  /** Why a handshake was not taken. */
  const diagnosis = (tierKey: Uint8Array): Effect.Effect<SealError> =>
    Effect.map(offered, (key) => (key !== undefined && hex(key) !== hex(tierKey) ? keyChanged : refused))

  const handshake = Effect.fnUntraced(function* (stream: TransportStream) {
    held ??= yield* options.pinned
    const first = held === undefined
    const tierKey = held ?? (yield* offered)
    if (tierKey === undefined) return yield* away
    const { identity } = options
    const binding = { device: options.device, header }
    const initiator = new Sealed.Initiator(primitives, { ...binding, identity, tierKey, ephemeral: generateKeyPair() })
    if (initiator.opening === undefined) return yield* refused
    yield* stream.write(concat(header, initiator.opening))
    const { head, rest } = yield* take(stream, Sealed.MESSAGE_2_LENGTH)
    const session = initiator.finish(head)
    if (session === undefined) return yield* Effect.flatMap(diagnosis(tierKey), Effect.fail)
    if (first) {
      held = tierKey
      yield* options.pin(tierKey)
    }
    forget(current)
    current = { session, since: now(), number: 0 }
    return wrapped(rest, current, 0)
  })

  const explained = (
    error: TransportError | SealError | Cause.Done
  ): Effect.Effect<never, TransportError | SealError> => {
    if (Cause.isDone(error)) return Effect.fail(SealedStream.sealError("Truncated"))
    if (error._tag === "SealError" || error.reason !== "Reset") return Effect.fail(error)
    if (error.code === StreamHeader.Code.Stranger) return Effect.fail(stranger)
    // Nobody who means well forgets a session that is not there yet.
    if (error.code === StreamHeader.Code.Renew) return Effect.fail(refused)
    if (error.code !== StreamHeader.Code.NotSealed) return Effect.fail(error)
    return held === undefined ? Effect.fail(refused) : Effect.flatMap(diagnosis(held), Effect.fail)
  }

  const open: SealedClient["open"] = (stream) =>
    Effect.suspend(() => {
      const used = current
      if (used === undefined || now() - used.since >= RENEW_MS || used.number === Sealed.MAX_NUMBER) {
        return Effect.catch(handshake(stream), explained)
      }
      const number = ++used.number
      const sealed = wrapped(stream, used, number)
      return Effect.as(stream.write(concat(header, Sealed.resumption(used.session, number))), sealed)
    }).pipe(Effect.onError(() => SealedStream.refuse(stream, StreamHeader.Code.Cancelled)))

  return { open } satisfies SealedClient
})
