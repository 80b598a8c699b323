/**
 * How long a translator, or a stateful firewall, keeps a way open that nobody uses (RFC 5780 section 4.6): one socket learns
 * its outside address and falls silent, and after a while another asks the server to answer to that address. Each pause has
 * a pair of sockets of its own, for a probe that arrives may itself count as use; so all of a round are tried side by side.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Address } from "../domain/protocol/Address.ts"
import { UdpSocket } from "../services/UdpSocket.ts"
import * as StunQuestion from "./StunQuestion.ts"

/** The pauses of the first round, ms: around the timeouts met in the field. */
const FIRST_MS = [10_000, 20_000, 30_000, 45_000, 60_000, 90_000, 120_000, 180_000, 300_000, 600_000] as const
/** Pauses of the second round, between the longest that was survived and the shortest that was not. */
const SECOND = 4
/** Milliseconds: bounds that are closer are close enough. */
const RESOLUTION_MS = 2000

/** A pause of `atLeastMs` was survived, one of `belowMs` was not (`undefined`: none was too long). */
export interface Lifetime {
  readonly atLeastMs: number
  readonly belowMs: number | undefined
}

/** Whether the way from the server is open after a pause; `undefined` when the server does not play along. */
const survives = Effect.fnUntraced(function* (server: Address, pauseMs: number) {
  const { bind } = yield* UdpSocket
  const host = server.host.includes(":") ? "::" : "0.0.0.0"
  const silent = yield* bind({ host, port: 0 })
  const outside = StunQuestion.reflexive(yield* StunQuestion.ask({ from: silent, server }))
  if (outside === undefined) return undefined
  yield* Effect.sleep(Duration.millis(pauseMs))
  const asking = yield* bind({ host, port: 0 })
  const answer = yield* StunQuestion.ask({ from: asking, at: silent, server, responsePort: outside.port })
  return StunQuestion.reflexive(answer) !== undefined
}, Effect.scoped)

/** Tries the pauses side by side, and narrows the bounds by what came of them. */
const round = Effect.fnUntraced(function* (server: Address, bounds: Lifetime, pausesMs: ReadonlyArray<number>) {
  const outcomes = yield* Effect.forEach(pausesMs, (pauseMs) => survives(server, pauseMs), { concurrency: "unbounded" })
  let { atLeastMs, belowMs } = bounds
  for (const [i, pauseMs] of pausesMs.entries()) {
    if (outcomes[i] === false) belowMs = Math.min(belowMs ?? pauseMs, pauseMs)
  }
  for (const [i, pauseMs] of pausesMs.entries()) {
    if (outcomes[i] === true && pauseMs < (belowMs ?? Number.POSITIVE_INFINITY))
      atLeastMs = Math.max(atLeastMs, pauseMs)
  }
  const narrowed: Lifetime = { atLeastMs, belowMs }
  return narrowed
})

/**
 * Searches pauses up to `limitMs`; takes twice that at most. `undefined` when the server does not answer or does not know
 * RESPONSE-PORT. Fails where there is no socket.
 */
export const measure = Effect.fn("MappingLifetime.measure")(function* (server: Address, limitMs: number) {
  if ((yield* survives(server, 0)) !== true) return undefined
  const first = [...FIRST_MS.filter((ms) => ms < limitMs), limitMs]
  const rough: Lifetime = yield* round(server, { atLeastMs: 0, belowMs: undefined }, first)
  const { atLeastMs, belowMs } = rough
  if (belowMs === undefined || belowMs - atLeastMs <= RESOLUTION_MS) return rough
  const step = (belowMs - atLeastMs) / (SECOND + 1)
  return yield* round(
    server,
    rough,
    Array.from({ length: SECOND }, (_, i) => Math.round(atLeastMs + step * (i + 1)))
  )
})
