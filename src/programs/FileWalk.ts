/** Whole lists, patterns and trees out of a store's pages: the server's or the local disk's. What is gathered is bounded. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Glob from "../domain/Glob.ts"
import { type Entry, FilesError, type Found, MAX_DEPTH, type Page, type Stat, type Walk } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import * as SyncPlan from "../domain/SyncPlan.ts"
import type { FileTree } from "../services/FileTree.ts"
import type * as TransferEvent from "./TransferEvent.ts"

/** What is asked of a store; pages as `RemoteFiles` gives them. */
export interface Pages<E> {
  readonly list: (path: string, cursor: string | undefined) => Effect.Effect<Page, E>
  readonly walk: (path: string, cursor: string | undefined, depth: number | undefined) => Effect.Effect<Walk, E>
  readonly stat: (path: string) => Effect.Effect<Stat, E>
}

/** The lists of a tree on this host. */
export const pagesOf = (tree: FileTree): Pages<FilesError> => ({
  list: (path, cursor) => tree.list(path, cursor === undefined ? {} : { cursor }),
  walk: (path, cursor, depth) =>
    tree.walk(path, { ...(cursor === undefined ? {} : { cursor }), ...(depth === undefined ? {} : { depth }) }),
  stat: (path) => tree.stat(path)
})

/** Entries that are gathered of one folder, of one pattern, and of one tree. */
const MAX_ENTRIES = 200_000
const MAX_MATCHES = 100_000
export const MAX_TREE = 1_000_000
/** Characters of all paths of one tree. */
const MAX_TEXT = 128 * 1024 * 1024
/** Pages without an entry, one after the other: each has looked at 20,000 names. */
const MAX_EMPTY = 1000

const tooMany = (path: string, count: number, what = "entries"): FilesError =>
  new FilesError({ reason: "TooMany", message: `${JSON.stringify(path)}: more than ${count} ${what}` })

const disorderly = (path: string): FilesError =>
  new FilesError({ reason: "Io", message: `${JSON.stringify(path)}: the list makes no sense: it is out of order` })

export interface Listed {
  readonly entries: ReadonlyArray<Entry>
  /** Names that no path can say. */
  readonly unnamed: number
}

/** All entries of a folder, in order. */
export const list = Effect.fnUntraced(function* <E>(pages: Pages<E>, path: string) {
  const entries: Array<Entry> = []
  let cursor: string | undefined
  let last = ""
  let unnamed = 0
  do {
    const page: Page = yield* pages.list(path, cursor)
    for (const entry of page.entries) {
      if (entry.name <= last) return yield* disorderly(path)
      last = entry.name
      entries.push(entry)
    }
    // A page that says that more follows has brought something itself.
    if (page.cursor !== undefined && (page.entries.length === 0 || page.cursor !== last)) return yield* disorderly(path)
    if (entries.length > MAX_ENTRIES) return yield* tooMany(path, MAX_ENTRIES)
    cursor = page.cursor
    unnamed = page.unnamed
  } while (cursor !== undefined)
  const listed: Listed = { entries, unnamed }
  return listed
})

export interface Walked {
  readonly unnamed: number
  /** Folders that could not be read. */
  readonly unread: ReadonlyArray<string>
}

const isBelowName = (path: string): boolean => path.split("/").every(RemotePath.isName)

/** Orders paths as a walk gives them: name by name, a folder before what it holds. No name has a NUL. */
const order = (path: string): string => path.replaceAll("/", "\u0000")

/** A walk page by page. Names, order and end are checked: a server is not believed that goes round in circles. */
const checked = <E>(pages: Pages<E>, path: string, depth: number | undefined): Stream.Stream<Walk, E | FilesError> => {
  const start = { cursor: undefined as string | undefined, last: "", count: 0, empty: 0, text: 0 }
  return Stream.paginate(
    start,
    Effect.fnUntraced(function* (at: typeof start) {
      const page: Walk = yield* pages.walk(path, at.cursor, depth)
      let { last, text } = at
      for (const entry of page.entries) {
        const next = order(entry.path)
        if (next <= last || !isBelowName(entry.path)) return yield* disorderly(path)
        last = next
        text += next.length
      }
      const count = at.count + page.entries.length
      const empty = page.entries.length === 0 ? at.empty + 1 : 0
      if (count > MAX_TREE || empty > MAX_EMPTY) return yield* tooMany(path, MAX_TREE)
      if (text > MAX_TEXT) return yield* tooMany(path, MAX_TEXT, "characters in its paths")
      const next =
        page.cursor === undefined ? Option.none() : Option.some({ cursor: page.cursor, last, count, empty, text })
      return [[page], next] as const
    })
  )
}

/** Gives everything below a folder to `each`, page by page, folders before what they hold. */
export const walk = <E, E2 = never, R = never>(
  pages: Pages<E>,
  path: string,
  each: (entries: ReadonlyArray<Found>) => Effect.Effect<void, E2, R>,
  depth?: number
): Effect.Effect<Walked, E | E2 | FilesError, R> =>
  Effect.suspend(() => {
    const unread: Array<string> = []
    let unnamed = 0
    return Effect.as(
      Stream.runForEach(checked(pages, path, depth), (page) => {
        unnamed += page.unnamed
        unread.push(...page.unread.slice(0, Math.max(0, MAX_EMPTY - unread.length)))
        return page.entries.length === 0 ? Effect.void : each(page.entries)
      }),
      unread
    ).pipe(Effect.map((all): Walked => ({ unnamed, unread: all })))
  })

/** What a transfer of a whole folder is made of, parents first, each file with its mode; `to` is what the folder becomes. */
export const below = <E>(
  pages: Pages<E>,
  from: string,
  to: string,
  /** Told of what cannot be carried: a link, a special file, a folder that cannot be read, `count` names that cannot be said. */
  left: (path: string, why: "link" | "other" | "unread" | "unnamed", count: number) => void
): Stream.Stream<TransferEvent.Item, E | FilesError> =>
  Stream.flatMap(checked(pages, from, undefined), ({ entries, unnamed, unread }) => {
    for (const path of unread) left(path, "unread", 1)
    if (unnamed > 0) left(from, "unnamed", unnamed)
    const items: Array<TransferEvent.Item> = []
    for (const { kind, mode, mtimeMs, path, size } of entries) {
      const one = { from: join(from, path), to: join(to, path) }
      if (kind === "folder") items.push({ ...one, kind })
      else if (kind === "file") items.push({ ...one, kind, size, mtimeMs, mode })
      else left(path, kind, 1)
    }
    return Stream.fromArray(items)
  })

/** Everything below a folder, in memory, for `SyncPlan`. */
export const tree = Effect.fnUntraced(function* <E>(pages: Pages<E>, path: string) {
  const nodes = new Map<string, SyncPlan.Node>()
  const walked = yield* walk(pages, path, (entries) =>
    Effect.sync(() => {
      for (const { kind, mode, mtimeMs, path: at, size } of entries) nodes.set(at, { kind, size, mtimeMs, mode })
    })
  )
  return { ...walked, tree: nodes }
})

const join = (folder: string, name: string): string => `${folder.replace(/\/+$/, "")}/${name}`

/** What is not there can be no match; what cannot be read is an error. */
const isAbsence = (error: unknown): boolean =>
  error instanceof FilesError && ["NotFound", "NotAFolder", "BadName"].includes(error.reason)

/** A thing that was named or matched. */
export type Match = Pick<Stat, "path" | "kind" | "size" | "mtimeMs" | "mode">

/** Of things that were matched, those that are in no folder that was matched too: what is done to that is done to them. */
export const topmost = (found: ReadonlyArray<Match>): ReadonlyArray<Match> => {
  const folders = new Set(found.filter(({ kind }) => kind === "folder").map(({ path }) => path))
  return found.filter(({ path }) => !SyncPlan.isBelow(path, folders))
}

/** The one thing of this path, if what was told is about that and nothing else: its name may become one on this host. */
const asked = (text: string, stat: Stat): Effect.Effect<ReadonlyArray<Match>, FilesError> => {
  const parsed = RemotePath.parse(text)
  return Result.isSuccess(parsed) && RemotePath.format(parsed.success) === stat.path
    ? Effect.succeed([stat])
    : Effect.fail(
        new FilesError({ reason: "Io", message: `${JSON.stringify(text)}: the answer is about another path` })
      )
}

/**
 * What a path or pattern stands for, in order. A name that is really there is taken as it is, whatever characters it has;
 * a pattern that matches nothing fails with `NotFound`.
 */
export const expand = <E>(pages: Pages<E>, text: string): Effect.Effect<ReadonlyArray<Match>, E | FilesError> =>
  Effect.catchIf(
    Effect.flatMap(pages.stat(text), (stat) => asked(text, stat)),
    (error) => Glob.isPattern(text) && isAbsence(error),
    () => matches(pages, text)
  )

const matches = Effect.fnUntraced(function* <E>(pages: Pages<E>, text: string) {
  const parsed = Glob.parse(text)
  if (Result.isFailure(parsed)) {
    return yield* new FilesError({ reason: "BadName", message: `this pattern is refused: ${parsed.failure}` })
  }
  const glob = parsed.success
  const found: Array<Match> = []
  const open = [{ path: "/", state: glob.start, depth: 1 }]
  let seen = 0
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { depth, path, state } = next
    const below: Array<(typeof open)[number]> = []
    for (const entry of yield* candidates(pages, glob, path, state)) {
      if (++seen > MAX_TREE) return yield* tooMany(text, MAX_TREE)
      const after = glob.step(state, entry.name)
      const at = join(path, entry.name)
      if (glob.isFinal(after)) found.push({ ...entry, path: at })
      const isWalked = entry.kind === "folder" && depth < MAX_DEPTH && !glob.isDead(after)
      if (isWalked) below.push({ path: at, state: after, depth: depth + 1 })
    }
    if (found.length > MAX_MATCHES) return yield* tooMany(text, MAX_MATCHES)
    open.push(...below.reverse())
  }
  if (found.length === 0) {
    return yield* new FilesError({ reason: "NotFound", message: `${JSON.stringify(text)}: nothing matches` })
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
})

type Candidate = Omit<Match, "path"> & { readonly name: string }

const candidates = Effect.fnUntraced(function* <E>(pages: Pages<E>, glob: Glob.Glob, path: string, state: Glob.State) {
  const literals = glob.literals(state)
  if (literals === undefined) {
    const { entries } = yield* Effect.catchIf(list(pages, path), isAbsence, () =>
      Effect.succeed<Listed>({ entries: [], unnamed: 0 })
    )
    return entries as ReadonlyArray<Candidate>
  }
  const some = yield* Effect.forEach(literals, (name) =>
    pages.stat(join(path, name)).pipe(
      Effect.map(({ kind, mode, mtimeMs, size }): ReadonlyArray<Candidate> => [{ name, kind, mode, mtimeMs, size }]),
      Effect.catchIf(isAbsence, () => Effect.succeed<ReadonlyArray<Candidate>>([]))
    )
  )
  return some.flat()
})
