/** What has to be done to one tree of files so that it equals another: a comparison of two lists, which touches nothing. */
import type { Kind } from "./RemoteFile.ts"

export interface Node {
  readonly kind: Kind
  /** Bytes of a file. */
  readonly size: number
  /** Milliseconds since 1970. */
  readonly mtimeMs: number
  /** Permission bits, where they are known. */
  readonly mode?: number
}

/** By path: names joined by `/`, relative to the top of the tree, which is not in it. */
export type Tree = ReadonlyMap<string, Node>

export interface Options {
  /** Also remove what the source does not have. */
  readonly delete: boolean
  /** Trust no times: files of equal size are compared by content. */
  readonly checksum: boolean
}

export interface Plan {
  /** Things of another kind where something of the source must go: removed before all else. Only with `delete`. */
  readonly cleared: ReadonlyArray<string>
  /** Folders to make, parents first. */
  readonly folders: ReadonlyArray<string>
  /**
   * Files that are missing or differ; with `checksum` those too whose contents have to be compared. `mode` is the source's,
   * where it is to be brought over.
   */
  readonly files: ReadonlyArray<{
    readonly path: string
    readonly size: number
    readonly isNew: boolean
    readonly mode?: number
  }>
  /** What the source does not have, removed after all else; a folder stands for all that is in it. */
  readonly removed: ReadonlyArray<string>
  /** Files that are equal already. */
  readonly equal: number
  /** Links and special files of the source: never carried over, and their namesakes are left alone. */
  readonly left: ReadonlyArray<string>
  /** Paths where something of another kind stands, which only `delete` may clear away. */
  readonly blocked: ReadonlyArray<string>
}

/**
 * Whether two times are the same as far as both file systems can tell: some keep whole seconds only. No time before 1970
 * crosses the line.
 */
export const isSameTime = (a: number, b: number): boolean => {
  const [one, other] = [Math.max(0, a), Math.max(0, b)]
  return (
    one === other || ((one % 1000 === 0 || other % 1000 === 0) && Math.floor(one / 1000) === Math.floor(other / 1000))
  )
}

const EXECUTE = 0o100

/** Windows says no more than whether a file may be written to. */
const tells = (mode: number): boolean => mode !== 0o666 && mode !== 0o444

/**
 * What mode a file of the target is to be given, undefined where it may keep its own. Only the owner's right to execute is a
 * reason, since masks change the others; and it is taken away only in a tree where a file shows that it can be lacking. Otherwise
 * a disk that keeps no modes would be told of them at each sync.
 */
export const modes = (target: Tree): ((from: Node, to: Node) => number | undefined) => {
  let keeps = false
  for (const { kind, mode } of target.values()) {
    if (kind === "file" && mode !== undefined && tells(mode) && (mode & EXECUTE) === 0) keeps = true
  }
  return ({ mode }, { mode: there }) => {
    if (mode === undefined || there === undefined || !tells(mode) || !tells(there)) return undefined
    const isWanted = (mode & EXECUTE) !== 0
    if (isWanted === ((there & EXECUTE) !== 0)) return undefined
    return isWanted || keeps ? mode : undefined
  }
}

const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Whether one of the folders that a path is in is one of these. */
export const isBelow = (path: string, tops: ReadonlySet<string>): boolean => {
  for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
    if (tops.has(path.slice(0, at))) return true
  }
  return false
}

/** Compares. Both trees are given whole, each folder before or after what is in it. */
export const make = (source: Tree, target: Tree, options: Options): Plan => {
  const cleared: Array<string> = []
  const folders: Array<string> = []
  const files: Array<Plan["files"][number]> = []
  const left: Array<string> = []
  const blocked: Array<string> = []
  const stuck = new Set<string>()
  const gone = new Set<string>()
  const modeOf = modes(target)
  let equal = 0

  for (const path of [...source.keys()].sort(byName)) {
    const from = source.get(path)
    if (from === undefined || isBelow(path, stuck)) continue
    if (from.kind !== "file" && from.kind !== "folder") {
      left.push(path)
      continue
    }
    // What stood below something that is cleared away is gone with it.
    const to = isBelow(path, gone) ? undefined : target.get(path)
    const isObstacle = to !== undefined && to.kind !== from.kind
    if (isObstacle && !options.delete) {
      blocked.push(path)
      stuck.add(path)
      continue
    }
    if (isObstacle) {
      cleared.push(path)
      gone.add(path)
    }
    if (from.kind === "folder") {
      if (to === undefined || isObstacle) folders.push(path)
    } else if (to === undefined || isObstacle) files.push({ path, size: from.size, isNew: true })
    else {
      const mode = modeOf(from, to)
      const isOther = mode !== undefined || from.size !== to.size || !isSameTime(from.mtimeMs, to.mtimeMs)
      if (!isOther && !options.checksum) equal++
      else files.push({ path, size: from.size, isNew: false, ...(mode === undefined ? {} : { mode }) })
    }
  }
  const removed: Array<string> = []
  if (options.delete) {
    const kept = new Set(left)
    for (const path of [...target.keys()].sort(byName)) {
      if (source.has(path) || isBelow(path, gone) || isBelow(path, kept)) continue
      gone.add(path)
      removed.push(path)
    }
  }
  return { cleared, folders, files, removed, equal, left, blocked }
}
