/** `clawchat files get` and `put`: things from the server's machine to this one, and back. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Glob from "../../domain/Glob.ts"
import * as Printable from "../../domain/Printable.ts"
import * as Progress from "../../domain/Progress.ts"
import { FilesError } from "../../domain/RemoteFile.ts"
import * as SyncPlan from "../../domain/SyncPlan.ts"
import type { TransferError } from "../../domain/TransferError.ts"
import * as HostErrors from "../../layers/HostErrors.ts"
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

/** Whether a source is named as what is in it, as `cp -r folder/. target` has it. */
const isContents = (source: string): boolean => /(^|[/\\])\.[/\\]*$/.test(source)

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
  /** As answers write it: beginning with a slash, and empty for the base. */
  readonly to: string
  /** What of a folder is at its target already, by path below it. */
  readonly known: SyncPlan.Tree
}

const NOTHING: SyncPlan.Tree = new Map()

const topOf = (path: string): string => Files.canonical(path).replace(/^\/$/, "")

/** Lists and questions about what stands at targets, at a time: what the server takes. */
const LOOKS = 8

/**
 * What stands below the target of a folder, since one list is cheaper than a question per file; at that of a file where it may be
 * overwritten, since no transfer tells its mode.
 */
const knownAll = <E>(
  pages: FileWalk.Pages<E>,
  named: ReadonlyArray<Omit<Top, "known">>,
  conflict: TransferEvent.Rule
): Effect.Effect<ReadonlyArray<Top>, E | FilesError> =>
  Effect.forEach(
    named,
    (one) => {
      const { match, to } = one
      const isLooked = match.kind === "folder" || conflict === "overwrite"
      const looked: Effect.Effect<Known, E | FilesError> =
        match.kind === "folder" ? FileWalk.tree(pages, to) : Effect.map(pages.stat(to), alone)
      if (!isLooked) return Effect.succeed<Top>({ ...one, known: NOTHING })
      return looked.pipe(
        Effect.map(({ tree }): Top => ({ ...one, known: tree })),
        Effect.catchIf(
          (error) => error instanceof FilesError && ["NotFound", "NotAFolder"].includes(error.reason),
          () => Effect.succeed<Top>({ ...one, known: NOTHING })
        )
      )
    },
    { concurrency: LOOKS }
  )

type Known = { readonly tree: SyncPlan.Tree }

const alone = (stat: SyncPlan.Node): Known => ({ tree: new Map([["", stat]]) })

const knownAt = ({ to }: TransferEvent.Item, top: Top): SyncPlan.Node | undefined =>
  top.known.get(to.slice(top.to.length + 1))

/** Whether there is nothing to do: a folder is there, a file of the same size and time whose mode may stay. */
const isThere = ({ kind, mode, mtimeMs, size }: TransferEvent.Item, there: SyncPlan.Node | undefined): boolean => {
  if (there === undefined || there.kind !== kind) return false
  if (kind === "folder") return true
  const isSame = mtimeMs !== undefined && there.size === size && SyncPlan.isSameTime(there.mtimeMs, mtimeMs)
  return isSame && mode === undefined
}

/** How a list that items are made of breaks off, and whether what stands at their targets is to become like them. */
interface Way {
  readonly broken: (error: Files.RemoteError) => TransferError
  readonly conflict: TransferEvent.Rule
}

/** Items of a folder with what is known of their targets. */
const knowing = (top: Top, { conflict }: Way): ((item: TransferEvent.Item) => TransferEvent.Item) => {
  const modeOf = SyncPlan.modes(top.known)
  return (item) => {
    const { mode, ...rest } = item
    const there = knownAt(item, top)
    if (there === undefined) return { ...rest, isNew: true }
    const known = { ...rest, isNew: false }
    if (conflict !== "overwrite" || mode === undefined || there.kind !== "file") return known
    const wanted = modeOf({ ...there, mode }, there)
    return wanted === undefined ? known : { ...known, mode: wanted }
  }
}

/** The item of a file that was named: its whole mode counts, since nobody names it at every run. */
const itemOf = (top: Top): TransferEvent.Item => {
  const { from, match, to } = top
  const { mode, mtimeMs, size } = match
  const item = { from, to, kind: "file", size, mtimeMs } as const
  const there = knownAt(item, top)
  return there?.kind !== "file" || there.mode === ((mode & 0o755) | 0o600) ? item : { ...item, mode }
}

/** What things that were named are made of. */
const itemsOf = (
  pages: FileWalk.Pages<Files.RemoteError>,
  tops: ReadonlyArray<Top>,
  left: Files.Left,
  show: FilesShow.Show,
  way: Way
): Items =>
  Stream.flatMap(Stream.fromIterable(tops), (top): Items => {
    const { from, match, to } = top
    if (match.kind !== "folder") return Stream.succeed(itemOf(top))
    const first: Items = to === "" ? Stream.empty : Stream.succeed({ from, to, kind: "folder" })
    const below = Stream.mapError(FileWalk.below(pages, from, to, left.add), way.broken)
    const known = Stream.map(below, knowing(top, way))
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

/** Asks this host about a path that the user named. */
const onHost = <A>(said: string, ask: () => A): Effect.Effect<A, Failure> =>
  Effect.try({ try: ask, catch: (cause) => Files.hostFailure(said, HostErrors.codeOf(cause)) })

/** What is at a path, links followed; undefined if nothing is. */
const statHere = (path: string): Effect.Effect<Fs.Stats | undefined, Failure> =>
  onHost(path, () => Fs.statSync(path, { throwIfNoEntry: false }))

const noFolder = (target: string): Failure => failed(Printable.line(`${JSON.stringify(target)} is no folder`))

/** The local folder to write below, and what the one thing is called there if it is not put into a folder. */
const targetHere = Effect.fnUntraced(function* (
  target: string,
  only: FileWalk.Match | undefined
): Effect.fn.Return<{ readonly base: string; readonly name?: string }, Failure> {
  const there = yield* statHere(target)
  if (there?.isDirectory() === true) return { base: target }
  if (there !== undefined && only === undefined) {
    return yield* usage(`${target} must be a folder to take several things`)
  }
  if (there !== undefined && (isInto(target) || only?.kind === "folder")) return yield* noFolder(target)
  if (only === undefined || isInto(target)) return { base: target }
  const base = Path.dirname(target)
  const above = yield* statHere(base)
  if (above === undefined) return yield* notFound(`there is no folder ${Path.resolve(base)}: make it first`)
  return above.isDirectory() ? { base, name: Path.basename(target) } : yield* noFolder(base)
})

const notPiped = (path: string): Failure => usage(`${JSON.stringify(path)} is a folder: standard output takes files`)

export const get = Effect.fnUntraced(
  function* (input: Input) {
    if (input.path.length === 0) return yield* usage("What? Give a path on the server")
    const [only] = input.path
    const target = input.path.length === 1 ? "." : (input.path.at(-1) ?? ".")
    const sources = input.path.length === 1 ? [only ?? ""] : input.path.slice(0, -1)
    const toPipe = target === PIPE
    if (toPipe && input.json) return yield* usage("--json and - both want standard output")
    yield* Files.refuseEmpty(input.path)
    const { deltas, digest, open, pages } = yield* FilesLink.make(input)
    const found: Array<FileWalk.Match & { readonly name: string }> = []
    for (const source of sources) {
      const matches = yield* Effect.mapError(FileWalk.expand(pages, source), Files.failureThere)
      for (const match of matches) {
        const isPiped = toPipe && match.kind === "folder"
        const refusal = isPiped ? notPiped(match.path) : refuse(match, match.path, input.recursive)
        const name = isContents(source) && matches.length === 1 ? "" : Files.nameOf(match.path)
        if (refusal === undefined) found.push({ ...match, name })
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
    const isOne = found.length === 1 && sources.length === 1
    const { base, name } = yield* targetHere(target, isOne ? found[0] : undefined)
    const named = found.map((match) => ({ match, from: match.path, to: topOf(name ?? match.name) }))
    const twice = doubled(named)
    if (twice !== undefined) return yield* usage(twice)
    const folders = yield* LocalFolders
    const local = yield* Effect.mapError(folders.open(Path.resolve(base), { make: true }), Files.failureHere)
    const here = FileWalk.pagesOf(local)
    const tops = yield* Effect.mapError(knownAll(here, named, input.conflict), Files.failureHere)
    const show = yield* FilesShow.make(input)
    const called: FilesShow.Called = ({ to }) => Path.join(base, to)
    const ask = FilesAsk.make(show, "here", called)
    const left = Files.makeLeft()
    const idleMs = input.timeout.silentMs
    const events = Transfers.get(
      { open, local, digest, idleMs, delta: deltas(input.delta), ...ask.options(input.conflict) },
      itemsOf(pages, tops, left, show, { broken: Files.transferError, conflict: input.conflict })
    )
    yield* show.run(events, called)
    yield* left.end(input.quiet, show.end)
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
const sourceOf = Effect.fnUntraced(function* (said: string) {
  if ((yield* statHere(said)) === undefined) return undefined
  const real = yield* onHost(said, () => Fs.realpathSync(said))
  const source: Source = { base: Path.dirname(real), name: Path.basename(real), said }
  return source
})

/** Where the shell does not expand patterns we do. */
const expandHere = Effect.fnUntraced(function* (said: string) {
  const one = yield* sourceOf(said)
  if (one !== undefined) return [one]
  const slashed = process.platform === "win32" ? said.replaceAll("\\", "/") : said
  if (!Glob.isPattern(slashed)) return yield* Files.hostFailure(said, "ENOENT")
  const parts = slashed.split("/")
  const plain = parts.findIndex(Glob.isPattern)
  const folder = parts.slice(0, plain).join("/")
  const within = folder === "" ? (slashed.startsWith("/") ? "/" : ".") : folder
  const pattern = parts.slice(plain).join("/")
  const folders = yield* LocalFolders
  const matches = yield* folders.open(Path.resolve(within), { readOnly: true }).pipe(
    Effect.flatMap((tree) => FileWalk.expand(FileWalk.pagesOf(tree), pattern)),
    Effect.scoped,
    Effect.mapError(Files.failureHere)
  )
  const sources = yield* Effect.forEach(matches, ({ path }) => sourceOf(Path.join(within, path)))
  return sources.filter((source) => source !== undefined)
})

/** What is at a path of the server, if anything is. */
export const existing = <A>(stat: Effect.Effect<A, Files.RemoteError>): Effect.Effect<Option.Option<A>, Failure> =>
  stat.pipe(
    Effect.asSome,
    Effect.catchIf(
      (error) => error instanceof FilesError && error.reason === "NotFound",
      () => Effect.succeedNone
    ),
    Effect.mapError(Files.failureThere)
  )

/** A refusal that does not say which of many names it is about. */
const naming = (said: string, { message }: FilesError): Failure =>
  usage(Printable.line(`${JSON.stringify(said)}: ${message}`))

const putPipe = Effect.fnUntraced(function* (input: Input, to: string) {
  const { open, pages } = yield* FilesLink.make(input)
  const there = yield* existing(pages.stat(to))
  if (to.endsWith("/") || Option.exists(there, ({ kind }) => kind === "folder")) {
    return yield* usage(`${JSON.stringify(to)} is a folder: give the file's name too`)
  }
  if (Option.isSome(there) && input.conflict === "skip") {
    if (input.json) yield* Output.line(Printable.json({ _tag: "Skipped", from: PIPE, to: Files.canonical(to) }))
    else if (!input.quiet) yield* Output.note(Printable.line(`${to} is there already: skipped`))
    return
  }
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
    yield* Files.refuseEmpty(input.path)
    const to = isOnly ? "/" : (input.path.at(-1) ?? "/")
    const named = isOnly ? [first] : input.path.slice(0, -1)
    if (named.includes(PIPE)) {
      if (named.length > 1 || isOnly) return yield* usage("- is put alone, and needs a name: clawchat files put - NAME")
      return yield* putPipe(input, to)
    }
    const sources = (yield* Effect.forEach(named, expandHere)).flat()
    const { deltas, digest, open, pages, server, touch } = yield* FilesLink.make(input)
    const there = yield* existing(pages.stat(to))
    const isFolder = Option.exists(there, ({ kind }) => kind === "folder")
    if (Option.isSome(there) && !isFolder && sources.length > 1) {
      return yield* usage(`${JSON.stringify(to)} must be a folder to take several things`)
    }
    const isTaken = Option.isSome(there) && !isFolder
    if (isTaken && to.endsWith("/")) return yield* failed(`${JSON.stringify(to)} is no folder on the server`)
    const isPutInto = isFolder || sources.length > 1 || to.endsWith("/")
    const folders = yield* LocalFolders
    const left = Files.makeLeft()
    const show = yield* FilesShow.make(input)
    const groups = Map.groupBy(sources, ({ base }) => base)
    const all: Array<{ readonly from: string; readonly to: string }> = []
    const plans: Array<{ readonly local: LocalTree; readonly items: Items }> = []
    const way: Way = { broken: Files.transferErrorHere, conflict: input.conflict }
    for (const [base, members] of groups) {
      const local = yield* Effect.mapError(folders.open(base, { readOnly: true }), Files.failureHere)
      const list = FileWalk.pagesOf(local)
      const targets: Array<Omit<Top, "known">> = []
      for (const { name, said } of members) {
        const match = yield* Effect.mapError(list.stat(name), (error) =>
          error.reason === "BadName" ? naming(said, error) : Files.failureHere(error)
        )
        const refusal = refuse(match, said, input.recursive)
        if (refusal !== undefined) return yield* refusal
        if (isTaken && match.kind === "folder") return yield* failed(`${JSON.stringify(to)} is no folder on the server`)
        const called = isContents(said) ? "" : Path.basename(Path.resolve(said))
        const into = topOf(isPutInto ? `${to}/${called}` : to)
        targets.push({ match, from: match.path, to: into })
      }
      const tops = yield* Effect.mapError(knownAll(pages, targets, input.conflict), Files.failureThere)
      all.push(...tops.map(({ from, to: at }) => ({ from: Path.join(base, from), to: at })))
      plans.push({ local, items: itemsOf(list, tops, left, show, way) })
    }
    const twice = doubled(all)
    if (twice !== undefined) return yield* usage(twice)
    if (isPutInto && !isFolder) {
      yield* Effect.mapError(server["Files.Mkdir"]({ path: to, parents: true }), Files.failureThere)
    }
    const ask = FilesAsk.make(show, "there")
    const idleMs = input.timeout.silentMs
    const delta = deltas(input.delta)
    for (const { items, local } of plans) {
      yield* show.run(
        Transfers.put({ open, local, digest, touch, idleMs, delta, ...ask.options(input.conflict) }, items),
        ({ to: at }) => at
      )
    }
    yield* left.end(input.quiet, show.end)
    yield* ask.end
  },
  Effect.scoped,
  Effect.provide(layers)
)

type LocalTree = Effect.Success<ReturnType<LocalFolders["Service"]["open"]>>
