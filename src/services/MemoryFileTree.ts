/**
 * A tree of files in memory, for tests: the contract but for what only a disk can do. Without quotas; what is removed
 * stays in the trash, and unfinished writes stay, until they are asked for.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import {
  BLOCK_LENGTH,
  Entry,
  Found,
  MAX_DEPTH,
  MAX_FOLDER_LENGTH,
  Page,
  slice,
  Trashed,
  Usage,
  Walk
} from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import {
  type Conflict,
  checkCursor,
  type FileTree,
  failure,
  itself,
  type ListOptions,
  MAX_READ_LENGTH,
  type MoveOptions,
  parsePath,
  type Reader,
  type RemoveOptions,
  type SmallFile,
  type TouchOptions,
  type WalkOptions,
  type WriteOptions,
  type Writer,
  walkCursor
} from "./FileTree.ts"
import {
  below,
  compare,
  facts,
  type MemoryNode,
  type Node,
  type Path,
  shown,
  statOf,
  Tree,
  unnamed,
  usageOf
} from "./MemoryNodes.ts"

interface Part {
  readonly chunks: Array<Uint8Array>
  readonly hashes: Array<Uint8Array>
}

const sha256 = (bytes: Uint8Array): Effect.Effect<Uint8Array> =>
  Effect.promise(async () => new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes))))

const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.length
  }
  return all
}

/** A name in a folder: the base has none. */
const named = (path: string) =>
  Effect.flatMap(parsePath(path), (parsed) => {
    const name = parsed.at(-1)
    return name === undefined
      ? Effect.fail(failure("Exists", parsed, "the base itself stays as it is"))
      : Effect.succeed({ parsed, name, parent: parsed.slice(0, -1) })
  })

/** Folders are 0700, files 0600 until they are written; the beginning was at 0. */
export const make = (base: Readonly<Record<string, MemoryNode>> = {}): FileTree => {
  const tree = new Tree(base)
  const parts = new Map<string, Part>()
  const trash = new Map<string, { readonly trashed: Trashed; readonly node: Node }>()
  let removals = 0
  const find = (path: Path) => Effect.suspend(() => Effect.fromResult(tree.find(path)))
  const enter = (path: Path, make = false) => Effect.suspend(() => Effect.fromResult(tree.enter(path, make)))

  const list = Effect.fn("FileTree.list")(function* (path: string, options: ListOptions = {}) {
    const parsed = yield* parsePath(path)
    yield* checkCursor(options.cursor)
    yield* find(parsed)
    const folder = yield* enter(parsed)
    if (folder.children.size > MAX_FOLDER_LENGTH) return yield* failure("TooMany", parsed)
    const { names, cursor } = slice(shown(folder), options.cursor, options.limit)
    const entries = names.flatMap((name) => {
      const child = folder.children.get(name)
      return child === undefined ? [] : [new Entry({ name, ...facts(child) })]
    })
    return new Page({ entries, unnamed: unnamed(folder), ...(cursor === undefined ? {} : { cursor }) })
  })

  const stat = Effect.fn("FileTree.stat")(function* (path: string) {
    const parsed = yield* parsePath(path)
    return statOf(parsed, yield* find(parsed))
  })

  const walk = Effect.fn("FileTree.walk")(function* (path: string, options: WalkOptions = {}) {
    const folder = yield* enter(yield* parsePath(path))
    const limit = Math.min(Math.max(1, Math.trunc(options.limit ?? 1000) || 1), 1000)
    const after = yield* walkCursor(options.cursor)
    const all = below(folder, []).filter(
      ([path, node]) =>
        path.length <= (options.depth ?? MAX_DEPTH) &&
        compare(path, after) > 0 &&
        (options.keep?.(path.join("/"), node.kind) ?? true)
    )
    const page = all.slice(0, limit)
    const last = page.at(-1)
    return new Walk({
      entries: page.map(([path, node]) => new Found({ path: path.join("/"), ...facts(node) })),
      unnamed: 0,
      unread: page.flatMap(([path, node]) => (node.kind === "folder" && node.denied ? [path.join("/")] : [])),
      ...(all.length > limit && last !== undefined ? { cursor: last[0].join("/") } : {})
    })
  })

  const open = Effect.fn("FileTree.open")(function* (path: string) {
    const parsed = yield* parsePath(path)
    const node = yield* find(parsed)
    if (node.kind !== "file") return yield* failure("NotAFile", parsed)
    const { bytes, mode, mtimeMs, version } = node
    return {
      path: RemotePath.format(parsed),
      size: bytes.length,
      mtimeMs,
      mode,
      version,
      readAt: (offset, length) =>
        Effect.sync(() => bytes.slice(offset, offset + Math.max(0, Math.min(length, MAX_READ_LENGTH)))),
      // Nodes are replaced, never written to.
      unchanged: Effect.void
    } satisfies Reader
  })

  const readSmall = (paths: ReadonlyArray<string>, longest: number) =>
    Effect.forEach(paths, (path) =>
      Effect.result(
        Effect.gen(function* () {
          const parsed = yield* parsePath(path)
          const node = yield* find(parsed)
          if (node.kind !== "file") return yield* failure("NotAFile", parsed)
          const { mode, mtimeMs, version } = node
          const size = node.bytes.length
          const bytes = size <= Math.min(longest, MAX_READ_LENGTH) ? node.bytes.slice() : undefined
          return { path: RemotePath.format(parsed), size, mtimeMs, mode, version, bytes }
        })
      )
    )

  /** Gives bytes a name by the rule. */
  const place = Effect.fnUntraced(function* (path: Path, bytes: Uint8Array, options: Omit<WriteOptions, "size">) {
    const folder = yield* enter(path.slice(0, -1))
    const name = yield* Effect.fromResult(tree.nameFor(folder, path.at(-1) ?? "", options.conflict ?? "fail", path))
    const now = yield* Clock.currentTimeMillis
    const leaf = tree.leaf("file", bytes, options.mtimeMs ?? now, ((options.mode ?? 0o644) & 0o755) | 0o600)
    folder.children.set(name, leaf)
    return statOf([...path.slice(0, -1), name], leaf)
  })

  const write = Effect.fn("FileTree.write")(function* (path: string, options: WriteOptions) {
    const { parent, parsed, name } = yield* named(path)
    const folder = yield* enter(parent, options.parents)
    yield* Effect.fromResult(tree.nameFor(folder, name, options.conflict ?? "fail", parsed))
    const { fingerprint, size } = options
    const key = fingerprint === undefined ? undefined : JSON.stringify([parsed, size ?? null, fingerprint])
    const kept = key === undefined ? undefined : parts.get(key)
    if (key !== undefined) parts.delete(key)
    const chunks = [...(kept?.chunks ?? [])]
    const hashes = [...(kept?.hashes ?? [])]
    let rest: Uint8Array = new Uint8Array(0)
    let isOpen = true
    const length = () => chunks.length * BLOCK_LENGTH + rest.length
    const ended = Effect.suspend(() => (isOpen ? Effect.void : failure("Changed", parsed, "this write has ended")))
    const close = (keep: boolean) =>
      Effect.sync(() => {
        if (isOpen && keep && key !== undefined && chunks.length > 0)
          parts.set(key, { chunks, hashes: hashes.slice(0, chunks.length) })
        isOpen = false
      })
    yield* Effect.addFinalizer(() => close(true))
    return {
      resumed: length(),
      length,
      blocks: () => concat(hashes),
      append: Effect.fnUntraced(
        function* (bytes: Uint8Array) {
          yield* ended
          if (size !== undefined && length() + bytes.length > size)
            return yield* failure("Changed", parsed, `more than the ${size} bytes that were announced`)
          rest = concat([rest, bytes])
          for (; rest.length >= BLOCK_LENGTH; rest = rest.subarray(BLOCK_LENGTH)) {
            const block = rest.slice(0, BLOCK_LENGTH)
            hashes.push(yield* sha256(block))
            chunks.push(block)
          }
          if (length() === size && rest.length > 0) hashes.push(yield* sha256(rest))
        },
        Effect.onError(() => close(true))
      ),
      commit: Effect.gen(function* () {
        yield* ended
        if (size !== undefined && length() !== size)
          return yield* failure("Changed", parsed, `${length()} bytes came where ${size} were announced`)
        if (size === undefined && rest.length > 0) hashes.push(yield* sha256(rest))
        const stat = yield* place(parsed, concat([...chunks, rest]), options)
        isOpen = false
        return stat
      }).pipe(Effect.onError(() => close(true))),
      abort: close(false)
    } satisfies Writer
  })

  const writeSmall = (files: ReadonlyArray<SmallFile>) =>
    Effect.forEach(files, ({ bytes, path, ...options }) =>
      Effect.result(
        Effect.gen(function* () {
          const { parent, parsed } = yield* named(path)
          if (bytes.length > MAX_READ_LENGTH) return yield* failure("NoSpace", parsed, "too long for a small file")
          yield* enter(parent, options.parents)
          return yield* place(parsed, bytes.slice(), options)
        })
      )
    )

  const touch = Effect.fn("FileTree.touch")(function* (path: string, { mode, mtimeMs, version }: TouchOptions) {
    const parsed = yield* parsePath(path)
    const node = yield* find(parsed)
    if (node.kind !== "file") return yield* failure("NotAFile", parsed)
    if (node.version !== version) return yield* failure("Changed", parsed)
    const folder = yield* enter(parsed.slice(0, -1))
    const leaf = tree.leaf("file", node.bytes, mtimeMs, (mode & 0o755) | 0o600)
    folder.children.set(parsed.at(-1) ?? "", leaf)
    return statOf(parsed, leaf)
  })

  const mkdir = Effect.fn("FileTree.mkdir")(function* (path: string, options: { readonly parents?: boolean } = {}) {
    if (options.parents === true && (yield* parsePath(path)).length === 0) return yield* stat(path)
    const { name, parent, parsed } = yield* named(path)
    const folder = yield* enter(parent, options.parents)
    const there = folder.children.get(name)
    if (there !== undefined && (options.parents !== true || there.kind !== "folder"))
      return yield* failure("Exists", parsed)
    const made = there ?? tree.folder({})
    folder.children.set(name, made)
    return statOf(parsed, made)
  })

  const remove = Effect.fn("FileTree.remove")(function* (path: string, options: RemoveOptions = {}) {
    const { name, parent, parsed } = yield* named(path)
    const node = yield* find(parsed)
    const folder = yield* enter(parent)
    if (node.kind === "folder" && node.children.size > 0 && options.recursive !== true)
      return yield* failure("Exists", parsed, "this folder is not empty")
    folder.children.delete(name)
    if (options.forever === true) return
    const removedMs = yield* Clock.currentTimeMillis
    const id = `${removedMs.toString(16).padStart(12, "0")}-${(removals++).toString(16).padStart(8, "0")}`
    const { bytes, files } = usageOf(node)
    const trashed = new Trashed({ id, path: RemotePath.format(parsed), kind: node.kind, bytes, files, removedMs })
    trash.set(id, { trashed, node })
  })

  /** The folder and the name that something is to have: a folder replaces nothing. */
  const destination = Effect.fnUntraced(function* (to: string, node: Node, conflict: Conflict) {
    const { name, parent, parsed } = yield* named(to)
    const folder = yield* enter(parent)
    const rule = node.kind === "folder" && conflict !== "rename" ? "fail" : conflict
    const free = yield* Effect.fromResult(tree.nameFor(folder, name, rule, parsed))
    return { folder, name: free, path: [...parent, free] }
  })

  const isWithin = (path: Path, above: Path): boolean => above.every((name, i) => path[i] === name)

  const move = Effect.fn("FileTree.move")(function* (
    from: string,
    to: string,
    { conflict = "fail" }: MoveOptions = {}
  ) {
    const source = yield* named(from)
    const target = yield* named(to)
    const node = yield* find(source.parsed)
    const isInto = isWithin(target.parsed, source.parsed)
    const isItself = isInto && target.parsed.length === source.parsed.length
    if (isItself && (node.kind === "folder" || conflict !== "rename")) return yield* itself(target.parsed)
    if (node.kind === "folder" && isInto)
      return yield* failure("Unsupported", target.parsed, "a folder cannot be moved into itself")
    const { folder, name, path } = yield* destination(to, node, conflict)
    if (folder.children.get(name) === node) return yield* failure("Exists", target.parsed)
    const old = yield* enter(source.parent)
    old.children.delete(source.name)
    folder.children.set(name, node)
    return statOf(path, node)
  })

  const duplicate = (node: Node): Node =>
    node.kind !== "folder"
      ? tree.leaf(node.kind, node.bytes, node.mtimeMs, node.mode)
      : {
          ...node,
          children: new Map(
            [...node.children]
              .filter(([, child]) => child.kind === "file" || child.kind === "folder")
              .map(([name, child]): [string, Node] => [name, duplicate(child)])
          )
        }

  const copy = Effect.fn("FileTree.copy")(function* (
    from: string,
    to: string,
    { conflict = "fail" }: MoveOptions = {}
  ) {
    const source = yield* named(from)
    const target = yield* named(to)
    const node = yield* find(source.parsed)
    if (node.kind !== "file" && node.kind !== "folder") return yield* failure("NotAFile", source.parsed)
    if (node.kind === "folder" && isWithin(target.parsed, source.parsed))
      return yield* failure("Unsupported", target.parsed, "a folder cannot be copied into itself")
    const { folder, name, path } = yield* destination(to, node, conflict)
    const made = duplicate(node)
    folder.children.set(name, made)
    return statOf(path, made)
  })

  const restore = Effect.fn("FileTree.restore")(function* (id: string, to?: string) {
    const found = trash.get(id)
    if (found === undefined) return yield* failure("NotFound", [], "nothing in the trash has this id")
    const { name, parent, parsed } = yield* named(to ?? found.trashed.path)
    const folder = yield* enter(parent, true)
    if (folder.children.has(name)) return yield* failure("Exists", parsed)
    folder.children.set(name, found.node)
    trash.delete(id)
    return statOf(parsed, found.node)
  })

  return {
    list,
    stat,
    walk,
    usage: Effect.fn("FileTree.usage")(function* (path: string) {
      const parsed = yield* parsePath(path)
      const usage = usageOf(yield* find(parsed))
      return parsed.length > 0 ? usage : new Usage({ ...usage, folders: usage.folders - 1 })
    }),
    open,
    readSmall,
    write,
    writeSmall,
    touch,
    mkdir,
    remove,
    move,
    copy,
    trash: Effect.sync(() => [...trash.values()].map(({ trashed }) => trashed)),
    restore,
    emptyTrash: (id) =>
      Effect.sync(() => {
        const ids = [...trash.keys()].filter((each) => id === undefined || each === id)
        for (const each of ids) trash.delete(each)
        return ids.length
      }),
    free: Effect.succeed(Number.MAX_SAFE_INTEGER),
    sweep: Effect.void
  }
}
