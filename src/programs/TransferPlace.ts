/** What becomes of a file whose place is taken: the rule, the question, and what counts as the same file. */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { FilesError, type Kind } from "../domain/RemoteFile.ts"
import { TransferError } from "../domain/TransferError.ts"
import type { Conflict, Facts } from "../domain/TransferFrame.ts"
import type { Answer, Item, Options } from "./TransferEvent.ts"

export interface Target {
  readonly kind: Kind
  readonly size: number
  readonly mtimeMs: number
  readonly version?: string
}

/** What one attempt to write came to. */
export type Outcome<A> =
  | { readonly _tag: "Written"; readonly value: A }
  | { readonly _tag: "InTheWay"; readonly target: Target }

export type Settled<A> =
  | { readonly _tag: "Written"; readonly value: A }
  | { readonly _tag: "Same" }
  | { readonly _tag: "Skipped" }

export type Place = Effect.Success<ReturnType<typeof make>>

/** A place that changes hands this often is left to others. */
const TRIES = 4

const folderThere = (path: string) =>
  new FilesError({ reason: "Exists", message: `${JSON.stringify(path)}: something that is no file stands there` })

const busy = (path: string) =>
  new FilesError({ reason: "Changed", message: `${JSON.stringify(path)}: changed again and again meanwhile` })

export const make = Effect.fnUntraced(function* (options: Pick<Options, "conflict" | "ask" | "checksum">) {
  const asking = yield* Semaphore.make(1)
  /** A line that is lost does not bring the question back. */
  const answers = new WeakMap<Item, Answer>()

  const answer = Effect.fnUntraced(function* (item: Item, source: Facts, target: Target) {
    if (options.conflict !== "ask") return options.conflict
    const known = answers.get(item)
    if (known !== undefined) return known
    if (options.ask === undefined) return "skip"
    const { mtimeMs, size } = source
    const said = yield* asking.withPermit(options.ask({ item, source: { size, mtimeMs }, target }))
    answers.set(item, said)
    return said
  })

  /** What to do about what stands there: how to write, or how it is settled. */
  const decide = Effect.fnUntraced(function* <E2>(
    item: Item,
    source: Facts,
    target: Target,
    isSame: Effect.Effect<boolean, E2> | undefined
  ): Effect.fn.Return<Conflict | "Same" | "Skipped", E2 | FilesError | TransferError> {
    if (target.kind === "file" && target.size === source.size) {
      if (target.mtimeMs === source.mtimeMs && options.checksum !== true) return "Same"
      if (isSame !== undefined && options.conflict !== "skip" && (yield* isSame)) return "Same"
    }
    const said = yield* answer(item, source, target)
    if (said === "skip") return "Skipped"
    if (said === "stop") return yield* new TransferError({ reason: "Stopped", message: "stopped at a conflict" })
    if (said === "rename") return "rename"
    if (target.kind === "file" && target.version !== undefined) return { version: target.version }
    return yield* folderThere(item.to)
  })

  /**
   * Writes, with nothing in the way at first, then as the rule says. `isSame` compares contents, where that is possible; it
   * is only asked about files of the same size.
   */
  const place = <A, E, R, E2>(
    item: Item,
    source: Facts,
    isSame: Effect.Effect<boolean, E2> | undefined,
    write: (conflict: Conflict) => Effect.Effect<Outcome<A>, E, R>
  ) => {
    const settle = (
      conflict: Conflict,
      tries: number
    ): Effect.Effect<Settled<A>, E | E2 | FilesError | TransferError, R> =>
      Effect.flatMap(write(conflict), (outcome) => {
        if (outcome._tag === "Written") return Effect.succeed(outcome)
        if (tries === 0) return Effect.fail(busy(item.to))
        return Effect.flatMap(decide(item, source, outcome.target, isSame), (next) =>
          next === "Same" || next === "Skipped" ? Effect.succeed({ _tag: next }) : settle(next, tries - 1)
        )
      })
    return settle("fail", TRIES)
  }
  return place
})
