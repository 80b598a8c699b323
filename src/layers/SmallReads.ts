/**
 * Many small files at once. Their calls are the blocking ones, some tens of microseconds a file where the pool would take a
 * millisecond; nobody else waits for them longer than a turn. A disk that takes a turn for a file or two is asked through the
 * pool from there on.
 */
import * as Fs from "node:fs"
import { performance } from "node:perf_hooks"
import { setImmediate } from "node:timers/promises"
import * as Result from "effect/Result"
import type { FilesError } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { failure, type SmallRead } from "../services/FileTree.ts"
import { facts, versionOf } from "./FileFacts.ts"
import * as FileReader from "./FileReader.ts"
import { type Base, ensureInside, type Folder, open, SAFE } from "./HeldFolders.ts"
import { fromCause, ignore } from "./HostErrors.ts"

/** Milliseconds that a turn lasts, when it is over with the file that it is at. */
const TURN_MS = 3
/** Files in a whole turn: the disk that reads fewer is a slow one. */
const SLOW = 3
/** Files that wait for a slow disk at a time. */
const AT_ONCE = 8

const NOTHING = new Uint8Array(0)

/** All of a file that is `size` bytes long. */
const readAll = (fd: number, size: number, path: RemotePath.RemotePath): Uint8Array => {
  if (size === 0) return NOTHING
  // Not zeroed, but filled: short ones share a buffer, each has its own part.
  const { buffer, byteOffset } = Buffer.allocUnsafe(size)
  const bytes = new Uint8Array(buffer, byteOffset, size)
  for (let done = 0; done < size; ) {
    const length = Fs.readSync(fd, bytes, done, size - done, done)
    if (length === 0) throw failure("Changed", path, "it became shorter while it was read")
    done += length
  }
  return bytes
}

const readOne = (folder: Folder, path: RemotePath.RemotePath, longest: number): SmallRead => {
  const at = `${folder.at}/${path.at(-1) ?? "."}`
  const looked = Fs.lstatSync(at, { bigint: true })
  // Not opened to find out: opening a device can do things.
  if (!looked.isFile()) throw failure("NotAFile", path)
  const fd = Fs.openSync(at, Fs.constants.O_RDONLY | SAFE)
  try {
    const stats = Fs.fstatSync(fd, { bigint: true })
    if (stats.dev !== looked.dev || stats.ino !== looked.ino) throw failure("Changed", path)
    const { mode, mtimeMs, size } = facts(stats)
    const about = { path: RemotePath.format(path), size, mtimeMs, mode, version: versionOf(stats) }
    if (size > longest) return { ...about, bytes: undefined }
    const bytes = readAll(fd, size, path)
    const isEmpty = size > 0 || Fs.readSync(fd, new Uint8Array(1)) === 0
    FileReader.ensureSame(stats, Fs.fstatSync(fd, { bigint: true }), path)
    if (!isEmpty) throw FileReader.lengthless(path)
    return { ...about, bytes }
  } finally {
    Fs.closeSync(fd)
  }
}

/** The same by way of the pool. */
const readSlowly = async (base: Base, path: RemotePath.RemotePath, longest: number): Promise<SmallRead> => {
  const { close, read, reader } = await FileReader.open(base, path)
  try {
    const { mode, mtimeMs, size, version } = reader
    const about = { path: reader.path, size, mtimeMs, mode, version }
    return size > longest ? { ...about, bytes: undefined } : { ...about, bytes: await read(0, size) }
  } finally {
    await close()
  }
}

type Outcome = Result.Result<SmallRead, FilesError>

/** Reads from one folder until its files are through, or the disk is found to be slow; how many of them are done. */
const readFolder = async (
  base: Base,
  paths: ReadonlyArray<RemotePath.RemotePath>,
  longest: number,
  now: () => number,
  outcomes: Map<RemotePath.RemotePath, Outcome>
): Promise<number> => {
  const folderPath = paths[0]?.slice(0, -1) ?? []
  let folder: Folder
  try {
    folder = await open(base, folderPath)
  } catch (cause) {
    for (const path of paths) outcomes.set(path, Result.fail(fromCause(path, cause)))
    return paths.length
  }
  let next = 0
  try {
    while (next < paths.length) {
      const first = next
      const start = now()
      for (let path = paths[next]; path !== undefined; path = paths[next]) {
        try {
          outcomes.set(path, Result.succeed(readOne(folder, path, longest)))
        } catch (cause) {
          outcomes.set(path, Result.fail(fromCause(path, cause)))
        }
        next++
        if (now() - start >= TURN_MS) break
      }
      const read = paths.slice(first, next)
      // What was read in a folder that had been moved elsewhere is nobody's.
      await ensureInside(folder, folderPath).catch((cause: unknown) => {
        for (const path of read) outcomes.set(path, Result.fail(fromCause(path, cause)))
      })
      if (next < paths.length && read.length < SLOW) break
      await setImmediate()
    }
  } finally {
    await folder.close().catch(ignore)
  }
  return next
}

/** Outcomes in the order of the paths; `bytes` is undefined for files above `longest`. `now`: milliseconds. */
export const read = async (
  base: Base,
  paths: ReadonlyArray<RemotePath.RemotePath>,
  longest: number,
  now: () => number = () => performance.now()
): Promise<ReadonlyArray<Outcome>> => {
  const outcomes = new Map<RemotePath.RemotePath, Outcome>()
  const folders = Map.groupBy(paths, (path) => path.slice(0, -1).join("/"))
  const left: Array<RemotePath.RemotePath> = []
  for (const each of folders.values()) {
    if (left.length > 0) left.push(...each)
    else left.push(...each.slice(await readFolder(base, each, longest, now, outcomes)))
  }
  const work = async (): Promise<void> => {
    for (let path = left.pop(); path !== undefined; path = left.pop()) {
      const at = path
      const outcome = await readSlowly(base, at, longest).then(
        (file): Outcome => Result.succeed(file),
        (cause: unknown): Outcome => Result.fail(fromCause(at, cause))
      )
      outcomes.set(at, outcome)
    }
  }
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, left.length) }, work))
  return paths.map((path) => outcomes.get(path) ?? Result.fail(failure("Io", path)))
}
