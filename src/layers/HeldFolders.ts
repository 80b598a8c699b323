/**
 * Folders below a base, held while they are used.
 *
 * With /proc (Linux) every walk goes by descriptors: the base is opened once, each folder below it through
 * `/proc/self/fd/<fd>/<name>` with O_NOFOLLOW, and names are used through the last descriptor. Names are looked up in
 * folders that are held open, so no rename or link planted meanwhile can lead elsewhere. A held folder that was itself
 * moved out of the base no longer is `isInside`.
 *
 * Elsewhere each component is looked at with lstat and the real path is compared when `isInside` is asked. That stops
 * every link that stands still; a program on the same host that swaps links at the right moment can still win.
 */
import type * as Fs from "node:fs"
import { constants } from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as NodePath from "node:path"
import { FilesError, MAX_FOLDER_LENGTH } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { failure, isReserved } from "../services/FileTree.ts"
import * as Folders from "./Folders.ts"
import { codeOf, ignore } from "./HostErrors.ts"

/** A folder on the disk while it is used. */
export interface Folder {
  /** A path that means this folder until it is closed. */
  readonly at: string
  /** Opens a folder in it by name, or by the bytes of one that is not UTF-8; fails for links. */
  readonly enter: (name: string | Uint8Array) => Promise<Folder>
  /** Whether it still lies below the base. */
  readonly isInside: () => Promise<boolean>
  /** Makes the names in it durable. */
  readonly sync: () => Promise<void>
  readonly close: () => Promise<void>
}

export interface Base {
  readonly root: Folder
  /** Whether walks go by descriptors. */
  readonly held: boolean
}

/** Never through a link, never waiting for the other end of a FIFO. Zero where the host knows neither. */
export const SAFE = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)
const FOLDER_FLAGS = constants.O_RDONLY | (constants.O_DIRECTORY ?? 0) | SAFE

const isBelow = (base: string, path: string): boolean => {
  const relative = NodePath.relative(base, path)
  return (
    relative === "" || !(relative === ".." || relative.startsWith(`..${NodePath.sep}`) || NodePath.isAbsolute(relative))
  )
}

const compare = (base: Promise<string>, path: Promise<string>): Promise<boolean> =>
  Promise.all([base, path]).then(
    ([base, path]) => isBelow(base, path),
    () => false
  )

/** A path to a name as the disk has it. */
export const pathAt = (at: string, name: Uint8Array | string): string | Buffer =>
  typeof name === "string" ? `${at}/${name}` : Buffer.concat([Buffer.from(`${at}/`), name])

const byDescriptor = (handle: FsPromises.FileHandle, base: FsPromises.FileHandle): Folder => {
  const at = `/proc/self/fd/${handle.fd}`
  return {
    at,
    enter: async (name) => byDescriptor(await FsPromises.open(pathAt(at, name), FOLDER_FLAGS), base),
    isInside: () => compare(FsPromises.readlink(`/proc/self/fd/${base.fd}`), FsPromises.readlink(at)),
    sync: () => handle.sync(),
    close: () => (handle === base ? Promise.resolve() : handle.close().catch(ignore))
  }
}

const byPath = (at: string, base: string): Folder => ({
  at,
  enter: async (name) => {
    const text = typeof name === "string" ? name : decodeName(name)
    if (text === undefined) throw Object.assign(new Error("no path says this name"), { code: "ENOTSUP" })
    const next = NodePath.join(at, text)
    const stats = await FsPromises.lstat(next)
    if (!stats.isDirectory()) throw Object.assign(new Error("not a folder"), { code: "ENOTDIR" })
    return byPath(next, base)
  },
  isInside: () => compare(FsPromises.realpath(base), FsPromises.realpath(at)),
  sync: async () => {
    if (process.platform === "win32") return
    const handle = await FsPromises.open(at, FOLDER_FLAGS)
    await handle.sync().finally(() => handle.close())
  },
  close: () => Promise.resolve()
})

/** Whether /proc leads back to what a descriptor holds: not in a chroot without it, nor on other systems. */
const leadsBack = (handle: FsPromises.FileHandle): Promise<boolean> =>
  Promise.all([handle.stat({ bigint: true }), FsPromises.stat(`/proc/self/fd/${handle.fd}/.`, { bigint: true })]).then(
    ([held, found]) => held.dev === found.dev && held.ino === found.ino,
    () => false
  )

/**
 * Opens a base; links on the way to it are followed, once. `make` makes it (0700) when it is missing. `byPaths` walks by
 * paths even where descriptors would do. Fails with a FilesError that does not name the place.
 */
export const openBase = async (options: {
  readonly base: string
  readonly make: boolean
  readonly byPaths: boolean
}): Promise<{ readonly base: Base; readonly close: () => Promise<void> }> => {
  try {
    if (options.make) Folders.make(options.base)
    const real = await FsPromises.realpath(options.base)
    await (await FsPromises.opendir(real)).close()
    const paths = { base: { root: byPath(real, real), held: false }, close: () => Promise.resolve() }
    if (process.platform === "win32" || options.byPaths) return paths
    const handle = await FsPromises.open(real, FOLDER_FLAGS)
    const close = () => handle.close().catch(ignore)
    if (await leadsBack(handle)) return { base: { root: byDescriptor(handle, handle), held: true }, close }
    await close()
    return paths
  } catch (cause) {
    const code = codeOf(cause)
    throw new FilesError({
      reason: code === "EACCES" ? "Denied" : code === "ENOENT" ? "NotFound" : "NotAFolder",
      message: `the base path is not a folder that can be read (${code || "unknown"})`
    })
  }
}

/**
 * Opens a folder below the base. With `mode` the missing ones on the way are made, masked by the umask, and durable. The
 * caller closes it.
 */
export const open = async (base: Base, path: RemotePath.RemotePath, mode?: number): Promise<Folder> => {
  let folder = base.root
  for (const name of path) {
    const parent = folder
    try {
      folder = await parent.enter(name).catch(async (cause: unknown) => {
        if (mode === undefined || codeOf(cause) !== "ENOENT" || !(await parent.isInside())) throw cause
        await FsPromises.mkdir(`${parent.at}/${name}`, mode).catch((cause: unknown) => {
          if (codeOf(cause) !== "EEXIST") throw cause
        })
        await parent.sync()
        return parent.enter(name)
      })
    } finally {
      await parent.close()
    }
  }
  return folder
}

/** Opens a folder as `open` does, uses it and closes it. */
export const within = async <A>(
  base: Base,
  path: RemotePath.RemotePath,
  use: (folder: Folder) => Promise<A>,
  mode?: number
): Promise<A> => {
  const folder = await open(base, path, mode)
  try {
    return await use(folder)
  } finally {
    await folder.close()
  }
}

/** Fails with `NotFound` for `path` once a folder lies outside the base. */
export const ensureInside = async (folder: Folder, path: RemotePath.RemotePath): Promise<void> => {
  if (!(await folder.isInside())) throw failure("NotFound", path)
}

export interface Names {
  /** Names that a path can say, in the order of the disk. */
  readonly names: Array<string>
  /** How many no path can say. */
  readonly unnamed: number
  /** The store's own. */
  readonly reserved: Array<string>
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** A name as text; undefined where it is not UTF-8. */
export const decodeName = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch (_) {
    return undefined
  }
}

/** All names in a folder as the disk has them, in pieces; a name decoded with losses would stand for another file. */
export async function* rawNames(at: string): AsyncGenerator<Uint8Array | string> {
  const options: Fs.OpenDirOptions = { bufferSize: 256 }
  // Node gives names as buffers here, though its types do not say so.
  Object.assign(options, { encoding: "buffer" })
  for await (const entry of await FsPromises.opendir(at, options)) {
    const raw: unknown = entry.name
    yield raw instanceof Uint8Array ? raw : entry.name
  }
}

/** Names in a folder; fails with `TooMany` beyond `MAX_FOLDER_LENGTH`. */
export const readNames = async (folder: Folder, path: RemotePath.RemotePath): Promise<Names> => {
  const names: Array<string> = []
  const reserved: Array<string> = []
  let unnamed = 0
  for await (const raw of rawNames(folder.at)) {
    if (names.length + unnamed >= MAX_FOLDER_LENGTH) throw failure("TooMany", path)
    const name = typeof raw === "string" ? raw : decodeName(raw)
    if (name === undefined || !RemotePath.isName(name)) unnamed++
    else if (isReserved(name)) reserved.push(name)
    else names.push(name)
  }
  return { names, unnamed, reserved }
}

const compareNames = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
/** Names in order of their UTF-16 code units. */
export const sorted = (names: ReadonlyArray<string>): Array<string> => [...names].sort(compareNames)
