/** The nodes of a tree of files in memory. */
import * as Result from "effect/Result"
import { type FilesError, type Kind, MAX_DEPTH, Stat, Usage } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { type Conflict, failure, MAX_NUMBERED, numbered } from "./FileTree.ts"

/** What a tree begins with: a folder's children by name, or a leaf. Files without bytes are `x` repeated `size` times. */
export type MemoryNode =
  | { readonly kind: "folder"; readonly children: Readonly<Record<string, MemoryNode>>; readonly denied?: boolean }
  | {
      readonly kind: Exclude<Kind, "folder">
      readonly size?: number
      readonly bytes?: Uint8Array
      readonly mtimeMs?: number
      readonly mode?: number
    }

export interface FolderNode {
  readonly kind: "folder"
  readonly children: Map<string, Node>
  readonly denied: boolean
  mtimeMs: number
}

export interface LeafNode {
  readonly kind: Exclude<Kind, "folder">
  readonly bytes: Uint8Array
  readonly mtimeMs: number
  readonly mode: number
  /** Tells one content from another. */
  readonly version: string
}

export type Node = FolderNode | LeafNode

export type Path = RemotePath.RemotePath

/** Nothing below looks at a node before `find` has: a folder that may not be read is `denied`. */
export class Tree {
  readonly root: FolderNode
  #versions = 0

  constructor(base: Readonly<Record<string, MemoryNode>>) {
    this.root = this.folder(base)
  }

  folder(children: Readonly<Record<string, MemoryNode>>, denied = false): FolderNode {
    const nodes = Object.entries(children).map(([name, node]): [string, Node] => [name, this.#node(node)])
    return { kind: "folder", children: new Map(nodes), denied, mtimeMs: 0 }
  }

  leaf(kind: LeafNode["kind"], bytes: Uint8Array, mtimeMs: number, mode: number): LeafNode {
    return { kind, bytes, mtimeMs, mode, version: (++this.#versions).toString(16).padStart(32, "0") }
  }

  #node(node: MemoryNode): Node {
    if (node.kind === "folder") return this.folder(node.children, node.denied)
    const bytes = node.bytes ?? new Uint8Array(node.kind === "file" ? (node.size ?? 0) : 0).fill(0x78)
    return this.leaf(node.kind, bytes, node.mtimeMs ?? 0, node.mode ?? 0o600)
  }

  find(path: Path): Result.Result<Node, FilesError> {
    let node: Node = this.root
    for (const name of path) {
      if (node.kind !== "folder") return Result.fail(failure("NotAFolder", path))
      if (node.denied) return Result.fail(failure("Denied", path))
      const next: Node | undefined = node.children.get(name)
      if (next === undefined) return Result.fail(failure("NotFound", path))
      node = next
    }
    return Result.succeed(node)
  }

  /** A folder that may be read; `make` makes the missing ones. */
  enter(path: Path, make = false): Result.Result<FolderNode, FilesError> {
    let folder: FolderNode = this.root
    for (const name of path) {
      if (folder.denied) return Result.fail(failure("Denied", path))
      let next = folder.children.get(name)
      if (next === undefined && make) {
        next = this.folder({})
        folder.children.set(name, next)
      }
      if (next === undefined) return Result.fail(failure("NotFound", path))
      if (next.kind !== "folder") return Result.fail(failure("NotAFolder", path))
      folder = next
    }
    return folder.denied ? Result.fail(failure("Denied", path)) : Result.succeed(folder)
  }

  /** The name that a leaf may take in a folder. */
  nameFor(folder: FolderNode, name: string, conflict: Conflict, path: Path): Result.Result<string, FilesError> {
    const there = folder.children.get(name)
    if (there === undefined)
      return typeof conflict === "object" ? Result.fail(failure("Changed", path)) : Result.succeed(name)
    if (conflict === "rename") {
      for (let number = 2; number < MAX_NUMBERED; number++)
        if (!folder.children.has(numbered(name, number))) return Result.succeed(numbered(name, number))
    }
    if (conflict === "fail" || conflict === "rename") return Result.fail(failure("Exists", path))
    if (there.kind !== "file") return Result.fail(failure("NotAFile", path))
    return conflict === "replace" || there.version === conflict.version
      ? Result.succeed(name)
      : Result.fail(failure("Changed", path))
  }
}

export const facts = (node: Node) => ({
  kind: node.kind,
  size: node.kind === "file" ? node.bytes.length : 0,
  mtimeMs: node.mtimeMs,
  mode: node.kind === "folder" ? 0o700 : node.mode
})

export const statOf = (path: Path, node: Node): Stat =>
  new Stat({
    path: RemotePath.format(path),
    ...facts(node),
    ...(node.kind === "file" ? { version: node.version } : {})
  })

export const shown = (folder: FolderNode): ReadonlyArray<string> =>
  [...folder.children.keys()].filter(RemotePath.isName)
export const unnamed = (folder: FolderNode): number => folder.children.size - shown(folder).length

/** All below a folder, each folder before what it holds. */
export const below = (folder: FolderNode, path: Path): ReadonlyArray<readonly [Path, Node]> =>
  [...shown(folder)].sort().flatMap((name) => {
    const node = folder.children.get(name)
    if (node === undefined) return []
    const here = [...path, name]
    return [
      [here, node] as const,
      ...(node.kind === "folder" && !node.denied && here.length < MAX_DEPTH ? below(node, here) : [])
    ]
  })

export const compare = (a: Path, b: Path): number => {
  for (let i = 0; ; i++) {
    const [left, right] = [a[i], b[i]]
    if (left === undefined || right === undefined) return a.length - b.length
    if (left !== right) return left < right ? -1 : 1
  }
}

export const usageOf = (node: Node): Usage => {
  const nodes = node.kind === "folder" ? [node, ...below(node, []).map(([, each]) => each)] : [node]
  const files = nodes.filter((each) => each.kind === "file")
  const folders = nodes.filter((each) => each.kind === "folder")
  return new Usage({
    bytes: files.reduce((sum, file) => sum + facts(file).size, 0),
    files: files.length,
    folders: folders.length,
    others: nodes.length - files.length - folders.length,
    unread: folders.filter((each) => each.denied).length
  })
}
