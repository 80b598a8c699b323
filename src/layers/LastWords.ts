/**
 * What a driver still does once its core is empty: it sends sealed copies at their times, and listens for answers of which
 * it knows only the hashes.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Compromise from "../domain/protocol/Compromise.ts"
import type { Notification } from "../domain/protocol/EndpointTypes.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import type * as Transport from "../services/Transport.ts"
import type { Burst } from "../services/UdpSocket.ts"

interface Timed extends Burst {
  readonly atMs: number
}

/** Copies of the acknowledgement that is due to somebody who told us. */
export const acknowledgements = (primitives: Primitives, { remote, token }: Transport.Compromised): Array<Timed> => {
  const bytes = Compromise.acknowledgement(primitives, token)
  token.fill(0)
  return Compromise.ACKNOWLEDGE_AT_MS.map((atMs) => ({ atMs, bytes, remote }))
}

/** Copies of what the peers are told. */
const notifications = (told: ReadonlyArray<Notification>): Array<Timed> =>
  told.flatMap(({ datagrams, remote }) =>
    datagrams.map((bytes, copy) => ({ atMs: Compromise.NOTIFY_AT_MS[copy] ?? 0, bytes, remote }))
  )

/** Sends each at its time, counted from now. */
export const sendAll = (
  copies: ReadonlyArray<Timed>,
  send: (batch: ReadonlyArray<Burst>) => Effect.Effect<void>
): Effect.Effect<void> => {
  const times = [...new Set(copies.map(({ atMs }) => atMs))].sort((a, b) => a - b)
  return Effect.forEach(
    times,
    (atMs, index) =>
      Effect.sleep(atMs - (times[index - 1] ?? 0)).pipe(
        Effect.andThen(Effect.suspend(() => send(copies.filter((copy) => copy.atMs === atMs))))
      ),
    { discard: true }
  )
}

export class LastWords implements Transport.LastWords {
  readonly notified: number
  readonly send: Effect.Effect<void>
  readonly acknowledged: Effect.Effect<void>
  readonly #primitives: Primitives
  readonly #expected: Array<Uint8Array>
  readonly #done = Deferred.makeUnsafe<void>()

  constructor(
    primitives: Primitives,
    told: ReadonlyArray<Notification>,
    answers: ReadonlyArray<Transport.Compromised>,
    send: (batch: ReadonlyArray<Burst>) => Effect.Effect<void>
  ) {
    this.#primitives = primitives
    this.notified = told.length
    this.#expected = told.map(({ expected }) => expected)
    const copies = [...notifications(told), ...answers.flatMap((answer) => acknowledgements(primitives, answer))]
    this.send = Effect.suspend(() => sendAll(copies, send))
    this.acknowledged = Deferred.await(this.#done)
    this.#check()
  }

  /** A datagram that came in meanwhile; all but an acknowledgement means nothing. */
  hear(bytes: Uint8Array): void {
    const at = this.#expected.findIndex((hash) => Compromise.isAcknowledgement(this.#primitives, hash, bytes))
    if (at < 0) return
    this.#expected.splice(at, 1)
    this.#check()
  }

  #check(): void {
    if (this.#expected.length === 0) Deferred.doneUnsafe(this.#done, Effect.void)
  }
}
