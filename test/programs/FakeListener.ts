/** A listener that nobody ever reaches, for tests of what is built on one. */
import * as Effect from "effect/Effect"
import type { LastWords, Listener } from "../../src/services/Transport.ts"

export const NO_WORDS: LastWords = { notified: 0, send: Effect.void, acknowledged: Effect.void }

const address = { host: "127.0.0.1", port: 1 }
const first = { address, via: 0, sessions: Effect.succeed(0), close: Effect.void }

export const LISTENER: Listener = {
  address,
  hosts: Effect.succeed([]),
  first,
  open: () => Effect.succeed(first),
  move: () => Effect.void,
  punch: () => Effect.void,
  announce: () => Effect.void,
  carry: () => Effect.void,
  compromise: () => Effect.succeed(NO_WORDS),
  compromised: Effect.never,
  acknowledge: () => Effect.void,
  accept: Effect.never,
  drops: Effect.never,
  sessions: Effect.succeed(0)
}
