/** Going through trees, folder by held folder; links are never followed. */
import * as FsPromises from "node:fs/promises"
import { Found, MAX_DEPTH, MAX_PAGE_LENGTH, Usage, Walk } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import { failure, isReserved, type WalkOptions } from "../services/FileTree.ts"
import { facts } from "./FileFacts.ts"
import type { FolderNames } from "./FolderNames.ts"
import { decodeName, type Folder, pathAt, rawNames } from "./HeldFolders.ts"
import { codeOf, ignore, orAbsent } from "./HostErrors.ts"

/** Entries that one page looks at. */
const MAX_LOOKS = 20_000
/** Names removed at a time: a folder is read again after so many. */
const REMOVALS = 1000
/** Folders held at once while a tree is deleted. */
const MAX_DELETE_DEPTH = 400
/** Names of the store's own in one folder that are looked at. */
const MAX_RESERVED = 10_000
/** Folders that a page names because they could not be read. */
const MAX_UNREAD = 100

interface Going {
  readonly folders: FolderNames
  readonly limit: number
  readonly depth: number
  readonly keep: NonNullable<WalkOptions["keep"]>
  readonly entries: Array<Found>
  readonly unread: Array<string>
  unnamed: number
  looks: number
  /** Where the page ended. */
  last: ReadonlyArray<string> | undefined
}

const isFull = (going: Going): boolean => going.entries.length >= going.limit || going.looks >= MAX_LOOKS

/** Goes on after `after` (components below `folder`); true where the page is full. */
const visit = async (
  folder: Folder,
  path: ReadonlyArray<string>,
  after: ReadonlyArray<string>,
  going: Going
): Promise<boolean> => {
  const [from, ...rest] = after
  const { names, unnamed } = await going.folders.of(folder, path, from !== undefined)
  // Counted where the folder is first read.
  if (from === undefined) going.unnamed += unnamed
  for (const name of names) {
    if (from !== undefined && name < from) continue
    const here = [...path, name]
    const begun = name === from
    if (!begun && isFull(going)) return true
    const stats = await orAbsent(FsPromises.lstat(`${folder.at}/${name}`))
    if (stats === undefined) continue
    const shown = here.join("/")
    if (!begun) {
      going.looks++
      going.last = here
      const described = facts(stats)
      if (going.keep(shown, described.kind)) going.entries.push(new Found({ path: shown, ...described }))
    }
    if (!stats.isDirectory() || here.length >= going.depth) continue
    const inner = here.length >= MAX_DEPTH ? undefined : await folder.enter(name).catch(ignore)
    if (inner === undefined) {
      if (going.unread.length < MAX_UNREAD) going.unread.push(shown)
      continue
    }
    try {
      if (await visit(inner, here, begun ? rest : [], going)) return true
    } catch (cause) {
      if (going.unread.length < MAX_UNREAD && codeOf(cause) !== "ENOENT") going.unread.push(shown)
    } finally {
      await inner.close()
    }
  }
  return false
}

/** One page of a tree, from behind `after`; the cursor is the last path looked at. */
export const walk = async (
  folder: Folder,
  after: RemotePath.RemotePath,
  options: WalkOptions,
  folders: FolderNames
): Promise<Walk> => {
  const going: Going = {
    folders,
    limit: Math.min(Math.max(1, Math.trunc(options.limit ?? MAX_PAGE_LENGTH) || 1), MAX_PAGE_LENGTH),
    depth: Math.min(Math.max(1, Math.trunc(options.depth ?? MAX_DEPTH) || 1), MAX_DEPTH),
    keep: options.keep ?? (() => true),
    entries: [],
    unread: [],
    unnamed: 0,
    looks: 0,
    last: undefined
  }
  const more = await visit(folder, [], after, going)
  const { entries, last, unnamed, unread } = going
  return new Walk({ entries, unnamed, unread, ...(more && last !== undefined ? { cursor: last.join("/") } : {}) })
}

export interface CountOptions {
  /** Ends the count early, with an error. */
  readonly signal?: AbortSignal
  /** Called with each folder and the store's own names in it; gives the bytes that these take. */
  readonly onFolder?: (folder: Folder, reserved: ReadonlyArray<string>) => Promise<number>
}

interface Counts {
  bytes: number
  files: number
  folders: number
  others: number
  unread: number
}

const count = async (folder: Folder, depth: number, counts: Counts, options: CountOptions): Promise<void> => {
  const reserved: Array<string> = []
  // One by one, as the disk has them: a folder too long to be listed, or a name that no path can say, counts as well.
  for await (const raw of rawNames(folder.at)) {
    options.signal?.throwIfAborted()
    const name = typeof raw === "string" ? raw : decodeName(raw)
    if (name !== undefined && isReserved(name)) {
      if (reserved.length < MAX_RESERVED) reserved.push(name)
      continue
    }
    const stats = await orAbsent(FsPromises.lstat(pathAt(folder.at, name ?? raw)))
    if (stats === undefined) continue
    if (stats.isFile()) {
      counts.files++
      counts.bytes += stats.size
    } else if (stats.isDirectory()) {
      counts.folders++
      const inner = depth >= MAX_DEPTH ? undefined : await folder.enter(name ?? raw).catch(ignore)
      if (inner === undefined) counts.unread++
      else {
        await count(inner, depth + 1, counts, options)
          .catch((cause: unknown) => {
            if (options.signal?.aborted === true) throw cause
            counts.unread++
          })
          .finally(() => inner.close())
      }
    } else counts.others++
  }
  if (options.onFolder !== undefined) counts.bytes += await options.onFolder(folder, reserved)
}

/** Counts what a folder holds. */
export const usage = async (folder: Folder, options: CountOptions = {}): Promise<Usage> => {
  const counts: Counts = { bytes: 0, files: 0, folders: 0, others: 0, unread: 0 }
  await count(folder, 1, counts, options)
  return new Usage(counts)
}

/** Counts what stands at a name. */
export const usageOf = async (folder: Folder, name: string, options: CountOptions = {}): Promise<Usage> => {
  const stats = await FsPromises.lstat(`${folder.at}/${name}`)
  if (!stats.isDirectory()) {
    const file = stats.isFile()
    return new Usage({ bytes: file ? stats.size : 0, files: file ? 1 : 0, folders: 0, others: file ? 0 : 1, unread: 0 })
  }
  const inner = await folder.enter(name)
  const inside = await usage(inner, options).finally(() => inner.close())
  return new Usage({ ...inside, folders: inside.folders + 1 })
}

const isFolder = (at: string | Buffer): Promise<boolean> =>
  FsPromises.lstat(at).then(
    (stats) => stats.isDirectory(),
    () => false
  )

const clear = async (folder: Folder, depth: number, path: RemotePath.RemotePath): Promise<void> => {
  if (depth > MAX_DELETE_DEPTH) throw failure("TooMany", path)
  for (;;) {
    const batch: Array<Uint8Array | string> = []
    for await (const name of rawNames(folder.at)) {
      batch.push(name)
      if (batch.length >= REMOVALS) break
    }
    if (batch.length === 0) return
    for (const name of batch) {
      // Bytes, as names that no path can say go too.
      const at = pathAt(folder.at, name)
      if (!(await isFolder(at))) await orAbsent(FsPromises.unlink(at))
      else {
        const inner = await folder.enter(name)
        await clear(inner, depth + 1, path).finally(() => inner.close())
        await orAbsent(FsPromises.rmdir(at))
      }
    }
  }
}

/** Deletes what stands at a name, with all it holds. `path` is named in errors. */
export const deleteTree = async (folder: Folder, name: string, path: RemotePath.RemotePath): Promise<void> => {
  const at = `${folder.at}/${name}`
  if (!(await isFolder(at))) return FsPromises.unlink(at)
  const inner = await folder.enter(name)
  await clear(inner, 1, path).finally(() => inner.close())
  await FsPromises.rmdir(at)
}
