/**
 * What devices have on their way: which files are being taken in, and how much memory their streams hold. A device that lost its
 * line comes back before the server has noticed: what it puts anew takes over from what it put before, which ends first and
 * leaves what it has to the store.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { TransferError } from "../domain/TransferError.ts"

interface Claim {
  readonly leave: Deferred.Deferred<never, TransferError>
  readonly left: Deferred.Deferred<void>
}

export interface Claims {
  /** Runs as the only one of this name; it fails with `Changed` when another one wants the name. */
  readonly hold: <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | TransferError, R>
  /** So many more bytes in memory, to be given back; false where the device would hold more than `MAX_HELD`. */
  readonly take: (bytes: number, device?: string) => boolean
  readonly give: (bytes: number, device?: string) => void
}

/** Bytes of the files of one device on their way, on all its streams: four times what a client of ours has on one. */
export const MAX_HELD = 48 * 1024 * 1024

export const make = (): Claims => {
  const claims = new Map<string, Claim>()
  const held = new Map<string, number>()
  const take = Effect.fnUntraced(function* (name: string) {
    const mine: Claim = { leave: yield* Deferred.make<never, TransferError>(), left: yield* Deferred.make<void>() }
    const before = claims.get(name)
    claims.set(name, mine)
    if (before !== undefined) {
      const message = "another transfer has taken this file over"
      yield* Deferred.fail(before.leave, new TransferError({ reason: "Changed", message }))
      yield* Deferred.await(before.left)
    }
    return mine
  })
  return {
    hold: (name, effect) =>
      Effect.acquireUseRelease(
        take(name),
        ({ leave }) => Effect.raceFirst(effect, Deferred.await(leave)),
        (mine) =>
          Effect.suspend(() => {
            if (claims.get(name) === mine) claims.delete(name)
            return Deferred.succeed(mine.left, undefined)
          })
      ),
    take: (bytes, device = "") => {
      const now = (held.get(device) ?? 0) + bytes
      if (now > MAX_HELD) return false
      held.set(device, now)
      return true
    },
    give: (bytes, device = "") => {
      const now = (held.get(device) ?? 0) - bytes
      if (now > 0) held.set(device, now)
      else held.delete(device)
    }
  }
}

/** The claims of one device among those of all: devices do not take over from each other. */
export const of = ({ give, hold, take }: Claims, device: string): Claims => ({
  hold: (name, effect) => hold(`${device} ${name}`, effect),
  take: (bytes) => take(bytes, device),
  give: (bytes) => give(bytes, device)
})
