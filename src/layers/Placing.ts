/**
 * Giving an unfinished file its name. Where nothing may be replaced this is link(2) then unlink(2): whoever came first
 * keeps the name. Replacing is rename(2) after a look at what stands there. The calls are the blocking ones: they touch
 * names only, take microseconds, and a thousand small files would wait longer for the pool.
 */
import * as Fs from "node:fs"
import * as NodePath from "node:path"
import type * as RemotePath from "../domain/RemotePath.ts"
import { type Conflict, failure, MAX_NUMBERED, numbered } from "../services/FileTree.ts"
import { type Stats, versionOf } from "./FileFacts.ts"
import { codeOf } from "./HostErrors.ts"

/** What stands at a name; links are not followed. */
export const look = (at: string): Stats | undefined => Fs.lstatSync(at, { bigint: true, throwIfNoEntry: false })

/** Hard links that the file system or the system's policy does not give. */
const LINKLESS = new Set(["EPERM", "EACCES", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EINVAL"])

/** Whether it took the name: false where something stands there. */
const takeName = (from: string, to: string): boolean => {
  try {
    Fs.linkSync(from, to)
  } catch (cause) {
    const code = codeOf(cause)
    if (code === "EEXIST") return false
    if (!LINKLESS.has(code)) throw cause
    // FAT and some network file systems: a program that takes the name between these two lines loses its file.
    if (look(to) !== undefined) return false
    Fs.renameSync(from, to)
    return true
  }
  Fs.unlinkSync(from)
  return true
}

/** Whether this host's file systems usually take names for one that differ in case or in Unicode form only. */
const FOLDS = process.platform === "darwin" || process.platform === "win32"
const fold = (name: string): string => name.normalize("NFC").toLowerCase()

/** The name in a folder that a system which folds names finds when it is asked for another. */
export const twin = (names: ReadonlyArray<string>, name: string): string | undefined =>
  names.includes(name) ? undefined : names.find((each) => fold(each) === fold(name))

/** Fails if `conflict` does not allow a file to take this name now. */
export const check = (at: string, conflict: Conflict, path: RemotePath.RemotePath): Stats | undefined => {
  const there = look(at)
  if (conflict === "rename") return undefined
  if (there === undefined) {
    if (typeof conflict === "object") throw failure("Changed", path)
    return undefined
  }
  if (conflict === "fail") throw failure("Exists", path)
  // What the caller may replace is the file of this name, not the one that the system finds instead.
  const other = FOLDS ? twin(Fs.readdirSync(NodePath.dirname(at)), NodePath.basename(at)) : undefined
  if (other !== undefined)
    throw failure("Exists", path, `this system takes it for ${JSON.stringify(other)}, which is there`)
  if (!there.isFile()) throw failure("NotAFile", path)
  if (conflict !== "replace" && versionOf(there) !== conflict.version) throw failure("Changed", path)
  return there
}

export interface Placed {
  /** The name that it has now. */
  readonly name: string
  /** Bytes of the file that it replaced. */
  readonly replaced: number | undefined
}

/** Moves `folder/from`, a file, to `folder/name` by the rule. Neither name is durable until the folder is synced. */
export const place = (
  fromAt: string,
  folder: string,
  name: string,
  conflict: Conflict,
  path: RemotePath.RemotePath
): Placed => {
  const at = `${folder}/${name}`
  if (conflict === "rename") {
    for (let number = 1; number < MAX_NUMBERED; number++) {
      const tried = number === 1 ? name : numbered(name, number)
      if (takeName(fromAt, `${folder}/${tried}`)) return { name: tried, replaced: undefined }
    }
    throw failure("Exists", path)
  }
  if (conflict === "fail") {
    if (takeName(fromAt, at)) return { name, replaced: undefined }
    throw failure("Exists", path)
  }
  const there = check(at, conflict, path)
  // Over a file that came this moment, too, as the rule allows; over a folder it fails, a link goes without being followed.
  Fs.renameSync(fromAt, at)
  return { name, replaced: there === undefined ? undefined : Number(there.size) }
}
