/**
 * A tree of files on this host's disk. Folders are walked as HeldFolders says; files are opened without waiting and
 * through no link, and asked what they are before they are used, so a FIFO or a device blocks nothing. Host calls own
 * what they open: an effect that is interrupted leaves them to end by themselves.
 */
import * as FsPromises from "node:fs/promises"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { Entry, type FilesError, Page, type Stat, slice } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import {
  checkCursor,
  type FileTree,
  failure,
  type ListOptions,
  MAX_READ_LENGTH,
  type MoveOptions,
  type Reader,
  type RemoveOptions,
  type SmallFile,
  type SmallRead,
  type TouchOptions,
  type WalkOptions,
  type WriteOptions,
  type Writer,
  walkCursor
} from "../services/FileTree.ts"
import { RemoteFiles } from "../services/RemoteFiles.ts"
import * as Copying from "./Copying.ts"
import * as FileFacts from "./FileFacts.ts"
import * as FileReader from "./FileReader.ts"
import { FolderNames } from "./FolderNames.ts"
import { ensureInside, type Folder, openBase, readNames, within } from "./HeldFolders.ts"
import { attempt, orAbsent } from "./HostErrors.ts"
import * as Moving from "./Moving.ts"
import * as SmallReads from "./SmallReads.ts"
import * as SmallWrites from "./SmallWrites.ts"
import * as Touching from "./Touching.ts"
import * as Trash from "./Trash.ts"
import { checked, named, parsed } from "./TreePaths.ts"
import * as TreeWalk from "./TreeWalk.ts"
import { Usage } from "./Usage.ts"
import * as Writers from "./Writers.ts"

export interface Options {
  /** Absolute; links on the way to it are followed, once, at the start. */
  readonly base: string
  /** Does not make the base (0700) when it is missing. */
  readonly mustExist?: boolean
  /** Walk by paths even where descriptors would do. */
  readonly byPaths?: boolean
  readonly readOnly?: boolean
  /** Bytes of all files, the trash aside; 0, the default, is no limit. */
  readonly quotaBytes?: number
  /** Number of files; 0, the default, is no limit. */
  readonly quotaFiles?: number
  /** Milliseconds that the trash keeps things; 30 days when absent. */
  readonly trashMs?: number
  /** Bytes that the trash holds; 10 GiB when absent. */
  readonly trashBytes?: number
  /** Files open at once; 256 when absent. */
  readonly maxOpen?: number
  /** Sweeps now and once a day, in the background; `layer` only. */
  readonly sweeps?: boolean
}

/** Listings and walks at a time: they hold whole folders in memory. */
const CONCURRENCY = 4
/** Trees that are counted at a time: nothing else is to wait for them. */
const COUNTS = 2
/** lstat calls at a time within a listing. */
const LOOKS = 16
const DAY_MS = 86_400_000
/** Milliseconds between counts of what the quota limits. */
const RECOUNT_MS = 3_600_000

/** Opens a tree; it holds its base until the scope closes. Fails with one line when the base cannot be made or read. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<FileTree, FilesError, Scope.Scope> {
  const { base } = yield* Effect.acquireRelease(
    attempt([], () =>
      openBase({ base: options.base, make: options.mustExist !== true, byPaths: options.byPaths === true })
    ),
    ({ close }) => Effect.promise(close)
  )
  const permits = yield* Semaphore.make(CONCURRENCY)
  const counts = yield* Semaphore.make(COUNTS)
  const opened = { count: 0 }
  const maxOpen = options.maxOpen ?? 256
  const usage = new Usage({ bytes: options.quotaBytes ?? 0, files: options.quotaFiles ?? 0 })
  const writers = new Writers.Writers(base, usage)
  const trash = new Trash.Trash(base, {
    ttlMs: options.trashMs ?? 30 * DAY_MS,
    maxBytes: options.trashBytes ?? 10 * 1024 ** 3
  })

  /** Reads in a folder, and gives the outcome away only if the folder is where it was asked for. */
  const reading = <A>(
    path: RemotePath.RemotePath,
    folder: RemotePath.RemotePath,
    read: (folder: Folder, signal: AbortSignal) => Promise<A>
  ): Effect.Effect<A, FilesError> =>
    attempt(path, (signal) =>
      within(base, folder, async (opened) => {
        const outcome = await read(opened, signal).then(Result.succeed, Result.fail)
        await ensureInside(opened, path)
        if (Result.isFailure(outcome)) throw outcome.failure
        return outcome.success
      })
    )

  const statAt = async (folder: Folder, name: string, path: RemotePath.RemotePath): Promise<Stat> =>
    FileFacts.stat(path, await FsPromises.lstat(`${folder.at}/${name}`, { bigint: true }))

  /** What is gone since the folder was read is left out. */
  const entriesOf = async (folder: Folder, names: ReadonlyArray<string>): Promise<ReadonlyArray<Entry>> => {
    const entries: Array<Entry> = []
    for (let from = 0; from < names.length; from += LOOKS) {
      const some = names.slice(from, from + LOOKS)
      const stats = await Promise.all(some.map((name) => orAbsent(FsPromises.lstat(`${folder.at}/${name}`))))
      for (const [i, each] of stats.entries())
        if (each !== undefined) entries.push(new Entry({ name: some[i] ?? "", ...FileFacts.facts(each) }))
    }
    return entries
  }

  const folders = new FolderNames()

  const list = Effect.fn("FileTree.list")(function* (path: string, { cursor, limit }: ListOptions = {}) {
    const folder = yield* parsed(path)
    yield* checkCursor(cursor)
    return yield* permits.withPermit(
      reading(folder, folder, async (held) => {
        const { names, unnamed } = await folders.of(held, folder, cursor !== undefined)
        let page = slice(names, cursor, limit)
        let entries = await entriesOf(held, page.names)
        // A page that says that more follows brings something, and its last name is where that is.
        while (entries.length === 0 && page.cursor !== undefined) {
          page = slice(names, page.cursor, limit)
          entries = await entriesOf(held, page.names)
        }
        const last = page.cursor === undefined ? undefined : entries.at(-1)
        return new Page({ entries, unnamed, ...(last === undefined ? {} : { cursor: last.name }) })
      })
    )
  })

  const stat = Effect.fn("FileTree.stat")(function* (path: string) {
    const target = yield* parsed(path)
    return yield* permits.withPermit(
      reading(target, target.slice(0, -1), (folder) => statAt(folder, target.at(-1) ?? ".", target))
    )
  })

  const walk = Effect.fn("FileTree.walk")(function* (path: string, walking: WalkOptions = {}) {
    const folder = yield* parsed(path)
    const after = yield* walkCursor(walking.cursor)
    return yield* permits.withPermit(reading(folder, folder, (held) => TreeWalk.walk(held, after, walking, folders)))
  })

  const count = Effect.fn("FileTree.usage")(function* (path: string) {
    const target = yield* parsed(path)
    const name = target.at(-1)
    return yield* counts.withPermit(
      name === undefined
        ? reading(target, target, (held, signal) => TreeWalk.usage(held, { signal }))
        : reading(target, target.slice(0, -1), (held, signal) => TreeWalk.usageOf(held, name, { signal }))
    )
  })

  const changing: Effect.Effect<void, FilesError> =
    options.readOnly === true ? Effect.fail(failure("ReadOnly", [])) : Effect.void

  let countedMs: number | undefined
  /** Counts what the quota limits, and deletes parts past their time. */
  const recount = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    attempt([], async (signal) => {
      const { bytes, files } = await within(base, [], (root) =>
        TreeWalk.usage(root, { signal, onFolder: writers.sweep })
      )
      usage.set(bytes, files)
      countedMs = now
    })
  )
  const counting = yield* Semaphore.make(1)
  const counted: Effect.Effect<void, FilesError> = usage.isLimited
    ? counting.withPermit(
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          countedMs !== undefined && now - countedMs < RECOUNT_MS ? Effect.void : recount
        )
      )
    : Effect.void

  /** One more open file, until the scope closes. */
  const slot = (path: RemotePath.RemotePath) =>
    Effect.acquireRelease(
      Effect.suspend(() => {
        if (opened.count >= maxOpen) return Effect.fail(failure("Busy", path))
        opened.count++
        return Effect.void
      }),
      () => Effect.sync(() => opened.count--)
    )

  const openFile = Effect.fn("FileTree.open")(function* (path: string) {
    const target = yield* parsed(path)
    yield* slot(target)
    return yield* Effect.acquireRelease(
      attempt(target, () => FileReader.open(base, target)),
      ({ close }) => Effect.promise(close)
    ).pipe(Effect.map(({ reader }): Reader => reader))
  })

  const write = Effect.fn("FileTree.write")(function* (path: string, writing: WriteOptions) {
    const { parsed: target } = yield* named(path)
    yield* changing
    yield* counted
    yield* slot(target)
    const writer = yield* Effect.acquireRelease(
      attempt(target, () => writers.begin(target, writing)),
      (writer) => Effect.promise(() => writer.close())
    )
    return {
      resumed: writer.resumed,
      length: () => writer.length,
      blocks: () => writer.blocks,
      append: (bytes) => attempt(target, () => writer.append(bytes)),
      commit: attempt(target, () => writer.commit()),
      abort: Effect.promise(() => writer.abort())
    } satisfies Writer
  })

  /** Does with the good of many paths at once; each bad one has its failure. */
  const many = Effect.fnUntraced(function* <A, B>(
    all: ReadonlyArray<A>,
    pathOf: (each: A) => string,
    run: (
      good: ReadonlyArray<{ readonly path: RemotePath.RemotePath; readonly each: A }>
    ) => Promise<ReadonlyArray<Result.Result<B, FilesError>>>
  ) {
    const paths = all.map((each) => checked(pathOf(each)))
    const good = paths.flatMap((path, i) => (Result.isSuccess(path) ? [{ path: path.success, each: all[i] as A }] : []))
    const done = yield* Effect.promise(() => run(good))
    let next = 0
    return paths.map(
      (path, i): Result.Result<B, FilesError> =>
        Result.isFailure(path) ? Result.fail(path.failure) : (done[next++] ?? Result.fail(failure("Io", [String(i)])))
    )
  })

  const readSmall = Effect.fn("FileTree.readSmall")(function* (paths: ReadonlyArray<string>, longest: number) {
    return yield* many<string, SmallRead>(
      paths,
      (path) => path,
      (good) =>
        SmallReads.read(
          base,
          good.map(({ path }) => path),
          Math.min(longest, MAX_READ_LENGTH)
        )
    )
  })

  const writeSmall = Effect.fn("FileTree.writeSmall")(function* (files: ReadonlyArray<SmallFile>) {
    const allowed = yield* Effect.result(Effect.andThen(changing, counted))
    return yield* many<SmallFile, Stat>(
      files,
      ({ path }) => path,
      async (good) =>
        Result.isFailure(allowed)
          ? good.map(() => Result.fail(allowed.failure))
          : SmallWrites.write(
              base,
              good.map(({ each, path }) => ({ path, file: each })),
              usage
            )
    )
  })

  const touch = Effect.fn("FileTree.touch")(function* (path: string, to: TouchOptions) {
    const target = yield* parsed(path)
    yield* changing
    yield* slot(target)
    return yield* attempt(target, () => Touching.touch(base, target, to))
  }, Effect.scoped)

  const mkdir = Effect.fn("FileTree.mkdir")(function* (path: string, making: { readonly parents?: boolean } = {}) {
    const parents = making.parents === true
    if (parents && (yield* parsed(path)).length === 0) return yield* stat(path)
    const { name, parent, parsed: target } = yield* named(path)
    yield* changing
    return yield* attempt(target, () =>
      within(
        base,
        parent,
        async (folder) => {
          await ensureInside(folder, target)
          await FsPromises.mkdir(`${folder.at}/${name}`, 0o777).catch(async (cause: unknown) => {
            const there = parents ? await orAbsent(FsPromises.lstat(`${folder.at}/${name}`)) : undefined
            if (there?.isDirectory() !== true) throw cause
          })
          await folder.sync()
          return statAt(folder, name, target)
        },
        parents ? 0o777 : undefined
      )
    )
  })

  const remove = Effect.fn("FileTree.remove")(function* (path: string, removing: RemoveOptions = {}) {
    const { name, parent, parsed: target } = yield* named(path)
    yield* changing
    yield* counted
    yield* attempt(target, () =>
      within(base, parent, async (folder) => {
        await ensureInside(folder, target)
        const at = `${folder.at}/${name}`
        const stats = await FsPromises.lstat(at)
        if (stats.isDirectory() && removing.recursive !== true) {
          const inner = await folder.enter(name)
          const { names, reserved, unnamed } = await readNames(inner, target).finally(() => inner.close())
          if (names.length + reserved.length + unnamed > 0) throw failure("Exists", target, "this folder is not empty")
        }
        if (removing.forever === true) {
          const { bytes, files } = usage.isLimited ? await TreeWalk.usageOf(folder, name) : { bytes: 0, files: 0 }
          await TreeWalk.deleteTree(folder, name, target)
          await folder.sync()
          usage.add(-bytes, -files)
        } else {
          const { bytes, files } = await trash.add(folder, name, target, FileFacts.kindOf(stats))
          usage.add(-bytes, -files)
        }
      })
    )
  })

  const move = Effect.fn("FileTree.move")(function* (from: string, to: string, moving: MoveOptions = {}) {
    const source = yield* named(from)
    const target = yield* named(to)
    yield* changing
    return yield* attempt(source.parsed, () =>
      Moving.move(base, source.parsed, target.parsed, moving.conflict ?? "fail", (replaced) => usage.add(-replaced, -1))
    )
  })

  const copy = Effect.fn("FileTree.copy")(function* (
    from: string,
    to: string,
    { conflict = "fail" }: MoveOptions = {}
  ) {
    const source = yield* named(from)
    const target = yield* named(to)
    yield* changing
    return yield* Copying.copy({ open: openFile, write, mkdir, walk, stat }, source.parsed, target.parsed, conflict)
  })

  const restore = Effect.fn("FileTree.restore")(function* (id: string, to?: string) {
    yield* changing
    const found = yield* attempt([], () => trash.find(id))
    if (found === undefined) return yield* failure("NotFound", [], "nothing in the trash has this id")
    const { name, parent, parsed: target } = yield* named(to ?? found.path)
    yield* counted
    return yield* attempt(target, () =>
      within(
        base,
        parent,
        async (folder) => {
          await ensureInside(folder, target)
          const { bytes, files } = await trash.restore(id, folder, name, target)
          usage.add(bytes, files)
          return statAt(folder, name, target)
        },
        0o777
      )
    )
  })

  return {
    list,
    stat,
    walk,
    usage: count,
    open: openFile,
    readSmall,
    write,
    writeSmall,
    touch,
    mkdir,
    remove,
    move,
    copy,
    trash: attempt([], () => trash.list()),
    restore,
    emptyTrash: Effect.fn("FileTree.emptyTrash")(function* (id?: string) {
      yield* changing
      return yield* attempt([], () => trash.empty(id))
    }),
    free: Effect.andThen(
      counted,
      attempt([], async () => Math.max(0, Math.min(usage.left, await Writers.freeIn(base.root))))
    ),
    sweep:
      options.readOnly === true
        ? Effect.void
        : Effect.andThen(
            recount,
            attempt([], () => trash.sweep())
          )
  }
})

/** The server's tree. */
export const layer = (options: Options): Layer.Layer<RemoteFiles, FilesError> =>
  Layer.effect(
    RemoteFiles,
    Effect.gen(function* () {
      const tree = yield* make(options)
      const sweep = Effect.catch(tree.sweep, (error) => Effect.logWarning(`files: ${error.message}`))
      if (options.sweeps === true) yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(DAY_MS)))
      return tree
    })
  )
