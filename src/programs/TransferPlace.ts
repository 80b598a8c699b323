/** What becomes of a file whose place is taken: the rule, the question, and what counts as the same file. */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { FilesError, type Kind } from "../domain/RemoteFile.ts"
import * as SyncPlan from "../domain/SyncPlan.ts"
import { TransferError } from "../domain/TransferError.ts"
import type { Conflict, Facts } from "../domain/TransferFrame.ts"
import type { FileTree } from "../services/FileTree.ts"
import type { Answer, Item, Options, Side } from "./TransferEvent.ts"

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

export type Settled<A> = { readonly _tag: "Written"; readonly value: A } | Same | { readonly _tag: "Skipped" }

/** `touched` as the event has it. */
export interface Same {
  readonly _tag: "Same"
  readonly touched?: boolean
}

export type Place = Effect.Success<ReturnType<typeof make>>

/** A place that changes hands this often is left to others. */
const TRIES = 4

const folderThere = (path: string) =>
  new FilesError({ reason: "Exists", message: `${JSON.stringify(path)}: something that is no file stands there` })

/** Taken when the file was to be placed, and free when it was looked at. */
export const fleeting = (path: string): FilesError =>
  new FilesError({ reason: "Busy", message: `${JSON.stringify(path)}: it was taken a moment ago; try again` })

/** How a tree answers, as a place that may be taken. */
export const orInTheWay = <A, R>(
  tree: Pick<FileTree, "stat">,
  path: string,
  write: Effect.Effect<A, FilesError | TransferError, R>
): Effect.Effect<Outcome<A>, FilesError | TransferError, R> =>
  Effect.matchEffect(write, {
    onSuccess: (value) => Effect.succeed({ _tag: "Written", value }),
    onFailure: (error) =>
      error instanceof FilesError && error.reason === "Exists"
        ? Effect.matchEffect(tree.stat(path), {
            onSuccess: (target) => Effect.succeed({ _tag: "InTheWay", target }),
            onFailure: (why) => Effect.fail(why.reason === "NotFound" ? fleeting(path) : why)
          })
        : Effect.fail(error)
  })

const changed = (path: string) =>
  new FilesError({ reason: "Changed", message: `${JSON.stringify(path)}: it was changed by somebody else meanwhile` })

const NEVER = Effect.succeed(false)
const ALWAYS = Effect.succeed(true)

const busy = (path: string) =>
  new FilesError({ reason: "Changed", message: `${JSON.stringify(path)}: changed again and again meanwhile` })

const SAME = Effect.succeed<Same>({ _tag: "Same" })

/** `side`: where the places are. */
export const make = Effect.fnUntraced(function* (
  options: Pick<Options, "conflict" | "ask" | "checksum" | "touch">,
  side: Side
) {
  const fail = (error: FilesError): Effect.Effect<never, FilesError | TransferError> => {
    const { message, reason } = error
    return Effect.fail(side === "here" ? error : new TransferError({ reason, message, side: "there" }))
  }
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

  /** Whether what stands there is the file already. */
  const isThere = <E2>(source: Facts, target: Target, isSame: Effect.Effect<boolean, E2> | undefined) => {
    if (target.kind !== "file" || target.size !== source.size) return NEVER
    if (target.mtimeMs === source.mtimeMs && options.checksum !== true) return ALWAYS
    return isSame === undefined || options.conflict === "skip" ? NEVER : isSame
  }

  /** Settles what is there already: where it might be overwritten its time and mode become the source's. */
  const same = (
    item: Item,
    { mode, mtimeMs }: Pick<Facts, "mode" | "mtimeMs">,
    target: Target
  ): Effect.Effect<Same, FilesError | TransferError> => {
    const { conflict, touch } = options
    if (conflict !== "overwrite" || touch === undefined || target.version === undefined) return SAME
    if (item.mode === undefined && SyncPlan.isSameTime(target.mtimeMs, mtimeMs)) return SAME
    return Effect.matchEffect(touch(item.to, { version: target.version, mtimeMs, mode }), {
      onSuccess: () => Effect.succeed<Same>({ _tag: "Same", touched: true }),
      // Somebody else's file, or a disk that keeps no such mode: the content is what was asked for.
      onFailure: (error) =>
        error.reason === "Denied" || error.reason === "Unsupported"
          ? Effect.succeed<Same>({ _tag: "Same", touched: false })
          : Effect.fail(error)
    })
  }

  /** What to do about what stands there: how to write, or how it is settled. */
  const decide = Effect.fnUntraced(function* <E2>(
    item: Item,
    source: Facts,
    target: Target,
    isSame: Effect.Effect<boolean, E2> | undefined
  ): Effect.fn.Return<Conflict | Same | "Skipped", E2 | FilesError | TransferError> {
    if (yield* isThere(source, target, isSame)) return yield* same(item, source, target)
    const said = yield* answer(item, source, target)
    if (said === "skip") return "Skipped"
    if (said === "stop") return yield* new TransferError({ reason: "Stopped", message: "stopped at a conflict" })
    if (said === "rename") return "rename"
    if (target.kind === "file" && target.version !== undefined) return { version: target.version }
    return yield* fail(folderThere(item.to))
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
    type Settling = Effect.Effect<Settled<A>, E | E2 | FilesError | TransferError, R>
    const settle = (conflict: Conflict, tries: number): Settling =>
      Effect.flatMap(write(conflict), (outcome): Settling => {
        if (outcome._tag === "Written") return Effect.succeed(outcome)
        if (tries === 0) return fail(busy(item.to))
        const { target } = outcome
        // It was to take the place of one version: another one is ours, if the word of it was lost with the line, or somebody's.
        if (typeof conflict === "object") {
          return Effect.flatMap(isThere(source, target, isSame), (isOurs) =>
            isOurs ? same(item, source, target) : fail(changed(item.to))
          )
        }
        return Effect.flatMap(decide(item, source, target, isSame), (next): Settling => {
          if (next === "Skipped") return Effect.succeed({ _tag: next })
          return typeof next === "object" && "_tag" in next ? Effect.succeed(next) : settle(next, tries - 1)
        })
      })
    return settle("fail", TRIES)
  }
  return { place, same }
})
