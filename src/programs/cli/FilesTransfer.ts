/** `clawchat files get` and `put`: things from the server's machine to this one, and back. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Glob from "../../domain/Glob.ts"
import * as Progress from "../../domain/Progress.ts"
import { FilesError } from "../../domain/RemoteFile.ts"
import * as SyncPlan from "../../domain/SyncPlan.ts"
import type { TransferError } from "../../domain/TransferError.ts"
import * as LocalFoldersNode from "../../layers/LocalFoldersNode.ts"
import { LocalFolders } from "../../services/LocalFolders.ts"
import * as FileWalk from "../FileWalk.ts"
import type * as TransferEvent from "../TransferEvent.ts"
import * as TransferPipes from "../TransferPipes.ts"
import * as Transfers from "../Transfers.ts"
import { type Failure, failed, notFound, usage } from "./Failure.ts"
import * as FilesAsk from "./FilesAsk.ts"
import * as Files from "./FilesCommon.ts"
import * as FilesLink from "./FilesLink.ts"
import * as FilesShow from "./FilesShow.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"

export interface Input extends Files.Input {
  readonly path: ReadonlyArray<string>
  readonly recursive: boolean
  readonly conflict: TransferEvent.Rule
  readonly delta: FilesLink.Delta
}

/** The network for much, and this host's disk. */
export const layers = Layer.mergeAll(Layers.networkLate, LocalFoldersNode.layer)

/** Standard input or output in place of a path. */
const PIPE = "-"

const isInto = (target: string): boolean => /[/\\]$/.test(target) || [".", ".."].includes(Path.basename(target))

const doubled = (items: ReadonlyArray<Pick<TransferEvent.Item, "from" | "to">>): string | undefined => {
  const seen = new Map<string, string>()
  for (const { from, to } of items) {
    const other = seen.get(to)
    if (other !== undefined) return `${JSON.stringify(other)} and ${JSON.stringify(from)} would both become ${to}`
    seen.set(to, from)
  }
  return undefined
}

type Items = Stream.Stream<TransferEvent.Item, TransferError>

interface Top {
  readonly match: FileWalk.Match
  readonly from: string
  readonly to: string
  /** What of a folder is at its target already, by path below it. */
  readonly known: SyncPlan.Tree
}

const NOTHING: SyncPlan.Tree = new Map()

/** What stands below the target of a folder; one list is cheaper than a question per file. */
const knownBelow = <E>(pages: FileWalk.Pages<E>, match: FileWalk.Match, to: string) =>
  match.kind !== "folder"
    ? Effect.succeed(NOTHING)
    : FileWalk.tree(pages, to).pipe(
        Effect.map(({ tree }): SyncPlan.Tree => tree),
        Effect.catchIf(
          (error) => error instanceof FilesError && ["NotFound", "NotAFolder"].includes(error.reason),
          () => Effect.succeed(NOTHING)
        )
      )

const knownAt = ({ to }: TransferEvent.Item, top: Top): SyncPlan.Node | undefined =>
  top.known.get(top.to === "" ? to : to.slice(top.to.length + 1))

/** Whether there is nothing to do: a folder is there, a file of the same size and time. */
const isThere = ({ kind, mtimeMs, size }: TransferEvent.Item, there: SyncPlan.Node | undefined): boolean => {
  if (there === undefined || there.kind !== kind) return false
  return kind === "folder" || (there.size === size && SyncPlan.isSameTime(there.mtimeMs, mtimeMs ?? -1))
}

/** What things that were named are made of. */
const itemsOf = (
  pages: FileWalk.Pages<Files.RemoteError>,
  tops: ReadonlyArray<Top>,
  left: Files.Left,
  show: FilesShow.Show
): Items =>
  Stream.flatMap(Stream.fromIterable(tops), (top): Items => {
    const { from, match, to } = top
    if (match.kind !== "folder") {
      return Stream.succeed({ from, to, kind: "file", size: match.size, mtimeMs: match.mtimeMs })
    }
    const first: Items = to === "" ? Stream.empty : Stream.succeed({ from, to, kind: "folder" })
    const below = Stream.mapError(FileWalk.below(pages, from, to, left.add), Files.transferError)
    const known = Stream.map(
      below,
      (item): TransferEvent.Item => (knownAt(item, top) === undefined ? { ...item, isNew: true } : item)
    )
    // Page by page: what comes together goes together.
    const missing = Stream.flattenArray(
      Stream.filter(
        Stream.mapEffect(
          Stream.chunks(known),
          Effect.fnUntraced(function* (some) {
            const left: Array<TransferEvent.Item> = []
            for (const item of some) {
              if (!isThere(item, knownAt(item, top))) left.push(item)
              else if (item.kind === "file") yield* show.same(item)
            }
            return left
          })
        ),
        Arr.isArrayNonEmpty
      )
    )
    return Stream.concat(first, missing)
  })

/** What becomes of things of a kind that nobody can carry, and of folders without `-r`. */
const refuse = (match: FileWalk.Match, name: string, recursive: boolean): Failure | undefined => {
  if (match.kind === "folder") return recursive ? undefined : usage(`${JSON.stringify(name)} is a folder: add -r`)
  if (match.kind === "file") return undefined
  return failed(
    `${JSON.stringify(name)} is ${match.kind === "link" ? "a link" : "no file or folder"}, which is not carried`
  )
}

// -- get ---------------------------------------------------------------------------------------------------------------

const statHere = (path: string): Fs.Stats | undefined => Fs.statSync(path, { throwIfNoEntry: false })

/** The local folder to write below, and what the one thing is called there if it is not put into a folder. */
const targetHere = (target: string, isOne: boolean): Result.Result<{ base: string; name?: string }, Failure> => {
  const there = statHere(target)
  if (there?.isDirectory() === true) return Result.succeed({ base: target })
  if (there !== undefined && !isOne) return Result.fail(usage(`${target} must be a folder to take several things`))
  if (!isOne || isInto(target)) return Result.succeed({ base: target })
  const base = Path.dirname(Path.resolve(target))
  if (statHere(base)?.isDirectory() !== true) return Result.fail(notFound(`there is no folder ${base}: make it first`))
  return Result.succeed({ base, name: Path.basename(target) })
}

export const get = Effect.fnUntraced(
  function* (input: Input) {
    if (input.path.length === 0) return yield* usage("What? Give a path on the server")
    const [only] = input.path
    const target = input.path.length === 1 ? "." : (input.path.at(-1) ?? ".")
    const sources = input.path.length === 1 ? [only ?? ""] : input.path.slice(0, -1)
    const toPipe = target === PIPE
    if (toPipe && input.json) return yield* usage("--json and - both want standard output")
    const { deltas, open, pages } = yield* FilesLink.make(input)
    const found: Array<FileWalk.Match> = []
    for (const source of sources) {
      const matches = yield* Effect.mapError(FileWalk.expand(pages, source), Files.failure)
      for (const match of matches) {
        const refusal = refuse(match, match.path, input.recursive && !toPipe)
        if (refusal === undefined) found.push(match)
        // What a pattern meets beside files is passed over; what is named is not.
        else if (matches.length === 1) return yield* refusal
        else if (!input.quiet) yield* Output.note(refusal.message)
      }
    }
    if (toPipe) {
      for (const { path } of found) {
        const bytes = TransferPipes.read(open, path, { idleMs: input.timeout.silentMs })
        yield* Effect.mapError(Stream.runForEach(bytes, Output.bytes), Files.transferFailure)
      }
      return
    }
    const { base, name } = yield* Effect.fromResult(targetHere(target, found.length === 1 && sources.length === 1))
    const named = found.map((match) => ({ match, from: match.path, to: name ?? Files.nameOf(match.path) }))
    const twice = doubled(named)
    if (twice !== undefined) return yield* usage(twice)
    const folders = yield* LocalFolders
    const local = yield* Effect.mapError(folders.open(Path.resolve(base), { make: true }), Files.failure)
    const here = FileWalk.pagesOf(local)
    const tops = yield* Effect.forEach(named, (one) =>
      Effect.map(knownBelow(here, one.match, one.to), (known): Top => ({ ...one, known }))
    ).pipe(Effect.mapError(Files.failure))
    const show = yield* FilesShow.make(input)
    const ask = FilesAsk.make(show, "here")
    const left = Files.makeLeft()
    const events = Transfers.get(
      { open, local, idleMs: input.timeout.silentMs, delta: deltas(input.delta), ...ask.options(input.conflict) },
      itemsOf(pages, tops, left, show)
    )
    yield* show.run(events, ({ to }) => Path.join(base, to))
    yield* left.end(input.quiet)
    yield* show.end
    yield* ask.end
  },
  Effect.scoped,
  Effect.provide(layers)
)

// -- put ---------------------------------------------------------------------------------------------------------------

interface Source {
  /** Folder of this host, links followed. */
  readonly base: string
  /** Its name there; empty for a whole disk. */
  readonly name: string
  /** As the user calls it. */
  readonly said: string
}

/** A path that a user names is followed to where it leads; below it no link is. */
const sourceOf = (said: string): Source | undefined => {
  const there = statHere(said)
  if (there === undefined) return undefined
  const real = Fs.realpathSync(said)
  return { base: Path.dirname(real), name: Path.basename(real), said }
}

/** Where the shell does not expand patterns we do. */
const expandHere = Effect.fnUntraced(function* (said: string) {
  const one = sourceOf(said)
  if (one !== undefined) return [one]
  const slashed = process.platform === "win32" ? said.replaceAll("\\", "/") : said
  if (!Glob.isPattern(slashed)) return yield* notFound(`${JSON.stringify(said)}: no such file or folder`)
  const parts = slashed.split("/")
  const plain = parts.findIndex(Glob.isPattern)
  const folder = parts.slice(0, plain).join("/")
  const within = folder === "" ? (slashed.startsWith("/") ? "/" : ".") : folder
  const pattern = parts.slice(plain).join("/")
  const folders = yield* LocalFolders
  const matches = yield* folders.open(Path.resolve(within), { readOnly: true }).pipe(
    Effect.flatMap((tree) => FileWalk.expand(FileWalk.pagesOf(tree), pattern)),
    Effect.scoped,
    Effect.mapError(Files.failure)
  )
  return matches.flatMap(({ path }) => {
    const source = sourceOf(Path.join(within, path))
    return source === undefined ? [] : [source]
  })
})

/** What is at a path, if anything is. */
export const existing = <A>(stat: Effect.Effect<A, Files.RemoteError>): Effect.Effect<Option.Option<A>, Failure> =>
  stat.pipe(
    Effect.asSome,
    Effect.catchIf(
      (error) => error instanceof FilesError && error.reason === "NotFound",
      () => Effect.succeedNone
    ),
    Effect.mapError(Files.failure)
  )

const remoteJoin = (folder: string, name: string): string => `${folder.replace(/\/+$/, "")}/${name}`

const putPipe = Effect.fnUntraced(function* (input: Input, to: string) {
  const { open, pages } = yield* FilesLink.make(input)
  const there = yield* existing(pages.stat(to))
  if (to.endsWith("/") || Option.exists(there, ({ kind }) => kind === "folder")) {
    return yield* usage(`${JSON.stringify(to)} is a folder: give the file's name too`)
  }
  if (Option.isSome(there) && input.conflict === "skip") return yield* Output.note(`${to} is there already: skipped`)
  if (Option.isSome(there) && input.conflict === "ask") return yield* FilesAsk.refusal(to)
  const bytes = Stream.fromAsyncIterable(process.stdin as AsyncIterable<Uint8Array>, () =>
    failed("standard input cannot be read")
  )
  const conflict = input.conflict === "rename" || input.conflict === "overwrite" ? input.conflict : "skip"
  const done = yield* TransferPipes.write(open, to, bytes, { conflict, idleMs: input.timeout.silentMs }).pipe(
    Effect.mapError((error) => (error._tag === "Failure" ? error : Files.transferFailure(error)))
  )
  if (input.json) yield* Output.line(JSON.stringify(done))
  else if (!input.quiet) yield* Output.note(`- -> ${done.to}  ${Progress.size(done.size)}`)
})

export const put = Effect.fnUntraced(
  function* (input: Input) {
    const [first] = input.path
    if (first === undefined) return yield* usage("What? Give a path on this host")
    const isOnly = input.path.length === 1
    const to = isOnly ? "/" : (input.path.at(-1) ?? "/")
    const named = isOnly ? [first] : input.path.slice(0, -1)
    if (named.includes(PIPE)) {
      if (named.length > 1 || isOnly) return yield* usage("- is put alone, and needs a name: clawchat files put - NAME")
      return yield* putPipe(input, to)
    }
    const sources = (yield* Effect.forEach(named, expandHere)).flat()
    const { deltas, open, pages, server } = yield* FilesLink.make(input)
    const there = yield* existing(pages.stat(to))
    const isFolder = Option.exists(there, ({ kind }) => kind === "folder")
    if (Option.isSome(there) && !isFolder && sources.length > 1) {
      return yield* usage(`${JSON.stringify(to)} must be a folder to take several things`)
    }
    const isPutInto = isFolder || sources.length > 1 || to.endsWith("/")
    const folders = yield* LocalFolders
    const left = Files.makeLeft()
    const show = yield* FilesShow.make(input)
    const groups = Map.groupBy(sources, ({ base }) => base)
    const all: Array<{ readonly from: string; readonly to: string }> = []
    const plans: Array<{ readonly local: LocalTree; readonly items: Items }> = []
    for (const [base, members] of groups) {
      const local = yield* Effect.mapError(folders.open(base, { readOnly: true }), Files.failure)
      const list = FileWalk.pagesOf(local)
      const tops: Array<Top> = []
      for (const { name, said } of members) {
        const match = yield* Effect.mapError(list.stat(name), Files.failure)
        const refusal = refuse(match, said, input.recursive)
        if (refusal !== undefined) return yield* refusal
        const called = Path.basename(Path.resolve(said))
        const into = isPutInto ? remoteJoin(to, called) : to
        const known = yield* Effect.mapError(knownBelow(pages, match, into), Files.failure)
        tops.push({ match, from: match.path, to: into, known })
      }
      all.push(...tops.map(({ from, to: at }) => ({ from: Path.join(base, from), to: at })))
      plans.push({ local, items: itemsOf(list, tops, left, show) })
    }
    const twice = doubled(all)
    if (twice !== undefined) return yield* usage(twice)
    if (isPutInto && !isFolder) {
      yield* Effect.mapError(server["Files.Mkdir"]({ path: to, parents: true }), Files.failure)
    }
    const ask = FilesAsk.make(show, "there")
    for (const { items, local } of plans) {
      yield* show.run(
        Transfers.put(
          { open, local, idleMs: input.timeout.silentMs, delta: deltas(input.delta), ...ask.options(input.conflict) },
          items
        ),
        ({ to: at }) => at
      )
    }
    yield* left.end(input.quiet)
    yield* show.end
    yield* ask.end
  },
  Effect.scoped,
  Effect.provide(layers)
)

type LocalTree = Effect.Success<ReturnType<LocalFolders["Service"]["open"]>>
