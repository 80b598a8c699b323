/**
 * The base path on this host's disk.
 *
 * With /proc (Linux) every operation walks by descriptors: the base is opened once, each folder below it through
 * `/proc/self/fd/<fd>/<name>` with O_NOFOLLOW, and what is read is read through the last descriptor. Names are looked up
 * in folders that are held open, so no rename or link planted meanwhile can lead elsewhere. Nothing read is given away
 * from a held folder that was itself moved out of the base and still is out when the reading is done.
 *
 * Elsewhere each component is looked at with lstat and the real path is compared after reading. That stops every link
 * that stands still; a program on the same host that swaps links at the right moment can still win.
 *
 * Leaves are never opened, only lstat is asked, so a FIFO or a device cannot block. A hard link is the file itself: who
 * may put one below the base has shared that file.
 */
import type * as Fs from "node:fs"
import { constants } from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as NodePath from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { Entry, FilesError, MAX_FOLDER_LENGTH, Page, Stat, slice } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { checkCursor, failure, type ListOptions, parsePath, RemoteFiles } from "../services/RemoteFiles.ts"
import * as Folders from "./Folders.ts"

export interface Options {
  /** Absolute; links on the way to it are followed, once, at the start. Made (0700) when missing. */
  readonly base: string
  /** Walk by paths even where descriptors would do. */
  readonly byPaths?: boolean
}

/** A folder on the disk while it is used. */
interface Folder {
  /** A path that means this folder as long as the scope is open. */
  readonly path: string
  /** Whether it still lies below the base. */
  readonly isInside: Effect.Effect<boolean>
}

type Open = (path: RemotePath.RemotePath) => Effect.Effect<Folder, FilesError, Scope.Scope>

/** Operations at a time: listings hold whole folders in memory. */
const CONCURRENCY = 4
/** lstat calls at a time within a listing. */
const LOOKS = 16
const FOLDER_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" ? cause.code : ""

const attempt = <A>(path: RemotePath.RemotePath, run: () => Promise<A>): Effect.Effect<A, FilesError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => {
      switch (codeOf(cause)) {
        case "ENOENT":
        case "ENAMETOOLONG":
        case "EINVAL":
          return failure("NotFound", path)
        case "ENOTDIR":
        case "ELOOP":
        case "EMLINK":
          return failure("NotAFolder", path)
        case "EACCES":
        case "EPERM":
          return failure("Denied", path)
        default:
          return failure("Io", path)
      }
    }
  })

const openHandle = (path: RemotePath.RemotePath, at: string) =>
  Effect.acquireRelease(
    attempt(path, () => FsPromises.open(at, FOLDER_FLAGS)),
    (handle) => Effect.promise(() => handle.close().catch(() => {}))
  )

const isBelow = (base: string, path: string): boolean => {
  const relative = NodePath.relative(base, path)
  return (
    relative === "" || !(relative === ".." || relative.startsWith(`..${NodePath.sep}`) || NodePath.isAbsolute(relative))
  )
}

const inside = (base: () => Promise<string>, path: () => Promise<string>): Effect.Effect<boolean> =>
  Effect.promise(() =>
    Promise.all([base(), path()]).then(
      ([base, path]) => isBelow(base, path),
      () => false
    )
  )

const openByDescriptors =
  (base: FsPromises.FileHandle): Open =>
  (path) =>
    Effect.gen(function* () {
      let fd = base.fd
      for (const name of path) fd = (yield* openHandle(path, `/proc/self/fd/${fd}/${name}`)).fd
      const at = `/proc/self/fd/${fd}`
      const isInside = inside(
        () => FsPromises.readlink(`/proc/self/fd/${base.fd}`),
        () => FsPromises.readlink(at)
      )
      return { path: at, isInside }
    })

const openByPaths =
  (base: string): Open =>
  (path) =>
    Effect.gen(function* () {
      let at = base
      for (const name of path) {
        at = NodePath.join(at, name)
        const stats = yield* attempt(path, () => FsPromises.lstat(at))
        if (!stats.isDirectory()) return yield* failure("NotAFolder", path)
      }
      const isInside = inside(
        () => FsPromises.realpath(base),
        () => FsPromises.realpath(at)
      )
      return { path: at, isInside }
    })

/** Whether /proc leads back to what a descriptor holds: not in a chroot without it, nor on other systems. */
const leadsBack = (handle: FsPromises.FileHandle): Promise<boolean> =>
  Promise.all([handle.stat({ bigint: true }), FsPromises.stat(`/proc/self/fd/${handle.fd}/.`, { bigint: true })]).then(
    ([held, found]) => held.dev === found.dev && held.ino === found.ino,
    () => false
  )

/** Names in a folder, those that no path can say counted only. */
const readNames = async (
  folder: string
): Promise<{ readonly names: Array<string>; readonly unnamed: number } | "TooMany"> => {
  const names: Array<string> = []
  let unnamed = 0
  // Node gives names as buffers here, though its types do not say so: a name decoded with losses would stand for another file.
  const options: Fs.OpenDirOptions = { bufferSize: 256 }
  Object.assign(options, { encoding: "buffer" })
  for await (const entry of await FsPromises.opendir(folder, options)) {
    if (names.length + unnamed >= MAX_FOLDER_LENGTH) return "TooMany"
    const raw: unknown = entry.name
    const name = raw instanceof Uint8Array ? decodeName(raw) : entry.name
    if (name !== undefined && RemotePath.isName(name)) names.push(name)
    else unnamed++
  }
  return { names, unnamed }
}

const decodeName = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch (_) {
    return undefined
  }
}

const facts = (stats: Fs.Stats) => {
  const kind = stats.isFile() ? "file" : stats.isDirectory() ? "folder" : stats.isSymbolicLink() ? "link" : "other"
  return {
    kind,
    // A link's size would tell the length of the path it points to.
    size: kind === "file" ? stats.size : 0,
    mtimeMs: Math.floor(stats.mtimeMs),
    mode: stats.mode & 0o777
  } as const
}

const refuseUnportable = (path: RemotePath.RemotePath): Effect.Effect<void, FilesError> =>
  process.platform !== "win32" || path.every(RemotePath.isPortable)
    ? Effect.void
    : Effect.fail(
        new FilesError({ reason: "BadName", message: "this path is refused: the server's system reserves such names" })
      )

const openBase = (options: Options) =>
  Effect.gen(function* () {
    const complain = (cause: unknown) =>
      new FilesError({
        reason: codeOf(cause) === "EACCES" ? "Denied" : "NotAFolder",
        message: `the base path is not a folder that can be read (${codeOf(cause) || "unknown"})`
      })
    const base = yield* Effect.tryPromise({
      try: async () => {
        Folders.make(options.base)
        const real = await FsPromises.realpath(options.base)
        await (await FsPromises.opendir(real)).close()
        return real
      },
      catch: complain
    })
    if (process.platform === "win32" || options.byPaths === true) return openByPaths(base)
    const handle = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => FsPromises.open(base, FOLDER_FLAGS), catch: complain }),
      (handle) => Effect.promise(() => handle.close().catch(() => {}))
    )
    return (yield* Effect.promise(() => leadsBack(handle))) ? openByDescriptors(handle) : openByPaths(base)
  })

const make = (options: Options) =>
  Effect.gen(function* () {
    const open = yield* openBase(options)
    const permits = yield* Semaphore.make(CONCURRENCY)

    /** Opens a folder, reads in it, and gives the outcome away only if the folder is where it was asked for. */
    const within = <A>(
      path: RemotePath.RemotePath,
      folder: RemotePath.RemotePath,
      read: (at: string) => Effect.Effect<A, FilesError>
    ) =>
      open(folder).pipe(
        Effect.flatMap((opened) =>
          Effect.result(read(opened.path)).pipe(
            Effect.tap(() =>
              Effect.flatMap(opened.isInside, (inside) =>
                inside ? Effect.void : Effect.fail(failure("NotFound", path))
              )
            )
          )
        ),
        Effect.flatMap(Effect.fromResult),
        Effect.mapError((error) => (error.reason === "BadName" ? error : failure(error.reason, path))),
        Effect.scoped,
        permits.withPermit
      )

    const list = Effect.fn("RemoteFiles.list")(function* (path: string, { cursor, limit }: ListOptions = {}) {
      const parsed = yield* parsePath(path)
      yield* refuseUnportable(parsed)
      yield* checkCursor(cursor)
      return yield* within(parsed, parsed, (at) =>
        Effect.gen(function* () {
          const read = yield* attempt(parsed, () => readNames(at))
          if (read === "TooMany") return yield* failure("TooMany", parsed)
          const page = slice(read.names, cursor, limit)
          const entries = yield* Effect.forEach(
            page.names,
            (name) =>
              attempt(parsed, () => FsPromises.lstat(`${at}/${name}`)).pipe(
                Effect.map((stats) => [new Entry({ name, ...facts(stats) })]),
                // Gone since the folder was read.
                Effect.catch((error) => (error.reason === "NotFound" ? Effect.succeed([]) : Effect.fail(error)))
              ),
            { concurrency: LOOKS }
          )
          return new Page({
            entries: entries.flat(),
            unnamed: read.unnamed,
            ...(page.cursor === undefined ? {} : { cursor: page.cursor })
          })
        })
      )
    })

    const stat = Effect.fn("RemoteFiles.stat")(function* (path: string) {
      const parsed = yield* parsePath(path)
      yield* refuseUnportable(parsed)
      const leaf = parsed.at(-1) ?? "."
      const stats = yield* within(parsed, parsed.slice(0, -1), (at) =>
        attempt(parsed, () => FsPromises.lstat(`${at}/${leaf}`))
      )
      return new Stat({ path: RemotePath.format(parsed), ...facts(stats) })
    })

    return { list, stat }
  })

/** Fails with one line when the base cannot be made or read. */
export const layer = (options: Options): Layer.Layer<RemoteFiles, FilesError> =>
  Layer.effect(RemoteFiles, make(options))
