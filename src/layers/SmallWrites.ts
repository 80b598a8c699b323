/**
 * Many small files at once. Their calls on names and on a page of bytes are the blocking ones, some tens of microseconds
 * a file where the pool would take a millisecond; only the fsyncs, which wait for the disk, go to the pool, many at a
 * time, and each folder is fsynced once.
 */
import * as Fs from "node:fs"
import { promisify } from "node:util"
import * as Result from "effect/Result"
import type { FilesError, Stat } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { failure, MAX_READ_LENGTH, type SmallFile } from "../services/FileTree.ts"
import { fileMode, stat } from "./FileFacts.ts"
import { seconds } from "./FileWriter.ts"
import { type Base, ensureInside, type Folder, open } from "./HeldFolders.ts"
import { fromCause, ignore } from "./HostErrors.ts"
import * as PartFile from "./PartFile.ts"
import * as Placing from "./Placing.ts"
import type { Usage } from "./Usage.ts"

export interface Item {
  readonly path: RemotePath.RemotePath
  readonly file: SmallFile
}

/** fsyncs that wait at a time. */
const SYNCS = 64
const fsync = promisify(Fs.fsync)

/** Bits that the host takes from every new file; undefined where it does not say. */
const readUmask = (): number | undefined => {
  try {
    const [, octal] = /^Umask:\s*([0-7]+)$/m.exec(Fs.readFileSync("/proc/self/status", "utf8")) ?? []
    return octal === undefined ? undefined : Number.parseInt(octal, 8)
  } catch (_) {
    return undefined
  }
}

/** Writes, fsyncs and names one file. The folder is the caller's to sync. */
const writeOne = async (
  folder: Folder,
  { file, path }: Item,
  usage: Usage,
  umask: number | undefined
): Promise<Stat> => {
  const { bytes, conflict = "fail", mode, mtimeMs } = file
  const name = path.at(-1)
  if (name === undefined) throw failure("Exists", path, "the base itself stays as it is")
  if (bytes.length > MAX_READ_LENGTH) throw failure("NoSpace", path, `longer than ${MAX_READ_LENGTH} bytes`)
  // Every call counts here: without a quota the rule is looked at only once, in the end.
  const there = usage.isLimited ? Placing.check(`${folder.at}/${name}`, conflict, path) : undefined
  if (there === undefined) usage.begin(path)
  const at = `${folder.at}/${PartFile.newName()}`
  const wanted = fileMode(mode)
  let fd: number | undefined
  let reserved = 0
  try {
    usage.reserve(bytes.length, path)
    reserved = bytes.length
    fd = Fs.openSync(at, PartFile.createFlags(Fs.constants.O_RDWR), wanted)
    for (let done = 0; done < bytes.length; ) done += Fs.writeSync(fd, bytes, done)
    if (umask === undefined || (umask & wanted) !== 0) Fs.fchmodSync(fd, wanted)
    if (mtimeMs !== undefined) Fs.futimesSync(fd, seconds(mtimeMs), seconds(mtimeMs))
    await fsync(fd)
    const { name: placed, replaced } = Placing.place(at, folder.at, name, conflict, path)
    usage.add(bytes.length - (replaced ?? 0), replaced === undefined ? 1 : 0)
    return stat([...path.slice(0, -1), placed], Fs.fstatSync(fd, { bigint: true }))
  } catch (cause) {
    if (fd !== undefined) Fs.rmSync(at, { force: true })
    throw cause
  } finally {
    usage.release(reserved)
    if (there === undefined) usage.end()
    if (fd !== undefined) Fs.closeSync(fd)
  }
}

type Outcome = Result.Result<Stat, FilesError>

const writeFolder = async (
  base: Base,
  items: ReadonlyArray<Item>,
  usage: Usage,
  outcomes: Map<Item, Outcome>
): Promise<void> => {
  const parents = items.some(({ file }) => file.parents === true)
  const folderPath = items[0]?.path.slice(0, -1) ?? []
  const refuse = (cause: unknown): void => {
    for (const item of items) outcomes.set(item, Result.fail(fromCause(item.path, cause)))
  }
  let folder: Folder
  try {
    folder = await open(base, folderPath, parents ? 0o777 : undefined)
  } catch (cause) {
    return refuse(cause)
  }
  try {
    await ensureInside(folder, folderPath)
    const umask = readUmask()
    let next = 0
    const work = async (): Promise<void> => {
      for (let item = items[next++]; item !== undefined; item = items[next++]) {
        const { path } = item
        const outcome = await writeOne(folder, item, usage, umask).then(
          (stat): Outcome => Result.succeed(stat),
          (cause: unknown): Outcome => Result.fail(fromCause(path, cause))
        )
        outcomes.set(item, outcome)
      }
    }
    await Promise.all(Array.from({ length: Math.min(SYNCS, items.length) }, work))
    await folder.sync()
  } catch (cause) {
    refuse(cause)
  } finally {
    await folder.close().catch(ignore)
  }
}

/** Outcomes in the order of the items; of two with one path the second finds the first one's file. */
export const write = async (base: Base, items: ReadonlyArray<Item>, usage: Usage): Promise<ReadonlyArray<Outcome>> => {
  const outcomes = new Map<Item, Outcome>()
  const folders = new Map<string, Array<Item>>()
  const seen = new Set<string>()
  const again: Array<Item> = []
  for (const item of items) {
    const path = RemotePath.format(item.path)
    const folder = item.path.slice(0, -1).join("/")
    const there = folders.get(folder)
    if (seen.has(path)) again.push(item)
    else if (there === undefined) folders.set(folder, [item])
    else there.push(item)
    seen.add(path)
  }
  for (const each of folders.values()) await writeFolder(base, each, usage, outcomes)
  for (const each of again) await writeFolder(base, [each], usage, outcomes)
  return items.map((item) => outcomes.get(item) ?? Result.fail(failure("Io", item.path)))
}
