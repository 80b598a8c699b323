/** Which ways a dial tries, for whoever waits for it: one line for each on standard error, when it takes longer than usual. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { format } from "../../domain/protocol/Address.ts"
import type { Progress } from "../../services/Transport.ts"
import * as Output from "./Output.ts"

/** Milliseconds after which people begin to wonder. */
const PATIENCE_MS = 2000

export interface WaysTried {
  /** What `ClientLink` tells. */
  readonly progress: (progress: Progress) => void
  /** Prints for ever, after a while, one line a way; to be interrupted when the dial is over. */
  readonly show: Effect.Effect<never>
  /** All of them, for the last word: ` (tried directly, by rendezvous 192.0.2.1:443)`; empty where there is only one. */
  readonly summary: Effect.Effect<string>
}

const places = ({ remotes: [first, ...others] }: Progress): string => {
  if (first === undefined) return "no address"
  const more = others.length === 1 ? " and one more address" : ` and ${others.length} more addresses`
  return others.length === 0 ? format(first) : `${format(first)}${more}`
}

const sentence = (progress: Progress): string => {
  if (progress.relay === undefined) return `Trying ${places(progress)}`
  return progress.state === "waiting" ? `Waiting for ${progress.relay}` : `Trying by ${progress.relay}`
}

const words = ({ relay, state }: Progress): string => {
  if (relay === undefined) return "directly"
  return state === "waiting" ? `by ${relay}, which did not answer` : `by ${relay}`
}

/** `note` prints a line. */
export const make = Effect.fnUntraced(function* (note: (line: string) => Effect.Effect<void> = Output.note) {
  const ways = new Map<string, Progress>()
  const news = yield* Queue.sliding<Progress>(64)
  const shown = new Set<string>()
  const show = Effect.suspend(() => {
    const unseen = [...ways].filter(([way, { state }]) => !shown.has(way) && state !== "answered")
    for (const [way] of unseen) shown.add(way)
    return Effect.forEach(unseen, ([, progress]) => note(sentence(progress)), { discard: true })
  })
  const tried: WaysTried = {
    progress: (progress) => {
      ways.set(progress.relay ?? "", progress)
      Queue.offerUnsafe(news, progress)
    },
    show: Effect.andThen(Effect.sleep(PATIENCE_MS), Effect.forever(Effect.andThen(show, Queue.take(news)))),
    summary: Effect.sync(() => (ways.size < 2 ? "" : ` (tried ${[...ways.values()].map(words).join("; ")})`))
  }
  return tried
})
