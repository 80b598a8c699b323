/** The llm tier's end of sealed streams: who may speak, and the sessions that further streams continue. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Constants from "../domain/protocol/Constants.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import type { KeyPair } from "../domain/protocol/Primitives.ts"
import * as Sealed from "../domain/protocol/SealedHandshake.ts"
import { SealedSessions } from "../domain/protocol/SealedSessions.ts"
import { TokenBucket } from "../domain/protocol/TokenBucket.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"
import type { Alarms } from "./Alarms.ts"
import * as DevicePins from "./DevicePins.ts"
import * as SealedStream from "./SealedStream.ts"
import { take } from "./StreamReader.ts"

/** Devices whose handshakes are counted at a time; the one that came first is forgotten for another. */
const MAX_BUDGETS = 1024

export interface SealedTier {
  /**
   * The stream behind its header, opened for `device` (16 bytes, as the server says); none when it was refused, and then it
   * is given up already. `header` is the part of the header that the client sent.
   */
  readonly accept: (
    stream: TransportStream,
    device: Uint8Array,
    header: Uint8Array
  ) => Effect.Effect<Option.Option<TransportStream>, TransportError | Cause.Done>
}

/** `folder` keeps the devices' keys. Sessions are wiped with the scope. */
export const make = Effect.fnUntraced(function* (options: {
  readonly identity: KeyPair
  readonly folder: string
  readonly alarms: Alarms
}) {
  const { alarms, folder, identity } = options
  const sealing = yield* SealedStream.sealing
  const { generateKeyPair, now, primitives } = sealing
  const pins = yield* DevicePins.make(folder, alarms)
  const sessions = new SealedSessions()
  yield* Effect.addFinalizer(() => Effect.sync(() => sessions.wipe()))

  /** Handshakes that a device may have now: as many as the server grants it, for they cost as much. */
  const budgets = new Map<string, TokenBucket>()
  const affords = (device: string): boolean => {
    const at = now()
    let budget = budgets.get(device)
    if (budget === undefined) {
      const [first] = budgets.keys()
      if (budgets.size >= MAX_BUDGETS && first !== undefined) budgets.delete(first)
      budget = new TokenBucket(at, Constants.DH_CREDENTIAL_PER_SECOND, Constants.DH_CREDENTIAL_BURST)
      budgets.set(device, budget)
    }
    return budget.take(at)
  }

  const none = (stream: TransportStream, code: number) =>
    Effect.as(SealedStream.refuse(stream, code), Option.none<TransportStream>())
  const wrapped = (stream: TransportStream, { clientKey, tierKey }: Sealed.StreamKeys, onProof: () => void) =>
    Option.some(SealedStream.wrap(stream, { sealing, sendKey: tierKey, receiveKey: clientKey, onProof }))

  const notSealed = Effect.fnUntraced(function* (stream: TransportStream, device: string) {
    yield* alarms.say(
      `not sealed ${device}`,
      Effect.logWarning,
      `A stream of device ${device.slice(0, 8)} was not sealed for this tier and was refused`
    )
    return yield* none(stream, StreamHeader.Code.NotSealed)
  })

  const accept: SealedTier["accept"] = Effect.fnUntraced(function* (stream, device, header) {
    const name = hex(device)
    const { head: kind, rest: opening } = yield* take(stream, 1)
    if (kind[0] === Sealed.Opening.Resume) {
      const { head, rest } = yield* take(opening, Sealed.RESUME_LENGTH)
      const { id, number } = Sealed.readResumption(head)
      const keys = sessions.take(now(), primitives, name, id, number)
      return keys === undefined ? yield* none(stream, StreamHeader.Code.Renew) : wrapped(rest, keys, () => {})
    }
    if (kind[0] !== Sealed.Opening.Handshake) return yield* none(stream, StreamHeader.Code.Unknown)
    const { head, rest } = yield* take(opening, Sealed.MESSAGE_1_LENGTH)
    if (!affords(name)) return yield* none(stream, StreamHeader.Code.TooMany)
    const accepted = Sealed.accept(primitives, { device, header, identity }, head)
    if (accepted === undefined) return yield* notSealed(stream, name)
    if (!(yield* pins.admits(name, accepted.client))) return yield* none(stream, StreamHeader.Code.Stranger)
    const answer = accepted.answer(generateKeyPair())
    if (answer === undefined) return yield* notSealed(stream, name)
    yield* rest.write(answer.message)
    // Message 1 may be an old one sent again: only what follows shows that the device is there.
    return wrapped(rest, Sealed.streamKeys(primitives, answer.session, 0), () =>
      sessions.add(now(), name, answer.session)
    )
  })

  return { accept } satisfies SealedTier
})
